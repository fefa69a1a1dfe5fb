//! The engine: any blocking job, over many items, through the gate, with retries.
//!
//! [`schedule`] decides what goes next, [`worker`] is the loop that does it, [`attempt`] what it does
//! with each item, and [`lead`] who waits at the gate meanwhile. [`source`] and [`results`] are the
//! two ends, and [`run`] puts them together. Nothing here knows what a job does.

mod attempt;
mod closures;
#[cfg(all(test, loom))]
mod interleavings;
mod job;
mod lead;
mod order;
mod progress;
mod results;
mod run;
mod schedule;
mod source;
mod worker;

pub use closures::{Completed, Pool};
pub use job::{Done, Failure, Panicked};
pub use progress::{Monitor, Outage, Progress};

pub(crate) use job::{Attempt, Job};
pub(crate) use order::Reorder;
pub(crate) use run::{Consumer, Settings};
