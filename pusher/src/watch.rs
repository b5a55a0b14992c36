//! `keys watch`: hosts that lose their keys get them again, without anyone asking.
//!
//! It never holds a secret: whatever is sent is sent by another `keys`, which ends when it has done so.

mod board;
mod follow;
mod missing;
mod pace;
mod page;
mod reseed;
mod service;
mod socket;

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::cli::{Globals, WatchArgs};
use crate::failure::{Exit, Failure};
use crate::manifest::Manifest;

use board::Board;
use follow::Follower;
use reseed::Reseeder;

/// How many hosts are logged in to at once: after an outage all of them come back together.
const LOGINS: usize = 32;

/// Watches until it is stopped. It ends by itself only when it cannot go on.
pub(crate) async fn watch(globals: &Globals, args: &WatchArgs) -> Result<Exit, Failure> {
    let manifest = Manifest::of(globals.manifest()?).await?;
    let hosts = args.hosts.choose(&manifest)?;
    let hosts: Vec<_> = hosts.into_iter().map(Arc::clone).collect();
    let board = Arc::new(Board::of(&hosts));
    let page = socket::open(args.metrics_socket.as_deref())?;
    let (reseeder, wanted) = Reseeder::new(&manifest.file, &board)?;
    let (settings, logins) = (Arc::new(manifest.ssh), Arc::new(Semaphore::new(LOGINS)));
    let mut followers = JoinSet::new();
    for host in hosts {
        let follower = Follower {
            host,
            settings: Arc::clone(&settings),
            every: args.every,
            logins: Arc::clone(&logins),
            board: Arc::clone(&board),
            wanted: wanted.clone(),
        };
        followers.spawn(follower.follow());
    }
    let failure = tokio::select! {
        failure = reseeder.run() => failure,
        failure = socket::serve(page, &board) => failure,
        failure = service::report(&board) => failure,
        ended = followers.join_next() => Failure::new(Exit::Failed, format!("internal error: {ended:?}")),
    };
    Err(failure)
}
