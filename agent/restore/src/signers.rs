//! Whose signatures count: the keys that the administrator put into `/etc/keys/signers`, in ssh's `allowed_signers` format.

use std::fs;

use keys_protocol::bundle::{NAMESPACE, SIGNERS};
use keys_protocol::printable;
use ssh_key::{Algorithm, PublicKey, SshSig};

use crate::refused::{Refused, Trying as _};

/// The bit of a token's signature that says that somebody touched it.
const PRESENT: u8 = 1;
/// How long the flags and the counter are at the end of such a signature.
const TRAILER: usize = 5;

/// The keys, at least one.
#[derive(Debug)]
pub(crate) struct Signers(Vec<PublicKey>);

/// Reads the file of the administrator.
pub(crate) fn read() -> Result<Signers, Refused> {
    let text = fs::read_to_string(SIGNERS).trying(|| format!("read {SIGNERS}"))?;
    Signers::parse(&text)
}

impl Signers {
    /// Reads lines `PRINCIPALS [namespaces="…"] TYPE BASE64 [COMMENT]`. Who the principals are does not matter here. Other
    /// options would narrow what a key may sign, so a line with one is an error, and not a key without it.
    fn parse(text: &str) -> Result<Self, Refused> {
        let mut keys = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |what: &str| Refused::new(format!("{SIGNERS}: line {number}: {what}"));
            keys.extend(signer(line).map_err(|what| wrong(&what))?);
        }
        if keys.is_empty() {
            return Err(Refused::new(format!(
                "{SIGNERS} names no key for {NAMESPACE}"
            )));
        }
        Ok(Self(keys))
    }

    /// Makes sure that `signature` is one of these keys' over `text`, for a bundle and nothing else.
    pub(crate) fn verify(&self, text: &str, signature: &str) -> Result<(), Refused> {
        let unsigned = || Refused::new("forged: there is no signature in it");
        let signature = SshSig::from_pem(signature).map_err(|_| unsigned())?;
        let signer = self
            .0
            .iter()
            .find(|key| key.key_data() == signature.public_key());
        let Some(signer) = signer else {
            let key = PublicKey::from(signature.public_key().clone());
            let print = key.fingerprint(ssh_key::HashAlg::Sha256);
            return Err(Refused::new(format!(
                "forged: {SIGNERS} does not name its signer {print}"
            )));
        };
        if !was_touched(&signature) {
            return Err(Refused::new(
                "forged: nobody touched the token that signed it",
            ));
        }
        signer
            .verify(NAMESPACE, text.as_bytes(), &signature)
            .map_err(|_| {
                Refused::new("forged: its signature is not one of these bytes for a bundle")
            })
    }
}

/// Returns the key of a line; none where it is for other namespaces.
fn signer(line: &str) -> Result<Option<PublicKey>, String> {
    let mut words = words(line).into_iter();
    let _principals = words.next();
    let mut kind = words.next().ok_or("nothing follows the principals")?;
    let mut counts = true;
    if let Some(list) = namespaces(kind) {
        counts = list.split(',').any(|one| one == NAMESPACE);
        kind = words.next().ok_or("nothing follows the options")?;
    }
    if kind.contains('=') || kind == "cert-authority" {
        let what = printable(kind, 40);
        return Err(format!("the option {what} is not known here"));
    }
    let blob = words.next().ok_or("no key follows its type")?;
    let key = PublicKey::from_openssh(&format!("{kind} {blob}"))
        .map_err(|error| format!("no public key of ssh: {error}"))?;
    Ok(counts.then_some(key))
}

/// Returns the list of the option `namespaces="…"`, where it stands alone.
fn namespaces(word: &str) -> Option<&str> {
    let quoted = word.strip_prefix("namespaces=\"")?.strip_suffix('"')?;
    (!quoted.contains('"')).then_some(quoted)
}

/// Splits at blanks that are not between quotes.
fn words(line: &str) -> Vec<&str> {
    let mut is_quoted = false;
    let blank = move |c: char| {
        is_quoted ^= c == '"';
        !is_quoted && c.is_ascii_whitespace()
    };
    line.split(blank).filter(|word| !word.is_empty()).collect()
}

fn was_touched(signature: &SshSig) -> bool {
    let sk = matches!(
        signature.algorithm(),
        Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256
    );
    let bytes = signature.signature_bytes();
    let flags = bytes
        .len()
        .checked_sub(TRAILER)
        .and_then(|at| bytes.get(at));
    !sk || flags.is_some_and(|flags| flags & PRESENT != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJhTYMbzKBShLWqXYzPEgYmQovDbOofeeZKD06RnHC3q";

    #[test]
    fn lines_of_allowed_signers_are_read() {
        for good in [
            format!("ops@example.org {KEY} a comment"),
            format!("# ops\n\n  *  {KEY}\n"),
            format!("a,b namespaces=\"git,keys-bundle@v1\" {KEY}"),
            format!("\"a b\" {KEY}"),
        ] {
            assert_eq!(Signers::parse(&good).unwrap().0.len(), 1, "{good}");
        }
    }

    #[test]
    fn a_line_that_would_narrow_what_a_key_may_is_no_key_without_it() {
        for bad in [
            String::new(),
            format!("ops valid-before=\"20200101\" {KEY}"),
            format!("ops namespaces=\"keys-bundle@v1\",valid-before=\"20200101\" {KEY}"),
            format!("ops namespaces=\"git,keys-bundle@v1,x\",valid-before=\"20200101\" {KEY}"),
            format!("ops cert-authority {KEY}"),
            format!("ops namespaces=\"git\" {KEY}"),
            format!("ops namespaces=\"keys-bundle@v1 git\" {KEY}"),
            KEY.to_owned(),
            "ops".to_owned(),
            "ops ssh-ed25519 AAAA".to_owned(),
        ] {
            assert!(Signers::parse(&bad).is_err(), "{bad:?} was accepted");
        }
    }
}
