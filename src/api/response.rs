//! An answer as classification sees it.

use std::time::{Duration, SystemTime};

use http::HeaderMap;

use super::key::ApiKey;

/// One answer, as classification sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResponseView<'a> {
    pub(crate) status: u16,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
    /// The key of the request. Some providers repeat it, and messages quote providers.
    pub(crate) key: Option<&'a ApiKey>,
    /// This machine's time, for answers without a `Date`.
    pub(crate) wall: SystemTime,
    /// The model tokens that were reserved: how long to wait depends on them.
    pub(crate) cost_tokens: u64,
    /// The longest wait that is allowed; `None`: any.
    pub(crate) longest_wait: Option<Duration>,
}
