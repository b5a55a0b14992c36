//! The command line. Doc comments here are the help texts.

mod reboots;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use keys_protocol::{KeyName, Purpose};

use crate::failure::Failure;
use crate::manifest::{Key, Manifest, Named, Offline, SshSettings};
use crate::output::Form;
use crate::plan::Rules;
use crate::select::{Hosts, Selected, Selection};
use crate::volatile::Made;

pub(crate) use reboots::{RebootArgs, WatchArgs};

/// Sends secrets to hosts that must never have them on disk.
///
/// Secrets are resolved here, from Vault, sops and age files, and streamed over one ssh session per host to keys-agent,
/// which writes them to /run/keys, all or nothing, and tells the units whose keys changed.
#[derive(Parser)]
#[command(name = "keys", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Args)]
pub(crate) struct Globals {
    /// The manifest, or a .nix file of machines; without it, keys.toml here or in a parent folder
    #[arg(short, long, global = true, value_name = "FILE")]
    file: Option<PathBuf>,
    /// A flake whose machines say the manifest: `.`, or `.#ATTRIBUTE` for others than `nixosConfigurations`
    #[arg(long, global = true, value_name = "FLAKE")]
    flake: Option<String>,
    /// Print one JSON document instead of lines
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Send the keys of the selected hosts
    Send(SendCommand),
    /// Say what `send` would do, and exit with 2 if that is anything
    Plan(SendArgs),
    /// Print exactly the bytes of one key that would be sent
    Get(GetArgs),
    /// Say which keys the selected hosts have
    Status(StatusArgs),
    /// Print the manifest that says what declarations for another tool say
    Import(ImportArgs),
    /// Do what a command line of another tool says
    #[command(subcommand)]
    Compat(Compat),
    /// Stay, and give hosts their keys again whenever they lose them
    ///
    /// One long ssh connection to each host asks it what it has. A host that was rebooted, or lacks a key for another reason,
    /// is sent what is missing by a `keys send --reseed` of its own, which ends when it has done so: the watcher itself never
    /// holds a secret. It adds keys and never replaces or removes one. Meant to run as a service.
    Watch(WatchArgs),
    /// Reboot hosts, and give them their keys again
    ///
    /// All secrets are resolved first, and what will be lost is said: a reboot after which the keys could not be sent again
    /// is refused, as is one that would lose keys of other manifests. Then each host is told to reboot, waited for until it
    /// answers from another boot, sent its keys, and waited for until the units of its keys that were active are active again.
    Reboot(RebootArgs),
    /// Say whether things are as they should be, without asking a host
    #[command(subcommand)]
    Check(CheckCommand),
    /// Print the selected hosts as age recipients, made of their pinned or known ssh host keys
    Recipients(RecipientsArgs),
    /// Give a sealed Vault its key shares
    Unseal(UnsealArgs),
    /// Remove the keys from hosts, and tell the units that use them
    Wipe(WipeArgs),
    /// About the manifest's format
    #[command(subcommand)]
    Manifest(ManifestCommand),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Args)]
pub(crate) struct ImportArgs {
    /// The tool that they are for
    pub(crate) tool: Tool,
    /// A .nix file of machines, or FOLDER or FOLDER#ATTRIBUTE of a flake; machines that are not evaluated take the nixpkgs
    /// of NIX_PATH
    #[arg(value_name = "PATH")]
    pub(crate) place: String,
}

/// A tool that `keys import` reads the declarations for.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Tool {
    /// `deployment.keys`
    Nixops,
    /// `deployment.keys`
    Colmena,
    /// `deployment.secrets`
    Morph,
    /// `sops.secrets`
    SopsNix,
    /// `age.secrets`
    Agenix,
}

impl Tool {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nixops => "nixops",
            Self::Colmena => "colmena",
            Self::Morph => "morph",
            Self::SopsNix => "sops-nix",
            Self::Agenix => "agenix",
        }
    }
}

#[derive(Subcommand)]
pub(crate) enum Compat {
    /// The commands of NixOps
    #[command(subcommand)]
    Nixops(Nixops),
}

#[derive(Subcommand)]
pub(crate) enum Nixops {
    /// Send the keys of the selected hosts; what is about NixOps' own state and builds is accepted and means nothing
    SendKeys(NixopsArgs),
}

#[derive(Args)]
pub(crate) struct NixopsArgs {
    #[command(flatten)]
    pub(crate) send: SendArgs,
    #[command(flatten)]
    _meaningless: Meaningless,
}

/// What NixOps takes and nothing here asks for.
#[derive(Args)]
#[expect(
    clippy::struct_excessive_bools,
    dead_code,
    reason = "each is a switch of another's command line, which nothing asks for"
)]
struct Meaningless {
    /// Means nothing
    #[arg(short, long, value_name = "NAME")]
    deployment: Option<String>,
    /// Means nothing
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Means nothing
    #[arg(long, value_name = "FILE")]
    network: Option<PathBuf>,
    /// Means nothing
    #[arg(long)]
    debug: bool,
    /// Means nothing
    #[arg(long)]
    confirm: bool,
    /// Means nothing
    #[arg(long)]
    show_trace: bool,
    /// Means nothing
    #[arg(short = 'K', long)]
    keep_failed: bool,
    /// Means nothing
    #[arg(short = 'I', value_name = "PATH")]
    include_path: Vec<String>,
    /// Means nothing
    #[arg(long, num_args = 2, value_names = ["NAME", "VALUE"])]
    option: Vec<String>,
    /// Means nothing
    #[arg(short = 'j', long, value_name = "N")]
    max_jobs: Option<String>,
    /// Means nothing
    #[arg(long, value_name = "N")]
    cores: Option<String>,
}

#[derive(Subcommand)]
pub(crate) enum ManifestCommand {
    /// Print the JSON Schema of the manifest
    Schema,
}

#[derive(Subcommand)]
pub(crate) enum CheckCommand {
    /// Compare who can read the sops files of the selected hosts with .sops.yaml; decrypts nothing
    Sops(CheckSopsArgs),
}

#[derive(Args)]
pub(crate) struct CheckSopsArgs {
    #[command(flatten)]
    pub(crate) selection: Selection,
}

#[derive(Args)]
pub(crate) struct SendCommand {
    #[command(flatten)]
    pub(crate) send: SendArgs,
    /// Only add what is missing; neither replace nor remove a key, and generate no secret
    #[arg(long, conflicts_with_all = ["dry_run", "take_over", "prune_all"])]
    reseed: bool,
}

impl SendCommand {
    pub(crate) fn purpose(&self) -> Purpose {
        if self.reseed {
            Purpose::Reseed
        } else {
            self.send.purpose()
        }
    }
}

#[derive(Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line"
)]
pub(crate) struct SendArgs {
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Say what would be sent; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Send what can be resolved; a key whose source fails stays as it is on the host
    #[arg(long)]
    keep_going: bool,
    /// Let the host refuse all keys where it would refuse one
    #[arg(long)]
    strict: bool,
    /// Take over keys that another manifest sent
    #[arg(long)]
    take_over: bool,
    /// Remove the last key of a host, too
    #[arg(long)]
    prune_all: bool,
    /// Make new values for keys whose value is new each time, though the hosts have them
    #[arg(long)]
    renew: bool,
    #[command(flatten)]
    pub(crate) patience: Patience,
    /// How many hosts at once [default: 16, or what the manifest says]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    parallel: Option<u16>,
}

#[derive(Args)]
pub(crate) struct GetArgs {
    /// The key
    pub(crate) key: KeyName,
    /// The host, where the key differs from host to host
    #[arg(long)]
    pub(crate) host: Option<String>,
    /// Show it even on a terminal
    #[arg(long)]
    pub(crate) reveal: bool,
    #[command(flatten)]
    pub(crate) patience: Patience,
}

#[derive(Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Resolve the sources, too, and say which keys are stale
    #[arg(long)]
    pub(crate) compare: bool,
    #[command(flatten)]
    pub(crate) patience: Patience,
}

#[derive(Args)]
pub(crate) struct UnsealArgs {
    /// Which of the Vaults in the manifest, if not [vault]
    pub(crate) vault: Option<String>,
    #[command(flatten)]
    pub(crate) patience: Patience,
}

/// How long sources are waited for.
#[derive(Args)]
pub(crate) struct Patience {
    /// Wait so long for a Vault that is down or sealed
    #[arg(long, value_name = "SECONDS", default_value_t = 0, hide_default_value = true,
        value_parser = clap::value_parser!(u32).range(..=86_400))]
    wait: u32,
}

#[derive(Args)]
pub(crate) struct RecipientsArgs {
    #[command(flatten)]
    pub(crate) selection: Selection,
}

#[derive(Args)]
pub(crate) struct WipeArgs {
    #[command(flatten)]
    pub(crate) hosts: Hosts,
    /// Remove the keys of other manifests, too
    #[arg(long)]
    pub(crate) all: bool,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
    /// Say what would be removed; change nothing
    #[arg(long)]
    dry_run: bool,
}

impl Globals {
    /// Returns the manifest that is asked for.
    ///
    /// Not by clap's `conflicts_with`, which does not see that one stands before the command and the other behind it.
    pub(crate) fn manifest(&self) -> Result<Named<'_>, Failure> {
        match (&self.flake, &self.file) {
            (Some(_), Some(_)) => Err(Failure::usage("--file and --flake: one manifest is wanted")),
            (Some(flake), None) => Ok(Named::Flake(flake)),
            (None, Some(file)) => Ok(Named::File(file)),
            (None, None) => Ok(Named::No),
        }
    }

    pub(crate) fn form(&self) -> Form {
        if self.json { Form::Json } else { Form::Text }
    }
}

impl Patience {
    pub(crate) fn wait(&self) -> Duration {
        Duration::from_secs(self.wait.into())
    }
}

impl SendArgs {
    /// Returns what this is for: with `--dry-run`, only to be told about.
    pub(crate) fn purpose(&self) -> Purpose {
        if self.dry_run {
            Purpose::Plan
        } else {
            Purpose::Send
        }
    }

    /// Which values that are new each time are made.
    pub(crate) fn made(&self, purpose: Purpose) -> Result<Made, Failure> {
        match (purpose, self.renew) {
            (Purpose::Plan, true) => Err(Failure::usage(
                "--renew makes new values, and a plan makes none",
            )),
            (Purpose::Plan, false) => Ok(Made::None),
            (_, true) => Ok(Made::All),
            (_, false) => Ok(Made::Missing),
        }
    }

    /// Arguments that select and change nothing else.
    pub(crate) fn rules(&self, purpose: Purpose) -> Rules {
        Rules {
            purpose,
            keep_going: self.keep_going,
            strict: self.strict,
            take_over: self.take_over,
            prune_all: self.prune_all,
        }
    }

    /// Returns the hosts and keys that are selected. Of the sealed keys of a host it is all or none: its bundle is made
    /// whole, and one that was not made anew would bring the old secret back.
    pub(crate) fn select(&self, manifest: &Manifest) -> Result<Vec<Selected>, Failure> {
        let selected = self.selection.apply(manifest)?;
        let is_sealed = |key: &&Arc<Key>| key.offline == Offline::Sealed;
        for one in &selected {
            let chosen = one.keys.iter().filter(is_sealed).count();
            let left = one.host.keys.values().filter(is_sealed);
            let mut left = left.filter(|key| !one.keys.iter().any(|other| other.name == key.name));
            if let (1.., Some(other)) = (chosen, left.next()) {
                let text = format!(
                    "{}: the sealed keys of a host are sent together, and {} is not among these",
                    one.host.name, other.name
                );
                return Err(Failure::usage(text).hint("send all keys of this host"));
            }
        }
        Ok(selected)
    }

    /// Returns the manifest's ssh settings with what the command line says on top.
    pub(crate) fn settings(&self, manifest: &Manifest) -> Arc<SshSettings> {
        let mut settings = manifest.ssh.clone();
        if let Some(parallel) = self.parallel {
            settings.parallel = parallel.into();
        }
        Arc::new(settings)
    }
}

impl WipeArgs {
    pub(crate) fn purpose(&self) -> Purpose {
        if self.dry_run {
            Purpose::Plan
        } else {
            Purpose::Send
        }
    }

    /// How a push of no keys treats what it finds.
    pub(crate) fn rules(&self) -> Rules {
        Rules {
            purpose: self.purpose(),
            take_over: self.all,
            prune_all: true,
            ..Rules::asking()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use clap::CommandFactory;

    use super::*;

    /// Where the reference is, from this crate.
    const REFERENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/commands.md");
    const BEGIN: &str =
        "<!-- written by a test: KEYS_UPDATE_DOCS=1 cargo test -p keys-pusher -->\n";

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_reference_in_docs_is_what_the_program_says() {
        let page = std::fs::read_to_string(REFERENCE).unwrap();
        let (by_hand, _) = page.split_once(BEGIN).unwrap();
        let current = format!("{by_hand}{BEGIN}{}", reference());
        if std::env::var_os("KEYS_UPDATE_DOCS").is_some() {
            std::fs::write(REFERENCE, &current).unwrap();
        }
        assert!(
            page == current,
            "docs/commands.md is not what the program says; see the comment in it"
        );
    }

    fn reference() -> String {
        let mut text = String::new();
        let mut root = Cli::command().term_width(100);
        root.build();
        describe(&mut root, "keys", &mut text);
        text
    }

    fn describe(command: &mut clap::Command, name: &str, text: &mut String) {
        let help = command.render_long_help().to_string();
        let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
        write!(
            text,
            "\n## {name}\n\n```text\n{}\n```\n",
            lines.join("\n").trim_end()
        )
        .unwrap();
        for inner in command
            .get_subcommands_mut()
            .filter(|inner| inner.get_name() != "help")
        {
            let name = format!("{name} {}", inner.get_name());
            describe(inner, &name, text);
        }
    }
}
