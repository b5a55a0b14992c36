//! Owners and groups, asked of the host's account database (NSS), which may be a directory server that hangs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use keys_protocol::Principal;
use nix::unistd::{Gid, Group, Uid, User};

use crate::failure::{Doing as _, Failure};
use crate::idmap::IdMap;

/// How long names are waited for before a push goes on without those that did not come.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same where only the name for a number is wanted, for people to read.
const PATIENCE_FOR_NAMES: Duration = Duration::from_secs(2);

/// Which of the two databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Database {
    Users,
    Groups,
}

/// The numbers of owners and groups.
pub(crate) struct Accounts {
    found: BTreeMap<(Database, String), Result<u32, String>>,
    exist: IdMap,
}

impl Accounts {
    /// Looks up each distinct name once, in a thread that is abandoned when its time is over.
    pub(crate) fn look_up(wanted: BTreeSet<(Database, String)>) -> Result<Self, Failure> {
        let count = wanted.len();
        let answers = in_a_thread(wanted, |(database, name)| match database {
            Database::Users => {
                User::from_name(name).map(|found| found.map(|user| user.uid.as_raw()))
            }
            Database::Groups => {
                Group::from_name(name).map(|found| found.map(|group| group.gid.as_raw()))
            }
        })?;
        let found = collect(&answers, count, PATIENCE);
        let found = found.into_iter().map(|(asked, answer)| {
            let answer = match answer {
                Ok(Some(id)) => Ok(id),
                Ok(None) => Err(unknown(&asked)),
                Err(e) => Err(format!("looking up `{}`: {}", asked.1, e.desc())),
            };
            (asked, answer)
        });
        Ok(Self {
            found: found.collect(),
            exist: IdMap::read()?,
        })
    }

    /// Returns the number of an owner or group, or why there is none. Never root's for want of a better one.
    pub(crate) fn number(&self, database: Database, of: &Principal) -> Result<u32, String> {
        let id = match of {
            Principal::Id(id) => *id,
            Principal::Name(name) if name == "root" => 0,
            Principal::Name(name) => match self.found.get(&(database, name.clone())) {
                Some(found) => found.clone()?,
                None => return Err(silent(name)),
            },
        };
        self.exist.check(database, id)
    }
}

/// Returns what must be asked of the host to know who `principal` is.
pub(crate) fn question(database: Database, principal: &Principal) -> Option<(Database, String)> {
    match principal {
        Principal::Name(name) if name != "root" => Some((database, name.clone())),
        Principal::Name(_) | Principal::Id(_) => None,
    }
}

fn unknown((database, name): &(Database, String)) -> String {
    let what = match database {
        Database::Users => "user",
        Database::Groups => "group",
    };
    format!("no {what} `{name}` on this host")
}

fn silent(name: &str) -> String {
    let time = PATIENCE.as_secs();
    format!("the host's accounts did not say within {time} s who `{name}` is")
}

/// Returns the names of numbers; those without one are left out.
pub(crate) fn names_of(
    wanted: BTreeSet<(Database, u32)>,
) -> Result<BTreeMap<(Database, u32), String>, Failure> {
    let count = wanted.len();
    let answers = in_a_thread(wanted, |&(database, id)| match database {
        Database::Users => User::from_uid(Uid::from_raw(id)).map(|found| found.map(|u| u.name)),
        Database::Groups => Group::from_gid(Gid::from_raw(id)).map(|found| found.map(|g| g.name)),
    })?;
    Ok(collect(&answers, count, PATIENCE_FOR_NAMES)
        .into_iter()
        // The number will do where the name cannot be had.
        .filter_map(|(asked, answer)| Some((asked, answer.ok()??)))
        .collect())
}

type Answer<Q, A> = (Q, nix::Result<Option<A>>);

/// Asks in a thread of its own: a question that hangs takes only that thread with it.
fn in_a_thread<Q: Send + 'static, A: Send + 'static>(
    wanted: BTreeSet<Q>,
    ask: impl Fn(&Q) -> nix::Result<Option<A>> + Send + 'static,
) -> Result<Receiver<Answer<Q, A>>, Failure> {
    let (answer, answers) = mpsc::channel();
    if wanted.is_empty() {
        return Ok(answers);
    }
    let asking = move || {
        for question in wanted {
            let found = ask(&question);
            // Nobody listens any more: the time is over.
            if answer.send((question, found)).is_err() {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new().spawn(asking);
    thread.map(|_| answers).doing(|| "start a thread".into())
}

/// Takes the answers that come in time.
fn collect<Q: Ord, A>(
    answers: &Receiver<Answer<Q, A>>,
    count: usize,
    patience: Duration,
) -> BTreeMap<Q, nix::Result<Option<A>>> {
    let end = Instant::now() + patience;
    let mut found = BTreeMap::new();
    while found.len() < count {
        match answers.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok((question, answer)) => found.insert(question, answer),
            Err(_) => break,
        };
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Principal {
        text.parse().unwrap()
    }

    #[test]
    fn an_unknown_owner_is_never_root() {
        let wanted = ["nobody", "no-such-user"]
            .iter()
            .filter_map(|text| question(Database::Users, &name(text)))
            .collect();
        let accounts = Accounts::look_up(wanted).unwrap();
        assert!(accounts.number(Database::Users, &name("nobody")).is_ok());
        assert_eq!(
            accounts.number(Database::Users, &name("no-such-user")),
            Err("no user `no-such-user` on this host".into())
        );
        assert_eq!(accounts.number(Database::Users, &name("7")), Ok(7));
        assert_eq!(question(Database::Groups, &name("root")), None);
    }

    #[test]
    fn what_does_not_answer_in_time_is_left_out() {
        let wanted = BTreeSet::from([1, 2]);
        let answers = in_a_thread(wanted, |n| {
            if *n == 2 {
                std::thread::sleep(Duration::from_secs(3600));
            }
            Ok(Some(*n))
        })
        .unwrap();
        let found = collect(&answers, 2, Duration::from_millis(200));
        assert_eq!(found.into_keys().collect::<Vec<_>>(), [1]);
    }
}
