//! The command line. Doc comments here are the help texts.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use keys_protocol::{KeyName, Purpose};

use crate::manifest::{Manifest, SshSettings};
use crate::output::Form;
use crate::plan::Rules;
use crate::select::Selection;

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
    /// The manifest; without it, keys.toml here or in a parent folder
    #[arg(short, long, global = true, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Print one JSON document instead of lines
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Send the keys of the selected hosts
    Send(SendArgs),
    /// Say what `send` would do, and exit with 2 if that is anything
    Plan(SendArgs),
    /// Print exactly the bytes of one key that would be sent
    Get(GetArgs),
    /// Say which keys the selected hosts have
    Status(StatusArgs),
    /// About the manifest's format
    #[command(subcommand)]
    Manifest(ManifestCommand),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Subcommand)]
pub(crate) enum ManifestCommand {
    /// Print the JSON Schema of the manifest
    Schema,
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
    pub(crate) dry_run: bool,
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
}

#[derive(Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Resolve the sources, too, and say which keys are stale
    #[arg(long)]
    pub(crate) compare: bool,
}

impl Globals {
    pub(crate) fn form(&self) -> Form {
        if self.json { Form::Json } else { Form::Text }
    }
}

impl SendArgs {
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

    /// Returns the manifest's ssh settings with what the command line says on top.
    pub(crate) fn settings(&self, manifest: &Manifest) -> Arc<SshSettings> {
        let mut settings = manifest.ssh.clone();
        if let Some(parallel) = self.parallel {
            settings.parallel = parallel.into();
        }
        Arc::new(settings)
    }
}
