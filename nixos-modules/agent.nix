# `services.keys.agent`: what a host needs to be sent keys. The units are those that `keys-agent install` writes elsewhere.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkIf mkOption types;
  cfg = config.services.keys.agent;
  program = "${cfg.package}/bin/keys-agent";
  isRoot = cfg.user == "root";

  # The text of a unit in ../agent/systemd, which is the one place where it is written.
  unit =
    name:
    builtins.replaceStrings
      [ "/usr/local/bin/keys-agent" ]
      [ program ]
      (builtins.readFile (../agent/systemd + "/${name}"));
  # The same for a login that is not root's: the agent lets it in.
  forLogin =
    text:
    if isRoot then
      text
    else
      builtins.replaceStrings
        [ "keys-agent serve\n" "SocketMode=0600\n" ]
        [ "keys-agent serve --peer ${cfg.user}\n" "SocketMode=0600\nSocketUser=${cfg.user}\n" ]
        text;
in
{
  options.services.keys.agent = {
    enable = mkOption {
      type = types.bool;
      default = false;
      description = "Whether this host has the agent.";
    };
    package = mkOption {
      type = types.package;
      default = (pkgs.callPackage ./packages.nix { }).keys-agent;
      defaultText = "the flake's keys-agent";
      description = "The agent.";
    };
    memory = mkOption {
      type = types.enum [
        "ramfs"
        "tmpfs"
      ];
      default = "ramfs";
      description = ''
        What is at `/run/keys`: the ramfs that NixOS mounts there in stage 1, or a tmpfs that cannot be swapped and is bounded
        (`noswap`, Linux 6.4).
      '';
    };
    size = mkOption {
      type = types.str;
      default = "64M";
      description = "How large that tmpfs may become. Two generations of the keys are there while one is sent.";
    };
    user = mkOption {
      type = types.str;
      default = "root";
      description = "The login that keys are sent to. Another one than root is made, with nothing but that right.";
    };
    authorizedKeys = mkOption {
      type = types.listOf types.str;
      default = [ ];
      description = ''
        Public keys of ssh that may send keys to this host and ask what is there, and nothing else: those of operators and of
        watchers.
      '';
    };
    sudoUsers = mkOption {
      type = types.listOf types.str;
      default = [ ];
      description = "Users whose logins may start the agent by sudo, without a password and without being recorded.";
    };
  };

  config = mkIf cfg.enable {
    environment.systemPackages = [ cfg.package ];
    users.groups = {
      keys = { };
    }
    // lib.optionalAttrs (!isRoot) { ${cfg.user} = { }; };
    users.users = {
      ${cfg.user} = {
        openssh.authorizedKeys.keys = map (key: ''restrict,command="${program} relay" ${key}'') cfg.authorizedKeys;
      }
      // lib.optionalAttrs (!isRoot) {
        isSystemUser = true;
        group = cfg.user;
        # sshd runs the forced command by it.
        shell = "/bin/sh";
      };
    };

    boot.specialFileSystems = mkIf (cfg.memory == "tmpfs") {
      "/run/keys" = {
        fsType = lib.mkForce "tmpfs";
        options = lib.mkForce [
          "noswap"
          "nosuid"
          "nodev"
          "noexec"
          "mode=0751"
          "size=${cfg.size}"
        ];
      };
    };
    # Sorted last, as NixOS has a line of its own for this path.
    systemd.tmpfiles.settings."zz-keys"."/run/keys".z = {
      mode = "0751";
      user = "root";
      group = "keys";
    };

    systemd.units = {
      "keys-mount.service" = {
        text = unit "keys-mount.service";
        wantedBy = [ "sysinit.target" ];
      };
      "keys-agent.socket" = {
        text = forLogin (unit "keys-agent.socket");
        wantedBy = [ "sockets.target" ];
      };
      "keys-refused.service".text = unit "keys-refused.service";
      "keys-agent.service".text = forLogin (unit "keys-agent.service");
    };

    security.sudo.extraConfig = mkIf (cfg.sudoUsers != [ ]) ''
      Defaults!/run/current-system/sw/bin/keys-agent !log_input, !log_output
      ${lib.concatMapStringsSep "\n" (
        user:
        "${user} ALL=(root) NOPASSWD: /run/current-system/sw/bin/keys-agent receive, /run/current-system/sw/bin/keys-agent status"
      ) cfg.sudoUsers}
    '';

    services.keys.checks = [
      {
        assertion =
          cfg.memory == "ramfs"
          || builtins.compareVersions (config.boot.kernelPackages.kernel.version or "6.4") "6.4" >= 0;
        message = "services.keys.agent.memory: a tmpfs that cannot be swapped takes Linux 6.4";
      }
      {
        assertion = !builtins.elem cfg.user (config.users.groups.keys.members or [ ]);
        message = "services.keys.agent.user: ${cfg.user} may not be in the group keys, or it could read what it sends";
      }
    ];
  };
}
