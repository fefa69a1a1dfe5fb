//! The client against a server that misbehaves as told, over real sockets: what each fault becomes,
//! how often it is tried, and what the server saw of it.
//!
//! Waits between attempts are some milliseconds here; how long they really are is tested on a
//! virtual clock, in `tests/client`. Times are asserted from below only.

#[path = "../support/mod.rs"]
pub mod support;

mod answers;
mod connections;
mod pressure;

use std::time::Duration;

use tollgate::{Client, ClientBuilder, Error, Retry};

use support::faultd::Faultd;

const KEY: &str = "sk-faults-0123456789abcdef";

/// A timeout of requests that no test here is to meet: longer than a machine under test is likely to
/// stand still. With one of a minute, a machine that stood for one had 7 requests sent again.
const UNREACHED: Duration = Duration::from_secs(30 * 60);

/// Three attempts, a few milliseconds apart.
fn quick() -> Retry {
    let little = Duration::from_millis(5);
    Retry::new()
        .max_attempts(3)
        .initial_backoff(little)
        .max_backoff(2 * little)
}

fn client(server: &Faultd) -> Client {
    client_with(server, |builder| builder)
}

fn client_with(server: &Faultd, configure: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Client {
    let builder = Client::builder()
        .base_url(format!("{}/v1", server.url()))
        .api_key(KEY)
        .timeout(UNREACHED)
        .retry(quick());
    configure(builder).build().unwrap()
}

/// The error of one request that nothing helps.
fn failure(client: &Client) -> Error {
    client.chat("m", "hi").send().unwrap_err()
}

fn prompts(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("prompt {n}")).collect()
}
