//! The engine: any blocking job, over many items, through the gate, with retries.
//!
//! [`schedule`] decides what goes next, [`worker`] is the loop that does it, [`source`] and
//! [`results`] are its two ends, and [`run`] puts them together. Nothing here knows what a job does.

mod closures;
#[cfg(all(test, loom))]
mod interleavings;
mod job;
mod order;
mod progress;
mod results;
mod run;
mod schedule;
mod source;
mod worker;

pub use closures::{Completed, Pool};
pub use job::{Done, Failure, Panicked};
pub use progress::{Monitor, Progress};

pub(crate) use job::{Attempt, Job};
pub(crate) use order::Reorder;
pub(crate) use run::Settings;
