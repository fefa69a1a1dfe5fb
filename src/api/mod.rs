//! AI APIs over HTTP, on top of the engine.
//!
//! [`client`] is the way in, [`request`] and [`reply`] what goes through, [`job`] the engine's job, and
//! [`endpoint`] one attempt: the only place where all of the rest meets. Below it, [`transport`] moves bytes, and everything
//! else is pure: [`classify`] judges outcomes, [`rate_limit_headers`] reads the waits that servers ask for,
//! [`cost`] estimates model tokens, [`usage`] reads what they were, [`money`] says what they
//! cost, and [`content`] finds what an answer says.

mod builder;
pub(crate) mod classify;
mod client;
mod content;
mod cost;
mod embed;
mod endpoint;
mod error_body;
pub(crate) mod headers;
mod job;
pub(crate) mod json;
mod key;
mod money;
pub(crate) mod path;
mod provider;
mod rate_limit_headers;
mod reply;
mod request;
mod response;
mod times;
pub(crate) mod transport;
mod usage;

pub use builder::ClientBuilder;
pub use client::Client;
pub use key::ApiKey;
pub use money::{Price, Usd};
pub use provider::Provider;
pub use reply::Reply;
pub use request::{Body, Chat, Request};
pub use transport::{
    HttpConfig, HttpRequest, HttpResponse, HttpTransport, MemoryTransport, ProxyPolicy, Transport,
    TransportError, TransportErrorKind, TransportStage,
};
pub use usage::Usage;

#[cfg(feature = "cli")]
pub(crate) use cost::{Size, writes};
pub(crate) use endpoint::{AttemptError, Endpoint};
pub(crate) use job::{ApiJob, into_error};
#[cfg(feature = "cli")]
pub(crate) use path::check_base_url;
