//! What servers, proxies and people really send, by kind of trouble: the built tool against each
//! case, table by table.
//!
//! A case was seen in public with some provider, proxy or file. Its table states what came and what
//! the tool makes of it; a new case of a kind is a new row.

#![cfg(feature = "cli")]

#[path = "../support/mod.rs"]
pub mod support;
#[path = "../cli/tool.rs"]
pub mod tool;

mod alike;
mod answers;
#[cfg(feature = "rustls")]
mod certificates;
mod files;
mod flags;
mod lines;
mod money;
mod network;
mod numbers;
mod patience;
mod records;
mod servers;
