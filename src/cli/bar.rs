//! The bar on a terminal.
//!
//! It has two lines, so that 80 columns hold them. The first says how far the run is. The second
//! explains a slow run. Both are plain ASCII without colours.

use std::io::{self, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::FileProgress;

/// Draws a second.
const HZ: u8 = 10;

/// A bar on standard error; `None` where that is no terminal that can have one.
pub(crate) fn on_terminal() -> Option<ProgressBar> {
    let target = ProgressDrawTarget::stderr_with_hz(HZ);
    (!target.is_hidden()).then(|| ProgressBar::with_draw_target(None, target))
}

/// A bar on standard error, whatever that is.
pub(crate) fn anywhere() -> ProgressBar {
    on_terminal().unwrap_or_else(|| {
        let stderr = Box::new(::console::Term::buffered_stderr());
        let target = ProgressDrawTarget::term_like_with_hz(stderr, HZ);
        ProgressBar::with_draw_target(None, target)
    })
}

/// Draws how far the run is, with `head` and `detail` in words.
pub(crate) fn draw(bar: &ProgressBar, progress: &FileProgress, head: String, detail: String) {
    let template = match progress.total {
        Some(_) => "[{wide_bar}] {prefix}\n{wide_msg}",
        None => "{spinner} {prefix}\n{wide_msg}",
    };
    let style = ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
        .tick_chars("-\\|/ ");
    // First of all: whatever is set is drawn at once.
    bar.set_style(style);
    if let Some(total) = progress.total {
        bar.set_length(total);
    }
    bar.set_prefix(head);
    bar.set_message(detail);
    bar.set_position(progress.done());
    bar.tick();
}

/// Leaves the bar as it stands and goes on with it below.
///
/// After Ctrl-C the terminal has put `^C` behind the bar's last line, which reaches to the
/// right edge. The cursor is a line lower than the bar knows, so it would clear the wrong lines.
pub(crate) fn leave_standing(bar: &ProgressBar) {
    if io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(HZ));
        let _nobody_reads_it = io::stderr().write_all(b"\n");
    }
}
