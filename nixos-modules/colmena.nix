# The keys that `deployment.keys` declares, whoever declares that option: Colmena does it itself.
{ config, lib, ... }:
let
  key = import ./key.nix { inherit lib; };
  source = import ./source.nix {
    inherit lib;
    inherit (config.services.keys) root;
  };

  ways = declared: lib.filter (name: (declared.${name} or null) != null) [
    "keyCommand"
    "keyFile"
    "vault"
  ];

  # A file of the project is a file; one that is elsewhere is read by a program, as the manifest's own stay below it.
  ofFile =
    path:
    let
      relative = source.relative path;
    in
    if relative == path then
      {
        command = [
          "cat"
          "--"
          path
        ];
      }
    else
      { file = relative; };

  written =
    declared:
    if (declared.vault or null) != null then
      { vault = declared.vault; }
    else if declared.keyFile != null then
      ofFile declared.keyFile
    else
      {
        command = {
          argv = if declared.keyCommand == null then [ ] else declared.keyCommand;
          # As its own tools ran it: one at a time, with the terminal, for as long as somebody thinks.
          prompts = true;
          timeout = "10m";
        }
        // lib.optionalAttrs ((declared.environment or { }) != { }) { env = declared.environment; };
      };

  named = builtins.mapAttrs (attribute: declared: key.ofDeployment attribute declared.path) config.deployment.keys;
  item =
    name: declared:
    let
      access = key.access declared.permissions;
    in
    {
      source = lib.mkDefault (written declared);
      owner = lib.mkDefault declared.user;
      group = lib.mkDefault declared.group;
      mode = lib.mkDefault access.mode;
      public = lib.mkDefault access.public;
      links = lib.optional (declared.path != key.path name) declared.path;
    };

  all = builtins.attrValues config.deployment.keys;
  check = attribute: condition: text: {
    assertion = condition;
    message = "deployment.keys.${attribute}: ${text}";
  };
  checks =
    attribute: declared:
    [
      (check attribute (declared.text == null)
        "`text` puts the secret into the evaluation; use keyCommand, keyFile, or vault = { path = …; field = …; }"
      )
      (check attribute (declared.text != null || builtins.length (ways declared) == 1)
        "exactly one of keyCommand, keyFile and vault is wanted, not ${toString (builtins.length (ways declared))}"
      )
      (check attribute (declared.keyCommand != [ ]) "keyCommand names no program")
      (check attribute (declared.keyFile == null || !lib.hasPrefix builtins.storeDir declared.keyFile)
        "keyFile is in the Nix store, where everybody can read it; name the file by an absolute path as a text"
      )
      (check attribute (declared.keyCommand != null || (declared.environment or { }) == { }) "environment is that of a keyCommand")
      (check attribute (lib.count (other: other.path == declared.path) all == 1) "another key is at ${declared.path}, too")
      (check attribute (lib.count (name: name == named.${attribute}) (builtins.attrValues named) == 1)
        "another key would be ${key.path named.${attribute}}, too"
      )
    ];
in
{
  imports = [ ./default.nix ];

  options.services.keys.compat.deployment.enable = lib.mkOption {
    type = lib.types.bool;
    default = true;
    description = "Whether `deployment.keys` become keys, where a module for them is imported.";
  };

  config = lib.mkIf config.services.keys.compat.deployment.enable {
    services.keys.items = lib.mapAttrs' (
      attribute: declared: lib.nameValuePair named.${attribute} (item named.${attribute} declared)
    ) config.deployment.keys;
    services.keys.checks = builtins.concatLists (lib.mapAttrsToList checks config.deployment.keys);
  };
}
