//! The library's log, on standard error: warnings always, more with `-v`, and then with the time.
//!
//! Only the library's own records are shown: those of the HTTP client below it may hold whole URLs
//! and headers.

use log::{Level, LevelFilter, Log, Metadata, Record};

use super::console::{Console, OutputMode};

/// Shows warnings and errors, and more for each `-v`.
pub(crate) fn install(console: &Console, verbose: u8) {
    let level = match (console.mode, verbose) {
        (OutputMode::Quiet, _) => LevelFilter::Error,
        (_, 0) => LevelFilter::Warn,
        (_, 1) => LevelFilter::Info,
        (_, _) => LevelFilter::Debug,
    };
    let logger: &'static ToConsole = Box::leak(Box::new(ToConsole {
        console: console.clone(),
        timed: verbose > 0,
    }));
    // Only fails where a logger is there already, and then that one is as good.
    if log::set_logger(logger).is_ok() {
        log::set_max_level(level);
    }
}

struct ToConsole {
    console: Console,
    /// Whether lines begin with the time.
    timed: bool,
}

impl Log for ToConsole {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let target = metadata.target();
        target == "tollgate" || target.starts_with("tollgate::")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let is_warning = record.level() <= Level::Warn;
        let text = record.args().to_string();
        self.console.log(is_warning, &text, self.timed);
    }

    fn flush(&self) {}
}
