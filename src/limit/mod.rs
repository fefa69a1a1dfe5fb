//! The gate: rates, the bucket's arithmetic and the limiter threads wait at.

mod rate;

pub use rate::{Cost, Rate};
