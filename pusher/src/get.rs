//! `keys get`: the bytes that would be sent, to stdout.

use std::io::{self, IsTerminal};

use keys_protocol::{KeyName, Purpose};

use crate::cli::{GetArgs, Globals};
use crate::failure::{Exit, Failure};
use crate::manifest::Manifest;
use crate::output::Output;
use crate::resolve;
use crate::source::Source;

pub(crate) async fn get(globals: &Globals, args: &GetArgs) -> Result<Exit, Failure> {
    if io::stdout().is_terminal() && !args.reveal {
        return Err(Failure::usage("stdout is a terminal").hint("--reveal shows the secret there"));
    }
    let manifest = Manifest::of(globals.manifest()?).await?;
    let source = source(&manifest, args)?;
    if source.is_volatile() {
        return Err(
            Failure::usage(format!("{}: {source} is new each time", args.key))
                .hint("it is made when it is sent, for the host that gets it, and cannot be shown"),
        );
    }
    let settings = manifest.sources.waiting(args.patience.wait());
    let resolved = resolve::resolve(&[source].into(), &settings, Purpose::Plan).await;
    for secret in resolved.into_values() {
        let secret = secret.map_err(|failure| failure.at(&args.key))?;
        Output::new(globals.form())
            .raw(secret.expose())
            .map_err(Failure::output)?;
    }
    Ok(Exit::Success)
}

/// Finds the one source of the key; hosts may have different ones under one name.
fn source(manifest: &Manifest, args: &GetArgs) -> Result<Source, Failure> {
    let name: &KeyName = &args.key;
    let hosts = manifest.hosts.values().filter(|host| {
        args.host
            .as_ref()
            .is_none_or(|wanted| *wanted == host.name.as_str())
    });
    let found: Vec<_> = hosts
        .filter_map(|host| host.keys.get(name).map(|key| (&host.name, &key.source)))
        .collect();
    let Some(((_, first), rest)) = found.split_first() else {
        let place = args.host.as_deref().unwrap_or("any host");
        return Err(Failure::usage(format!(
            "{}: {place} has no key {name}",
            manifest.file.display()
        )));
    };
    if rest.iter().any(|(_, source)| source != first) {
        let hosts: Vec<_> = found.iter().map(|(host, _)| host.as_str()).collect();
        return Err(Failure::usage(format!("{name} differs from host to host"))
            .hint(format!("--host one of: {}", hosts.join(", "))));
    }
    Ok((*first).clone())
}
