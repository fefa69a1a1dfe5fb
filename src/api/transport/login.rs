//! A proxy's password is tried on one connection at a time until it has been accepted: whoever
//! tries a wrong one twenty times at once locks the account.

use std::mem;
use std::time::{Duration, Instant};

use ureq::Error::{self, ConnectProxyFailed, ConnectionFailed};

use super::context::{time_left, with};
use super::error::proxy_status;
use crate::sync::{Condvar, Mutex};

/// So long after a refusal the proxy is not asked again: whoever stops at it needs a moment.
const REFUSAL_KEPT_FOR: Duration = Duration::from_secs(1);
/// How often whoever waits for another's login looks whether its call is aborted.
const LOOK_AFTER: Duration = Duration::from_millis(100);

/// What is known of a proxy's password.
#[derive(Debug, Default)]
pub(super) struct Login {
    state: Mutex<State>,
    tried: Condvar,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Untried,
    Trying,
    Accepted,
    /// Since when, and ureq's words for it.
    Refused(Instant, String),
}

impl Login {
    /// Has `connect` log in, when no other connection is at it.
    pub(super) fn log_in<T>(&self, connect: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let mut state = self.state.lock();
        while matches!(*state, State::Trying) {
            let wait = time_left()?.min(LOOK_AFTER);
            state = self.tried.wait_until(state, Instant::now() + wait);
            if with(|context| context.cancel.is_aborted()) {
                return Err(ConnectionFailed);
            }
        }
        match &*state {
            State::Accepted => {}
            State::Refused(at, why) if at.elapsed() < REFUSAL_KEPT_FOR => {
                return Err(ConnectProxyFailed(why.clone()));
            }
            _ => *state = State::Trying,
        }
        drop(state);
        let made = connect();
        let found = match &made {
            Err(ConnectProxyFailed(why)) if matches!(proxy_status(why), Some(401 | 407)) => {
                State::Refused(Instant::now(), why.clone())
            }
            // Whoever answers with another status has nothing against the password.
            Ok(_) | Err(ConnectProxyFailed(_)) => State::Accepted,
            Err(_) => State::Untried,
        };
        let _before = mem::replace(&mut *self.state.lock(), found);
        self.tried.notify_all();
        made
    }
}
