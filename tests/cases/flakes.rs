//! Manifests that Nix makes, of flakes and of other machines: evaluated once for each state, and like a program.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use keys_tests::{Nix, Operator, Sops, Sshd, lab};

/// Two machines with keys and one without, and a Colmena hive of one.
const FLAKE: &str = r#"{
  outputs =
    { self }:
    let
      lib = import ./tests/nixos/lib.nix;
      machine =
        name: module:
        lib.evalModules {
          modules = [
            ./tests/nixos/host.nix
            ./nixos-modules
            {
              networking.hostName = name;
              services.keys = {
                root = self;
                id = "lab";
                ssh.config = "../ssh/config";
              };
            }
            module
          ];
          specialArgs.pkgs = { };
        };
    in
    {
      nixosConfigurations = {
        pigeon = machine "pigeon" {
          services.keys.items.token.source.sops = {
            file = ./secrets.yaml;
            key = "token";
          };
          services.keys.items.mode.mode = "0440";
          services.keys.items.mode.source.command = [ "printf" "EDIT" ];
        };
        horus = machine "horus" { services.keys.items.b.source.command = [ "printf" "b" ]; };
        other.config = { };
      };
      colmenaHive.nodes.pigeon = machine "pigeon" { services.keys.items.hive.source.command = [ "printf" "hive" ]; };
      wrong.pigeon = machine "pigeon" { services.keys.items.x.source.file = "${builtins.storeDir}/x"; };
      twice = {
        one = machine "pigeon" { };
        two = machine "pigeon" { };
      };
      differ = {
        one = machine "one" { };
        two = machine "two" { services.keys.vault.address = "http://a"; };
        three = machine "three" { services.keys.vault.address = "http://b"; };
      };
      none = { };
    };
}
"#;

/// Nix in the operator's PATH, which notes what it is asked.
const WRAPPER: &str = "#!/bin/sh
echo \"$*\" | head -n 1 >>FOLDER/../asked
env >>FOLDER/../environment
exec /usr/sbin/chroot ROOT /usr/bin/env -i -C \"$PWD\" NIX_PATH=\"$NIX_PATH\" HOME=/root PATH=/usr/bin:/bin nix \"$@\"
";

struct Setting {
    operator: Operator,
    sops: Sops,
    /// Holds what the wrapper enters.
    _nix: Nix,
}

impl Setting {
    fn new(mut operator: Operator) -> Self {
        let nix = Nix::new();
        let sops = Sops::new();
        let folder = operator.path("").canonicalize().expect("it was made");
        let shown = folder.to_str().expect("a text");
        nix.shows(&folder, shown);
        let wrapper = WRAPPER
            .replace("FOLDER", shown)
            .replace("ROOT", nix.root().to_str().expect("a text"));
        let bin = operator.path("../bin");
        fs::create_dir(&bin).expect("the lab's folder can be written");
        operator.write("../bin/nix", wrapper);
        fs::set_permissions(bin.join("nix"), fs::Permissions::from_mode(0o700)).expect("our own");
        for part in ["nixos-modules", "tests/nixos"] {
            for file in fs::read_dir(lab::source().join(part)).expect("a folder of ours") {
                let path = file.expect("a folder of ours").path();
                if path.is_file() {
                    let name = path.file_name().and_then(|name| name.to_str());
                    let bytes = fs::read(&path).expect("a file of ours");
                    operator.write(&format!("{part}/{}", name.expect("a text")), bytes);
                }
            }
        }
        operator.write("flake.nix", FLAKE);
        operator.write(
            "secrets.yaml",
            sops.encrypt("secrets.yaml", "token: hunter2\n"),
        );
        operator
            .env("SOPS_AGE_KEY_FILE", sops.age().identity())
            .env("VAULT_TOKEN", "hvs.secret")
            .env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
        Self {
            operator,
            sops,
            _nix: nix,
        }
    }

    /// Returns how often Nix has evaluated.
    fn evaluations(&self) -> usize {
        let asked = fs::read_to_string(self.operator.path("../asked")).unwrap_or_default();
        asked.lines().filter(|line| line.contains(" eval ")).count()
    }

    fn refused(&self, attribute: &str, said: &str) {
        let ran = self
            .operator
            .keys(&format!("plan --flake .#{attribute}"))
            .exited(64)
            .said(said);
        assert_eq!(ran.text(), "", "{ran}");
    }
}

#[test]
fn a_flake_is_sent_and_evaluated_once_for_each_state() {
    let host = Sshd::start("pigeon");
    let here = Setting::new(Operator::of(&host));
    let operator = &here.operator;
    let _sent = operator
        .keys("send --flake . --include pigeon")
        .succeeded()
        .printed("pigeon: token: new");
    assert_eq!(host.inside().read("/run/keys/token"), b"hunter2");
    assert_eq!(host.inside().access("/run/keys/mode"), "root:root 0440");
    assert_eq!(here.evaluations(), 1);
    let again = operator.keys("send --flake . --include pigeon").succeeded();
    assert_eq!(again.text(), "");
    assert_eq!(here.evaluations(), 1, "the second send evaluated");
    // From below, by its path, another part of it, and after a change.
    let _hive = operator
        .keys("plan --flake .#colmenaHive")
        .exited(2)
        .printed("pigeon: hive: new");
    assert_eq!(here.evaluations(), 2);
    operator.write("flake.nix", FLAKE.replace("EDIT", "another"));
    let _sent = operator
        .keys("send --flake . --include pigeon")
        .succeeded()
        .printed("pigeon: mode: changed (content)");
    assert_eq!(host.inside().read("/run/keys/mode"), b"another");
    assert_eq!(here.evaluations(), 3);
    // The working tree's file is read, as it is now.
    operator.write(
        "secrets.yaml",
        here.sops.encrypt("secrets.yaml", "token: other\n"),
    );
    let _sent = operator.keys("send --flake . --include pigeon").succeeded();
    assert_eq!(host.inside().read("/run/keys/token"), b"other");
    let seen = fs::read_to_string(operator.path("../environment")).expect("the wrapper wrote it");
    assert!(!seen.contains("hvs.secret"), "Nix saw the token of Vault");
}

#[test]
fn what_is_kept_of_a_flake_is_read_like_a_manifest() {
    let here = Setting::new(Operator::new());
    let _plan = here.operator.keys("get b --flake .").succeeded();
    let folder = here.operator.home().join(".cache/keys");
    let kept: Vec<_> = fs::read_dir(&folder)
        .expect("it was made")
        .map(|entry| entry.expect("our own folder").path())
        .collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    let text = fs::read_to_string(&kept[0]).expect("our own file");
    assert!(text.contains("\"printf\"") && !text.contains("hunter2"));
    let mode = |mode| {
        fs::set_permissions(&kept[0], fs::Permissions::from_mode(mode)).expect("our own file")
    };
    mode(0o666);
    let _refused = here
        .operator
        .keys("get b --flake .")
        .exited(64)
        .said("everyone can write it");
    mode(0o600);
    assert_eq!(
        here.operator.keys("get b --flake .").succeeded().stdout,
        b"b"
    );
    assert_eq!(here.evaluations(), 1);
    // What is no manifest of ours is made anew.
    fs::write(&kept[0], "{}").expect("our own file");
    assert_eq!(
        here.operator.keys("get b --flake .").succeeded().stdout,
        b"b"
    );
    assert_eq!(here.evaluations(), 2);
}

#[test]
fn machines_of_a_file_are_evaluated_each_time() {
    let here = Setting::new(Operator::new());
    let file = r#"
      (import ./flake.nix).outputs { self = { outPath = toString ./.; nixosConfigurations = null; }; }
    "#;
    here.operator
        .write("network.nix", format!("({file}).nixosConfigurations"));
    for round in 1..=2 {
        let ran = here.operator.keys("-f network.nix get token").succeeded();
        assert_eq!(ran.stdout, b"hunter2");
        assert_eq!(here.evaluations(), round);
    }
    assert!(!here.operator.home().join(".cache/keys").exists());
}

#[test]
fn a_network_that_cannot_be_is_refused_with_what_nix_says() {
    let here = Setting::new(Operator::new());
    here.refused(
        "wrong",
        "error: pigeon: services.keys.items.x: /nix/store/x is in the Nix store",
    );
    here.refused("twice", "error: two machines are the host pigeon");
    here.refused(
        "differ",
        "error: services.keys.vault: the hosts do not say the same",
    );
    here.refused("none", "error: no machine here imports the modules of keys");
    here.refused("nothing", "does not provide attribute");
    let folder = here.operator.path(".");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("our own folder");
    here.refused("colmenaHive", "everyone can write it");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("our own folder");
    let _both = here
        .operator
        .keys("-f network.nix plan --flake .")
        .exited(64)
        .said("--file and --flake: one manifest is wanted");
    let _elsewhere = here
        .operator
        .keys("plan --flake nowhere")
        .exited(64)
        .said("nowhere/flake.nix: No such file or directory");
}

#[test]
fn without_nix_the_error_says_what_is_wanted() {
    let operator = Operator::new();
    operator.write("flake.nix", FLAKE);
    let _asked = operator
        .keys("plan --flake .")
        .exited(64)
        .said("start nix: No such file or directory")
        .said("hint: a flake or a .nix file takes Nix 2.4 or newer in PATH");
}

/// A network as NixOps has it: modules that nobody has evaluated.
const NETWORK: &str = r#"{
  network.description = "nixos";
  pigeon = { config, ... }: {
    deployment.targetHost = "pigeon";
    deployment.keys.token = { keyCommand = [ "printf" "a value" ]; group = "keys"; permissions = "0750"; };
    deployment.keys.database = { text = "hunter2"; user = "thedroneely"; };
    deployment.keys.vault-key = { keyFile = /home/ops/vault-key; destDir = "/opt/vault/tls"; };
  };
  heron.deployment.targetHost = "heron.local";
}
"#;

/// What evaluates them, in the place of nixpkgs.
const EVALUATOR: &str = "{ modules, specialArgs }:
(import ../../../tests/nixos/lib.nix).evalModules {
  modules = [ ../../../tests/nixos/host.nix ] ++ modules;
  inherit specialArgs;
}
";

/// What is printed is used, by the command line that NixOps had.
#[test]
fn a_network_of_nixops_is_imported_and_sent() {
    let host = Sshd::start("pigeon");
    let mut here = Setting::new(Operator::of(&host));
    here.operator
        .write("nixpkgs/nixos/lib/eval-config.nix", EVALUATOR);
    let path = format!("nixpkgs={}", here.operator.path("nixpkgs").display());
    here.operator.env("NIX_PATH", path);
    here.operator.write("configuration.nix", NETWORK);
    let imported = here
        .operator
        .keys("import nixops configuration.nix")
        .succeeded()
        .said("keys: pigeon: deployment.keys.database: `text` is in the configuration")
        .said(
            "keys: pigeon: deployment.keys.vault-key: it was expected at /opt/vault/tls/vault-key",
        );
    assert!(!imported.text().contains("hunter2") && !imported.stderr.contains("hunter2"));
    here.operator.manifest(&imported.text());
    let _sent = here
        .operator
        .keys("compat nixops send-keys --deployment nixos --state deployments.nixops --debug --key token --include pigeon")
        .succeeded()
        .printed("pigeon: token: new");
    assert_eq!(host.inside().read("/run/keys/token"), b"a value");
    assert_eq!(host.inside().access("/run/keys/token"), "root:keys 0640");
    let _other = here
        .operator
        .keys("get vault-key")
        .exited(6)
        .said("command cat -- /home/ops/vault-key");
}

#[test]
fn declarations_of_a_flake_are_imported() {
    let here = Setting::new(Operator::new());
    let module = |tool: &str, text: &str| {
        format!(
            "{tool}.pigeon = machine \"pigeon\" {{ imports = [ ./nixos-modules/{tool}.nix ]; {text} }};\n      none = {{ }};"
        )
    };
    let sops = module(
        "sops",
        "sops.secrets.token.sopsFile = ./secrets.yaml; sops.secrets.users.neededForUsers = true; \
         sops.secrets.users.sopsFile = ./secrets.yaml; sops.templates.env.content = \"x\";",
    );
    let age = module(
        "age",
        "age.secrets.a = { file = ./a.age; mode = \"0440\"; };",
    );
    let text = FLAKE
        .replace("none = { };", &sops)
        .replace("none = { };", &age);
    here.operator.write("flake.nix", text);
    let sops = here
        .operator
        .keys("import sops-nix .#sops")
        .succeeded()
        .printed("[hosts.pigeon.keys.token.source.sops]")
        .said("pigeon: sops.secrets.users: neededForUsers: it comes after the users are made")
        .said("pigeon: sops.templates.env: a template");
    assert!(sops.text().contains("key = \"token\""), "{sops}");
    let _age = here
        .operator
        .keys("import agenix .#age")
        .succeeded()
        .printed("[hosts.pigeon.keys.a.source.age]")
        .printed("mode = \"0440\"");
    let _unknown = here.operator.keys("import chef .").exited(64);
}
