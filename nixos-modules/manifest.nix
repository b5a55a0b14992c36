# `services.keys.manifest`: what this host says of itself and its keys, as the pusher reads it.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.services.keys;
  source = import ./source.nix {
    inherit lib;
    inherit (cfg) root;
  };

  # A part of the manifest that all its hosts share.
  shared =
    description:
    mkOption {
      type = types.attrsOf types.anything;
      default = { };
      inherit description;
    };
  given = lib.filterAttrs (
    _: value: value != null && value != [ ] && value != { } && value != false
  );

  ofItem =
    item:
    {
      source = source.written item.source;
      inherit (item) owner group mode;
    }
    // given {
      inherit (item) public;
      restart_units = item.restartUnits;
      reload_units = item.reloadUnits;
      signal_units = item.signalUnits;
      start_units = item.startUnits;
      stop_units = item.stopUnits;
      on_change = item.onChange;
    };
in
{
  options.services.keys = {
    root = mkOption {
      type = types.nullOr types.path;
      default = null;
      example = "self";
      description = ''
        The folder of the manifest as Nix knows it: `self` in a flake. Nix paths below it become relative ones, so that
        `./secrets.yaml` is the file beside the flake, and not its copy in the store.
      '';
    };
    host = {
      name = mkOption {
        type = types.str;
        default = config.networking.hostName;
        defaultText = "config.networking.hostName";
        description = "What the manifest calls this host.";
      };
      ssh = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "root@pigeon.example.org:5678";
        description = "Where ssh finds it, or an alias of `ssh_config`; without it, that is its name.";
      };
      hostKey = mkOption {
        type = types.nullOr types.str;
        default = null;
        description = "The public host key: no other is accepted then.";
      };
      tags = mkOption {
        type = types.listOf types.str;
        default = [ ];
        description = "Words to select hosts by.";
      };
      sudo = mkOption {
        type = types.bool;
        default = false;
        description = "Whether the agent is started by sudo, because the login is not root's.";
      };
    };
    id = mkOption {
      type = types.nullOr types.str;
      default = null;
      description = "What the manifest calls itself to hosts. All hosts of a network say the same.";
    };
    vault = shared "The manifest's table `vault`, to the letter. All hosts of a network say the same.";
    vaults = shared "The manifest's table `vaults`, likewise.";
    age = shared "The manifest's table `age`, likewise.";
    ssh = shared "The manifest's table `ssh`, likewise.";
    checks = mkOption {
      type = types.listOf types.unspecified;
      default = [ ];
      internal = true;
      description = "What must hold of the keys, as assertions: a manifest is not used while one does not.";
    };
    manifest = mkOption {
      type = types.attrsOf types.anything;
      readOnly = true;
      defaultText = "made of the other options";
      description = "The manifest of this host alone, in the spelling of JSON. No secret is in it.";
    };
  };

  config.assertions = cfg.checks;
  config.services.keys.manifest =
    given {
      inherit (cfg)
        id
        vault
        vaults
        age
        ssh
        ;
    }
    // {
      hosts.${cfg.host.name} =
        given {
          inherit (cfg.host) ssh tags sudo;
          host_key = cfg.host.hostKey;
        }
        // {
          keys = builtins.listToAttrs (
            map (item: {
              inherit (item) name;
              value = ofItem item;
            }) (builtins.attrValues cfg.items)
          );
        };
    };
}
