# What is refused at evaluation, before the pusher would: every item by itself, and items that cannot be together.
{ lib, config }:
let
  key = import ./key.nix { inherit lib; };
  source = import ./source.nix {
    inherit lib;
    root = config.services.keys.root;
  };
  items = builtins.attrValues config.services.keys.items;
  names = map (item: item.name) items;

  about = item: condition: text: {
    assertion = condition;
    message = "services.keys.items.${item.name}: ${text}";
  };

  # A service, or a pattern of services.
  isUnit = name: builtins.match "[A-Za-z0-9:_\\][][A-Za-z0-9:_.\\@*?!^-]*[.]service" name != null;

  isService = name: builtins.match "[A-Za-z0-9:_\\][A-Za-z0-9:_.\\@-]*[.]service" name != null;

  ofItem =
    item:
    let
      check = about item;
      kind = source.kindOf item.source;
      leaks = source.leaks item.source;
      both = lib.filter (unit: builtins.elem unit item.reloadUnits) item.restartUnits;
      noUnits =
        lib.filter (unit: !isUnit unit) (
          item.restartUnits ++ item.reloadUnits ++ item.stopUnits ++ builtins.attrNames item.signalUnits
        )
        ++ lib.filter (unit: !isService unit) item.startUnits;
      inside = lib.filter (folder: builtins.elem folder names) (key.above item.name);
    in
    [
      (check (key.isName item.name)
        "a name has 1 to 8 parts by `/`, each of A-Z a-z 0-9 . _ + @ - and not beginning with `.` or `-`"
      )
      (check (kind == null) (toString kind))
      (check (leaks == [ ])
        "${toString leaks} is in the Nix store, where everybody can read it; name the file by a text relative to the manifest's folder"
      )
      (check (builtins.match "0?[0-7][0-7][0145]" item.mode != null)
        "mode ${item.mode}: three or four octal digits, never setuid, setgid, sticky, or writable for others"
      )
      (check (item.public || builtins.match ".*[0123]" item.mode != null)
        "with mode ${item.mode} every user of the host can read the key; if that is meant: public = true"
      )
      (check (both == [ ]) "${toString both}: in restartUnits and in reloadUnits")
      (check (noUnits == [ ]) "${toString noUnits}: no name of a service; it ends in .service")
      (check (builtins.all isService item.neededBy) "neededBy names services, which end in .service")
      (check (item.neededBy == [ ] || config.services.keys.agent.enable) "neededBy takes services.keys.agent.enable = true")
      (check (inside == [ ]) "a key cannot lie in another: ${toString inside}")
      (check (builtins.all (lib.hasPrefix "/") item.links) "links are absolute paths")
    ];

  # Each value that several items have, with their names.
  shared =
    what:
    lib.filterAttrs (_: group: builtins.length group > 1) (builtins.groupBy what items);
  together =
    word: what:
    lib.mapAttrsToList (value: group: {
      assertion = false;
      message = "services.keys.items: ${
        builtins.concatStringsSep ", " (map (item: item.name) group)
      } would all have the ${word} ${value}";
    }) (shared what);
  links = lib.concatMap (item: item.links) items;
  twice = lib.filter (link: lib.count (other: other == link) links > 1) (lib.unique links);
in
lib.concatMap ofItem items
++ together "unit" (item: item.unit)
++ map (link: {
  assertion = false;
  message = "services.keys.items: several keys would be at ${link}";
}) twice
