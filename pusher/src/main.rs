//! `keys`: resolves the secrets of hosts and sends them.

mod failure;

fn main() {}
