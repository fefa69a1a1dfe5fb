//! The client as its users see it, in memory: a provider made of a closure, on a virtual clock, so
//! that outages of minutes and waits of hours take no time and no test depends on the machine's.
//!
//! One file to a question; `bench` is the provider, the clock and the thread that drives it.

mod bench;
mod calls;
mod embeddings;
mod hedging;
mod limiter;
mod outages;
mod secrets;
mod settings;
mod stops;
mod times;
mod waits;
mod warmup;
