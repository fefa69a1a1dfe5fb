//! A proxy's password is tried on one connection at a time until it has been accepted: whoever tries a
//! wrong one twenty times at once locks the account.

use std::time::{Duration, Instant};

use super::context::{self, timed_out};
use super::error::proxy_status;
use crate::sync::{Condvar, Mutex};

/// So long after a refusal the proxy is not asked again: whoever stops at it needs a moment.
const QUIET: Duration = Duration::from_secs(1);

/// What is known of a proxy's password.
#[derive(Default)]
pub(super) struct Login {
    state: Mutex<State>,
    tried: Condvar,
}

#[derive(Default)]
struct State {
    is_accepted: bool,
    is_tried: bool,
    /// When the last refusal came, and ureq's words for it.
    refusal: Option<(Instant, String)>,
}

impl Login {
    /// Has `connect` log in, when no other connection is at it.
    pub(super) fn alone<T>(
        &self,
        connect: impl FnOnce() -> Result<T, ureq::Error>,
    ) -> Result<T, ureq::Error> {
        self.wait()?;
        let made = connect();
        let mut state = self.state.lock();
        state.is_tried = false;
        match &made {
            Ok(_) => state.is_accepted = true,
            Err(ureq::Error::ConnectProxyFailed(why))
                if matches!(proxy_status(why), Some(401 | 407)) =>
            {
                state.is_accepted = false;
                state.refusal = Some((Instant::now(), why.clone()));
            }
            Err(_) => {}
        }
        drop(state);
        self.tried.notify_all();
        made
    }

    fn wait(&self) -> Result<(), ureq::Error> {
        let mut state = self.state.lock();
        loop {
            match &state.refusal {
                Some((at, why)) if at.elapsed() < QUIET => {
                    return Err(ureq::Error::ConnectProxyFailed(why.clone()));
                }
                _ if state.is_accepted || !state.is_tried => break,
                _ => {}
            }
            let left = context::with(|context| context.left());
            if left.is_zero() {
                return Err(timed_out());
            }
            state = self.tried.wait_until(state, Instant::now() + left);
        }
        state.is_tried = true;
        Ok(())
    }
}
