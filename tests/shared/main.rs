//! Several processes on one limit, as a person runs them: the real program, spawned, against a
//! server that counts what arrives.

#![cfg(all(feature = "cli", unix))]

#[path = "../support/mod.rs"]
pub mod support;
#[path = "../cli/tool.rs"]
pub mod tool;

mod flags;
mod outages;
mod together;
