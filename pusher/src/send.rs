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
use crate::resolve;
use crate::select::Selected;
use crate::source::Source;

/// Sends, or says what sending would do: manifest, selection, secrets, plan, delivery, report.
pub(crate) async fn send(
    globals: &Globals,
    args: &SendArgs,
    purpose: Purpose,
) -> Result<Exit, Failure> {
    let mut out = Output::new(globals.form());
    let manifest = Manifest::of(globals.manifest()?).await?;
    let mut selected = args.selection.apply(&manifest)?;
    let doing = Doing::now("resolving the sources");
    let mut resolved = resolve::resolve(&sources(&selected), &manifest.sources, purpose).await;
    drop(doing);
    folder::unfold(&mut selected, &mut resolved);
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

/// Each distinct source once, whatever the number of keys and hosts that take it.
pub(crate) fn sources(selected: &[Selected]) -> BTreeSet<Source> {
    selected
        .iter()
        .flat_map(|one| &one.keys)
        .map(|key| key.source.clone())
        .collect()
}
