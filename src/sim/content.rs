//! What an answer holds.

use serde_json::Value;

#[derive(Debug, PartialEq)]
pub(super) enum Content {
    Json(Vec<u8>),
    /// Server-sent events, one after the other over the answer's latency.
    Events(Vec<String>),
}

impl Content {
    pub(super) fn of(value: &Value) -> Self {
        Self::Json(value.to_string().into_bytes())
    }
}

/// Constant, so that equal requests get equal bytes: 2026-01-01 00:00:00 UTC.
pub(super) const CREATED: u64 = 1_767_225_600;
