//! The limiter: how fast, how much, how many at once.
//!
//! From the bottom up, each file using only those before it: [`rate`] has the values, [`bucket`]
//! the arithmetic of one limit, [`announced`] the limits that the server announces, [`pace`] the
//! rate that its refusals tell, [`known_places`] how many requests at once there seem to be room
//! for, [`places`] how refusals tell it, [`concurrency`] a number or a range, [`adaptive`] the
//! number in a range, [`learned`] what the limiter tells of all these, [`slow_start`] the end of a
//! pause, [`waited`] what is waited for, [`set_rates`] the rates that are set, [`state`] all limits
//! together, [`queue`] the lock and the threads that wait, [`permit`] what they wait for, and
//! [`limiter`] and [`builder`] what users call. [`nested`] keeps a job from waiting for itself.
//!
//! If the rates are [shared](crate::shared) with other processes, [`credit`] is what this process
//! has leased of one limit, [`leased`] what it has of both, [`store_time`] how far the store's clock
//! is ahead, [`used`] how much was used lately, [`gone`] since when the store cannot be reached, and
//! [`sharing`] what the store is asked and when. [`keeper`] is the thread that asks, and
//! [`keeper_link`] ties it to the queue.

mod adaptive;
#[cfg(test)]
mod adaptive_trial;
mod announced;
mod bucket;
mod builder;
mod concurrency;
mod credit;
mod gone;
#[cfg(all(test, loom))]
mod interleavings;
mod keeper;
mod keeper_link;
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
mod store_time;
#[cfg(test)]
mod trial;
mod used;
mod waited;

pub(crate) use announced::{Announced, Counted, Reset};
pub use builder::LimiterBuilder;
pub use concurrency::Concurrency;
pub use learned::Learned;
pub use limiter::{Limiter, Refusal};
pub(crate) use pace::Heard;
pub use permit::Permit;
pub use rate::{Cost, Rate};
#[cfg(feature = "cli")]
pub(crate) use state::{LimiterState, Start};
#[cfg(feature = "cli")]
pub(crate) use waited::Admission;
pub(crate) use waited::WaitReason;
pub use waited::Waited;
