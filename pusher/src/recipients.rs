//! `keys recipients`: the age recipients of hosts, as ssh-to-age makes them of ssh host keys that are pinned or known.

use std::io;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::cli::Globals;
use crate::deliver::Delivery;
use crate::failure::{Exit, Failure};
use crate::host_key::HostKey;
use crate::known_hosts;
use crate::manifest::{Host, Manifest, SshSettings};
use crate::output::Output;
use crate::report;
use crate::select::Selection;

pub(crate) async fn recipients(globals: &Globals, selection: &Selection) -> Result<Exit, Failure> {
    let mut out = Output::new(globals.form());
    let manifest = Manifest::of(globals.manifest()?).await?;
    let mut found = Vec::new();
    for selected in selection.apply(&manifest)? {
        let result = recipient(&selected.host, &manifest.ssh).await;
        let host = Arc::clone(&selected.host);
        found.push(Delivery { host, result });
    }
    let exits: Vec<Exit> = found.iter().map(exit_of).collect();
    let exit = report::sum_up(&exits);
    print(&found, exit, &mut out)
        .and_then(|()| out.finish())
        .map_err(Failure::output)?;
    Ok(exit)
}

/// A recipient and the host key that it was made of.
struct Recipient {
    text: String,
    key: HostKey,
}

/// A key that a network gave would let whoever answers there read the host's secrets: it has to be pinned or known.
async fn recipient(host: &Host, settings: &SshSettings) -> Result<Recipient, Failure> {
    let keys = match &host.host_key {
        Some(pinned) => vec![pinned.clone()],
        None => known_hosts::keys(host, settings).await?,
    };
    let other = keys.first().map(HostKey::algorithm);
    let mut usable = keys.into_iter().filter(HostKey::is_ed25519);
    let pin = "`host_key = \"ssh-ed25519 AAAA…\"` in its table pins the key in its /etc/ssh/ssh_host_ed25519_key.pub";
    let failure = match (usable.next(), usable.next(), other) {
        (Some(key), None, _) => return of_key(key),
        (Some(_), Some(_), _) => Failure::new(
            Exit::HostKey,
            "several ed25519 host keys are known, and only one of them can be its own",
        ),
        (None, _, Some(other)) => Failure::new(
            Exit::HostKey,
            format!("a recipient is made of an ed25519 host key, and its own is {other}"),
        ),
        (None, _, None) => Failure::new(
            Exit::HostKey,
            "its ssh host key is neither pinned nor known",
        ),
    };
    Err(failure.hint(pin))
}

fn of_key(key: HostKey) -> Result<Recipient, Failure> {
    match ssh_to_age::convert::ssh_public_key_to_age(&key.line()) {
        Ok(text) => Ok(Recipient { text, key }),
        Err(_) => Err(Failure::new(
            Exit::HostKey,
            "its ed25519 host key is no point of the curve",
        )),
    }
}

fn exit_of(found: &Delivery<Recipient>) -> Exit {
    match &found.result {
        Ok(_) => Exit::Success,
        Err(failure) => failure.exit,
    }
}

fn print(found: &[Delivery<Recipient>], exit: Exit, out: &mut Output) -> io::Result<()> {
    if out.is_json() {
        let hosts: Vec<Value> = found.iter().map(as_json).collect();
        out.json(&json!({ "exit": exit as u8, "hosts": hosts }))?;
    }
    for one in found {
        match &one.result {
            Ok(recipient) => out.line(format_args!("{}: {}", one.host.name, recipient.text))?,
            Err(failure) => out.failure(&failure.clone().at(&one.host.name)),
        }
    }
    Ok(())
}

fn as_json(found: &Delivery<Recipient>) -> Value {
    let host = found.host.name.as_str();
    match &found.result {
        Ok(recipient) => json!({
            "host": host, "exit": Exit::Success as u8, "recipient": recipient.text,
            "host_key": recipient.key.line(), "fingerprint": recipient.key.fingerprint(),
        }),
        Err(failure) => json!({
            "host": host, "exit": failure.exit as u8, "error": failure.to_string(), "hint": failure.advice(),
        }),
    }
}
