//! The tool as a person meets it: the real program, spawned, against servers on this machine.

#![cfg(feature = "cli")]

#[path = "../support/mod.rs"]
pub mod support;
pub mod tool;

mod bad_input;
mod browser;
mod check;
#[cfg(unix)]
mod jobs;
mod locks;
mod merge;
mod money;
mod others;
mod parsers;
mod plan;
mod report;
mod resume;
mod rows;
mod runs;
mod shards;
#[cfg(unix)]
mod signals;
mod streams;
mod tables;
