//! The verb `receive`: one push, from the first frame to the last, on one screen.

use keys_protocol::Needs;

use crate::account::Accounts;
use crate::boot;
use crate::bundle::Bundle;
use crate::compare::compare;
use crate::failure::Failure;
use crate::greet::greet;
use crate::inventory::Inventory;
use crate::journal;
use crate::lock::Lock;
use crate::next::Next;
use crate::place::Place;
use crate::push::Push;
use crate::report::{self, Outcome};
use crate::session::{Received, Session};
use crate::settle::settle;
use crate::space;
use crate::stage::{Committed, Stage};

/// Receives keys and commits them, all or none. An error means that nothing changed.
pub(crate) fn receive(session: &mut Session) -> Result<Outcome, Failure> {
    let place = Place::open()?;
    greet(session, &place, &Inventory::glance(&place)?)?;
    let push = Push::read(session)?;
    let accounts = Accounts::look_up(push.questions())?;
    let _lock = Lock::take(&place, |time| session.pause(time))?;
    place.check_again()?;
    let inventory = Inventory::read(&place)?;
    let next = compare(&push, &inventory, &accounts, session.nonce())?;
    if push.is_plan() {
        return report::preview(session, &next, inventory.number());
    }
    let bundle = Bundle::of(&push, &next)?;
    boot::make_mark(&place)?;
    space::reserve(&place, &next, &inventory)?;
    ask(session, &next)?;
    let committed = if next.differs {
        Some(write(session, &place, &inventory, (&push, &next, bundle))?)
    } else {
        let bundle = bundle.receive(session)?;
        session.expect_commit(Received::default())?;
        bundle.settle()?;
        None
    };
    // From here on there is no way back, and none is needed: what fails is reported.
    let aftermath = settle(&place, &inventory, (&push, &next), committed.as_ref());
    let standing = match &committed {
        Some(new) => (new.number, Some(&new.folder)),
        None => inventory.standing(),
    };
    // Only queued here: a journal that is stuck keeps back neither the units nor the report.
    journal::push(standing.0, &push.origin(), &next.results);
    Ok(report::report(session, &next, standing, &aftermath))
}

/// Says which bodies are to be sent.
fn ask(session: &mut Session, next: &Next) -> Result<(), Failure> {
    let keys = u32::try_from(next.needs().count()).unwrap_or(u32::MAX);
    session.send(&Needs { keys })?;
    for need in next.needs() {
        session.send(&need)?;
    }
    Ok(session.flush()?)
}

/// Stages the next generation and commits it.
fn write(
    session: &mut Session,
    place: &Place,
    inventory: &Inventory,
    (push, next, bundle): (&Push, &Next, Bundle),
) -> Result<Committed, Failure> {
    let stage = Stage::begin(place, next)?;
    let received = stage.fill(next, inventory.generation.as_ref(), session)?;
    let bundle = bundle.receive(session)?;
    session.expect_commit(received)?;
    stage.finish(next, &push.origin())?;
    bundle.settle()?;
    stage.commit()
}
