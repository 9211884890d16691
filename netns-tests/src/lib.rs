//! The tests against a real kernel, and the cases they share with the tests that need
//! none.
//!
//! Invariant: reads cases and Services; what a packet did is told by `nfc-lab`.

pub mod case;
pub mod manifest;
