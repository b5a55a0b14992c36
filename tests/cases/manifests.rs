//! L1, L7: manifests that are no manifests, and ones that somebody else could have written.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::time::Duration;

use keys_tests::{Operator, Sshd, Tap};

/// How long any manifest may take: 2 s, and more in a build that is not optimised, on a machine that is busy.
const LIMIT: Duration = Duration::from_secs(20);

/// An operator of whom nothing should be contacted or asked.
struct Setting {
    operator: Operator,
    tap: Tap,
}

impl Setting {
    fn new() -> Self {
        let mut operator = Operator::new();
        let tap = Tap::dead(&mut operator);
        Self { operator, tap }
    }

    /// Sees that a manifest is refused, quickly, and where and why.
    fn refused(&self, name: &str, text: impl AsRef<[u8]>, said: &str) {
        self.operator.write(name, text);
        let ran = self.operator.keys(&format!("-f {name} send")).exited(64);
        let path = self.operator.path(name);
        let place = format!("keys: {}{said}", path.display());
        assert!(ran.stderr.contains(&place), "{place:?} was expected\n{ran}");
        assert!(ran.took < LIMIT && ran.stderr.len() < 4096, "{ran}");
        assert!(
            !ran.stderr.contains("hunter2") && ran.text().is_empty(),
            "{ran}"
        );
        assert_eq!(self.tap.calls().len(), 0);
    }
}

/// L1: with file, line and column, whatever it is.
#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn what_is_no_manifest_is_refused_at_its_place() {
    let here = Setting::new();
    let good =
        "[hosts.pigeon]\n[keys.x]\nhosts = [\"pigeon\"]\nsource = { command = [\"hunter2\"] }\n";
    let toml = |text: &str, said: &str| here.refused("keys.toml", format!("{good}{text}"), said);
    toml("owenr = \"a\"\n", ":5:1: ");
    toml("[keys.x]\n", ":5:7: ");
    toml("mode = \"4755\"\n", ":5:8: ");
    toml("mode = 0o400\n", ":5:8: ");
    toml("owner = \"a\"\nowner = \"b\"\n", ":6:1: ");
    toml("\u{1}\n", ":5:2: ");
    toml("[hosts.pigeon]\n", ":5:8: ");
    toml("[nonsense]\n", ":5:2: ");
    toml(
        "[keys.\"../x\"]\nhosts = [\"pigeon\"]\nsource = { file = \"x\" }\n",
        ":5:",
    );
    toml(
        "[keys.y]\nhosts = [\"pigoen\"]\nsource = { file = \"x\" }\n",
        ":6:",
    );
    toml("restart_units = [\"reboot.target\"]\n", ":5:18: ");
    here.refused(
        "keys.toml",
        "\u{feff}[hosts.a]\n",
        ":1:1: a byte order mark: save the file without it\n",
    );
    here.refused("keys.toml", "id = \"a\0b\"\n", ":1:8: a NUL byte\n");
    here.refused(
        "keys.toml",
        b"\n\nid = \"\xff\"\n",
        ":3:7: byte 0xff is not UTF-8\n",
    );
    here.refused("keys.toml", "", ": this manifest names no hosts\n");
    let json = |text: &str, said: &str| here.refused("keys.json", text, said);
    json("{\"hosts\": {}, \"hosts\": {}}", ":1:15: ");
    json(
        "{\"hosts\": {\"a\": {\"ssh\": \"b\",\n\"ssh\": \"c\"}}}",
        ":2:1: ",
    );
    json("{\"hosts\": {}} x", ":1:15: ");
    json("{\"hosts\": {\"a\": {\"nonsense\": 1}}}", ":1:18: ");
    json("{\"hosts\": [", ":1:");
    json("", ":1:1: ");
}

/// L1: no text makes it slow, deep or large.
#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn hostile_manifests_are_refused_in_time() {
    let here = Setting::new();
    let name = |number: usize| format!("k{number}");
    here.refused(
        "keys.toml",
        vec![b'#'; (4 << 20) + 1],
        ": larger than 4 MiB\n",
    );
    here.refused("keys.toml", format!("a = {}", "[".repeat(100_000)), ":1:");
    here.refused(
        "keys.toml",
        format!("a = {}", "{ a = ".repeat(100_000)),
        ":1:",
    );
    here.refused(
        "keys.toml",
        format!("{} = 1", vec!["a"; 100_000].join(".")),
        ":1:",
    );
    here.refused(
        "keys.toml",
        format!("[{}]", vec!["a"; 100_000].join(".")),
        ":1:",
    );
    here.refused("keys.json", "[".repeat(100_000), ":1:");
    here.refused("keys.json", "{\"a\":".repeat(100_000), ":1:");
    let keys: String = (0..20_001)
        .map(|number| {
            format!(
                "[keys.{}]\nhosts = [\"a\"]\nsource = {{ file = \"x\" }}\n",
                name(number)
            )
        })
        .collect();
    here.refused("keys.toml", format!("[hosts.a]\n{keys}"), ":");
    let many: String = (0..3_000)
        .map(|number| format!("[hosts.h{number}]\ntags = [\"all\"]\n"))
        .collect();
    let keys: String = (0..500)
        .map(|number| {
            format!(
                "[keys.{}]\nhosts = [\"@all\"]\nsource = {{ file = \"x\" }}\n",
                name(number)
            )
        })
        .collect();
    here.refused("keys.toml", format!("{many}{keys}"), ":");
    let units: Vec<String> = (0..65)
        .map(|number| format!("\"u{number}.service\""))
        .collect();
    let units = units.join(", ");
    here.refused("keys.toml", format!("[hosts.a]\n[keys.x]\nhosts = [\"a\"]\nsource = {{ file = \"x\" }}\nrestart_units = [{units}]\n"), ":2:7: keys.x: 65 units to tell, at most 64 allowed\n");
    here.refused(
        "keys.toml",
        format!("id = \"{}\"\n", "x".repeat(3 << 20)),
        ":1:6: ",
    );
    here.refused(
        "keys.toml",
        format!("[hosts.\"{}\"]\n", "h".repeat(3 << 20)),
        ":1:",
    );
}

/// L7: a manifest can run commands, so it is read like a program.
#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn a_manifest_that_others_can_write_is_refused() {
    let here = Setting::new();
    let manifest = here.operator.path("keys.toml");
    let folder = here.operator.path(".").canonicalize().unwrap();
    let marker = here.operator.path("marker");
    here.operator.manifest("[hosts.pigeon]\n[keys.x]\nhosts = [\"pigeon\"]\nsource = { command = [\"touch\", \"marker\"] }\n");
    let mode = |path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let refused = |what: &str| {
        for words in ["send", "get x", "-f keys.toml status"] {
            let ran = here.operator.keys(words).exited(64).said("keys: hint: ");
            assert!(
                !marker.exists() && here.tap.calls().is_empty(),
                "{what}: {ran}"
            );
        }
    };
    for bits in [0o660, 0o606, 0o666, 0o620] {
        mode(&manifest, bits);
        refused("the file");
    }
    mode(&manifest, 0o644);
    for bits in [0o770, 0o707, 0o1777] {
        mode(&folder, bits);
        refused("the folder");
    }
    mode(&folder, 0o755);
    chown(&manifest, Some(1234), Some(1234)).unwrap();
    refused("the file of another");
    chown(&manifest, Some(0), Some(0)).unwrap();
    chown(&folder, Some(1234), Some(0)).unwrap();
    refused("the folder of another");
    chown(&folder, Some(0), Some(0)).unwrap();
    // A link is as good as the folder it stands in, and what it leads to.
    let elsewhere = here.operator.path("../elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::rename(&manifest, elsewhere.join("keys.toml")).unwrap();
    symlink("../elsewhere/keys.toml", &manifest).unwrap();
    mode(&elsewhere, 0o777);
    refused("what a link leads to");
    mode(&elsewhere, 0o755);
    mode(&folder, 0o777);
    refused("where a link stands");
    mode(&folder, 0o755);
    let _asked = here.operator.keys("get x").exited(6);
    assert!(elsewhere.join("marker").exists());
}

/// L7: a home is looked into, and needed for nothing.
#[test]
fn a_home_of_others_or_none_does_no_harm() {
    let host = Sshd::start("pigeon");
    let operator = Operator::of(&host);
    operator.token("x");
    chown(operator.home(), Some(1234), Some(1234)).unwrap();
    let _sent = operator.send("").succeeded();
    let mut command = operator.command(&["send"]);
    let _sent = operator.ran({
        command.env_remove("HOME");
        command
    });
    for home in ["", "/", "/none", "relative", "/dev/null", "/proc/self/fd/0"] {
        let mut command = operator.command(&["send"]);
        command.env("HOME", home);
        let _sent = operator.ran(command).succeeded();
    }
    // It is found from a folder below, and not above the home.
    let below = operator.path("a/b");
    fs::create_dir_all(&below).unwrap();
    let mut command = operator.command(&["plan"]);
    command.current_dir(&below);
    let _found = operator.ran(command).succeeded();
    let mut command = operator.command(&["plan"]);
    command.current_dir(&below).env("HOME", operator.path("a"));
    let _none = operator
        .ran(command)
        .exited(64)
        .said("keys: no keys.toml in ");
}
