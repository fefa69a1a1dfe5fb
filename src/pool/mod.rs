//! The engine: any blocking job over many items, within a limiter's limits, with retries.
//!
//! [`schedule`] decides what goes next, with [`warmup`] for the first items and [`hedge`] for those
//! that take too long. [`worker`] is the loop of a thread, [`attempt`] what it does with each item,
//! [`race`] what it does where there are two attempts at one, and [`leader`] what the threads of a
//! run share. [`item`] is what goes through them. [`input`] and [`outcomes`] are the two ends of a
//! run, [`order`] puts outcomes in order, and [`run`] puts all together, as [`settings`] say.
//! [`closures`] is the public face, [`events`] and [`monitor`] are for those who watch, with
//! [`track`] for what holds the run back. Nothing here knows what a job does.

mod attempt;
mod closures;
mod events;
mod hedge;
mod input;
#[cfg(all(test, loom))]
mod interleavings;
mod item;
mod job;
mod leader;
mod monitor;
mod order;
mod outcomes;
mod race;
mod run;
mod schedule;
mod settings;
mod track;
mod warmup;
mod worker;

pub use closures::{Pool, Task};
pub use events::{Event, Observer};
pub use job::{Attempt, Failure, Panicked};
pub use monitor::{Hold, Monitor, Progress};
pub use outcomes::{Outcome, Outcomes};

pub(crate) use job::{Billed, Job};
pub(crate) use order::Reorder;
pub(crate) use outcomes::{JobOutcome, Span};
pub(crate) use run::{Consumer, Feed};
pub(crate) use settings::Settings;
#[cfg(feature = "cli")]
pub(crate) use {
    input::InputQueue,
    item::Item,
    schedule::{Finished, Next, Schedule},
    track::BindingTrack,
};
