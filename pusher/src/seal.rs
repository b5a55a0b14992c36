//! The sealed bundle of a host: made at each send that has sealed keys, signed, and encrypted to the host's own key.

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use age::Encryptor;
use keys_protocol::bundle::{self, BundleError, Entry, Head, Offer};
use keys_protocol::{Digest, Hello, KeyName, Purpose, Scope, Secret, printable};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::environment;
use crate::failure::{Exit, Failure};
use crate::host_key::HostKey;
use crate::manifest::Offline;
use crate::plan::{Item, Push};
use crate::program;

/// Who signs the bundle of a host, for whom, and how long it is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sealing {
    /// The key for `ssh-keygen -f`: a private key, or the public half of one that the ssh agent has.
    pub(crate) sign_with: PathBuf,
    pub(crate) lifetime: Duration,
    /// The pin of the host, of type ed25519.
    pub(crate) host_key: HostKey,
}

/// What a push does with the sealed bundle of its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seal {
    /// Nothing: it asks only, or is of keys that are not sealed.
    Untouched,
    /// None is to be there: no key of the host is sealed.
    Dropped,
    /// This one is to be there.
    Made(Made),
}

/// A bundle as it travels and rests: encrypted.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) offer: Offer,
    pub(crate) bytes: Arc<Vec<u8>>,
}

impl fmt::Debug for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.offer.fmt(f)
    }
}

impl Seal {
    /// Returns whether a host that says this has what this push brought, as far as the bundle goes.
    pub(crate) fn is_in(&self, hello: &Hello) -> bool {
        match self {
            Self::Untouched => true,
            Self::Dropped => hello
                .bundle
                .as_ref()
                .is_none_or(|bundle| bundle.state == "none"),
            Self::Made(made) => hello.epoch >= made.offer.epoch,
        }
    }
}

/// Returns the push with its bundle, whose number is above `above`. All sealed keys are in it, or there is none.
pub(crate) async fn seal(push: Push, above: u64) -> Result<Push, Failure> {
    if push.manifest.purpose == Purpose::Plan {
        return Ok(push);
    }
    whole(&push)?;
    let sealed: Vec<&Item> = push.keys.iter().filter(|item| item.is_sealed()).collect();
    let seal = match (&push.host.sealing, sealed.is_empty(), push.manifest.scope) {
        (Some(sealing), false, _) => Seal::Made(
            make(&push, &sealed, sealing, above)
                .await
                .map_err(|failure| failure.at("sealed bundle"))?,
        ),
        (_, _, Scope::Host) => Seal::Dropped,
        (_, _, Scope::Part) => Seal::Untouched,
    };
    Ok(Push { seal, ..push })
}

/// A bundle without a key that should be in it would lose that key at the next boot; the one before would bring others
/// back as they were.
fn whole(push: &Push) -> Result<(), Failure> {
    let is_sealed = |name: &KeyName| {
        let key = push.host.keys.get(name);
        key.is_some_and(|key| key.offline == Offline::Sealed)
    };
    match push.failed.iter().find(|(name, _)| is_sealed(name)) {
        None => Ok(()),
        Some((name, failure)) => Err(Failure::source(format!(
            "{name}: {failure}; it is a sealed key, and without it no bundle can be made: nothing was sent"
        ))),
    }
}

async fn make(
    push: &Push,
    sealed: &[&Item],
    sealing: &Sealing,
    above: u64,
) -> Result<Made, Failure> {
    let keys: Vec<(Entry, &Secret)> = sealed.iter().filter_map(|item| entry(item)).collect();
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_err(|_| Failure::new(Exit::Failed, "the clock of this machine is before 1970"))?;
    let head = Head {
        host: Digest(sealing.host_key.digest()),
        // The time, so that bundles of several operators are in order; or above the host's, where its last one came
        // from a clock that is ahead.
        epoch: u64::try_from(now.as_millis())
            .unwrap_or(0)
            .max(above.saturating_add(1)),
        made_at: now.as_secs(),
        expires: (now + sealing.lifetime).as_secs(),
        manifest: push.manifest.id.clone(),
        sender: push.manifest.sender.clone(),
        keys: u32::try_from(keys.len()).unwrap_or(u32::MAX),
        bytes: keys.iter().map(|(entry, _)| entry.size).sum(),
    };
    let container = bundle::write(&head, keys.iter().map(|(entry, secret)| (entry, *secret)));
    let container = container.map_err(too_much)?;
    let signature = sign(&bundle::signed_text(&container), &sealing.sign_with).await?;
    let plain = bundle::join(&signature, &container).map_err(too_much)?;
    let bytes = encrypt(&plain, &sealing.host_key)?;
    let offer = Offer {
        epoch: head.epoch,
        expires: head.expires,
        size: bytes.len() as u64,
        digest: Digest::of(&bytes),
    };
    Ok(Made {
        offer,
        bytes: Arc::new(bytes),
    })
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err takes"
)]
fn too_much(error: BundleError) -> Failure {
    Failure::new(Exit::Failed, error.to_string())
}

fn entry(item: &Item) -> Option<(Entry, &Secret)> {
    let (key, secret) = (&item.key, item.secret.as_deref()?);
    let entry = Entry {
        name: key.name.clone(),
        owner: key.owner.clone(),
        group: key.group.clone(),
        mode: key.mode,
        public: key.public,
        size: secret.len() as u64,
        units: key.tells.iter().cloned().collect(),
    };
    Some((entry, secret))
}

/// How long a signature may take: somebody may have to touch a token, or to type a passphrase.
const PATIENCE: Duration = Duration::from_secs(150);
/// How much of what ssh-keygen says is shown.
const TALK: usize = 300;
/// Held by the one that may ask: hosts are served side by side.
static ASKING: Mutex<()> = Mutex::const_new(());

/// Signs with ssh-keygen(1), which asks the ssh agent and tokens. It sees the digest alone.
async fn sign(text: &str, key: &Path) -> Result<String, Failure> {
    let _asking = ASKING.lock().await;
    let failed = |what: String| {
        Failure::new(Exit::Failed, format!("sign with {}: {what}", key.display()))
            .hint("`[sealing] sign_with` is a private key, or a public one whose other half the ssh agent has")
    };
    let program = program::find("ssh-keygen")?;
    let signing = timeout(PATIENCE, ssh_keygen(&program, text, key)).await;
    let output = signing
        .map_err(|_| {
            failed(format!(
                "ssh-keygen took more than {} s",
                PATIENCE.as_secs()
            ))
        })?
        .map_err(|error| failed(error.to_string()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let said = printable(said.trim().lines().last().unwrap_or_default(), TALK);
    if !output.status.success() {
        return Err(failed(format!("ssh-keygen: {}: {said}", output.status)));
    }
    String::from_utf8(output.stdout).map_err(|_| failed("ssh-keygen printed no signature".into()))
}

async fn ssh_keygen(program: &Path, text: &str, key: &Path) -> io::Result<Output> {
    let mut command = tokio::process::Command::new(program);
    command.args(["-q", "-Y", "sign", "-n", bundle::NAMESPACE, "-f"]);
    for name in environment::ours() {
        command.env_remove(name);
    }
    // What it has to say to somebody at a token goes to the terminal.
    let talk = if io::stderr().is_terminal() {
        Stdio::inherit()
    } else {
        Stdio::piped()
    };
    command
        .arg(key)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(talk)
        .kill_on_drop(true);
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(text.as_bytes()).await {
            // It ended before it read: how says more than the pipe does.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            other => other?,
        }
    }
    child.wait_with_output().await
}

fn encrypt(plain: &Secret, host_key: &HostKey) -> Result<Vec<u8>, Failure> {
    let failed = || {
        Failure::new(
            Exit::Failed,
            "a bug: it could not be encrypted to the host's key",
        )
    };
    let recipient = age::ssh::Recipient::from_str(&host_key.line()).map_err(|_| failed())?;
    let recipients = std::iter::once(&recipient as &dyn age::Recipient);
    let encryptor = Encryptor::with_recipients(recipients).map_err(|_| failed())?;
    let mut bytes = Vec::new();
    let wrap = |bytes: &mut Vec<u8>| -> io::Result<()> {
        let mut writer = encryptor.wrap_output(bytes)?;
        writer.write_all(plain.expose())?;
        writer.finish().map(drop)
    };
    wrap(&mut bytes).map_err(|_| failed())?;
    Ok(bytes)
}
