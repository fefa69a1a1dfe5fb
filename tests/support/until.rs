//! Waiting for what another thread or process does.

use std::thread;
use std::time::Duration;

/// Waits until it is `so`. It looks 20,000 times, a millisecond or more apart, and not until a time
/// by the clock: a machine that stands still itself for a minute has then not looked any oftener.
///
/// # Panics
/// When it was never so.
pub fn until(what: &str, so: impl Fn() -> bool) {
    for _ in 0..20_000 {
        if so() {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("never: {what}");
}
