//! What the `vault` and `bao` commands take from the environment, under both of their names.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::time::Duration;

use jiff::SignedDuration;
use keys_protocol::{Secret, printable};

use crate::failure::Failure;

/// Returns `BAO_NAME` or `VAULT_NAME`. Where both are set they must agree; an empty one is as good as none.
pub(super) fn variable(name: &str) -> Result<Option<String>, Failure> {
    let text = |value: OsString| {
        value
            .into_string()
            .map_err(|_| Failure::source(format!("VAULT_{name} is no text")))
    };
    raw(name)?.map(text).transpose()
}

/// Returns the token of the environment.
pub(super) fn token() -> Result<Option<Secret>, Failure> {
    Ok(raw("TOKEN")?.map(|token| Secret::new(token.into_vec())))
}

fn raw(name: &str) -> Result<Option<OsString>, Failure> {
    let [bao, vault] = ["BAO", "VAULT"].map(|prefix| {
        std::env::var_os(format!("{prefix}_{name}")).filter(|value| !value.is_empty())
    });
    match (bao, vault) {
        (Some(bao), Some(vault)) if bao != vault => Err(Failure::source(format!(
            "BAO_{name} and VAULT_{name} are both set, and differ"
        ))
        .hint("unset the one that is not meant")),
        (bao, vault) => Ok(bao.or(vault)),
    }
}

/// Refuses what would make the answers untrue if it were ignored, and unsafe if it were obeyed.
pub(super) fn refused() -> Result<(), Failure> {
    if switched_on("SKIP_VERIFY")? {
        return Err(Failure::source(
            "VAULT_SKIP_VERIFY is set, and certificates are always verified",
        )
        .hint("unset it; VAULT_CACERT or `ca_file` names who signs the server's certificate"));
    }
    if switched_on("SRV_LOOKUP")? {
        return Err(
            Failure::source("VAULT_SRV_LOOKUP is set, and is not supported")
                .hint("unset it, and say the server's own name in `address` or VAULT_ADDR"),
        );
    }
    Ok(())
}

/// What is not a no is a yes, as for Go's `strconv.ParseBool` or stricter.
fn switched_on(name: &str) -> Result<bool, Failure> {
    let value = variable(name)?;
    Ok(
        value
            .is_some_and(|value| !matches!(&*value, "0" | "f" | "F" | "false" | "FALSE" | "False")),
    )
}

/// Returns how long one request may take: `VAULT_CLIENT_TIMEOUT`, in seconds or with a unit.
pub(super) fn request_timeout() -> Result<Option<Duration>, Failure> {
    let Some(text) = variable("CLIENT_TIMEOUT")? else {
        return Ok(None);
    };
    let wrong = || {
        let shown = printable(&text, 40);
        Failure::source(format!(
            "VAULT_CLIENT_TIMEOUT is no time like `60s`: {shown}"
        ))
    };
    let time = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => text
            .parse::<SignedDuration>()
            .ok()
            .and_then(|time| Duration::try_from(time).ok())
            .ok_or_else(wrong)?,
    };
    // The commands take 0 for «for ever»; here every wait has an end.
    Some(time)
        .filter(|time| !time.is_zero())
        .ok_or_else(wrong)
        .map(Some)
}

/// Returns how often a request is tried again: `VAULT_MAX_RETRIES`.
pub(super) fn retries() -> Result<Option<u32>, Failure> {
    let Some(text) = variable("MAX_RETRIES")? else {
        return Ok(None);
    };
    text.parse().map(Some).map_err(|_| {
        let shown = printable(&text, 40);
        Failure::source(format!("VAULT_MAX_RETRIES is no number: {shown}"))
    })
}

/// Returns the proxy that is for Vault alone: `VAULT_PROXY_ADDR`, or its older name.
pub(super) fn proxy() -> Result<Option<String>, Failure> {
    match variable("PROXY_ADDR")? {
        None => variable("HTTP_PROXY"),
        proxy => Ok(proxy),
    }
}
