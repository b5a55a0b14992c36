//! `keys wipe`: takes the keys off running hosts.

use std::collections::BTreeSet;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::sync::Arc;

use keys_protocol::{KeyOutcome, Purpose, Scope};

use crate::cli::{Globals, WipeArgs};
use crate::deliver::{self, Delivery, Pushed};
use crate::failure::{Exit, Failure};
use crate::manifest::Manifest;
use crate::output::{Doing, Output};
use crate::plan::{self, Resolved};
use crate::report::{self, Tense};
use crate::select::Selected;

/// Sends no keys to the named hosts, so that those which are there go, and their units are told of it.
pub(crate) async fn wipe(globals: &Globals, args: &WipeArgs) -> Result<Exit, Failure> {
    let mut out = Output::new(globals.form());
    let manifest = Manifest::of(globals.manifest()?).await?;
    if !args.hosts.is_named() {
        let hint = "for all hosts of the manifest: keys wipe '*'";
        return Err(Failure::usage("which hosts are to lose their keys?").hint(hint));
    }
    let hosts = args.hosts.choose(&manifest)?;
    let empty: Vec<Selected> = hosts
        .into_iter()
        .map(|host| Selected {
            host: Arc::clone(host),
            keys: Vec::new(),
            scope: Scope::Host,
            held: BTreeSet::new(),
        })
        .collect();
    if args.purpose() == Purpose::Send && !args.yes {
        confirm(&empty, args).await?;
    }
    let pushes = match plan::pushes(&manifest.id, &empty, &Resolved::new(), args.rules()) {
        Ok(pushes) => pushes,
        Err(failures) => return out.failures(&failures, Exit::Source),
    };
    let doing = Doing::now("wiping");
    let deliveries = deliver::pushes(pushes, &Arc::new(manifest.ssh.clone())).await;
    drop(doing);
    for delivery in &deliveries {
        remark_on_others(delivery, &mut out);
    }
    report::print(&deliveries, Tense::of(args.purpose()), &mut out)
}

/// Asks on the terminal.
async fn confirm(hosts: &[Selected], args: &WipeArgs) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        let hint = "--yes says that this is meant";
        return Err(Failure::usage("there is no terminal to ask on").hint(hint));
    }
    let names: Vec<&str> = hosts.iter().map(|one| one.host.name.as_str()).collect();
    let whose = if args.all {
        "all keys"
    } else {
        "this manifest's keys"
    };
    let question = format!(
        "keys: this removes {whose} from {}, and tells their services.\nkeys: type `yes` to go on: ",
        names.join(", ")
    );
    let answer = tokio::task::spawn_blocking(move || ask(&question)).await;
    let answer = answer.unwrap_or_else(|error| Err(io::Error::other(error)));
    let cannot = |error| Failure::new(Exit::Failed, format!("cannot ask: {error}"));
    match answer.map_err(cannot)?.trim() {
        "yes" => Ok(()),
        _ => Err(Failure::new(
            Exit::Failed,
            "not confirmed; nothing was changed",
        )),
    }
}

fn ask(question: &str) -> io::Result<String> {
    let mut terminal = io::stderr();
    write!(terminal, "{question}")?;
    terminal.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer)
}

/// Says that keys are left, which a report of changes would not.
fn remark_on_others(delivery: &Delivery<Pushed>, out: &mut Output) {
    let Ok(pushed) = &delivery.result else {
        return;
    };
    let keys = pushed.outcome.keys.iter();
    let left = keys
        .filter(|key| key.outcome == KeyOutcome::Foreign)
        .count();
    if left > 0 {
        let host = &delivery.host.name;
        out.remark(format_args!(
            "{host}: keys of other manifests that stay: {left}"
        ));
        out.remark(format_args!("hint: --all removes those as well"));
    }
}
