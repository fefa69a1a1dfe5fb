//! The gate: how fast, how much, how many at once.
//!
//! From the inside out: [`rate`] has the values, [`bucket`] the arithmetic of one limit,
//! [`allowance`] all limits together, and [`limiter`] the lock and the queue around them.

mod allowance;
mod bucket;
mod held;
mod limiter;
mod rate;

pub use limiter::{Limiter, LimiterBuilder, Permit, Refusal, Waited};
pub use rate::{Cost, Rate};
