//! The limiter: how fast, how much, how many at once.
//!
//! From the bottom up, each file using only those before it: [`rate`] has the values, [`bucket`]
//! the arithmetic of one limit, [`announced`] what an answer says of a limit, [`window`] the
//! time for which that counts, [`followed`] all limits that answers announce, [`pace`] the rate
//! that refusals tell ([`learned_rate`] and [`recent`] are its parts), [`known_places`]
//! how many requests at once there seem to be room for, [`places`] how refusals tell it,
//! [`concurrency`] a number or a range, [`adaptive`] the number in a range, [`learned`] what the
//! limiter tells of all these, [`slow_start`] the end of a pause, [`set_rates`] the rates that are
//! set, [`state`] all limits together, [`queue`] the lock and the threads that wait, [`permit`]
//! what they wait for, and [`limiter`] and [`builder`] what users call. [`nested`] keeps a job from
//! waiting for itself.
//!
//! If the rates are [shared](crate::shared) with other processes, [`credit`] is what this process
//! has leased of one limit, [`leased`] what it has of both by its own clock, [`used`] how much was
//! used lately, and [`sharing`] what the store is asked and when. [`keeper`] is the thread that
//! asks.

mod adaptive;
#[cfg(test)]
mod adaptive_trial;
mod announced;
mod bucket;
mod builder;
mod concurrency;
mod credit;
mod followed;
#[cfg(all(test, loom))]
mod interleavings;
mod keeper;
mod known_places;
mod learned;
mod learned_rate;
mod leased;
mod limiter;
mod nested;
mod pace;
#[cfg(test)]
mod pace_trial;
mod permit;
mod places;
mod queue;
mod rate;
mod recent;
mod set_rates;
#[cfg(test)]
mod shared_trial;
mod sharing;
mod slow_start;
mod state;
#[cfg(test)]
mod trial;
mod used;
mod window;

pub(crate) use announced::{Announced, Counted, NAMED, Reset};
#[cfg(feature = "cli")]
pub(crate) use bucket::Admission;
pub use builder::LimiterBuilder;
pub use concurrency::Concurrency;
pub use learned::Learned;
pub(crate) use learned::RefusedFor;
pub use limiter::{Limiter, Refusal};
pub(crate) use pace::Heard;
pub use permit::Permit;
pub(crate) use queue::Patience;
pub use rate::{Cost, Rate};
#[cfg(feature = "cli")]
pub(crate) use state::{LimiterState, Start};
