//! What a killed run, a full disk or a meddling neighbour leaves behind: nothing is lost, and
//! nothing that was paid for and recorded is paid for again.
//!
//! Of the fault catalogue, against the program as it is built: `kills` has P1 and P2, `disk` P7, P8,
//! P10 and P11, `meddling` P15, `others` P16, `torn` P17 and P18, `repair` P19, `histories` P20 and
//! I13, `limits` P6, P12, P13, I5, I6 and I12, `system` P21.
//! `tables` has P1 for a run that makes a table, `shards` for several that share an input. Signals and streams (P3 to P5, P9) are in `tests/cli`.

#![cfg(all(feature = "cli", target_os = "linux"))]

#[path = "../support/mod.rs"]
pub mod support;
#[path = "../cli/tool.rs"]
pub mod tool;

mod disk;
mod fixture;
mod histories;
mod kills;
mod limits;
mod meddling;
mod others;
mod provider;
mod repair;
mod shards;
mod system;
mod tables;
mod torn;
