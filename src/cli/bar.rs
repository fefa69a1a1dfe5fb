//! The bar on a terminal.
//!
//! Two lines, so that 80 columns hold them: the bar with what everybody looks for, and below it what
//! explains a slow run. Plain ASCII and no colours: nothing to switch off.

use std::env;
use std::io::{self, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

use super::display::Status;

/// Draws a second.
const HZ: u8 = 10;
/// For what is no terminal and does not say how wide it is.
const WIDTH: u16 = 80;
/// Narrower than this there is no bar worth drawing.
const NARROWEST: u16 = 20;

/// A bar on standard error; `None` where that is no terminal that can have one.
pub(crate) fn on_terminal() -> Option<ProgressBar> {
    let target = ProgressDrawTarget::stderr_with_hz(HZ);
    (!target.is_hidden()).then(|| ProgressBar::with_draw_target(None, target))
}

/// A bar on standard error, whatever that is.
pub(crate) fn anywhere() -> ProgressBar {
    on_terminal().unwrap_or_else(|| {
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(Stream::new()), HZ);
        ProgressBar::with_draw_target(None, target)
    })
}

/// Leaves the bar as it stands and goes on with it below.
///
/// For Ctrl-C: the terminal has put `^C` behind the bar's last line, which reaches to the right
/// edge, so the cursor is a line lower than the bar knows and it would clear the wrong lines.
pub(crate) fn leave_standing(bar: &ProgressBar) {
    let target = ProgressDrawTarget::stderr_with_hz(HZ);
    if !target.is_hidden() {
        bar.set_draw_target(target);
        let _nobody_reads_it = io::stderr().write_all(b"\n");
    }
}

pub(crate) fn draw(bar: &ProgressBar, status: &Status) {
    if bar.length() != status.total || bar.prefix().is_empty() {
        bar.set_style(style(status.total.is_some()));
        match status.total {
            Some(total) => bar.set_length(total),
            None => bar.unset_length(),
        }
    }
    bar.set_prefix(status.head.clone());
    bar.set_message(status.detail.clone());
    bar.set_position(status.done);
    bar.tick();
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

/// Standard error as a terminal that nobody asks for its size.
#[derive(Debug)]
struct Stream {
    width: u16,
}

impl Stream {
    fn new() -> Self {
        let columns = env::var("COLUMNS").ok();
        let width = columns.and_then(|columns| columns.parse().ok());
        Self {
            width: width.unwrap_or(WIDTH).max(NARROWEST),
        }
    }
}

impl TermLike for Stream {
    fn width(&self) -> u16 {
        self.width
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.control(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.control(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.control(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.control(n, 'D')
    }

    fn write_line(&self, line: &str) -> io::Result<()> {
        self.write_str(&format!("{line}\n"))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        io::stderr().write_all(text.as_bytes())
    }

    fn clear_line(&self) -> io::Result<()> {
        self.write_str("\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl Stream {
    fn control(&self, n: usize, letter: char) -> io::Result<()> {
        // A count of 0 means 1 (ECMA-48).
        if n == 0 {
            return Ok(());
        }
        self.write_str(&format!("\x1b[{n}{letter}"))
    }
}
