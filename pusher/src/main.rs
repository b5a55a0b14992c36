//! `keys`: resolves the secrets of hosts and sends them.

mod age_file;
mod check;
mod cli;
mod deliver;
mod ending;
mod failure;
mod folder;
mod get;
mod glob;
mod host;
mod host_key;
mod identity;
mod import;
mod known_hosts;
mod manifest;
mod output;
mod plan;
mod program;
mod reboot;
mod recipients;
mod remote;
mod report;
mod resolve;
mod row;
mod seal;
mod select;
mod send;
mod source;
mod spelling;
mod ssh;
mod status;
mod stream;
mod terminal;
mod this_machine;
mod unseal;
mod volatile;
mod watch;
mod wipe;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use keys_protocol::{Purpose, printable};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use cli::{CheckCommand, Cli, Command, Compat, ManifestCommand, Nixops, NixopsArgs};
use failure::{Exit, Failure};
use output::{Form, Output};

fn main() -> ExitCode {
    if let Some(line) = known_host() {
        return ending(
            writeln!(io::stdout(), "{line}")
                .map(|()| Exit::Success)
                .map_err(Failure::output),
        );
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    ending(forbid_cores().and_then(|()| run(&cli)))
}

/// Answers ssh(1), which runs `keys known-host NAME TYPE BLOB` as its `KnownHostsCommand`, up to three times a login:
/// before everything else, for speed.
fn known_host() -> Option<String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [verb, line @ ..] if verb == "known-host" => Some(line.join(" ")),
        _ => None,
    }
}

/// Secrets are in this memory: no other process of this user may read it, and no core file may hold it.
fn forbid_cores() -> Result<(), Failure> {
    let harden = || {
        prctl::set_dumpable(false)?;
        setrlimit(Resource::RLIMIT_CORE, 0, 0)
    };
    harden()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot forbid core files: {error}")))
}

fn run(cli: &Cli) -> Result<Exit, Failure> {
    let cannot = |error| Failure::new(Exit::Failed, format!("cannot start: {error}"));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(cannot)?;
    let result = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
        let result = tokio::select! {
            result = execute(cli) => result,
            () = caught(&mut interrupt) => Ok(Exit::Interrupted),
            () = caught(&mut terminate) => Ok(Exit::Terminated),
        };
        resolve::vault::farewell().await;
        result
    });
    // Sessions still open are killed with their tasks; a host whose push was cut keeps what it had.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    terminal::restore();
    result
}

async fn caught(signal: &mut Signal) {
    // None would mean that no more signals can come: then wait for ever rather than end as if one had.
    if signal.recv().await.is_none() {
        std::future::pending::<()>().await;
    }
}

async fn execute(cli: &Cli) -> Result<Exit, Failure> {
    let globals = &cli.globals;
    match &cli.command {
        Command::Send(args) => send::send(globals, &args.send, args.purpose()).await,
        Command::Compat(Compat::Nixops(Nixops::SendKeys(NixopsArgs { send: args, .. }))) => {
            send::send(globals, args, args.purpose()).await
        }
        Command::Plan(args) => send::send(globals, args, Purpose::Plan).await,
        Command::Get(args) => get::get(globals, args).await,
        Command::Status(args) => status::status(globals, args).await,
        Command::Watch(args) => watch::watch(globals, args).await,
        Command::Reboot(args) => reboot::reboot(globals, args).await,
        Command::Check(CheckCommand::Sops(args)) => check::sops(globals, args).await,
        Command::Recipients(args) => recipients::recipients(globals, &args.selection).await,
        Command::Unseal(args) => unseal::unseal(globals, args).await,
        Command::Wipe(args) => wipe::wipe(globals, args).await,
        Command::Import(args) => import::import(globals, args).await,
        Command::Manifest(ManifestCommand::Schema) => print(&manifest::schema()),
        Command::Completions { shell } => {
            // Into memory first: it panics where it cannot write.
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "keys", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
    }
}

fn print(text: &str) -> Result<Exit, Failure> {
    writeln!(io::stdout(), "{text}")
        .map(|()| Exit::Success)
        .map_err(Failure::output)
}

/// clap's own messages, with `EX_USAGE` where it would exit with 2: that is `keys plan` finding changes. They quote the
/// command line as it is; what a terminal would obey in it is escaped.
fn usage(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    let safe: Vec<String> = text
        .lines()
        .map(|line| printable(line, usize::MAX))
        .collect();
    let safe = safe.join("\n");
    let printed = if safe == text.trim_end_matches('\n') {
        error.print()
    } else {
        writeln!(io::stderr(), "{safe}")
    };
    let exit = if error.use_stderr() {
        Exit::Usage
    } else {
        Exit::Success
    };
    ending(printed.map(|()| exit).map_err(Failure::output))
}

fn ending(result: Result<Exit, Failure>) -> ExitCode {
    let exit = result.unwrap_or_else(|failure| {
        Output::new(Form::Text).failure(&failure);
        failure.exit
    });
    ExitCode::from(exit as u8)
}
