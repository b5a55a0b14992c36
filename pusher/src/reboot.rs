//! `keys reboot`: hosts go down, come back and get their keys again, and each step is watched.

mod account;
mod dependents;
mod loss;
mod turn;

use std::sync::Arc;

use keys_protocol::Purpose;

use crate::cli::{Globals, RebootArgs};
use crate::deliver::{self, Delivery};
use crate::failure::{Exit, Failure};
use crate::manifest::Manifest;
use crate::output::{Doing, Output};
use crate::plan::{self, Push, Rules};
use crate::report::sum_up;
use crate::select::Selected;
use crate::send;
use crate::volatile::{self, Made};

use account::Account;
use loss::Loss;
use turn::{Rebooted, Turn};

/// Reboots: secrets, what will be lost, then batch after batch, and no further one once a host has failed.
pub(crate) async fn reboot(globals: &Globals, args: &RebootArgs) -> Result<Exit, Failure> {
    let mut out = Output::new(globals.form());
    let manifest = Manifest::of(globals.manifest()?).await?;
    let selected = whole_hosts(&manifest, args)?;
    let pushes = match secrets(&manifest, selected, args).await {
        Ok(pushes) => pushes,
        Err(failures) => return out.failures(&failures, Exit::Source),
    };
    let settings = Arc::new(manifest.ssh.clone());
    let losses = match loss::agreed(loss::ask(pushes, &settings).await, args) {
        Ok(losses) => losses,
        Err(refused) => {
            let exits: Vec<Exit> = refused.iter().map(|failure| failure.exit).collect();
            return out.failures(&refused, sum_up(&exits));
        }
    };
    let mut account = Account::open(&losses, &mut out).map_err(Failure::output)?;
    if !args.dry_run {
        let turns: Vec<Turn> = losses
            .into_iter()
            .map(|loss| Turn::new(loss, &settings, args.timeout))
            .collect();
        take(turns, args, &mut account).await?;
    }
    account.close()
}

/// The named hosts, with all of their keys: a reboot loses them all.
fn whole_hosts(manifest: &Manifest, args: &RebootArgs) -> Result<Vec<Selected>, Failure> {
    if !args.hosts.is_named() {
        let hint = "for all hosts of the manifest: keys reboot '*'";
        return Err(Failure::usage("which hosts are to be rebooted?").hint(hint));
    }
    let hosts = args.hosts.choose(manifest)?;
    Ok(hosts.into_iter().map(Selected::whole).collect())
}

/// Has all secrets at hand before anything goes down: what the hosts will need must not depend on them.
async fn secrets(
    manifest: &Manifest,
    selected: Vec<Selected>,
    args: &RebootArgs,
) -> Result<Vec<Push>, Vec<Failure>> {
    let (purpose, made) = if args.dry_run {
        (Purpose::Plan, Made::None)
    } else {
        (Purpose::Send, Made::All)
    };
    let mut selected = volatile::hold(selected, manifest, made).await;
    let doing = Doing::now("resolving the sources");
    let resolved = send::secrets(&manifest.sources, &mut selected, purpose).await;
    drop(doing);
    let rules = Rules {
        purpose: Purpose::Send,
        take_over: args.take_over,
        ..Rules::asking()
    };
    plan::pushes(&manifest.id, &selected, &resolved, rules)
}

async fn take(
    turns: Vec<Turn>,
    args: &RebootArgs,
    account: &mut Account<'_>,
) -> Result<(), Failure> {
    let mut turns = turns.into_iter().peekable();
    while turns.peek().is_some() && !account.has_failure() {
        let batch: Vec<Turn> = turns.by_ref().take(args.parallel.into()).collect();
        let doing = Doing::now("rebooting");
        let parallel = batch.len();
        let tasks = batch.into_iter().map(|turn| (turn.host(), turn.take()));
        let results = deliver::side_by_side(tasks, parallel).await;
        drop(doing);
        account.enter(results).map_err(Failure::output)?;
    }
    let left = turns.map(|turn| not_reached(&turn)).collect();
    account.enter(left).map_err(Failure::output)
}

fn not_reached(turn: &Turn) -> Delivery<Rebooted> {
    let why = "not rebooted, as a host before it failed";
    Delivery {
        host: turn.host(),
        result: Err(Failure::new(Exit::Failed, why)),
    }
}

/// What a host will lose, as one line or one entry says it.
fn fates(loss: &Loss) -> impl Iterator<Item = (String, &'static str)> {
    let there = loss.there().map(move |name| {
        let fate = if loss.is_sent(name) {
            "will be lost and sent again"
        } else {
            "will be lost"
        };
        (name.to_string(), fate)
    });
    let strays = loss.strays();
    there.chain(strays.map(|name| (name, "will be lost, and was not made by keys")))
}
