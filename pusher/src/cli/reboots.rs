//! The arguments of what is about hosts that reboot. Doc comments here are the help texts.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use jiff::SignedDuration;

use crate::select::Hosts;

#[derive(Args)]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    pub(crate) hosts: Hosts,
    /// How often a host is asked what it has; a lost connection is noticed without being asked
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
    pub(crate) every: Duration,
    /// A unix socket to make, which shows a page of the hosts at `/` and metrics for Prometheus at `/metrics`
    #[arg(long, value_name = "PATH")]
    pub(crate) metrics_socket: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct RebootArgs {
    #[command(flatten)]
    pub(crate) hosts: Hosts,
    /// Say what would be lost; reboot nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Reboot although keys of other manifests are there, which are lost
    #[arg(long)]
    pub(crate) take_over: bool,
    /// Reboot even the machine that this runs on
    #[arg(long)]
    pub(crate) this_machine: bool,
    /// How long a host may take to come back, and its units after that
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = time)]
    pub(crate) timeout: Duration,
    /// How many hosts at once; no further one is rebooted once a host has failed
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) parallel: u16,
}

/// The longest time that can be given.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Reads `90s`, `10m`, `1h 30m`.
fn time(text: &str) -> Result<Duration, String> {
    let parsed: Option<SignedDuration> = text.parse().ok();
    let time = parsed.and_then(|parsed| Duration::try_from(parsed).ok());
    time.filter(|time| (Duration::from_secs(1)..=LONGEST).contains(time))
        .ok_or_else(|| "from 1s to 24h, such as 90s, 10m or 1h".to_owned())
}
