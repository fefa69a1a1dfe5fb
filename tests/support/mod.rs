//! What the integration tests share: a scripted server and a raw client, both plain sockets, so
//! that a test's peer never shares a fault with the code under test.
//!
//! Declared as `pub mod support;`, so that what one test file leaves unused is not dead code.

#![allow(
    missing_docs,
    missing_debug_implementations,
    clippy::missing_errors_doc,
    clippy::missing_panics_doc,
    reason = "public for the reason above, but nobody's API"
)]

pub mod counter;
pub mod faultd;
pub mod listener;
pub mod quick;
pub mod redis_server;
pub mod reply;
pub mod until;
pub mod wire;
