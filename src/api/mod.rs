//! AI APIs over HTTP, on top of the engine.

pub(crate) mod headers;
pub(crate) mod transport;
