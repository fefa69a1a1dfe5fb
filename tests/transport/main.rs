//! The HTTP transport against scripted servers on raw sockets.

mod abort;
mod answers;
mod failures;
mod proxies;
mod requests;
mod server;
#[cfg(feature = "rustls")]
mod sessions;
mod time;
#[cfg(feature = "rustls")]
mod tls;
