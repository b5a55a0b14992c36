# `services.keys.items`: the keys of this host, declared beside what needs them.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  key = import ./key.nix { inherit lib; };
  cfg = config.services.keys;

  item =
    { name, config, ... }:
    {
      options = {
        name = mkOption {
          type = types.str;
          default = name;
          defaultText = "the attribute's name";
          description = "The key's name: its path below `/run/keys`.";
        };
        source = mkOption {
          type = types.attrsOf types.anything;
          example = {
            vault = "kv/web#tls/cert";
          };
          description = ''
            Where the secret comes from, to the letter as the manifest has it (docs/manifest.md). Paths are texts relative to
            the manifest's folder; a Nix path below `services.keys.root` becomes one. The secret itself is never evaluated.
          '';
        };
        owner = mkOption {
          type = types.str;
          default = "root";
          description = "The user that owns it, by name or number.";
        };
        group = mkOption {
          type = types.str;
          default = "root";
          description = "Its group, by name or number.";
        };
        mode = mkOption {
          type = types.str;
          default = "0400";
          description = "Three or four octal digits. Never setuid, setgid, sticky, or writable for others.";
        };
        public = mkOption {
          type = types.bool;
          default = false;
          description = "Whether the mode may give read access to everybody on the host.";
        };
        restartUnits = mkOption {
          type = types.listOf types.str;
          default = [ ];
          description = "Services that are restarted when the key is new or changed, if they run.";
        };
        reloadUnits = mkOption {
          type = types.listOf types.str;
          default = [ ];
          description = "Services that are reloaded then.";
        };
        startUnits = mkOption {
          type = types.listOf types.str;
          default = [ ];
          description = "Services that are started then, if they do not run.";
        };
        stopUnits = mkOption {
          type = types.listOf types.str;
          default = [ ];
          description = "Services that are stopped when the key is removed from the host.";
        };
        signalUnits = mkOption {
          type = types.attrsOf types.str;
          default = { };
          example = {
            "haproxy.service" = "SIGUSR2";
          };
          description = "Services whose main process gets a signal then.";
        };
        onChange = mkOption {
          type = types.nullOr (types.enum [ "restart-dependents" ]);
          default = null;
          description = "`\"restart-dependents\"`: when the key is replaced, its unit is restarted, and by systemd what requires it.";
        };
        neededBy = mkOption {
          type = types.listOf types.str;
          default = [ ];
          example = [ "gitea.service" ];
          description = ''
            Services that need the key: they are started when it is there, by it alone, and stopped when it leaves. No target
            waits for them.
          '';
        };
        links = mkOption {
          type = types.listOf types.str;
          default = [ ];
          example = [ "/etc/pia/auth" ];
          description = ''
            Other paths of it: symbolic links that systemd-tmpfiles makes. What is there already is kept. Until the key is
            there, they lead nowhere.
          '';
        };
        path = mkOption {
          type = types.str;
          default = key.path config.name;
          defaultText = "/run/keys/NAME";
          readOnly = true;
          description = "Where it is, for other options.";
        };
        unit = mkOption {
          type = types.str;
          default = key.unit config.name;
          defaultText = "NAME-key.service";
          readOnly = true;
          description = "The unit that others wait for: `-` stands for `/` of the name, and `\\x2b` for `+`.";
        };
      };
    };

  links = lib.concatMap (
    item:
    map (link: {
      name = link;
      value."L".argument = item.path;
    }) item.links
  ) (builtins.attrValues cfg.items);
in
{
  options.services.keys.items = mkOption {
    type = types.attrsOf (types.submodule item);
    default = { };
    description = "The keys of this host, by name.";
  };

  config = {
    services.keys.checks = import ./checks.nix { inherit lib config; };
    # Named at a switch, without holding it up: what waits for a key waits by itself. At boot nothing is there yet.
    system.activationScripts = lib.mkIf (cfg.items != { }) {
      keys = {
        supportsDryActivation = true;
        text = ''
          if [ -n "''${NIXOS_ACTION-}" ]; then
            for key in ${builtins.concatStringsSep " " (map (item: item.name) (builtins.attrValues cfg.items))}; do
              [ -e "${key.folder}/$key" ] || echo "keys: $key is declared and not on this host: keys send" >&2
            done
          fi
        '';
      };
    };
    systemd.tmpfiles.settings = lib.mkIf (links != [ ]) { "keys-links" = builtins.listToAttrs links; };
  };
}
