//! The tool's own layer: arguments as typed, and the units they are typed in.

pub(crate) mod args;
pub(crate) mod units;
