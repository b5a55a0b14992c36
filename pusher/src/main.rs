//! `keys`: resolves the secrets of hosts and sends them.

mod failure;
mod identity;
mod resolve;
mod source;

fn main() {}
