//! What the limiter bench is asked and what it answers.

use serde::{Deserialize, Serialize};

/// Threads that want so many grants in all, at a rate.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Gate {
    /// `tollgate` or `governor`; with `, try` for a try that is always granted, and then
    /// `governor by Instant` too.
    pub limiter: String,
    pub per_second: u32,
    pub threads: usize,
    pub grants: usize,
    /// Grants before the clock starts: the burst, where the wait is measured.
    pub spend_first: usize,
}

/// How they got them.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Grants {
    pub wall_s: f64,
    pub cpu_s: f64,
    /// By one thread.
    pub fewest: usize,
    /// By one thread.
    pub most: usize,
    /// The most who came later than another and were let through before it.
    pub overtaken: usize,
}
