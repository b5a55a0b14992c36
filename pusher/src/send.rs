//! `keys send` and `keys plan`: the straight line from a manifest to keys on hosts.

use std::collections::BTreeSet;

use keys_protocol::Purpose;

use crate::cli::{Globals, SendArgs};
use crate::deliver;
use crate::failure::{Exit, Failure};
use crate::folder;
use crate::manifest::Manifest;
use crate::output::{Doing, Output};
use crate::plan;
use crate::report::{self, Tense};
use crate::resolve::{self, Resolved, Settings};
use crate::select::Selected;
use crate::source::Source;
use crate::volatile;

/// Sends, or says what sending would do: manifest, selection, what is made anew, secrets, plan, delivery, report.
pub(crate) async fn send(
    globals: &Globals,
    args: &SendArgs,
    purpose: Purpose,
) -> Result<Exit, Failure> {
    let mut out = Output::new(globals.form());
    let manifest = Manifest::of(globals.manifest()?).await?;
    let selected = args.select(&manifest)?;
    let mut selected = volatile::hold(selected, &manifest, args.made(purpose)?).await;
    let doing = Doing::now("resolving the sources");
    let settings = manifest.sources.waiting(args.patience.wait());
    let resolved = secrets(&settings, &mut selected, purpose).await;
    drop(doing);
    let pushes = match plan::pushes(&manifest.id, &selected, &resolved, args.rules(purpose)) {
        Ok(pushes) => pushes,
        Err(failures) => return out.failures(&failures, Exit::Source),
    };
    // From here on each secret lives in the pushes alone, and goes with them.
    drop(resolved);
    let doing = Doing::now("sending");
    let deliveries = deliver::pushes(pushes, &args.settings(&manifest)).await;
    drop(doing);
    report::print(&deliveries, Tense::of(purpose), &mut out)
}

/// Resolves each distinct source once, whatever the number of keys and hosts that take it, and unfolds the folders.
pub(crate) async fn secrets(
    settings: &Settings,
    selected: &mut [Selected],
    purpose: Purpose,
) -> Resolved {
    let keys = selected.iter().flat_map(Selected::asked);
    let sources: BTreeSet<Source> = keys.map(|key| key.source.clone()).collect();
    let mut resolved = resolve::resolve(&sources, settings, purpose).await;
    folder::unfold(selected, &mut resolved);
    resolved
}
