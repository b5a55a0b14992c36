//! Which hosts and keys a command is about.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::Arc;

use clap::Args;
use keys_protocol::{KeyName, Scope};

use crate::failure::Failure;
use crate::glob::{Glob, GlobError};
use crate::host::{HostName, Tag};
use crate::manifest::{Host, Key, Manifest};
use crate::spelling::nearest;

/// The part of a command line that chooses hosts and keys. Without any of it: all hosts, all keys.
#[derive(Debug, Default, Args)]
pub(crate) struct Selection {
    #[command(flatten)]
    hosts: Hosts,
    /// Of those hosts, only these keys, and no key is removed; `*` also stands for `/`
    #[arg(long, value_name = "PATTERN")]
    key: Vec<Glob>,
}

/// The part of every command line that chooses hosts. Without any of it: all of them.
#[derive(Debug, Default, Args)]
pub(crate) struct Hosts {
    /// Only these hosts: names, patterns such as `web*`, or @TAG for all hosts with that tag
    #[arg(value_name = "HOST")]
    named: Vec<HostPattern>,
    /// The same as HOST; takes all words that follow it
    #[arg(long, value_name = "PATTERN", num_args = 1..)]
    include: Vec<HostPattern>,
    /// Not these hosts; takes all words that follow it, so HOST goes before it
    #[arg(long, value_name = "PATTERN", num_args = 1..)]
    exclude: Vec<HostPattern>,
    /// Of those hosts, only the ones with this tag; if given several times, with any of them
    #[arg(long, value_name = "TAG")]
    tag: Vec<Glob>,
}

/// What stands for hosts on a command line.
#[derive(Debug, Clone)]
enum HostPattern {
    Name(Glob),
    Tagged(Glob),
}

/// A host and those of its keys that a command is about.
#[derive(Debug)]
pub(crate) struct Selected {
    pub(crate) host: Arc<Host>,
    pub(crate) keys: Vec<Arc<Key>>,
    /// Whether these are all keys of the host: only then may others be removed from it.
    pub(crate) scope: Scope,
    /// Those of the keys that are left as they are on the host: their value is new each time.
    pub(crate) held: BTreeSet<KeyName>,
}

impl Selected {
    /// A host with all of its keys.
    pub(crate) fn whole(host: &Arc<Host>) -> Self {
        Self {
            host: Arc::clone(host),
            keys: host.keys.values().cloned().collect(),
            scope: Scope::Host,
            held: BTreeSet::new(),
        }
    }

    /// Returns the keys whose sources are asked.
    pub(crate) fn asked(&self) -> impl Iterator<Item = &Arc<Key>> {
        self.keys
            .iter()
            .filter(|key| !self.held.contains(&key.name))
    }
}

impl Selection {
    /// Returns the selected hosts by name, with their selected keys.
    pub(crate) fn apply(&self, manifest: &Manifest) -> Result<Vec<Selected>, Failure> {
        self.keys_of(self.hosts.choose(manifest)?)
    }

    fn keys_of(&self, hosts: Vec<&Arc<Host>>) -> Result<Vec<Selected>, Failure> {
        if self.key.is_empty() {
            return Ok(hosts.into_iter().map(Selected::whole).collect());
        }
        for pattern in &self.key {
            let mut names = hosts
                .iter()
                .flat_map(|host| host.keys.keys())
                .map(KeyName::as_str);
            if !names.clone().any(|name| pattern.matches(name)) {
                return Err(nothing(
                    "key of these hosts",
                    pattern,
                    nearest(pattern.as_str(), &mut names),
                ));
            }
        }
        let part = |host: &Arc<Host>| {
            let wanted =
                |key: &&Arc<Key>| self.key.iter().any(|glob| glob.matches(key.name.as_str()));
            let keys: Vec<Arc<Key>> = host.keys.values().filter(wanted).cloned().collect();
            // Another host has the key that was named: there is nothing to do at this one.
            (!keys.is_empty()).then_some(Selected {
                host: Arc::clone(host),
                keys,
                scope: Scope::Part,
                held: BTreeSet::new(),
            })
        };
        Ok(hosts.into_iter().filter_map(part).collect())
    }
}

impl Hosts {
    /// Returns whether any is named, by itself, by a pattern or by a tag.
    pub(crate) fn is_named(&self) -> bool {
        !(self.named.is_empty() && self.include.is_empty() && self.tag.is_empty())
    }

    /// Returns the selected hosts by name.
    ///
    /// Every pattern by itself must match something: a misspelt name must mean neither «nothing to do» nor, after
    /// `--exclude`, «that one too».
    pub(crate) fn choose<'a>(&self, manifest: &'a Manifest) -> Result<Vec<&'a Arc<Host>>, Failure> {
        let all: Vec<&Arc<Host>> = manifest.hosts.values().collect();
        if all.is_empty() {
            return Err(Failure::usage("this manifest names no hosts").at(manifest.file.display()));
        }
        for pattern in self.named.iter().chain(&self.include).chain(&self.exclude) {
            pattern.check(&all)?;
        }
        for tag in &self.tag {
            HostPattern::Tagged(tag.clone()).check(&all)?;
        }
        let hosts: Vec<&Arc<Host>> = all.into_iter().filter(|host| self.takes(host)).collect();
        if hosts.is_empty() {
            return Err(Failure::usage("no host is in all parts of this selection"));
        }
        Ok(hosts)
    }

    fn takes(&self, host: &Host) -> bool {
        let named = || self.named.iter().chain(&self.include);
        let tagged = |tag: &Glob| host.tags.iter().any(|own| tag.matches(own.as_str()));
        (named().next().is_none() || named().any(|pattern| pattern.matches(host)))
            && !self.exclude.iter().any(|pattern| pattern.matches(host))
            && (self.tag.is_empty() || self.tag.iter().any(tagged))
    }
}

impl HostPattern {
    fn matches(&self, host: &Host) -> bool {
        match self {
            Self::Name(glob) => glob.matches(host.name.as_str()),
            Self::Tagged(glob) => host.tags.iter().any(|tag| glob.matches(tag.as_str())),
        }
    }

    /// Refuses a pattern that no host matches.
    fn check(&self, hosts: &[&Arc<Host>]) -> Result<(), Failure> {
        if hosts.iter().any(|host| self.matches(host)) {
            return Ok(());
        }
        Err(match self {
            Self::Name(glob) => {
                let names = hosts.iter().map(|host| &host.name).map(HostName::as_str);
                nothing("host", glob, nearest(glob.as_str(), names))
            }
            Self::Tagged(glob) => {
                let tags = hosts.iter().flat_map(|host| &host.tags).map(Tag::as_str);
                nothing("tag", glob, nearest(glob.as_str(), tags))
            }
        })
    }
}

impl FromStr for HostPattern {
    type Err = GlobError;

    fn from_str(text: &str) -> Result<Self, GlobError> {
        match text.strip_prefix('@') {
            Some(tag) => tag.parse().map(Self::Tagged),
            None => text.parse().map(Self::Name),
        }
    }
}

fn nothing(what: &str, pattern: &Glob, meant: Option<&str>) -> Failure {
    let failure = Failure::usage(format!("no {what} matches `{pattern}`"));
    match meant {
        Some(name) => failure.hint(format!("did you mean `{name}`?")),
        None => failure,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        selection: Selection,
    }

    const MANIFEST: &str = r#"
        [hosts.pigeon]
        tags = ["production", "mail"]
        [hosts.raven]
        tags = ["production"]
        [hosts.web1]
        tags = ["staging"]
        [hosts.web2]
        [keys.token]
        hosts = ["pigeon", "raven"]
        source = { file = "token" }
        [keys."tls/cert"]
        hosts = ["@production", "web1"]
        source = { file = "cert" }
        [keys."tls/key"]
        hosts = ["web1"]
        source = { file = "key" }
    "#;

    /// What a command line selects, as `host` or `host:key,key`; or the error with its hint.
    fn selected(words: &[&str], manifest: &str) -> String {
        let line = match Line::try_parse_from(["keys"].iter().chain(words)) {
            Ok(line) => line,
            Err(error) => return error.to_string().lines().next().unwrap().to_owned(),
        };
        let manifest = Manifest::parse(manifest, Path::new("/x/keys.toml")).unwrap();
        match line.selection.apply(&manifest) {
            Ok(selected) => {
                let shown = selected.iter().map(|one| match one.scope {
                    Scope::Host => one.host.name.to_string(),
                    Scope::Part => {
                        let keys: Vec<_> = one.keys.iter().map(|key| key.name.as_str()).collect();
                        format!("{}:{}", one.host.name, keys.join(","))
                    }
                });
                shown.collect::<Vec<_>>().join(" ")
            }
            Err(failure) => match failure.advice() {
                Some(hint) => format!("{failure}; {hint}"),
                None => failure.to_string(),
            },
        }
    }

    fn check(words: &[&str], expected: &str) {
        assert_eq!(selected(words, MANIFEST), expected, "{words:?}");
    }

    #[test]
    fn hosts_are_selected_by_name_pattern_and_tag() {
        check(&[], "pigeon raven web1 web2");
        check(&["pigeon"], "pigeon");
        check(&["web?", "pigeon"], "pigeon web1 web2");
        check(&["@production"], "pigeon raven");
        check(&["@prod*", "web2"], "pigeon raven web2");
        check(&["--include", "pigeon"], "pigeon");
        check(&["--include", "pigeon", "raven"], "pigeon raven");
        check(
            &["--include", "pigeon", "--include", "raven", "web1"],
            "pigeon raven web1",
        );
        check(&["--include=pigeon", "--exclude", "web1"], "pigeon");
        check(&["web1", "--include", "pigeon"], "pigeon web1");
        check(&["--exclude", "web*"], "pigeon raven");
        check(&["--exclude", "pigeon", "@staging"], "raven web2");
        check(&["web*", "--exclude", "web1"], "web2");
        check(&["--exclude", "web1", "--", "web*"], "web2");
        check(&["--tag", "production"], "pigeon raven");
        check(&["--tag", "mail", "--tag", "staging"], "pigeon web1");
        check(&["--tag", "production", "--exclude", "raven"], "pigeon");
        check(&["raven", "web1", "--tag", "production"], "raven");
    }

    #[test]
    fn keys_are_selected_on_the_hosts_that_have_them() {
        check(&["--key", "token"], "pigeon:token raven:token");
        check(
            &["--key", "tls*"],
            "pigeon:tls/cert raven:tls/cert web1:tls/cert,tls/key",
        );
        check(
            &["web1", "--key", "tls/key", "--key", "tls/c*"],
            "web1:tls/cert,tls/key",
        );
        check(
            &["--key", "*"],
            "pigeon:tls/cert,token raven:tls/cert,token web1:tls/cert,tls/key",
        );
    }

    #[test]
    fn what_matches_nothing_is_refused() {
        check(
            &["pigoen"],
            "no host matches `pigoen`; did you mean `pigeon`?",
        );
        check(&["pigeon", "bat*"], "no host matches `bat*`");
        check(&["--include", "pigeon", "dove"], "no host matches `dove`");
        check(
            &["--exclude", "pigoen"],
            "no host matches `pigoen`; did you mean `pigeon`?",
        );
        check(
            &["@prodution"],
            "no tag matches `prodution`; did you mean `production`?",
        );
        check(
            &["--tag", "prodution"],
            "no tag matches `prodution`; did you mean `production`?",
        );
        check(&["--tag", "mail", "--tag", "x"], "no tag matches `x`");
        check(
            &["--key", "tokn"],
            "no key of these hosts matches `tokn`; did you mean `token`?",
        );
        check(
            &["--key", "token", "--key", "x"],
            "no key of these hosts matches `x`",
        );
        check(
            &["web1", "--key", "token"],
            "no key of these hosts matches `token`",
        );
        check(
            &["pigeon", "--exclude", "pigeon"],
            "no host is in all parts of this selection",
        );
        check(
            &["web1", "--tag", "production"],
            "no host is in all parts of this selection",
        );
        check(&["a\x1b]31m"], "no host matches `a\\u{1b}]31m`");
    }

    #[test]
    fn empty_patterns_are_refused() {
        let empty = |option: &str| {
            format!("error: invalid value '' for '{option}': an empty pattern matches nothing")
        };
        check(&[""], &empty("[HOST]..."));
        check(
            &["@"],
            "error: invalid value '@' for '[HOST]...': an empty pattern matches nothing",
        );
        check(&["--include", ""], &empty("--include <PATTERN>..."));
        check(
            &["--include", "pigeon", ""],
            &empty("--include <PATTERN>..."),
        );
        check(&["--exclude", ""], &empty("--exclude <PATTERN>..."));
        check(&["--tag", ""], &empty("--tag <TAG>"));
        check(&["--key", ""], &empty("--key <PATTERN>"));
        check(
            &["--include"],
            "error: a value is required for '--include <PATTERN>...' but none was supplied",
        );
    }

    #[test]
    fn a_manifest_without_hosts_selects_nothing() {
        assert_eq!(
            selected(&[], ""),
            "/x/keys.toml: this manifest names no hosts"
        );
    }
}
