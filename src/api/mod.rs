//! AI APIs over HTTP, on top of the engine.
//!
//! A [`client`] is put together by a [`builder`]. It sends a [`request`] and gives a [`reply`];
//! [`embed`] does so for embeddings. [`job`] is the engine's job, and [`endpoint`] makes one
//! attempt: it uses all the rest. [`transport`] moves bytes.
//!
//! The other files are pure. [`classify`] judges answers and errors. [`error_body`] reads their
//! bodies, [`error_meaning`] says what those mean; [`body_waits`] reads the waits in them, and
//! [`rate_limit_headers`] the waits in headers. [`announced_limit`] reads the limit that a refusal
//! names, and [`limit_headers`] those that every answer announces. [`likeness`] says what many
//! failures have in common. [`cost`] counts what a request says of its model tokens, [`estimate`]
//! corrects that by what answers took, [`usage`] reads how many they were, and [`money`] says what
//! they cost. [`content`] finds an answer's text, and [`json`] reads JSON under all of
//! these. [`provider`] has what differs between providers, [`key`] keeps the key out of every text,
//! and [`path`] joins URLs.

mod announced_limit;
mod attempt_log;
mod body_waits;
mod builder;
pub(crate) mod classify;
mod client;
mod content;
mod cost;
mod embed;
mod endpoint;
mod error_body;
mod error_meaning;
mod estimate;
pub(crate) mod headers;
mod job;
pub(crate) mod json;
mod key;
mod likeness;
mod limit_headers;
mod money;
pub(crate) mod path;
mod provider;
mod rate_limit_headers;
mod reply;
mod request;
mod response;
pub(crate) mod times;
pub(crate) mod transport;
mod usage;

pub use builder::ClientBuilder;
pub use client::Client;
pub use key::ApiKey;
#[cfg(feature = "cli")]
pub(crate) use key::is_secret;
pub use money::{Price, Usd};
pub use provider::Provider;
pub use reply::Reply;
pub use request::{Body, Chat, Request};
pub use transport::{
    HttpConfig, HttpRequest, HttpResponse, HttpTransport, MemoryTransport, ProxyPolicy, Transport,
    TransportError, TransportErrorKind, TransportStage,
};
pub use usage::Usage;

pub(crate) use classify::AttemptError;
#[cfg(feature = "rows")]
pub(crate) use content::Content;
#[cfg(feature = "cli")]
pub(crate) use cost::{Size, writes};
pub(crate) use endpoint::Endpoint;
#[cfg(feature = "rows")]
pub(crate) use error_body::ErrorBody;
#[cfg(feature = "cli")]
pub(crate) use estimate::{Counting, Estimates};
pub(crate) use job::{ApiJob, into_error, stopped_by};
pub(crate) use likeness::{likeness, pattern};
#[cfg(feature = "cli")]
pub(crate) use path::check_base_url;
