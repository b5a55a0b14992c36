//! The system's manager over the system bus, as far as telling units needs it; no other file knows sd-bus.
//!
//! Calls block, each for no longer than the connection's deadline. Connecting itself may take longer, where a bus accepts
//! and says nothing: whoever must not hang does this in a thread of its own.
//!
//! No call is left open while [`Manager::ended`] waits: when a connection breaks, `sd_bus_process` fails open calls
//! without setting the message it returns, and version 0.11 of the crate then frees a wild pointer (seen to crash).

use std::ffi::CString;
use std::io;
use std::time::Instant;

use keys_protocol::{Signal, limits, printable};
use systemd::bus::types::Variant;
use systemd::bus::{self, Bus, Message, MessageRef, ObjectPathBuf};

use crate::task::Task;
use crate::unit::{Active, Job, Unit};

const NAME: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";
const DAEMON: &str = "org.freedesktop.DBus";
/// How the bus says that a unit's job has ended.
const JOB_REMOVED: &str = "type='signal',sender='org.freedesktop.systemd1',path='/org/freedesktop/systemd1',\
                           interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";
/// The errors of the bus that mean nobody answered, rather than that the answer was no.
const UNANSWERED: [&str; 5] = [
    "NoReply",
    "Timeout",
    "ServiceUnknown",
    "NameHasNoOwner",
    "Disconnected",
];

/// Why a question has no good answer. The text is printable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// There is no bus.
    #[error("no answer from systemd: {0}")]
    NoBus(String),
    /// Nobody answered; systemd may be starting itself anew.
    #[error("no answer from systemd: {0}")]
    Silent(String),
    /// It said no.
    #[error("systemd refused: {0}")]
    Refused(String),
}

impl Fault {
    /// A failure on our side of the bus.
    fn ours(error: &systemd::Error) -> Self {
        Self::Silent(printable(&error.to_string(), limits::TEXT))
    }

    /// An answer that is an error, or the lack of one.
    fn theirs(error: &bus::Error) -> Self {
        let name: &str = error.name().as_ref();
        let text = error.message().map_or(name, AsRef::as_ref);
        let text = printable(text.trim_end_matches('.'), limits::TEXT);
        // Errors of sd-bus itself are named for their errno.
        let local = name.starts_with("System.Error.");
        let short = name
            .strip_prefix("org.freedesktop.DBus.Error.")
            .unwrap_or("");
        if local || UNANSWERED.contains(&short) {
            Self::Silent(text)
        } else {
            Self::Refused(text)
        }
    }
}

/// A connection to the manager.
pub(crate) struct Manager {
    bus: Bus,
    until: Instant,
    /// Who answered last: its name on the bus, under which nobody else can speak.
    answered: Option<CString>,
}

impl Manager {
    /// Connects, and listens for jobs that end before any can be queued. No call takes longer than `until`.
    pub(crate) fn connect(until: Instant) -> Result<Self, Fault> {
        let no_bus = |e: systemd::Error| Fault::NoBus(printable(&e.to_string(), limits::TEXT));
        let bus = Bus::open_system().map_err(no_bus)?;
        let mut manager = Self {
            bus,
            until,
            answered: None,
        };
        let listen =
            manager
                .bus
                .new_method_call(DAEMON, "/org/freedesktop/DBus", DAEMON, "AddMatch");
        let listen = listen.and_then(|mut call| call.append(JOB_REMOVED).map(|()| call));
        manager.answer(listen)?;
        let subscribe = manager.call("Subscribe");
        manager.answer(subscribe)?;
        Ok(manager)
    }

    /// Asks for a unit by name, or by one of its names.
    pub(crate) fn look(&mut self, name: &str) -> Result<Unit, Fault> {
        let look = self.call("ListUnitsByNames");
        let look = look.and_then(|mut call| call.append(vec![name]).map(|()| call));
        self.ask(look, |reply| Ok(read_units(reply)?.into_iter().next()))
    }

    /// Asks for the units in memory whose first name matches a pattern, as `systemctl` does.
    pub(crate) fn matching(&mut self, pattern: &str) -> Result<Vec<Unit>, Fault> {
        let list = self.call("ListUnitsByPatterns");
        let list = list.and_then(|mut call| {
            let any_state: Vec<&str> = Vec::new();
            call.append(any_state)?;
            call.append(vec![pattern])?;
            Ok(call)
        });
        self.ask(list, |reply| read_units(reply).map(Some))
    }

    /// Has the manager read all unit files anew. It answers when it has.
    pub(crate) fn reload(&mut self) -> Result<(), Fault> {
        let reload = self.call("Reload");
        self.answer(reload).map(|_empty| ())
    }

    /// Queues the start of a unit.
    pub(crate) fn start(&mut self, name: &str) -> Result<(), Fault> {
        self.job("StartUnit", name).map(|_job| ())
    }

    /// Queues the stop of a unit.
    pub(crate) fn stop(&mut self, name: &str) -> Result<(), Fault> {
        self.job("StopUnit", name).map(|_job| ())
    }

    /// Asks whether a unit can be reloaded.
    pub(crate) fn can_reload(&mut self, unit: &Unit) -> Result<bool, Fault> {
        let get = self.property(unit, UNIT, "CanReload");
        self.ask(get, |reply| {
            Ok(reply.iter()?.next::<Variant<bool>>()?.map(|v| v.0))
        })
    }

    /// Asks for one of the lists of units that a unit has: `RequiredBy`.
    pub(crate) fn list(&mut self, unit: &Unit, name: &str) -> Result<Vec<String>, Fault> {
        let get = self.property(unit, UNIT, name);
        self.ask(get, |reply| {
            Ok(reply.iter()?.next::<Variant<Vec<String>>>()?.map(|v| v.0))
        })
    }

    /// Asks whether a unit that is down has been up in this boot.
    pub(crate) fn has_run(&mut self, unit: &Unit) -> Result<bool, Fault> {
        let get = self.property(unit, UNIT, "InactiveEnterTimestampMonotonic");
        self.ask(get, |reply| {
            Ok(reply.iter()?.next::<Variant<u64>>()?.map(|v| v.0 > 0))
        })
    }

    /// Forgets that a unit has failed.
    pub(crate) fn forgive(&mut self, name: &str) -> Result<(), Fault> {
        let forgive = self.call("ResetFailedUnit");
        let forgive = forgive.and_then(|mut call| call.append(name).map(|()| call));
        self.answer(forgive).map(|_empty| ())
    }

    /// Asks how a service ended the last time: `success`, `exit-code`, `start-limit-hit`.
    pub(crate) fn result(&mut self, unit: &Unit) -> Result<String, Fault> {
        let get = self.property(unit, SERVICE, "Result");
        self.ask(get, |reply| {
            Ok(reply.iter()?.next::<Variant<String>>()?.map(|v| v.0))
        })
    }

    /// Queues a job. What does not run any more is not restarted.
    pub(crate) fn queue(&mut self, unit: &Unit, task: Task) -> Result<Job, Fault> {
        let member = match task {
            Task::Start => "StartUnit",
            Task::Reload => "ReloadOrTryRestartUnit",
            Task::Restart => "TryRestartUnit",
            Task::Stop => "StopUnit",
        };
        self.job(member, &unit.id)
    }

    fn job(&mut self, member: &str, name: &str) -> Result<Job, Fault> {
        let queue = self.call(member);
        let queue = queue.and_then(|mut call| {
            call.append(name)?;
            call.append("replace")?;
            Ok(call)
        });
        self.ask(queue, read_job)
    }

    /// Sends a signal to the main process of a unit.
    pub(crate) fn signal(&mut self, unit: &Unit, signal: Signal) -> Result<(), Fault> {
        let number = number(signal);
        let kill = self.call("KillUnit").and_then(|mut call| {
            call.append(unit.id.as_str())?;
            call.append("main")?;
            call.append(number)?;
            Ok(call)
        });
        self.answer(kill).map(|_empty| ())
    }

    /// Waits for the next job to end, whosever it is; none when `until` comes first.
    pub(crate) fn ended(&mut self, until: Instant) -> Result<Option<(Job, String)>, Fault> {
        loop {
            match self.bus.process().map_err(|e| Fault::ours(&e))? {
                Some(Some(mut signal)) if self.is_removed(&signal) => {
                    return read_removed(&mut signal).map_err(|e| Fault::ours(&e));
                }
                Some(_) => {}
                None => match until.checked_duration_since(Instant::now()) {
                    Some(left) if !left.is_zero() => {
                        self.bus.wait(Some(left)).map_err(|e| Fault::ours(&e))?;
                    }
                    _ => return Ok(None),
                },
            }
        }
    }

    /// Whether the signal says that a job ended, and the manager says it: anyone on the bus can send us signals,
    /// whatever we listen for.
    fn is_removed(&self, signal: &MessageRef) -> bool {
        signal
            .member()
            .is_some_and(|member| member.to_bytes() == b"JobRemoved")
            && signal.sender().map(CString::from) == self.answered
    }

    fn call(&mut self, member: &str) -> systemd::Result<Message> {
        let mut call = self.bus.new_method_call(NAME, PATH, MANAGER, member)?;
        // The manager is there or it is not: the bus cannot start it.
        call.set_auto_start(false)?;
        Ok(call)
    }

    fn property(&mut self, unit: &Unit, interface: &str, name: &str) -> systemd::Result<Message> {
        let path = unit.path.as_str();
        let mut get =
            self.bus
                .new_method_call(NAME, path, "org.freedesktop.DBus.Properties", "Get")?;
        get.append(interface)?;
        get.append(name)?;
        Ok(get)
    }

    fn answer(&mut self, call: systemd::Result<Message>) -> Result<Message, Fault> {
        let mut call = call.map_err(|e| Fault::ours(&e))?;
        let left = self
            .until
            .saturating_duration_since(Instant::now())
            .as_micros();
        // 0 would mean 25 s.
        let left = u64::try_from(left).unwrap_or(u64::MAX).max(1);
        let reply = call.call(left).map_err(|e| Fault::theirs(&e))?;
        self.answered = reply.sender().map(CString::from);
        Ok(reply)
    }

    fn ask<T>(
        &mut self,
        call: systemd::Result<Message>,
        read: fn(&mut MessageRef) -> systemd::Result<Option<T>>,
    ) -> Result<T, Fault> {
        let mut reply = self.answer(call)?;
        let empty = || systemd::Error::new(io::ErrorKind::InvalidData, "an empty answer");
        read(&mut reply)
            .and_then(|answer| answer.ok_or_else(empty))
            .map_err(|e| Fault::ours(&e))
    }
}

/// What `ListUnitsByNames` and `ListUnitsByPatterns` say of a unit: id, description, load, active and sub state, the unit it follows, its path,
/// and the job's number, type and path.
type Row = (
    String,
    String,
    String,
    String,
    String,
    String,
    ObjectPathBuf,
    u32,
    String,
    ObjectPathBuf,
);

fn read_units(reply: &mut MessageRef) -> systemd::Result<Vec<Unit>> {
    let rows = reply.iter()?.next::<Vec<Row>>()?.unwrap_or_default();
    let unit = |row: Row| Unit {
        id: row.0,
        load: row.2,
        active: Active::parse(&row.3),
        sub: row.4,
        path: text(row.6),
        job: Job(row.7),
        job_type: row.8,
    };
    Ok(rows.into_iter().map(unit).collect())
}

fn read_job(reply: &mut MessageRef) -> systemd::Result<Option<Job>> {
    let path = reply.iter()?.next::<ObjectPathBuf>()?.map(text);
    Ok(path
        .and_then(|path| path.rsplit('/').next()?.parse().ok())
        .map(Job))
}

fn number(signal: Signal) -> i32 {
    use nix::sys::signal::Signal as Number;
    let number = match signal {
        Signal::Hup => Number::SIGHUP,
        Signal::Int => Number::SIGINT,
        Signal::Quit => Number::SIGQUIT,
        Signal::Usr1 => Number::SIGUSR1,
        Signal::Usr2 => Number::SIGUSR2,
        Signal::Term => Number::SIGTERM,
        Signal::Winch => Number::SIGWINCH,
    };
    number as i32
}

fn text(path: ObjectPathBuf) -> String {
    path.into_c_string().to_string_lossy().into_owned()
}

fn read_removed(signal: &mut MessageRef) -> systemd::Result<Option<(Job, String)>> {
    let mut fields = signal.iter()?;
    let job: Option<u32> = fields.next()?;
    let _path: Option<ObjectPathBuf> = fields.next()?;
    let _unit: Option<String> = fields.next()?;
    let result: Option<String> = fields.next()?;
    Ok(job.map(Job).zip(result))
}
