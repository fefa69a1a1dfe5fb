//! AI APIs over HTTP, on top of the engine.

pub(crate) mod classify;
pub(crate) mod cost;
pub(crate) mod headers;
pub(crate) mod hints;
pub(crate) mod key;
mod problem;
mod times;
pub(crate) mod transport;
pub(crate) mod usage;
mod walk;
