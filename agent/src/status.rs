//! The verb `status`: what is here. It writes nothing and takes no lock.

use keys_protocol::Done;

use crate::failure::Failure;
use crate::greet::greet;
use crate::inventory::Inventory;
use crate::place::Place;
use crate::report::Outcome;
use crate::session::Session;

/// Says what is there, and ends.
pub(crate) fn status(session: &mut Session) -> Result<Outcome, Failure> {
    let place = Place::open()?;
    let inventory = Inventory::glance(&place)?;
    greet(session, &place, &inventory)?;
    session.send(&Done {
        generation: inventory.number(),
    })?;
    session.flush()?;
    Ok(Outcome::InPlace)
}
