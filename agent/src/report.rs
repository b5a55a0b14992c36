//! What is said in the end: of each key, of each unit, and which generation there is.

use keys_protocol::{Done, KeyOutcome, KeyResult, Message, UnitOutcome, WireError};

use crate::failure::Failure;
use crate::folder::Folder;
use crate::generation::{PENDING, pending_name};
use crate::journal::{self, Level, note};
use crate::news::Wanted;
use crate::next::Next;
use crate::notify::{self, Told};
use crate::place::PATH;
use crate::session::Session;
use crate::settle::Aftermath;

/// How a session ended that was not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All keys are in place, or all was said.
    InPlace,
    /// Some keys are, and some failed.
    Partial,
    /// The keys are in place, and a unit failed.
    UnitFailed,
    /// The keys are in place, and the pusher went away before it could be told.
    Unheard,
}

impl Outcome {
    /// How the process ends, in the numbers of `keys` itself.
    pub(crate) fn exit(self) -> u8 {
        match self {
            Self::InPlace => 0,
            Self::Unheard => 1,
            Self::Partial => 3,
            Self::UnitFailed => 8,
        }
    }
}

/// Says what would be done.
pub(crate) fn preview(
    session: &mut Session,
    next: &Next,
    generation: u64,
) -> Result<Outcome, Failure> {
    for result in &next.results {
        session.send(result)?;
    }
    let mut report = Report::to(session);
    notify::preview(&next.tell, &mut |told| report.told(&told));
    report.say(&Done { generation });
    report.flush();
    match report.lost {
        None => Ok(Outcome::InPlace),
        Some(e) => Err(e.into()),
    }
}

/// Says what became of the keys, tells the units, and says what became of those.
pub(crate) fn report(
    session: &mut Session,
    next: &Next,
    (generation, folder): (u64, Option<&Folder>),
    aftermath: &Aftermath,
) -> Outcome {
    for problem in &aftermath.untidy {
        note(Level::Warning, &problem.to_string());
    }
    let mut report = Report::to(session);
    for result in &next.results {
        report.key(&reached(result, aftermath));
    }
    report.flush();
    let wanted = Wanted {
        units: next.tell.clone(),
        landing: aftermath.landing.clone(),
    };
    tell(&wanted, folder, &mut |told| report.told(&told));
    report.say(&Done { generation });
    report.flush();
    report.outcome()
}

/// Tells units, and strikes what is done off the list of those that are still to be told.
pub(crate) fn tell(wanted: &Wanted, generation: Option<&Folder>, each: &mut dyn FnMut(Told)) {
    if wanted.units.is_empty() && wanted.landing.is_idle() {
        return;
    }
    let pending = generation.map(|folder| folder.enter(PENDING));
    notify::tell(wanted, &mut |told| {
        if let Told::Unit(result) = &told {
            journal::unit(result);
        }
        if let (Told::Done(tell), Some(Ok(pending))) = (&told, &pending)
            && let Err(e) = pending.unlink(pending_name(tell).as_str())
        {
            let (unit, e) = (&tell.unit, e.desc());
            note(
                Level::Warning,
                &format!("{PATH}: strike {unit} off what is to be told: {e}"),
            );
        }
        each(told);
    });
}

/// The pusher's ear. Once it is gone nothing more is said; what there is to do is done all the same.
struct Report<'a> {
    session: &'a mut Session,
    lost: Option<WireError>,
    has_failed_key: bool,
    has_failed_unit: bool,
}

impl<'a> Report<'a> {
    fn to(session: &'a mut Session) -> Self {
        Self {
            session,
            lost: None,
            has_failed_key: false,
            has_failed_unit: false,
        }
    }

    fn key(&mut self, result: &KeyResult) {
        let failed = [KeyOutcome::Failed, KeyOutcome::FailedKept];
        self.has_failed_key |= failed.contains(&result.outcome);
        self.say(result);
    }

    /// A unit may take long, so what is known of it is not kept back.
    fn told(&mut self, told: &Told) {
        match told {
            Told::Done(_) => {}
            Told::Unit(result) => {
                self.has_failed_unit |= result.outcome == UnitOutcome::Failed;
                // What was left behind by a push that could do more is in the journal.
                if result.is_known_to(self.session.features()) {
                    self.say(result);
                }
            }
            Told::Waiting(progress) => self.say(progress),
        }
        self.flush();
    }

    fn say<M: Message>(&mut self, message: &M) {
        if self.lost.is_none() {
            self.lost = self.session.send(message).err();
        }
    }

    fn flush(&mut self) {
        if self.lost.is_none() {
            self.lost = self.session.flush().err();
        }
    }

    fn outcome(self) -> Outcome {
        match self {
            Self { lost: Some(e), .. } => {
                note(
                    Level::Warning,
                    &format!("the keys are in place, the report is lost: {e}"),
                );
                Outcome::Unheard
            }
            Self {
                has_failed_key: true,
                ..
            } => Outcome::Partial,
            Self {
                has_failed_unit: true,
                ..
            } => Outcome::UnitFailed,
            Self { .. } => Outcome::InPlace,
        }
    }
}

/// A key is not in place as long as its name does not lead to it.
fn reached(result: &KeyResult, aftermath: &Aftermath) -> KeyResult {
    match aftermath.unreachable.get(result.name.first()) {
        Some(why) if result.outcome != KeyOutcome::Removed => KeyResult {
            name: result.name.clone(),
            outcome: KeyOutcome::Failed,
            detail: why.to_string(),
        },
        _ => result.clone(),
    }
}
