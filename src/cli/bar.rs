//! The bar on a terminal.
//!
//! It has two lines, so that 80 columns hold them. The first says how far the run is. The second
//! explains a slow run. Both are plain ASCII without colours.

use std::io::{self, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Draws a second.
const HZ: u8 = 10;

/// A run's progress in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) done: u64,
    pub(crate) total: Option<u64>,
    /// How far, how fast, how long.
    pub(crate) head: String,
    /// What explains it.
    pub(crate) detail: String,
}

/// A bar on standard error. Clones draw the same one.
#[derive(Clone, Debug)]
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// `None` where standard error is no terminal that can have one.
    pub(crate) fn on_terminal() -> Option<Self> {
        let target = ProgressDrawTarget::stderr_with_hz(HZ);
        (!target.is_hidden()).then(|| Self(ProgressBar::with_draw_target(None, target)))
    }

    /// Whatever standard error is.
    pub(crate) fn anywhere() -> Self {
        Self::on_terminal().unwrap_or_else(|| {
            let stderr = Box::new(::console::Term::buffered_stderr());
            let target = ProgressDrawTarget::term_like_with_hz(stderr, HZ);
            Self(ProgressBar::with_draw_target(None, target))
        })
    }

    pub(crate) fn draw(&self, status: &Status) {
        let bar = &self.0;
        bar.set_style(style(status.total.is_some()));
        if let Some(total) = status.total {
            bar.set_length(total);
        }
        bar.set_prefix(status.head.clone());
        bar.set_message(status.detail.clone());
        bar.set_position(status.done);
        bar.tick();
    }

    /// Writes something above the bar.
    pub(crate) fn suspend(&self, write: impl FnOnce()) {
        self.0.suspend(write);
    }

    /// Leaves the bar as it stands and goes on with it below.
    ///
    /// After Ctrl-C the terminal has put `^C` behind the bar's last line, which reaches to the
    /// right edge. The cursor is a line lower than the bar knows, so it would clear the wrong lines.
    pub(crate) fn leave_standing(&self) {
        if io::stderr().is_terminal() {
            self.0
                .set_draw_target(ProgressDrawTarget::stderr_with_hz(HZ));
            let _nobody_reads_it = io::stderr().write_all(b"\n");
        }
    }

    /// Removes the bar.
    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
    }
}

fn style(total_known: bool) -> ProgressStyle {
    let template = if total_known {
        "[{wide_bar}] {prefix}\n{wide_msg}"
    } else {
        "{spinner} {prefix}\n{wide_msg}"
    };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
        .tick_chars("-\\|/ ")
}
