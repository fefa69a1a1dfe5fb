//! A proxy's password is tried on one connection at a time until it has been accepted: whoever
//! tries a wrong one twenty times at once locks the account.

use std::mem;
use std::time::{Duration, Instant};

use ureq::Error::ConnectProxyFailed;

use super::context::time_left;
use super::error::proxy_status;
use crate::sync::{Condvar, Mutex};

/// So long after a refusal the proxy is not asked again: whoever stops at it needs a moment.
const REFUSAL_KEPT_FOR: Duration = Duration::from_secs(1);

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
    pub(super) fn log_in<T>(
        &self,
        connect: impl FnOnce() -> Result<T, ureq::Error>,
    ) -> Result<T, ureq::Error> {
        let mut state = self.state.lock();
        while matches!(*state, State::Trying) {
            state = self.tried.wait_until(state, Instant::now() + time_left()?);
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
            Ok(_) => State::Accepted,
            Err(ConnectProxyFailed(why)) if matches!(proxy_status(why), Some(401 | 407)) => {
                State::Refused(Instant::now(), why.clone())
            }
            Err(_) => State::Untried,
        };
        let before = mem::replace(&mut *self.state.lock(), found);
        self.tried.notify_all();
        drop(before);
        made
    }
}
