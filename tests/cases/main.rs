//! Every case, grouped by what it is about. `tests/run MODULE::` runs one group.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
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
/// The same sends by every way that docs/install.md offers.
mod both_ways;
/// The sealed bundle: keys that come back by themselves after a reboot, and every bundle that must not be opened.
mod bundle;
/// `check sops`: recipients of files beside those that `.sops.yaml` names.
mod check_sops;
/// Connections that freeze, break or are damaged, and logins that talk.
mod connection;
/// The inputs that were found interesting while fuzzing.
mod corpus;
/// Documents that dice make up, for comparisons.
mod documents;
/// Every exit code that docs/commands.md names.
mod exit_codes;
/// What is at /run/keys: only memory that cannot be swapped, and the same one from the first frame to the commit.
mod filesystem;
/// Manifests that Nix makes, of flakes and of other machines: evaluated once for each state, and like a program.
mod flakes;
/// Many hosts at once, some of which fail.
mod fleet;
/// Keys that are folders: one key for each field of a map.
mod folders;
/// A login with a forced command: whatever it asks for, it gets two verbs of the agent and nothing else.
mod forced;
/// Secrets that are made where there are none, and the same from then on.
mod generate;
/// What `get`, `plan` and `status` print, and that they change nothing.
mod get_plan_status;
/// Host keys: pinned, known, or nothing is sent.
mod hostkeys;
/// `keys-agent install`, by the one command of docs/install.md, on a host that has never seen it.
mod install;
/// Key units: activating until the key is there, active while it is, and what depends on them.
mod key_units;
/// Sessions that are killed and hosts that go down in the middle of a push.
mod kills;
/// The lab itself: hosts boot, reboot and lose power; sshd, Vault, sops and age answer.
mod lab;
/// Where secrets are seen, and above all where not.
mod leaks;
/// Manifests that are none, and ones that somebody else could have written.
mod manifests;
/// Maps as one file, and values that are encoded where they come from.
mod maps;
/// `keys-mount.service`: memory at /run/keys that cannot be swapped, whatever was there before.
mod mount;
/// The NixOS modules, evaluated by a real Nix: their options, what they refuse, and the manifests that come out.
mod nixos;
/// Who can read what, at every instant: modes, folders, ACLs, umasks, and things that were planted where keys go.
mod permissions;
/// Secrets that are typed.
mod prompts;
/// The protocol at its edges: every limit to the byte, frames out of turn, versions to come, bytes as they are, lost ends.
mod protocol;
/// `keys reboot`: nothing goes down that could not be given its keys again, and what went down gets them.
mod reboot;
/// `keys recipients`: hosts as age recipients, made of keys that are pinned or known and of no others.
mod recipients;
/// What leaves a host and what stays: removed keys, old generations, remains of killed runs, files of others.
mod removal;
/// The sandbox of the agent's service, from inside: what it can write, be and reach.
mod sandbox;
/// Which hosts and keys a command is about, and that nothing else is asked or contacted.
mod selection;
/// `keys send` through a real ssh and sshd: what lands on the host.
mod send;
/// The agent's socket: who may connect, what a connection can do, and what slow, many or lost ones can not.
mod socket;
/// The reader of sops files beside sops itself, on thousands of documents and damaged ones.
mod sops_differential;
/// age: identities of every kind, from every place, and files that nobody honest wrote.
mod sources_age;
/// Secrets from files and programs, and from the files of sops and age.
mod sources_files;
/// Who can open a sops file: the user's gpg, Vault's transit engine, groups of both with age.
mod sources_sops;
/// Secrets from a real Vault.
mod sources_vault;
/// What reaches ssh, and what of the configuration of its user counts.
mod ssh;
/// Pushes while systemd itself is busy, without a bus or going down, and from a unit that it restarts.
mod systemd;
/// Whom keys tell, and how: patterns of units; starting, stopping, signals.
mod tell;
/// Several secrets in one text, and keys that take from other keys.
mod templates;
/// What reaches a terminal, and outputs that are none.
mod terminal;
/// Units are told that their keys changed: after the commit, once each, whatever state they are in.
mod units;
/// Who logs in to Vault with a certificate, and to whom.
mod vault_certificate;
/// Who logs in to Vault, and how: what the `vault` command takes from its environment, and what the manifest says.
mod vault_login;
/// Secret ids for services: made where they are missing or asked for, and never to see what would change.
mod vault_secret_id;
/// What a Vault answers when something is wrong, one meaning each, and how long it is waited for.
mod vault_status;
/// Vault as the store of what is generated.
mod vault_store;
/// Tokens that a run makes end with it; a user's own stays.
mod vault_tokens;
/// A Vault behind a host that only ssh reaches.
mod vault_tunnel;
/// `keys unseal`.
mod vault_unseal;
/// What is read from a key-value engine beside one field as it is.
mod vault_values;
/// Protocol version 1 as it was once said: what was right then is right now.
mod version;
/// `keys watch`: a host that lost its keys has them again, whatever took them, and nobody typed anything.
mod watch;
/// Keys that are taken off running hosts.
mod wipe;
/// The wire, frame by frame: what the agent takes, and what it refuses without having changed anything.
mod wire;
