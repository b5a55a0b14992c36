//! Every case, grouped by what it is about. `tests/run MODULE::` runs one group.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::too_many_lines,
    clippy::format_push_string,
    clippy::format_collect,
    reason = "a case is one story with its data: it says what it measured, and fails where it stands, by panicking"
)]

/// Owners and groups: who cannot be found keeps that key back and no other, and nobody becomes root instead.
mod accounts;
/// Which crate may depend on which, and what every source file has.
mod architecture;
/// All or nothing: whatever fails, ends or is killed, at whatever moment, a host has the old keys or the new ones.
mod atomic;
/// Connections that freeze, break or are damaged, and logins that talk.
mod connection;
/// Every exit code that docs/commands.md names.
mod exit_codes;
/// What is at /run/keys: only memory that cannot be swapped, and the same one from the first frame to the commit.
mod filesystem;
/// Many hosts at once, some of which fail.
mod fleet;
/// What `get`, `plan` and `status` print, and that they change nothing.
mod get_plan_status;
/// Host keys: pinned, known, or nothing is sent.
mod hostkeys;
/// The lab itself: hosts boot, reboot and lose power; sshd, Vault, sops and age answer.
mod lab;
/// Where secrets are seen, and above all where not.
mod leaks;
/// Manifests that are none, and ones that somebody else could have written.
mod manifests;
/// Who can read what, at every instant: modes, folders, ACLs, umasks, and things that were planted where keys go.
mod permissions;
/// The protocol at its edges: every limit to the byte, frames out of turn, versions to come, bytes as they are, lost ends.
mod protocol;
/// What leaves a host and what stays: removed keys, old generations, remains of killed runs, files of others.
mod removal;
/// Which hosts and keys a command is about, and that nothing else is asked or contacted.
mod selection;
/// `keys send` through a real ssh and sshd: what lands on the host.
mod send;
/// The agent's socket: who may connect, what a connection can do, and what slow, many or lost ones can not.
mod socket;
/// Secrets from files and programs, and from the files of sops and age.
mod sources_files;
/// Secrets from a real Vault.
mod sources_vault;
/// What reaches ssh, and what of the configuration of its user counts.
mod ssh;
/// What reaches a terminal, and outputs that are none.
mod terminal;
/// Units are told that their keys changed: after the commit, once each, whatever state they and systemd are in.
mod units;
/// Protocol version 1 as it was once said: what was right then is right now.
mod version;
/// The wire, frame by frame: what the agent takes, and what it refuses without having changed anything.
mod wire;
