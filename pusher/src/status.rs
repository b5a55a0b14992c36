//! `keys status`: which keys the hosts have, asked of the hosts alone; with `--compare`, of the sources, too.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use jiff::Timestamp;
use keys_protocol::bundle::Standing;
use keys_protocol::limits::TEXT;
use keys_protocol::{Have, KeyName, KeyOutcome, KeyResult, Purpose, Scope, printable};
use serde_json::{Value, json};

use crate::cli::{Globals, StatusArgs};
use crate::deliver::{self, Delivery, Pushed};
use crate::failure::{Exit, Failure};
use crate::manifest::Manifest;
use crate::output::{Doing, Output};
use crate::plan::{self, Rules};
use crate::report;
use crate::row::{Row, Stale, State};
use crate::select::Selected;
use crate::send;
use crate::stream::Inventory;
use crate::volatile::{self, Made};

pub(crate) async fn status(globals: &Globals, args: &StatusArgs) -> Result<Exit, Failure> {
    let mut out = Output::new(globals.form());
    let manifest = Manifest::of(globals.manifest()?).await?;
    let selected = args.selection.apply(&manifest)?;
    let mut selected = volatile::hold(selected, &manifest, Made::None).await;
    let answers = match ask(&manifest, &mut selected, args).await {
        Ok(answers) => answers,
        Err(failures) => return out.failures(&failures, Exit::Source),
    };
    let views: Vec<Delivery<View>> = answers
        .into_iter()
        .zip(&selected)
        .map(|(answer, one)| view(answer, one))
        .collect();
    let exits: Vec<Exit> = views.iter().map(exit_of).collect();
    let exit = report::sum_up(&exits);
    print(&views, exit, &mut out)
        .and_then(|()| out.finish())
        .map_err(Failure::output)?;
    Ok(exit)
}

/// What a host has, and which of its keys differ from their sources.
struct Answer {
    inventory: Inventory,
    stale: BTreeSet<KeyName>,
}

/// Asks every selected host, in the order of the selection, which is that of the hosts' names.
async fn ask(
    manifest: &Manifest,
    selected: &mut [Selected],
    args: &StatusArgs,
) -> Result<Vec<Delivery<Answer>>, Vec<Failure>> {
    let settings = Arc::new(manifest.ssh.clone());
    if args.compare {
        let _doing = Doing::now("resolving and asking");
        let sources = manifest.sources.waiting(args.patience.wait());
        let resolved = send::secrets(&sources, selected, Purpose::Plan).await;
        let pushes = plan::pushes(&manifest.id, selected, &resolved, Rules::asking())?;
        let answers = deliver::pushes(pushes, &settings).await;
        return Ok(answers
            .into_iter()
            .map(|one| one.map(Answer::compared))
            .collect());
    }
    let _doing = Doing::now("asking");
    let hosts = selected.iter().map(|one| Arc::clone(&one.host)).collect();
    let answers = deliver::inventories(hosts, &settings).await;
    Ok(answers
        .into_iter()
        .map(|one| one.map(Answer::uncompared))
        .collect())
}

impl Answer {
    fn uncompared(inventory: Inventory) -> Self {
        Self {
            inventory,
            stale: BTreeSet::new(),
        }
    }

    fn compared(pushed: Pushed) -> Self {
        let is_stale = |key: &&KeyResult| {
            key.outcome == KeyOutcome::Changed
                && key.detail.split(' ').any(|word| word == "content")
        };
        let stale = pushed
            .outcome
            .keys
            .iter()
            .filter(is_stale)
            .map(|key| key.name.clone())
            .collect();
        Self {
            inventory: pushed.outcome.inventory,
            stale,
        }
    }
}

/// The status of one host.
struct View {
    inventory: Inventory,
    rows: Vec<Row>,
}

fn view(answer: Delivery<Answer>, selected: &Selected) -> Delivery<View> {
    answer.map(|Answer { inventory, stale }| {
        let state = |name: &KeyName| {
            if stale.contains(name) {
                Stale::Yes
            } else {
                Stale::No
            }
        };
        let mut there: BTreeMap<&KeyName, &Have> = inventory
            .keys
            .iter()
            .map(|have| (&have.name, have))
            .collect();
        let mut rows: Vec<Row> = Vec::new();
        for key in &selected.keys {
            let found: Vec<&Have> = if key.source.is_folder() {
                below(&mut there, &key.name)
            } else {
                there.remove(&key.name).into_iter().collect()
            };
            if found.is_empty() {
                rows.push(Row::missing(key));
            }
            let found = found.into_iter();
            rows.extend(found.map(|have| Row::of(key, have, state(&have.name))));
        }
        if selected.scope == Scope::Host {
            rows.extend(there.into_values().map(Row::extra));
        }
        View { inventory, rows }
    })
}

/// Takes the keys out that are in a folder: which should be there only its source knows.
fn below<'h>(there: &mut BTreeMap<&KeyName, &'h Have>, folder: &KeyName) -> Vec<&'h Have> {
    let prefix = format!("{folder}/");
    let (inside, others) = std::mem::take(there)
        .into_iter()
        .partition(|(name, _)| name.as_str().starts_with(&prefix));
    *there = others;
    let inside: BTreeMap<&KeyName, &Have> = inside;
    inside.into_values().collect()
}

fn exit_of(view: &Delivery<View>) -> Exit {
    let rows = match &view.result {
        Err(failure) => return failure.exit,
        Ok(view) => &view.rows,
    };
    let wanted = rows.iter().filter(|row| row.state != State::Extra);
    match (
        wanted.clone().filter(|row| !row.is_in_place()).count(),
        wanted.count(),
    ) {
        (0, _) => Exit::Success,
        (bad, wanted) if bad < wanted => Exit::Partial,
        _ => Exit::Failed,
    }
}

fn print(views: &[Delivery<View>], exit: Exit, out: &mut Output) -> io::Result<()> {
    if out.is_json() {
        let hosts: Vec<Value> = views.iter().map(as_json).collect();
        out.json(&json!({ "exit": exit as u8, "hosts": hosts }))?;
    }
    for view in views {
        match &view.result {
            Err(failure) => out.failure(&failure.clone().at(&view.host.name)),
            Ok(found) => print_host(view.host.name.as_str(), found, out)?,
        }
    }
    Ok(())
}

fn print_host(host: &str, view: &View, out: &mut Output) -> io::Result<()> {
    let hello = &view.inventory.hello;
    let when = Timestamp::from_second(i64::try_from(hello.sent_at).unwrap_or(0));
    let sent = match (hello.generation, when) {
        (0, _) | (_, Err(_)) => "nothing was sent since it booted".to_owned(),
        (number, Ok(when)) => format!(
            "generation {number}, sent {when} by {}",
            printable(&hello.sent_by, TEXT)
        ),
    };
    let (boot, agent) = (printable(&hello.boot, TEXT), printable(&hello.agent, TEXT));
    out.line(format_args!(
        "{host}: {sent}; boot {boot}, keys-agent {agent}"
    ))?;
    if let Some(bundle) = &hello.bundle {
        out.line(format_args!("  {}", bundle_words(hello.epoch, bundle)))?;
    }
    let names = view.rows.iter().map(|row| row.name.as_str().len());
    let longest = names.max().unwrap_or(0);
    for row in &view.rows {
        out.line(format_args!(
            "  {:longest$}  {}",
            row.name.as_str(),
            row.words()
        ))?;
    }
    for stray in &view.inventory.strays {
        out.line(format_args!(
            "  {:longest$}  not made by keys",
            printable(&stray.name, TEXT)
        ))?;
    }
    Ok(())
}

/// How the sealed bundle stands, and what protects it: said as it is, also where that is nothing.
fn bundle_words(epoch: u64, bundle: &Standing) -> String {
    let (state, detail) = (
        printable(&bundle.state, TEXT),
        printable(&bundle.detail, TEXT),
    );
    let detail = if detail.is_empty() {
        String::new()
    } else {
        format!(" ({detail})")
    };
    if state == "none" {
        return format!("sealed bundle: none{detail}");
    }
    let at_rest = match printable(&bundle.at_rest, TEXT).as_str() {
        "none" => "none: whoever has the disk can open it with the host's ssh key".to_owned(),
        other => other.to_owned(),
    };
    let until = report::day(bundle.expires);
    format!("sealed bundle {epoch}: {state}{detail}, good until {until}; at rest: {at_rest}")
}

fn as_json(view: &Delivery<View>) -> Value {
    let host = view.host.name.as_str();
    match &view.result {
        Err(failure) => {
            json!({ "host": host, "exit": failure.exit as u8, "error": failure.to_string(), "hint": failure.advice() })
        }
        Ok(found) => {
            let hello = &found.inventory.hello;
            json!({
                "host": host, "exit": exit_of(view) as u8, "generation": hello.generation, "boot": hello.boot,
                "boot_id": hello.boot_id, "sent_by": hello.sent_by, "sent_at": hello.sent_at, "agent": hello.agent,
                "epoch": hello.epoch, "bundle": hello.bundle,
                "host_keys": hello.host_keys.split_whitespace().collect::<Vec<_>>(),
                "keys": found.rows, "strays": found.inventory.strays,
            })
        }
    }
}
