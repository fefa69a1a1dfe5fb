//! What the driver, the server and the clients have in common: the task a client is given, the
//! figures it answers with, the chat that is sent, and how much of HTTP a floor needs.
//!
//! Each client is a program of its own, so that its memory and its CPU time are its own, and is
//! built on its own, so that no peer's features are compiled into another's dependencies.

pub mod chat;
pub mod figures;
pub mod gate;
pub mod task;
pub mod wire;

/// Errors here are for the person who started the bench, and end it.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
pub type Result<T> = std::result::Result<T, Error>;
