# The manifest that says what the declarations for another tool say, and what of them it cannot say: a function of that
# tool's name and of its machines, evaluated or not. It stands alone: `keys` gives its text to `nix eval --apply`.
tool: given:
let
  folder = "/run/keys";

  # NixOps and Colmena have settings beside the machines, morph too; a hive that was evaluated has `nodes`.
  settings = [
    "meta"
    "network"
    "defaults"
    "resources"
    "require"
  ];
  called = if builtins.isFunction given then given { } else given;
  machines = called.nodes or (removeAttrs called settings);

  # A machine that is still a module is evaluated with the nixpkgs of NIX_PATH, and with `deployment` as it is written.
  anything =
    { lib, name, ... }:
    {
      options.deployment = lib.mkOption {
        type = lib.types.attrsOf lib.types.anything;
        default = { };
      };
      config.networking.hostName = lib.mkDefault name;
    };
  evaluated =
    name: machine:
    if builtins.isAttrs machine && machine ? config && machine ? options then
      machine
    else
      import <nixpkgs/nixos/lib/eval-config.nix> {
        modules = [
          (called.defaults or { })
          machine
          anything
        ];
        specialArgs = {
          inherit name;
          nodes = { };
        };
      };

  isStored = text: builtins.substring 0 (builtins.stringLength builtins.storeDir) text == builtins.storeDir;
  below =
    path:
    let
      length = builtins.stringLength folder + 1;
    in
    if builtins.substring 0 length path == "${folder}/" then builtins.substring length (-1) path else null;

  # Keys are never executed, and what everybody may read is said to be public.
  access =
    mode:
    let
      plain = {
        "1" = "0";
        "3" = "2";
        "5" = "4";
        "7" = "6";
      };
      length = builtins.stringLength mode;
      digits = builtins.genList (index: builtins.substring index 1 mode) length;
      kept = builtins.genList (
        index:
        let
          digit = builtins.elemAt digits index;
        in
        if length == 4 && index == 0 then digit else plain.${digit} or digit
      ) length;
      open = length > 0 && builtins.elem (builtins.elemAt kept (length - 1)) [ "4" "6" ];
    in
    { mode = builtins.concatStringsSep "" kept; } // (if open then { public = true; } else { });

  # A file of the flake, which Nix has copied whole, is named from the flake's folder.
  relative =
    path:
    let
      text = builtins.unsafeDiscardStringContext (toString path);
      copied = builtins.match "${builtins.storeDir}/[^/]+/(.+)" text;
    in
    if copied == null then text else builtins.head copied;
  elsewhere =
    path: name:
    if path == "${folder}/${name}" then
      [ ]
    else
      [ "it was expected at ${path}; it will be at ${folder}/${name}" ];
  note = condition: text: if condition then [ text ] else [ ];

  # Each surface: the keys by name, with what could not be carried over.
  surfaces = {
    deployment =
      config:
      builtins.mapAttrs (
        attribute: declared:
        let
          name = declared.name or attribute;
          path = declared.path or "${declared.destDir or folder}/${name}";
          inside = below path;
          text = declared.text or null;
          keyFile = declared.keyFile or null;
          keyCommand = declared.keyCommand or null;
          environment = declared.environment or { };
        in
        {
          name = if inside == null then attribute else inside;
          key = {
            source =
              if keyCommand != null then
                {
                  command =
                    {
                      argv = keyCommand;
                      prompts = true;
                      timeout = "10m";
                    }
                    // (if environment == { } then { } else { env = environment; });
                }
              else if keyFile != null then
                {
                  command = [
                    "cat"
                    "--"
                    (relative keyFile)
                  ];
                }
              else
                { prompt = "The secret of ${attribute}"; };
            owner = declared.user or "root";
            group = declared.group or "root";
          }
          // access (declared.permissions or "0600");
          notes =
            note (text != null) "`text` is in the configuration; put it where a source can read it"
            ++ note (keyFile != null && isStored (toString keyFile)) "keyFile is in the Nix store, where everybody can read it"
            ++ elsewhere path (if inside == null then attribute else inside);
        }
      ) (config.deployment.keys or { });

    morph =
      config:
      builtins.mapAttrs (
        attribute: declared:
        let
          inside = below declared.destination;
        in
        {
          name = if inside == null then attribute else inside;
          key = {
            source.command = [
              "cat"
              "--"
              (relative declared.source)
            ];
            owner = declared.owner.user or "root";
            group = declared.owner.group or "root";
          }
          // access (declared.permissions or "0400");
          notes =
            note (declared.action or [ ] != [ ]) "`action` is not run; name the services in restart_units"
            ++ elsewhere declared.destination (if inside == null then attribute else inside);
        }
      ) (config.deployment.secrets or { });

    sops =
      config:
      builtins.mapAttrs (attribute: declared: {
        inherit (declared) name;
        key = {
          source.sops = {
            file = relative declared.sopsFile;
            inherit (declared) format;
          }
          // (if declared.format == "binary" || declared.key == "" then { } else { inherit (declared) key; });
          owner = if declared.owner != null then declared.owner else toString declared.uid;
          group = if declared.group != null then declared.group else toString declared.gid;
        }
        // access declared.mode
        // units declared;
        notes =
          note declared.neededForUsers "neededForUsers: it comes after the users are made"
          ++ elsewhere declared.path declared.name;
      }) (config.sops.secrets or { });

    templates =
      config:
      builtins.mapAttrs (attribute: declared: {
        inherit (declared) name;
        key = null;
        notes = [ "a template: write it as a source `template`, with the secrets as its values" ];
      }) (config.sops.templates or { });

    age =
      config:
      builtins.mapAttrs (attribute: declared: {
        inherit (declared) name;
        key = {
          source.age.file = relative declared.file;
          inherit (declared) owner group;
        }
        // access declared.mode;
        notes =
          note (!(declared.symlink or true)) "symlink = false: no plaintext is put elsewhere"
          ++ elsewhere declared.path declared.name;
      }) (config.age.secrets or { });
  };
  units =
    declared:
    (if declared.restartUnits == [ ] then { } else { restart_units = declared.restartUnits; })
    // (if declared.reloadUnits == [ ] then { } else { reload_units = declared.reloadUnits; });

  wanted =
    {
      nixops = { deployment.keys = surfaces.deployment; };
      colmena = { deployment.keys = surfaces.deployment; };
      morph = { deployment.secrets = surfaces.morph; };
      sops-nix.sops = {
        inherit (surfaces) templates;
        secrets = surfaces.sops;
      };
      agenix = { age.secrets = surfaces.age; };
    }
    .${tool};

  ofMachine =
    name:
    let
      inherit (evaluated name machines.${name}) config;
      found = builtins.concatMap (
        group:
        builtins.concatMap (
          surface:
          let
            declared = wanted.${group}.${surface} config;
          in
          map (attribute: declared.${attribute} // { from = "${group}.${surface}.${attribute}"; }) (
            builtins.attrNames declared
          )
        ) (builtins.attrNames wanted.${group})
      ) (builtins.attrNames wanted);
      deployment = config.deployment or { };
      user = deployment.targetUser or null;
      target = deployment.targetHost or null;
      port = deployment.targetPort or null;
    in
    {
      host = {
        keys = builtins.listToAttrs (
          map (one: {
            inherit (one) name;
            value = one.key;
          }) (builtins.filter (one: one.key != null) found)
        );
      }
      // (
        if target == null then
          { }
        else
          {
            ssh =
              (if user == null then "root@" else "${user}@") + target + (if port == null then "" else ":${toString port}");
          }
      );
      notes = builtins.concatMap (one: map (text: "${name}: ${one.from}: ${text}") one.notes) found;
    };
  all = builtins.mapAttrs (name: _: ofMachine name) machines;
in
{
  manifest.hosts = builtins.mapAttrs (_: machine: machine.host) all;
  notes = builtins.concatMap (machine: machine.notes) (builtins.attrValues all);
}
