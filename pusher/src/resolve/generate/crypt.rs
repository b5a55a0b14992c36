//! Password hashes as crypt(5) knows them: SHA-512, which every system of the last fifteen years reads.

use keys_protocol::Secret;
use rand::Rng as _;
use rand::rngs::OsRng;
use sha_crypt::{Sha512Params, sha512_check, sha512_crypt_b64};

use crate::failure::Failure;

/// Twenty times what crypt(5) takes by itself, a tenth of a second at a login.
const ROUNDS: usize = 100_000;

/// What crypt(5) writes salts with.
const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The longest salt.
const SALT: usize = 16;

/// Returns the hash of `password` with a salt of its own.
pub(super) fn hash(password: &Secret) -> Result<Secret, Failure> {
    let text = text(password)?;
    let salt: String = (0..SALT)
        .map(|_| char::from(ALPHABET[OsRng.gen_range(0..ALPHABET.len())]))
        .collect();
    let params = Sha512Params::new(ROUNDS).map_err(|_| broken())?;
    let digest =
        sha512_crypt_b64(text.as_bytes(), salt.as_bytes(), &params).map_err(|_| broken())?;
    let hash = format!("$6$rounds={ROUNDS}${salt}${digest}");
    Ok(Secret::new(hash.into_bytes()))
}

/// Returns whether `hash` is that of `password`.
pub(super) fn verify(password: &Secret, hash: &Secret) -> Result<bool, Failure> {
    let hash = std::str::from_utf8(hash.expose()).map_err(|_| foreign())?;
    if !hash.starts_with("$6$") {
        return Err(foreign());
    }
    Ok(sha512_check(text(password)?, hash).is_ok())
}

/// A login cannot type anything else.
fn text(password: &Secret) -> Result<&str, Failure> {
    let text = std::str::from_utf8(password.expose())
        .ok()
        .filter(|text| !text.is_empty() && !text.contains(['\0', '\n', '\r']));
    text.ok_or_else(|| {
        Failure::source(
            "the password is empty, not UTF-8, or holds a newline or NUL: nobody could type it",
        )
    })
}

fn foreign() -> Failure {
    Failure::source("the store holds something else than a SHA-512 crypt hash")
}

fn broken() -> Failure {
    Failure::source("a bug: the hash could not be made")
}
