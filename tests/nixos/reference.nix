# Every option that nixos-modules/ declares: name, type, default and meaning, as a list.
{ lib, options }:
let
  walk =
    tree:
    lib.concatMap (
      name:
      let
        option = tree.${name};
      in
      if lib.isType "option" option then [ option ] ++ walk (option.type.getSubOptions option.loc) else walk option
    ) (builtins.attrNames (removeAttrs tree [ "_module" ]));

  told = option: {
    name = builtins.concatStringsSep "." option.loc;
    type = option.type.description;
    default =
      if option ? defaultText then
        option.defaultText
      else if option ? default then
        builtins.toJSON option.default
      else
        null;
    description = option.description or "";
    readOnly = option.readOnly or false;
    internal = option.internal or false;
  };
  ours = {
    services = { inherit (options.services) keys; };
    inherit (options) deployment sops age;
  };
in
map told (walk ours)
