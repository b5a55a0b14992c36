//! What the crate promises, on documents that sops made and on hostile ones.

#![expect(
    clippy::unwrap_used,
    reason = "a test without its fixture has nothing else to do"
)]

mod fixture;
mod hostile;
mod robust;
mod tampering;

mod values;
