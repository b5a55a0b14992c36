//! `keys unseal`: gives a sealed Vault the key shares that the manifest names.

use std::collections::BTreeSet;

use keys_protocol::Purpose;
use serde_json::json;

use crate::cli::{Globals, UnsealArgs};
use crate::failure::{Exit, Failure};
use crate::manifest::Manifest;
use crate::output::{Doing, Output};
use crate::resolve;
use crate::resolve::vault::{Seal, Sealed};
use crate::source::Source;

pub(crate) async fn unseal(globals: &Globals, args: &UnsealArgs) -> Result<Exit, Failure> {
    let mut out = Output::new(globals.form());
    let manifest = Manifest::of(globals.manifest()?).await?;
    let name = args.vault.as_deref();
    let settings = &manifest.sources.waiting(args.patience.wait());
    let shares = settings.shares(name)?;
    let vault = Sealed::find(name, settings)?;
    let mut seal = vault.ask().await?;
    if !seal.sealed {
        return end(&mut out, vault.place(), &seal);
    }
    say(&mut out, vault.place(), &seal)?;
    // All of them first: a share that cannot be had should not leave the others half given.
    let doing = Doing::now("resolving the key shares");
    let wanted: BTreeSet<Source> = shares.iter().cloned().collect();
    let mut resolved = resolve::resolve(&wanted, settings, Purpose::Plan).await;
    drop(doing);
    for share in shares {
        let Some(share) = resolved.remove(share) else {
            continue;
        };
        let share = share.map_err(|failure| failure.at("key share"))?;
        seal = vault.give(&share).await?;
        say(&mut out, vault.place(), &seal)?;
        if !seal.sealed {
            break;
        }
    }
    end(&mut out, vault.place(), &seal)
}

/// Says how far it is, as long as it is sealed.
fn say(out: &mut Output, place: &str, seal: &Seal) -> Result<(), Failure> {
    let (progress, threshold) = (seal.progress, seal.threshold);
    if !seal.sealed {
        return Ok(());
    }
    out.line(format_args!(
        "{place}: sealed, {progress} of {threshold} key shares given"
    ))
    .map_err(Failure::output)
}

fn end(out: &mut Output, place: &str, seal: &Seal) -> Result<Exit, Failure> {
    let exit = if seal.sealed {
        Exit::Partial
    } else {
        Exit::Success
    };
    let document = json!({
        "exit": exit as u8, "vault": place, "sealed": seal.sealed, "threshold": seal.threshold, "progress": seal.progress,
    });
    let printed = if out.is_json() {
        out.json(&document)
    } else if seal.sealed {
        let missing = seal.threshold.saturating_sub(seal.progress);
        let failure = Failure::new(exit, format!("still sealed: {missing} more key shares are wanted"))
            .at(place)
            .hint("the others who hold some can give theirs, each with `keys unseal` or `vault operator unseal`");
        out.failure(&failure);
        Ok(())
    } else {
        out.line(format_args!("{place}: unsealed"))
    };
    printed
        .and_then(|()| out.finish())
        .map_err(Failure::output)?;
    Ok(exit)
}
