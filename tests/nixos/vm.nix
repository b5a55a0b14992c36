# NixOS VM tests, `nix flake check`: an operator's machine sends to a host that is made of the modules. They need nixpkgs and
# virtual machines, so tests/run does not run them (docs/how-to/nixos.md says what it does).
{ self, pkgs }:
let
  keysOf = import "${pkgs.path}/nixos/tests/ssh-keys.nix" pkgs;
  packages = self.packages.${pkgs.stdenv.hostPlatform.system};

  scenario =
    name:
    {
      host,
      prepare ? "",
      script,
    }:
    pkgs.testers.runNixOSTest {
      name = "keys-${name}";
      nodes = {
        operator.environment.systemPackages = [
          packages.keys
          pkgs.openssh
        ];
        pigeon = {
          imports = [
            self.nixosModules.default
            host
          ];
          services.openssh.enable = true;
          services.keys = {
            id = "vm";
            host.ssh = "root@pigeon";
            agent = {
              enable = true;
              authorizedKeys = [ keysOf.snakeOilEd25519PublicKey ];
            };
          };
        };
      };
      testScript =
        { nodes, ... }:
        let
          manifest = pkgs.writeText "keys.json" (builtins.toJSON nodes.pigeon.services.keys.manifest);
        in
        ''
          def send(words=""):
              return operator.succeed(f"cd /root/work && keys -f keys.json send {words}")

          start_all()
          pigeon.wait_for_unit("keys-agent.socket")
          pigeon.wait_for_open_port(22)
          operator.wait_for_unit("multi-user.target")
          operator.succeed("install -D -m 0600 ${keysOf.snakeOilEd25519PrivateKey} /root/.ssh/id_ed25519")
          operator.succeed("ssh-keyscan -t ed25519 pigeon > /root/.ssh/known_hosts")
          operator.succeed("install -D -m 0600 ${manifest} /root/work/keys.json && chmod 0700 /root/work")
          ${prepare}
          ${script}
        '';
    };
in
{
  # Keys beside the service that reads them, before and after a reboot.
  items = scenario "items" {
    host =
      { config, ... }:
      {
        users.users.web = {
          isSystemUser = true;
          group = "web";
        };
        users.groups.web = { };
        services.keys.items."web/token" = {
          source.file = "token";
          owner = "web";
          restartUnits = [ "web.service" ];
        };
        systemd.services.web = {
          wantedBy = [ "multi-user.target" ];
          serviceConfig = {
            User = "web";
            Restart = "on-failure";
            ExecStart = "${pkgs.coreutils}/bin/tail -f ${config.services.keys.items."web/token".path}";
          };
          startLimitIntervalSec = 0;
        };
      };
    prepare = ''operator.succeed("install -m 0600 /dev/null /root/work/token && printf one > /root/work/token")'';
    script = ''
      send()
      assert pigeon.succeed("cat /run/keys/web/token") == "one"
      assert pigeon.succeed("stat -Lc '%U %a' /run/keys/web/token") == "web 400\n"
      assert pigeon.succeed("stat -f -c %T /run/keys") == "ramfs\n"
      assert pigeon.succeed("stat -c '%a %G' /run/keys") == "751 keys\n"
      pigeon.wait_for_unit("web.service")
      operator.succeed("printf two > /root/work/token")
      assert "pigeon: web.service: restarted" in send()
      pigeon.shutdown()
      pigeon.start()
      pigeon.wait_for_open_port(22)
      pigeon.fail("test -e /run/keys/web/token")
      send()
      assert pigeon.succeed("cat /run/keys/web/token") == "two"
      # The login can do nothing else.
      operator.fail("ssh -o BatchMode=yes root@pigeon id")
    '';
  };

  # A tmpfs that cannot be swapped, and a login for keys alone.
  login = scenario "login" {
    host = {
      services.keys.agent = {
        memory = "tmpfs";
        user = "sender";
      };
      services.keys.host.ssh = pkgs.lib.mkForce "sender@pigeon";
      services.keys.items.token.source.command = [
        "printf"
        "one"
      ];
    };
    script = ''
      send()
      assert pigeon.succeed("cat /run/keys/token") == "one"
      assert "noswap" in pigeon.succeed("findmnt -no OPTIONS /run/keys")
    '';
  };

  # A declaration for NixOps whose path is on a disk, and where a switch names what is missing.
  deployment = scenario "deployment" {
    host = {
      imports = [ self.nixosModules.deployment ];
      deployment.keys."tls.key" = {
        keyCommand = [
          "printf"
          "one"
        ];
        destDir = "/opt/vault/tls";
        permissions = "0440";
        group = "keys";
      };
    };
    script = ''
      missing = pigeon.succeed("NIXOS_ACTION=switch /run/current-system/activate 2>&1")
      assert "keys: tls.key is declared and not on this host" in missing
      send()
      assert pigeon.succeed("readlink /opt/vault/tls/tls.key") == "/run/keys/tls.key\n"
      assert pigeon.succeed("cat /opt/vault/tls/tls.key") == "one"
    '';
  };
}
