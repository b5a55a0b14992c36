//! The machine this runs on, and whether a host is the same one.

use std::fs;

use keys_protocol::Hello;

use crate::host_key::HostKey;

/// Where sshd has its host keys, as the agent reads them.
const HOST_KEYS: [&str; 3] = [
    "/etc/ssh/ssh_host_ed25519_key.pub",
    "/etc/ssh/ssh_host_ecdsa_key.pub",
    "/etc/ssh/ssh_host_rsa_key.pub",
];
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Returns whether the agent that said this runs on the machine that we run on.
///
/// By the ssh host keys, which guests and containers have of their own; the kernel's boot id, which they may share with
/// the machine below them, counts only where one side has no host key.
pub(crate) fn is_this(hello: &Hello) -> bool {
    let ours: Vec<String> = HOST_KEYS
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok()?.trim_end().parse().ok())
        .map(|key: HostKey| key.fingerprint())
        .collect();
    let mut theirs = hello.host_keys.split_whitespace().peekable();
    if ours.is_empty() || theirs.peek().is_none() {
        let ours = fs::read_to_string(BOOT_ID).unwrap_or_default();
        return !hello.boot_id.is_empty() && ours.trim_end() == hello.boot_id;
    }
    theirs.any(|key| ours.iter().any(|own| own == key))
}
