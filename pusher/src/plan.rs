//! What goes to which host: the keys of one push and the secrets they take.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use keys_protocol::{
    Action, Digest, Feature, How, Key as KeyFrame, KeyName, KeyedHash, Manifest as ManifestFrame,
    Purpose, Scope, Secret, Tell,
};

use crate::failure::Failure;
use crate::manifest::{Host, Key, Offline};
use crate::seal::Seal;
use crate::select::Selected;
use crate::source::Source;

/// How a push treats what it finds.
#[derive(Debug, Clone, Copy)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "four independent switches of the command line, sent as they are"
)]
pub(crate) struct Rules {
    /// Whether to send, or only to ask what sending would do.
    pub(crate) purpose: Purpose,
    /// A source that fails leaves its key as it is on the host, instead of ending the run.
    pub(crate) keep_going: bool,
    /// One key that the host refuses refuses them all.
    pub(crate) strict: bool,
    /// Keys of other manifests are taken over.
    pub(crate) take_over: bool,
    /// A host may be left without keys.
    pub(crate) prune_all: bool,
}

impl Rules {
    /// Those of a question that changes nothing.
    pub(crate) fn asking() -> Self {
        Self {
            purpose: Purpose::Plan,
            keep_going: false,
            strict: false,
            take_over: false,
            prune_all: false,
        }
    }
}

/// What every source gave.
pub(crate) type Resolved = BTreeMap<Source, Result<Arc<Secret>, Failure>>;

/// One host's push, ready to be streamed. A copy of it shares the secrets.
#[derive(Clone)]
pub(crate) struct Push {
    pub(crate) host: Arc<Host>,
    pub(crate) manifest: ManifestFrame,
    pub(crate) keys: Vec<Item>,
    /// The keys whose source failed or has nothing yet, and why; they are among `keys`, without a secret.
    pub(crate) failed: Vec<(KeyName, Failure)>,
    /// The keys whose source was not asked, on purpose; they are among `keys`, without a secret.
    pub(crate) held: BTreeSet<KeyName>,
    /// What becomes of the sealed bundle: nothing, until [`crate::seal::seal`] says otherwise.
    pub(crate) seal: Seal,
}

/// One key of a push; without a secret where its source failed.
#[derive(Clone)]
pub(crate) struct Item {
    pub(crate) key: Arc<Key>,
    pub(crate) secret: Option<Arc<Secret>>,
}

/// Makes one push for each selected host; or says which sources failed, each with the keys that take it.
pub(crate) fn pushes(
    id: &str,
    selected: &[Selected],
    resolved: &Resolved,
    rules: Rules,
) -> Result<Vec<Push>, Vec<Failure>> {
    let failures = if rules.keep_going {
        Vec::new()
    } else {
        failures(selected, resolved)
    };
    if failures.is_empty() {
        Ok(selected
            .iter()
            .map(|one| Push::new(id, one, resolved, rules))
            .collect())
    } else {
        Err(failures)
    }
}

fn failures(selected: &[Selected], resolved: &Resolved) -> Vec<Failure> {
    let failed = resolved
        .iter()
        .filter_map(|(source, result)| result.as_ref().err().map(|failure| (source, failure)));
    failed
        .filter(|(_, failure)| !failure.is_pending())
        .map(|(source, failure)| failure.clone().at(users(source, selected)))
        .collect()
}

/// Names the keys that take `source`, each once, and the host where there is only one.
fn users(source: &Source, selected: &[Selected]) -> String {
    let takers = selected
        .iter()
        .flat_map(|one| one.keys.iter().map(|key| (&one.host.name, key)));
    let takers: Vec<_> = takers.filter(|(_, key)| key.source == *source).collect();
    let names: BTreeSet<&str> = takers.iter().map(|(_, key)| key.name.as_str()).collect();
    let names = names.into_iter().collect::<Vec<_>>().join(", ");
    match takers.as_slice() {
        [(host, _)] => format!("{host}: {names}"),
        _ => names,
    }
}

impl Push {
    /// Returns what not every agent can do, and this needs.
    pub(crate) fn features(&self) -> BTreeSet<Feature> {
        let tells = self.keys.iter().flat_map(|item| &item.key.tells);
        let needs = |tell: &Tell| {
            let is_action = !matches!(tell.how, How::Restart | How::Reload);
            let glob = tell.unit.is_glob().then_some(Feature::UnitGlobs);
            [glob, is_action.then_some(Feature::UnitActions)]
        };
        tells.flat_map(needs).flatten().collect()
    }

    /// Puts together what `selected` needs. A source that was not resolved is a failed one.
    fn new(id: &str, selected: &Selected, resolved: &Resolved, rules: Rules) -> Self {
        let mut failed = Vec::new();
        let mut keys = Vec::with_capacity(selected.keys.len());
        let mut scope = selected.scope;
        for key in &selected.keys {
            let secret = match resolved.get(&key.source) {
                _ if selected.held.contains(&key.name) => None,
                Some(Ok(secret)) => Some(Arc::clone(secret)),
                Some(Err(failure)) => {
                    failed.push((key.name.clone(), failure.clone()));
                    None
                }
                None => {
                    failed.push((
                        key.name.clone(),
                        Failure::source("its source was not asked"),
                    ));
                    None
                }
            };
            if secret.is_none() && key.source.is_folder() {
                // Nobody knows which keys are in it, so the host has to keep whatever there is.
                scope = Scope::Part;
                continue;
            }
            keys.push(Item {
                key: Arc::clone(key),
                secret,
            });
        }
        let manifest = frame(id, scope, &keys, rules);
        Self {
            host: Arc::clone(&selected.host),
            manifest,
            keys,
            failed,
            held: selected.held.clone(),
            seal: Seal::Untouched,
        }
    }
}

fn frame(id: &str, scope: Scope, keys: &[Item], rules: Rules) -> ManifestFrame {
    let sizes = keys
        .iter()
        .filter_map(|item| item.secret.as_ref())
        .map(|secret| secret.len() as u64);
    ManifestFrame {
        protocol: keys_protocol::VERSION,
        requires: String::new(),
        id: id.to_owned(),
        scope,
        purpose: rules.purpose,
        strict: rules.strict,
        take_over: rules.take_over,
        prune_all: rules.prune_all,
        sender: sender(),
        keys: u32::try_from(keys.len()).unwrap_or(u32::MAX),
        bytes: sizes.sum(),
        unsealed: false,
        bundle: None,
    }
}

impl Item {
    /// Returns the frame that announces this key under the nonce of a session.
    pub(crate) fn frame(&self, nonce: &Digest) -> KeyFrame {
        let key = &self.key;
        let secret = self.secret.as_deref();
        KeyFrame {
            name: key.name.clone(),
            action: if secret.is_some() {
                Action::Send
            } else {
                Action::Keep
            },
            owner: key.owner.clone(),
            group: key.group.clone(),
            mode: key.mode,
            public: key.public,
            size: secret.map_or(0, |secret| secret.len() as u64),
            mac: secret.map(|secret| KeyedHash::of(nonce, secret.expose())),
            units: u32::try_from(key.tells.len()).unwrap_or(u32::MAX),
            sealed: self.is_sealed(),
        }
    }

    /// Returns whether its bytes go into the sealed bundle.
    pub(crate) fn is_sealed(&self) -> bool {
        self.secret.is_some() && self.key.offline == Offline::Sealed
    }
}

/// Returns `user@machine`, a remark for people who ask who sent a key.
fn sender() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::current())
        .ok()
        .flatten()
        .map(|user| user.name);
    let machine = nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok());
    format!(
        "{}@{}",
        user.as_deref().unwrap_or("unknown"),
        machine.as_deref().unwrap_or("unknown")
    )
}
