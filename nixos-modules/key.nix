# The names of keys: which there are, and the path and the unit of each.
{ lib }:
let
  isComponent = part: builtins.match "[A-Za-z0-9_+@][A-Za-z0-9._+@-]{0,127}" part != null;
in
rec {
  folder = "/run/keys";

  isName =
    name:
    let
      parts = lib.splitString "/" name;
    in
    builtins.stringLength name <= 255 && builtins.length parts <= 8 && builtins.all isComponent parts;

  path = name: "${folder}/${name}";

  unit = name: "${builtins.replaceStrings [ "/" "+" ] [ "-" "\\x2b" ] name}-key.service";

  # The name of a key that another tool would put at `path`: what is expected elsewhere is named by its attribute, which no
  # other has.
  ofDeployment =
    attribute: path: if lib.hasPrefix "${folder}/" path then lib.removePrefix "${folder}/" path else attribute;

  # The folders that a name lies in: `a` and `a/b` of `a/b/c`.
  above =
    name:
    let
      parts = lib.splitString "/" name;
      upTo = count: builtins.concatStringsSep "/" (lib.take count parts);
    in
    builtins.genList (index: upTo (index + 1)) (builtins.length parts - 1);

  # The mode of a declaration that was written for another tool, as ours are: keys are never executed, and what
  # everybody may read is said to be public.
  access =
    mode:
    let
      plain = {
        "1" = "0";
        "3" = "2";
        "5" = "4";
        "7" = "6";
      };
      digits = lib.stringToCharacters mode;
      kept = map (digit: plain.${digit} or digit) digits;
      # The first of four says setuid, setgid and sticky: not ours to drop.
      ours = if builtins.length digits == 4 then [ (builtins.head digits) ] ++ builtins.tail kept else kept;
    in
    {
      mode = builtins.concatStringsSep "" ours;
      public = builtins.elem (lib.last ([ "0" ] ++ kept)) [
        "4"
        "6"
      ];
    };
}
