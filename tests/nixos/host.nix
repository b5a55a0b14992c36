# A host for the tests: NixOS's options that nixos-modules/ sets or reads, and nothing behind them.
{ lib, ... }:
let
  any = lib.mkOption {
    type = lib.types.attrsOf lib.types.anything;
    default = { };
  };
  units = lib.mkOption {
    type = lib.types.listOf lib.types.str;
    default = [ ];
  };
  text = lib.mkOption {
    type = lib.types.lines;
    default = "";
  };
in
{
  options = {
    assertions = lib.mkOption {
      type = lib.types.listOf lib.types.unspecified;
      default = [ ];
    };
    warnings = lib.mkOption {
      type = lib.types.listOf lib.types.str;
      default = [ ];
    };
    boot.specialFileSystems = any;
    environment.etc = any;
    environment.systemPackages = lib.mkOption {
      type = lib.types.listOf lib.types.package;
      default = [ ];
    };
    networking.hostName = lib.mkOption { type = lib.types.str; };
    security.sudo.extraConfig = text;
    services.openssh.hostKeys = lib.mkOption {
      type = lib.types.listOf lib.types.anything;
      default = [ ];
    };
    system.activationScripts = any;
    systemd.services = lib.mkOption {
      type = lib.types.attrsOf (
        lib.types.submodule {
          options = {
            after = units;
            requires = units;
            wantedBy = units;
          };
        }
      );
      default = { };
    };
    systemd.tmpfiles.settings = any;
    systemd.units = any;
    users.groups = any;
    users.users = any;
    # What other options of a fixture take from the keys.
    lab.uses = any;
  };
}
