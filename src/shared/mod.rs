//! One allowance for many processes: the limiter's rates, leased in small parts from a store.
//!
//! [`exchange`] has what a process asks a store and what the store answers. `redis` asks a server.

#[allow(dead_code, reason = "the homes and the limiter follow")]
mod exchange;
#[cfg(feature = "redis")]
#[allow(dead_code, reason = "the way in follows")]
mod redis;

#[allow(unused_imports, reason = "the homes and the limiter follow")]
pub(crate) use exchange::{Ask, Limit, Micros, Reply, Span, Store, Want};
