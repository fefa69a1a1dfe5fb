//! The gate: how fast, how much, how many at once.
//!
//! From the inside out: [`rate`] has the values, [`bucket`] the arithmetic of one limit,
//! [`state`] all limits together, [`queue`] the lock and the tickets around them, [`freed`] the
//! places that are given back without it, and [`limiter`] the handle that callers hold; a [`permit`]
//! is what they get.

mod bucket;
mod builder;
mod freed;
#[cfg(all(test, loom))]
mod interleavings;
mod limiter;
mod nested;
mod permit;
mod queue;
mod rate;
mod state;

pub use builder::LimiterBuilder;
pub use limiter::{Limiter, Refusal};
pub use permit::{Permit, Waited};
pub use rate::{Cost, Rate};
