//! The manifest: what should be where, parsed into types that cannot be wrong.

mod decode;
mod document;
mod evaluate;
mod expand;
mod find;
mod hint;
mod json;
mod problem;
mod refer;
mod sealing;
mod toml;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keys_protocol::{KeyName, Mode, Principal, Tell, limits, printable};
use schemars::JsonSchema;
use serde::Deserialize;

use self::document::{Document, Ssh};
use self::problem::{Origin, Problem};
use self::tree::Node;
use crate::failure::Failure;
use crate::host::{Destination, HostName, Tag};
use crate::host_key::HostKey;
use crate::resolve::Settings;
use crate::resolve::vault::VaultSettings;
use crate::seal::Sealing;
use crate::source::Source;

/// A manifest with every key at its hosts.
#[derive(Debug)]
pub(crate) struct Manifest {
    /// What hosts remember as the origin of their keys.
    pub(crate) id: String,
    /// The real path of the file.
    pub(crate) file: PathBuf,
    /// What all sources share: the folder that relative paths start from, Vault, identities.
    pub(crate) sources: Settings,
    pub(crate) ssh: SshSettings,
    pub(crate) hosts: BTreeMap<HostName, Arc<Host>>,
}

/// How hosts are reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SshSettings {
    /// An absolute path, for `ssh -F`.
    pub(crate) config: Option<PathBuf>,
    /// Whole seconds, at least one.
    pub(crate) connect_timeout: Duration,
    /// How many hosts are served at once, at least one.
    pub(crate) parallel: usize,
}

/// A host with the keys it should have.
#[derive(Debug)]
#[expect(clippy::struct_field_names, reason = "a host key is what ssh calls it")]
pub(crate) struct Host {
    pub(crate) name: HostName,
    pub(crate) destination: Destination,
    pub(crate) tags: BTreeSet<Tag>,
    pub(crate) host_key: Option<HostKey>,
    pub(crate) sudo: Sudo,
    /// How its bundle is made, if any of its keys is sealed.
    pub(crate) sealing: Option<Sealing>,
    pub(crate) keys: BTreeMap<KeyName, Arc<Key>>,
}

/// Whether the agent is started by sudo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sudo {
    No,
    Yes,
}

/// A key of one host.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) name: KeyName,
    /// With `{host}` replaced.
    pub(crate) source: Source,
    pub(crate) owner: Principal,
    pub(crate) group: Principal,
    pub(crate) mode: Mode,
    /// Whether the manifest says that every user of the host may read it; the mode lets them only if it does.
    pub(crate) public: bool,
    pub(crate) offline: Offline,
    pub(crate) tells: BTreeSet<Tell>,
}

/// What becomes of a key when its host reboots.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Offline {
    /// It is gone until it is sent again.
    #[default]
    Never,
    /// It is in the encrypted bundle that the host opens by itself.
    Sealed,
}

/// The longest id that a manifest may give itself, in bytes.
const LONGEST_ID: usize = 200;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const PARALLEL: usize = 16;
const MOST_PARALLEL: usize = 1024;

/// The manifest that the command line names, if it names one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named<'a> {
    No,
    /// A file, which Nix evaluates if it ends in `.nix`.
    File(&'a Path),
    /// `FOLDER` or `FOLDER#ATTRIBUTE`.
    Flake(&'a str),
}

impl Default for SshSettings {
    fn default() -> Self {
        Self {
            config: None,
            connect_timeout: CONNECT_TIMEOUT,
            parallel: PARALLEL,
        }
    }
}

impl Manifest {
    /// Reads or evaluates the manifest that is named.
    pub(crate) async fn of(named: Named<'_>) -> Result<Self, Failure> {
        let is_nix = |path: &Path| path.extension().is_some_and(|extension| extension == "nix");
        let (file, text) = match named {
            Named::Flake(reference) => evaluate::flake(reference).await?,
            Named::File(path) if is_nix(path) => evaluate::file(path).await?,
            Named::File(path) => return Self::load(Some(path)),
            Named::No => return Self::load(None),
        };
        Self::parse(&text, &file)
    }

    /// Reads the named manifest, or the `keys.toml` that is found from the current folder.
    fn load(named: Option<&Path>) -> Result<Self, Failure> {
        let path = match named {
            Some(path) => path.to_owned(),
            None => find::locate()?,
        };
        let (file, text) = find::read(&path)?;
        Self::parse(&text, &file)
    }

    /// Parses the text of a manifest: JSON if it begins with `{` or the file's name says so, else TOML.
    pub(crate) fn parse(text: &str, file: &Path) -> Result<Self, Failure> {
        let mut origin = Origin {
            file,
            text,
            tree: None,
        };
        let tree = tree(text, file).map_err(|problem| problem.explain(origin))?;
        origin.tree = Some(&tree);
        Document::deserialize(&tree)
            .and_then(|fields| Self::new(fields, file))
            .map_err(|problem| problem.explain(origin))
    }

    fn new(document: Document, file: &Path) -> Result<Self, Problem> {
        let folder = file.parent().unwrap_or(Path::new("/")).to_owned();
        let ssh = ssh(&document.ssh, &folder).map_err(|problem| problem.inside("ssh"))?;
        Ok(Self {
            id: id(document.id.as_deref(), file).map_err(|problem| problem.inside("id"))?,
            hosts: expand::hosts(&document, &folder)?,
            ssh: ssh.clone(),
            sources: Settings {
                root: folder,
                vault: document.vault.unwrap_or_default(),
                vaults: vaults(document.vaults)?,
                ssh,
                wait: Duration::ZERO,
                age: document.age.unwrap_or_default(),
            },
            file: file.to_owned(),
        })
    }
}

/// Returns what the machines of a flake (`FOLDER#ATTRIBUTE`) or a `.nix` file declare for another tool: a manifest in JSON,
/// with notes of what it cannot say.
pub(crate) async fn foreign(place: &str, tool: &str) -> Result<String, Failure> {
    evaluate::foreign(place, tool).await
}

/// Returns the JSON Schema of the manifest, for editors and for the tools that write manifests.
pub(crate) fn schema() -> String {
    document::schema()
}

fn tree(text: &str, file: &Path) -> Result<Node, Problem> {
    if text.starts_with('\u{feff}') {
        return Err(Problem::syntax(
            0,
            "a byte order mark: save the file without it",
        ));
    }
    if let Some(at) = text.find('\0') {
        return Err(Problem::syntax(at, "a NUL byte"));
    }
    let named_json = file
        .extension()
        .is_some_and(|extension| extension == "json");
    if named_json || text.trim_start().starts_with('{') {
        json::read(text)
    } else {
        toml::read(text)
    }
}

/// Returns what the manifest calls itself, or the machine and the path: two files must never have one id, as each
/// removes the keys that it no longer names.
fn id(given: Option<&str>, file: &Path) -> Result<String, Problem> {
    let plain = |text: &str| printable(text, usize::MAX) == text;
    if let Some(id) = given {
        if id.is_empty() || id.len() > LONGEST_ID || !plain(id) {
            return Err(Problem::new(
                "an id is 1 to 200 bytes, without control characters",
            ));
        }
        return Ok(id.to_owned());
    }
    let machine = nix::unistd::gethostname()
        .map_err(|error| Problem::new(format!("this machine's name: {error}")))?;
    let id = format!("{}:{}", machine.to_string_lossy(), file.display());
    if file.to_str().is_none() || id.len() > limits::TEXT || !plain(&id) {
        return Err(Problem::new("the path of this file cannot be its id")
            .hint(Some("give it one: id = \"…\"".into())));
    }
    Ok(id)
}

fn ssh(fields: &Ssh, folder: &Path) -> Result<SshSettings, Problem> {
    let parallel = fields.parallel.map_or(Ok(PARALLEL), usize::try_from);
    let parallel = parallel
        .ok()
        .filter(|count| (1..=MOST_PARALLEL).contains(count))
        .ok_or_else(|| Problem::new("from 1 to 1024 hosts at once").inside("parallel"))?;
    let config = match fields.config.as_deref() {
        Some(path)
            if path.is_empty() || path.starts_with('~') || path.contains(char::is_control) =>
        {
            return Err(
                Problem::new("a path relative to the manifest's folder, or one from /")
                    .inside("config"),
            );
        }
        path => path.map(|path| folder.join(path)),
    };
    let connect_timeout = fields
        .connect_timeout
        .map_or(CONNECT_TIMEOUT, |wait| wait.0);
    Ok(SshSettings {
        config,
        connect_timeout,
        parallel,
    })
}

/// The environment fills no gaps here: it would send one server's token to another.
fn vaults(
    tables: BTreeMap<String, VaultSettings>,
) -> Result<BTreeMap<String, VaultSettings>, Problem> {
    for (name, table) in &tables {
        if let Some(missing) = table.missing() {
            let text = format!("`{missing}` is missing: the environment is for [vault] alone");
            return Err(Problem::new(text).inside(name.as_str()).inside("vaults"));
        }
    }
    Ok(tables)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix::time::{ClockId, clock_gettime};

    use super::*;
    use crate::failure::Exit;
    use crate::identity::AgeSettings;

    fn parse(text: &str) -> Manifest {
        Manifest::parse(text, Path::new("/work/keys.toml")).unwrap()
    }

    /// The error of a manifest, with its hint on a line of its own.
    fn error(text: &str, file: &str) -> String {
        let failure = Manifest::parse(text, Path::new(file)).expect_err(text);
        assert_eq!(failure.exit, Exit::Usage);
        match failure.advice() {
            Some(hint) => format!("{failure}\n{hint}"),
            None => failure.to_string(),
        }
    }

    fn check(text: &str, expected: &str) {
        assert_eq!(error(text, "keys.toml"), expected, "of\n{text}");
    }

    /// Checks a manifest with one key that is right but for the line `rest`, its sixth.
    fn check_key(rest: &str, expected: &str) {
        check(
            &format!(
                "[hosts.pigeon]\ntags = ['mail']\n[keys.a]\nhosts = ['pigeon']\nsource = {{ file = 'a' }}\n{rest}\n"
            ),
            expected,
        );
    }

    #[test]
    fn a_manifest_gives_every_host_its_keys() {
        let manifest = parse(
            r#"
            id = "ours"
            [ssh]
            config = "ssh/config"
            connect_timeout = "2m"
            parallel = 4
            [hosts.pigeon]
            ssh = "ops@[2001:db8::1]:5678"
            tags = ["production", "mail"]
            host_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJhTYMbzKBShLWqXYzPEgYmQovDbOofeeZKD06RnHC3q root@pigeon"
            sudo = true
            [hosts.horus]
            tags = ["production"]
            [hosts.horus.keys.tailscale]
            source = { file = "hosts/{host}/tailscale" }
            [keys."web/tls.key"]
            hosts = ["@production", "@mail", "pigeon"]
            source = { file = "{host}.key" }
            owner = "nginx"
            group = "1000"
            mode = "644"
            public = true
            restart_units = ["web.service"]
            reload_units = ["nginx.service"]
            "#,
        );
        assert_eq!(manifest.id, "ours");
        assert_eq!(manifest.sources.root, Path::new("/work"));
        let ssh = SshSettings {
            config: Some("/work/ssh/config".into()),
            connect_timeout: Duration::from_secs(120),
            parallel: 4,
        };
        assert_eq!(manifest.ssh, ssh);
        assert_eq!(summary(&manifest), SUMMARY);
    }

    const SUMMARY: &str = "\
        horus: horus No none\n\
        \x20 tailscale: file hosts/horus/tailscale root:root 0400 false {}\n\
        \x20 web/tls.key: file horus.key nginx:1000 0644 true {nginx.service: Reload, web.service: Restart}\n\
        pigeon: ops@[2001:db8::1]:5678 Yes SHA256:pC4FQiYh+NzkDPpwMawbpFkX8EjNG3IqR1Ag8OVyfLg\n\
        \x20 web/tls.key: file pigeon.key nginx:1000 0644 true {nginx.service: Reload, web.service: Restart}\n";

    fn summary(manifest: &Manifest) -> String {
        let mut lines = Vec::new();
        for host in manifest.hosts.values() {
            let pin = host.host_key.as_ref().map(HostKey::fingerprint);
            let pin = pin.as_deref().unwrap_or("none");
            lines.push(format!(
                "{}: {} {:?} {pin}\n",
                host.name, host.destination, host.sudo
            ));
            for (name, key) in &host.keys {
                let Key {
                    source,
                    owner,
                    group,
                    mode,
                    public,
                    tells,
                    ..
                } = key.as_ref();
                let tells: Vec<_> = tells
                    .iter()
                    .map(|tell| format!("{}: {:?}", tell.unit, tell.how))
                    .collect();
                let tells = tells.join(", ");
                lines.push(format!(
                    "  {name}: {source} {owner}:{group} {mode} {public} {{{tells}}}\n"
                ));
            }
        }
        lines.concat()
    }

    #[test]
    fn json_says_the_same_as_toml() {
        let toml = "id = 'x'\n[hosts.a]\nssh = 'root@b'\n[keys.k]\nhosts = ['a']\nsource = { file = 'f' }\n";
        let json = r#" {"id": "x", "vault": null, "hosts": {"a": {"ssh": "root@b", "host_key": null}},
            "keys": {"k": {"hosts": ["a"], "source": {"file": "f"}, "owner": null, "mode": "0400"}}}"#;
        assert_eq!(format!("{:?}", parse(toml)), format!("{:?}", parse(json)));
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let manifest = parse("");
        let machine = nix::unistd::gethostname().unwrap();
        assert_eq!(
            manifest.id,
            format!("{}:/work/keys.toml", machine.to_str().unwrap())
        );
        let ssh = SshSettings {
            config: None,
            connect_timeout: Duration::from_secs(10),
            parallel: 16,
        };
        assert_eq!(manifest.ssh, ssh);
        assert_eq!(manifest.sources.vault, VaultSettings::default());
        assert_eq!(manifest.sources.age, AgeSettings::default());
        assert!(manifest.hosts.is_empty());
    }

    #[test]
    fn a_path_that_cannot_be_an_id_wants_one() {
        for file in [
            "/a\x1b/keys.toml",
            &format!("/{}/keys.toml", "a".repeat(1024)),
        ] {
            let error = error("", file);
            assert!(
                error.ends_with(
                    ":1:1: id: the path of this file cannot be its id\ngive it one: id = \"…\""
                ),
                "{error}"
            );
            assert!(Manifest::parse("id = 'x'", Path::new(file)).is_ok());
        }
    }

    #[test]
    fn the_wrong_syntax_is_shown_where_it_is() {
        check("x", "keys.toml:1:2: key with no value, expected `=`");
        check(
            "ä = 'ö'",
            "keys.toml:1:1: invalid unquoted key, expected letters, numbers, `-`, `_`",
        );
        check(
            "'ä' = 'ö' x",
            "keys.toml:1:11: unexpected key or value, expected newline, `#`",
        );
        check(
            "id = 'a'\n\nid = 'b'",
            "keys.toml:3:1: this name is there twice",
        );
        check(
            "[hosts.a]\n[hosts.a]",
            "keys.toml:2:8: this name is there twice",
        );
        check(
            "id = 99999999999999999999",
            "keys.toml:1:6: the number is too large",
        );
        check(
            "\u{feff}id = 'x'",
            "keys.toml:1:1: a byte order mark: save the file without it",
        );
        check("id = 'x'\nssh = '\0'", "keys.toml:2:8: a NUL byte");
        check(
            "id = 'a\x1b'",
            "keys.toml:1:8: invalid literal string, expected non-single-quote visible characters",
        );
    }

    #[test]
    fn the_wrong_json_is_shown_where_it_is() {
        check(
            "{\n \"id\": 1",
            "keys.toml:2:8: EOF while parsing an object",
        );
        check("{}\n x", "keys.toml:2:2: trailing characters");
        check(
            "{\"id\": \"a\",\n \"id\": \"b\"}",
            "keys.toml:2:2: this name is there twice",
        );
        check(
            "{\"hosts\": {\"a\": {}, \"a\": {}}}",
            "keys.toml:1:21: this name is there twice",
        );
        check(
            "{\"id\": 18446744073709551615}",
            "keys.toml:1:27: the number is too large",
        );
        assert_eq!(
            error("[]", "keys.json"),
            "keys.json:1:1: found a list, expected a table"
        );
    }

    #[test]
    fn an_unknown_field_is_shown_with_what_was_meant() {
        check(
            "[host.a]",
            "keys.toml:1:2: unknown field `host`\ndid you mean `hosts`?",
        );
        check(
            "[vault]\nadress = 'x'",
            "keys.toml:2:1: vault: unknown field `adress`\ndid you mean `address`?",
        );
        check_key(
            "restartUnits = []",
            "keys.toml:6:1: keys.a: unknown field `restartUnits`\ndid you mean `restart_units`?",
        );
        check_key(
            "user = 'x'",
            "keys.toml:6:1: keys.a: unknown field `user`\n\
             known here: hosts, source, owner, group, mode, public, restart_units, reload_units, signal_units, \
             start_units, stop_units, on_change",
        );
        check(
            "[ssh]\n\"\\u001b]52;c;x\\u0007\" = 1",
            "keys.toml:2:1: ssh: unknown field `\\u{1b}]52;c;x\\u{7}`\n\
             known here: config, connect_timeout, parallel",
        );
        check(
            "{\"hosts\": {\"a\":\n {\"tgs\": [1]}}}",
            "keys.toml:2:3: hosts.a: unknown field `tgs`\ndid you mean `tags`?",
        );
    }

    #[test]
    fn a_name_that_wants_quotes_is_shown_with_them() {
        let key = "source = { file = 'x' }";
        check(
            &format!("[keys.a.b]\n{key}"),
            "keys.toml:1:9: keys.a: unknown field `b`\n\
             a name with a dot or slash is written in quotes: [keys.\"a.b\"] or [keys.\"a/b\"]",
        );
        check(
            &format!("[keys.dae.config.dae]\n{key}\nhosts = ['x']"),
            "keys.toml:1:11: keys.dae: unknown field `config`\n\
             a name with a dot or slash is written in quotes: [keys.\"dae.config.dae\"] or [keys.\"dae/config/dae\"]",
        );
        check(
            &format!("[hosts.horus.keys.a.b]\n{key}"),
            "keys.toml:1:21: hosts.horus.keys.a: unknown field `b`\n\
             a name with a dot or slash is written in quotes: [hosts.horus.keys.\"a.b\"] or [hosts.horus.keys.\"a/b\"]",
        );
        check(
            "[hosts.pigeon.example.org]\nssh = 'x'",
            "keys.toml:1:15: hosts.pigeon: unknown field `example`\n\
             a name with a dot is written in quotes: [hosts.\"pigeon.example.org\"]",
        );
        check(
            "keys.a.b = 1",
            "keys.toml:1:8: keys.a: unknown field `b`\n\
             known here: hosts, source, owner, group, mode, public, restart_units, reload_units, signal_units, \
             start_units, stop_units, on_change",
        );
    }

    #[test]
    fn a_mode_wants_quotes() {
        let quotes = |mode| format!("a mode is written in quotes: mode = \"{mode}\"");
        let at = "keys.toml:6:8:";
        let number =
            |found| format!("{at} keys.a.mode: found the number {found}, expected a string\n");
        check_key("mode = 400", &(number(400) + &quotes("0400")));
        check_key("mode = 0o640", &(number(416) + &quotes("0640")));
        check_key("mode = 9", &(number(9) + &quotes("0400")));
        check_key(
            "mode = 0440",
            &format!("{at} unexpected leading zero\n{}", quotes("0440")),
        );
        check(
            "{\"keys\": {\"a\": {\"mode\" : 440}}}",
            &format!(
                "keys.toml:1:26: keys.a.mode: found the number 440, expected a string\n{}",
                quotes("0440")
            ),
        );
    }

    #[test]
    fn the_wrong_value_is_shown_with_what_was_expected() {
        check(
            "id = 3",
            "keys.toml:1:6: id: found the number 3, expected a string",
        );
        check(
            "id = 2020-01-01",
            "keys.toml:1:6: id: found a date or time, expected a string",
        );
        let id = "id: an id is 1 to 200 bytes, without control characters";
        check("id = ''", &format!("keys.toml:1:6: {id}"));
        check("id = \"\\u001b\"", &format!("keys.toml:1:6: {id}"));
        check(
            "vault = 'x'",
            "keys.toml:1:9: vault: found a string, expected a table",
        );
        check_key(
            "restart_units = 'x.service'",
            "keys.toml:6:17: keys.a.restart_units: found a string, expected a list",
        );
        check_key(
            "public = 'yes'",
            "keys.toml:6:10: keys.a.public: found a string, expected true or false",
        );
        check(
            "{\"hosts\": {\"a\":\n {\"tags\": [\"x\", 1]}}}",
            "keys.toml:2:11: hosts.a.tags[1]: found the number 1, expected a string",
        );
        check(
            "{\"hosts\": {\"a\": null}}",
            "keys.toml:1:17: hosts.a: found null, expected a table",
        );
    }

    #[test]
    fn the_settings_of_ssh_have_bounds() {
        let parallel = "keys.toml:2:12: ssh.parallel:";
        for number in ["0", "-1", "1025", "99999999999"] {
            check(
                &format!("[ssh]\nparallel = {number}"),
                &format!("{parallel} from 1 to 1024 hosts at once"),
            );
        }
        check(
            "[ssh]\nparallel = 'x'",
            &format!("{parallel} found a string, expected a whole number"),
        );
        for wait in ["10", "0s", "-3s", "2h", "1.5s", "", "10s x"] {
            check(
                &format!("[ssh]\nconnect_timeout = '{wait}'"),
                "keys.toml:2:19: ssh.connect_timeout: a time from 1s to 1h is expected, such as 10s or 2m",
            );
        }
        check(
            "[ssh]\nconfig = '~/x'",
            "keys.toml:2:10: ssh.config: a path relative to the manifest's folder, or one from /",
        );
    }

    #[test]
    fn hostile_names_are_refused_and_escaped() {
        check(
            "[hosts.'a b']",
            "keys.toml:1:8: hosts: host name `a b`: only A-Z, a-z, 0-9 and ._- are allowed",
        );
        check(
            "[hosts.a]\nssh = '-oProxyCommand=x'",
            "keys.toml:2:7: hosts.a.ssh: destination `-oProxyCommand=x`: a host is 1 to 255 bytes of A-Z, a-z, 0-9 \
             and ._-, not beginning with -, or [IPv6]",
        );
        check(
            "[hosts.a]\nhost_key = 'ssh-ed25519 x'",
            "keys.toml:2:12: hosts.a.host_key: this is no host key: what follows the type is not base64",
        );
        check(
            "[hosts.a]\ntags = ['x', '@x']",
            "keys.toml:2:14: hosts.a.tags[1]: tag `@x`: it begins with a letter, a digit or _",
        );
        check(
            "[keys.'../x']",
            "keys.toml:1:7: keys: key name `../x`: no component may start with `.` or `-`",
        );
        check(
            "[keys.\"a\u{202e}b\"]",
            "keys.toml:1:7: keys: key name `a\\u{202e}b`: only A-Z, a-z, 0-9 and ._+@- are allowed, and / between \
             components",
        );
        let file = Path::new("/a\x1b[31m/keys.toml");
        let failure = Manifest::parse("x", file).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "/a\\u{1b}[31m/keys.toml:1:2: key with no value, expected `=`"
        );
    }

    #[test]
    fn what_the_host_would_refuse_is_refused_here() {
        check_key(
            "owner = 'a b'",
            "keys.toml:6:9: keys.a.owner: owner or group `a b`: only A-Z, a-z, 0-9 and _.@\\- are allowed",
        );
        check_key(
            "start_units = ['web-*.service']",
            "keys.toml:6:16: keys.a.start_units[0]: unit `web-*.service`: only A-Z, a-z, 0-9 and :_.\\@- are allowed",
        );
        check_key(
            "signal_units = { 'web.service' = 'SIGKILL' }",
            "keys.toml:6:34: keys.a.signal_units.\"web.service\": signal `SIGKILL`: only SIGHUP, SIGINT, SIGQUIT, SIGUSR1, \
             SIGUSR2, SIGTERM and SIGWINCH are sent",
        );
        check_key(
            "restart_units = ['*.service']",
            "keys.toml:6:18: keys.a.restart_units[0]: unit `*.service`: a pattern may not start with `*`, `?` or `[`",
        );
        check_key(
            "mode = '0666'",
            "keys.toml:6:8: keys.a.mode: mode `0666`: a key that others can write is never allowed",
        );
    }

    #[test]
    fn a_source_is_a_table_of_one_kind() {
        let source = |text: &str, at: &str, expected: &str| {
            let text = format!("[keys.a]\nsource = {text}");
            check(
                &text,
                &format!("keys.toml:2:{at}: keys.a.source: {expected}"),
            );
        };
        source(
            // Whatever it is, it is not repeated.
            "'hunter2'",
            "10",
            "found a string, expected a table\nwrite source = { vault = \"…\" }, or another kind",
        );
        source(
            "{}",
            "10",
            "no kind: one of vault, vault_secret_id, sops, age, file, command, prompt, generate, public, key, template is wanted",
        );
        source(
            "{ command = ['x'], file = 'x' }",
            "10",
            "two kinds side by side: a source is of one",
        );
        source(
            "{ command = ['x'], timeout = '1s' }",
            "29",
            "unknown field `timeout`\nwhat there is to say of a kind goes inside it: source.command = { … }",
        );
        source(
            "{ valt = 'x' }",
            "12",
            "unknown field `valt`\ndid you mean `vault`?",
        );
        source(
            "{ file = 'x', as = 'env', encoding = 'base64' }",
            "10",
            "`encoding` is that of one value, and `as` takes a map",
        );
    }

    #[test]
    fn what_is_wrong_inside_a_source_is_shown_there() {
        let source = |text: &str, expected: &str| {
            check(
                &format!("[keys.a]\nsource = {text}"),
                &format!("keys.toml:2:{expected}"),
            );
        };
        source(
            "{ vault = 3 }",
            "20: keys.a.source.vault: found the number 3, expected its short form or a table",
        );
        source(
            "{ vault = { path = 'kv/x', fields = 'a' } }",
            "37: keys.a.source.vault: unknown field `fields`\ndid you mean `field`?",
        );
        source(
            "{ command = { argv = ['x'], trim = 'newlin' } }",
            "45: keys.a.source.command.trim: found `newlin`, expected one of `none`, `newline`\n\
             did you mean `newline`?",
        );
        source(
            "{ file = 'x', as = 'yaml' }",
            "29: keys.a.source.as: found a string, expected one of env, json, dir",
        );
        source(
            "{ sops = { file = 'x', key = ['a', 3] } }",
            "45: keys.a.source.sops.key[1]: found the number 3, expected a string",
        );
        source(
            "{ vault = { path = 'kv/x', field = 'x', version = -1 } }",
            "60: keys.a.source.vault.version: found the number -1, expected a whole number",
        );
        source(
            "{ vault = \"\\u001b]52;c;x\\u0007\" }",
            "20: keys.a.source.vault: a Vault path is written as it is, without `?`, `%`, `\\` and control characters",
        );
        check(
            "[vault]\nauth = { aprole = { role_id = 'x' } }",
            "keys.toml:2:10: vault.auth: found `aprole`, expected one of `token_file`, `token_command`, \
             `wrapped_token_file`, `approle`, `jwt`, `cert`, `userpass`\ndid you mean `approle`?",
        );
    }

    #[test]
    fn a_key_goes_to_hosts_that_are_there() {
        let source = "source = { file = 'x' }";
        let hosts = |names: &str, expected: &str| {
            let text = format!(
                "[hosts.pigeon]\ntags = ['production']\n[keys.a]\n{source}\nhosts = [{names}]"
            );
            check(&text, &format!("keys.toml:{expected}"));
        };
        hosts("", "5:9: keys.a.hosts: no host would have this key");
        hosts(
            "\n'pigeon',\n'pigoen'",
            "7:1: keys.a.hosts[1]: no host `pigoen` in this manifest\ndid you mean `pigeon`?",
        );
        hosts("'a'", "5:10: keys.a.hosts[0]: no host `a` in this manifest");
        hosts(
            "'@prodution'",
            "5:10: keys.a.hosts[0]: no host has the tag `prodution`\ndid you mean `@production`?",
        );
        check(
            &format!("[keys.a]\n{source}"),
            "keys.toml:1:7: keys.a: `hosts` is missing: which hosts have this key?\n\
             hosts = [\"pigeon\", \"@production\"]",
        );
        check(
            &format!("[hosts.pigeon.keys.'a.b']\nhosts = ['pigeon']\n{source}"),
            "keys.toml:2:9: hosts.pigeon.keys.\"a.b\".hosts: this key is pigeon's alone and takes no `hosts`\n\
             a key of several hosts stands by itself: [keys.\"a.b\"]",
        );
        check("[keys.a]", "keys.toml:1:7: keys.a: `source` is missing");
    }

    #[test]
    fn keys_that_exclude_each_other_are_refused() {
        let conflict = |other: &str, expected: &str| {
            let text = format!(
                "[hosts.pigeon]\ntags = ['x']\n[keys.a-b]\nhosts = ['pigeon']\nsource = {{ file = 'x' }}\n\
                 [{other}]\nsource = {{ file = 'y' }}\n"
            );
            let text = if other.starts_with("keys") {
                text + "hosts = ['@x']"
            } else {
                text
            };
            check(&text, &format!("keys.toml:{expected}"));
        };
        conflict(
            "hosts.pigeon.keys.a-b",
            "6:20: hosts.pigeon.keys.a-b: pigeon has this key already, from [keys.a-b]",
        );
        conflict(
            "hosts.pigeon.keys.'a-b/c'",
            "6:20: hosts.pigeon.keys: on pigeon: key a-b is a file, and key a-b/c needs a directory of that name",
        );
        conflict(
            "keys.'a/b'",
            "3:7: keys: on pigeon: keys a/b and a-b would both be the unit a-b-key.service",
        );
    }

    #[test]
    fn units_and_modes_that_contradict_are_refused() {
        check_key(
            "restart_units = ['a.service']\nreload_units = ['b.service', 'a.service']",
            "keys.toml:7:30: keys.a.reload_units[1]: a.service is in `restart_units` as well\n\
             one of them is enough: what restarts need not reload",
        );
        check_key(
            "reload_units = ['a.service']\nsignal_units = { 'a.service' = 'SIGHUP' }",
            "keys.toml:7:18: keys.a.signal_units: a.service is in `reload_units` as well\n\
             one of them is enough: what restarts or reloads needs no signal",
        );
        let all = "restart_units = ['a.service']\nstart_units = ['a.service']\nstop_units = ['a.service']";
        let key = format!("[hosts.b.keys.a]\nsource = {{ file = 'a' }}\n{all}");
        assert_eq!(parse(&key).hosts.len(), 1);
        let units: Vec<String> = (0..65)
            .map(|number| format!("'u{number}.service'"))
            .collect();
        check_key(
            &format!("restart_units = [{}]", units.join(", ")),
            "keys.toml:3:7: keys.a: 65 units to tell, at most 64 allowed",
        );
        check_key(
            "mode = '0444'",
            "keys.toml:6:8: keys.a.mode: with mode 0444 every user of the host can read the key\n\
             if that is meant: public = true",
        );
    }

    /// Cuts a manifest off at every character, and puts something else in the place of every character.
    fn mutilated(text: &str) -> impl Iterator<Item = String> {
        let at = text
            .char_indices()
            .map(|(at, c)| (&text[..at], &text[at + c.len_utf8()..]));
        at.flat_map(|(before, after)| {
            let other = ["", "\"", "[", "}", "=", ",", "ä", "0", "\n"];
            let replaced = other.map(|other| format!("{before}{other}{after}"));
            replaced.into_iter().chain([before.to_owned()])
        })
    }

    #[test]
    fn a_mutilated_manifest_is_refused_where_it_is_wrong() {
        let toml = "[hosts.pigeon]\nssh='a:1'\n[keys.'a/ß'.x]\nhosts=['pigeon']\nmode='0400'\nsource={vault={path='a',field='b'}}";
        let json = r#"{"hosts":{"p\u0041":{"ssh":"a:1"}},"keys":{"a/ß":{"hosts":["pA"],"mode":"0400","source":{"vault":{"path":"a"}}}}}"#;
        for text in [toml, json].into_iter().flat_map(mutilated) {
            let Err(failure) = Manifest::parse(&text, Path::new("m")) else {
                continue;
            };
            let said = failure.to_string();
            let mut place = said
                .split(':')
                .skip(1)
                .map(|part| part.parse::<usize>().unwrap_or(0));
            let (line, column) = (place.next().unwrap(), place.next().unwrap());
            let length = text
                .split('\n')
                .nth(line - 1)
                .map(|line| line.chars().count());
            assert!(
                length.is_some_and(|length| (1..=length + 1).contains(&column)),
                "{said}\n{text}"
            );
        }
    }

    fn times(count: usize, line: impl Fn(usize) -> String) -> String {
        (0..count).map(line).collect::<Vec<_>>().concat()
    }

    const SIZE: usize = 4 << 20;

    /// Manifests that say much side by side (L1), with the error they have.
    fn wide() -> Vec<(&'static str, String, &'static str)> {
        let names = times(SIZE / 11, |number| format!("a{number:07}=1\n"));
        let json = times(SIZE / 13, |number| format!("\"a{number:07}\":1,"));
        let kinds = times(SIZE / 16, |number| format!("a{number:07}=1,"));
        let (comment, long) = ("#".repeat(SIZE - 5), "a".repeat(SIZE - 2));
        vec![
            ("names", names, "unknown field"),
            ("JSON names", format!("{{{json}\"id\":1}}"), "unknown field"),
            (
                "kinds",
                format!("[keys.a]\nsource={{{kinds}}}"),
                "unknown field",
            ),
            ("a comment", comment + "\nid=1", "expected a string"),
            ("a name", long + "=1", "unknown field"),
        ]
    }

    /// Manifests that nest.
    fn deep() -> Vec<(&'static str, String, &'static str)> {
        let (lists, tables) = ("[".repeat(100_000), "{a=".repeat(100_000));
        let (dots, objects) = (".a".repeat(SIZE / 2 - 8), "{\"id\":".repeat(100_000));
        vec![
            ("lists", format!("id={lists}"), "cannot recurse further"),
            ("tables", format!("id={tables}"), "cannot recurse further"),
            ("dots", format!("a{dots}=1"), "recursion limit"),
            ("JSON lists", format!("{{\"id\":{lists}"), "recursion limit"),
            ("JSON tables", objects, "recursion limit"),
        ]
    }

    /// Small manifests that would need much memory.
    fn growing() -> Vec<(&'static str, String, &'static str)> {
        let source = "source={file='x'}\n";
        let hosts = times(2_000, |number| format!("[hosts.h{number}]\ntags=['x']\n"));
        let keys = times(2_000, |number| {
            format!("[keys.k{number}]\nhosts=['@x']\n{source}")
        });
        let on_one = times(20_001, |number| {
            format!("[hosts.a.keys.k{number}]\n{source}")
        });
        let (tags, places) = ("'x',".repeat(400_000), "'@x',".repeat(400_000));
        let again = format!("[hosts.a]\ntags=[{tags}]\n[keys.a]\n{source}hosts=[{places}]");
        let all = "keys on all hosts together, at most 250000 allowed";
        vec![
            ("hosts times keys", hosts + &keys, all),
            ("the same place again", again, all),
            ("keys of one host", on_one, "more than 20000 keys on a"),
        ]
    }

    #[test]
    fn a_large_manifest_is_refused_soon() {
        for (what, text, expected) in [wide(), deep(), growing()].concat() {
            // Not by the clock on the wall: the machine may have other things to do.
            let cpu = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
            let before = cpu();
            let error = error(&text, "keys.toml");
            let taken = Duration::from(cpu() - before);
            assert!(
                error.contains(expected) && error.starts_with("keys.toml:"),
                "{what}: {error:.500}"
            );
            assert!(
                error.len() < 1_000,
                "{what}: {} bytes of error",
                error.len()
            );
            assert!(taken < Duration::from_secs(10), "{what}: {taken:?}");
        }
    }

    #[test]
    fn a_manifest_is_loaded_from_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let file = folder.join("keys.toml");
        std::fs::write(&file, "[hosts.a]").unwrap();
        let odd = folder
            .join("../")
            .join(folder.file_name().unwrap())
            .join("keys.toml");
        let manifest = Manifest::load(Some(&odd)).unwrap();
        assert_eq!((&manifest.file, &manifest.sources.root), (&file, &folder));
        assert!(manifest.id.ends_with(file.to_str().unwrap()));
        assert_eq!(manifest.hosts.len(), 1);
    }
}
