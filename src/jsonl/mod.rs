//! Files of requests in, files of results out: one JSON object a line.
//!
//! A request travels [`reader`] (lines of bytes, bounded) → [`line`] (one request, its body
//! untouched) → the client → [`record`] (one result line), which a later run [reads back](readback).
//! [`names`] decides which files those are, and [`scan`] looks through an input before anything is
//! sent; all else here is pure.

pub(crate) mod hash;
pub(crate) mod line;
pub(crate) mod names;
mod object;
pub(crate) mod problem;
pub(crate) mod readback;
pub(crate) mod reader;
pub(crate) mod record;
pub(crate) mod scan;
