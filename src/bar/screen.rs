//! The bar on a terminal: at most two lines below the messages.
//!
//! A line never reaches the right edge, and each begins with a line break of its own, so that the
//! terminal wraps nothing. When the window has become narrower, most terminals wrap the lines that
//! are there. How high the bar is now follows from their length, so that it is erased as a whole
//! and no message with it. Between two draws the cursor stands at the beginning of the last line:
//! what the terminal itself writes there, such as `^C`, is gone with the next draw. All text is
//! without colours. It is ASCII but for what a server says.

use std::sync::Arc;

use ::console::Term;

use crate::sync::Mutex;

/// Below this many columns a bar says nothing.
const NARROWEST: usize = 10;

/// What is to be seen.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    /// How many rows are done, of how many, if that is known.
    pub(crate) done: Option<(u64, u64)>,
    /// How far the run is: in full, and shorter and shorter for narrow terminals.
    pub(crate) heads: Vec<String>,
    /// What explains it, the most important first.
    pub(crate) details: Vec<String>,
}

/// A terminal on standard error that has a bar. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Screen(Arc<Mutex<ScreenState>>);

#[derive(Debug)]
struct ScreenState {
    term: Term,
    shown: Shown,
    /// The lines that stand there, drawn for so many columns.
    drawn: Vec<String>,
    columns: usize,
}

impl Screen {
    /// That of standard error; `None` where that is no terminal, or one that cannot move its cursor
    /// (`TERM=dumb`).
    pub(crate) fn of_terminal() -> Option<Self> {
        let is_able = Term::stderr().is_term() && !::console::is_dumb();
        is_able.then(Self::anywhere)
    }

    /// Standard error, whatever that is.
    pub(crate) fn anywhere() -> Self {
        let term = Term::stderr();
        // Switches a Windows console to escape sequences.
        let _has_colors = term.features().colors_supported();
        Self(Arc::new(Mutex::new(ScreenState {
            term,
            shown: Shown::default(),
            drawn: Vec::new(),
            columns: 0,
        })))
    }

    /// Draws this from now on.
    pub(crate) fn draw(&self, shown: Shown) {
        let mut state = self.0.lock();
        state.shown = shown;
        state.paint("");
    }

    /// Writes whole lines above the bar.
    pub(crate) fn write(&self, lines: &str) {
        self.0.lock().paint(lines);
    }

    /// Removes the bar.
    pub(crate) fn clear(&self) {
        self.draw(Shown::default());
    }
}

impl ScreenState {
    /// One write, so that nothing flickers and the lines of several threads do not mix. The lock
    /// is that of the terminal: who waits for it waits for the terminal.
    fn paint(&mut self, message: &str) {
        let (rows, columns) = self.term.size();
        let (rows, columns) = (usize::from(rows), usize::from(columns));
        let lines = self.shown.lines(rows, columns);
        if message.is_empty() && lines == self.drawn && columns == self.columns {
            return;
        }
        let mut text = match (height_above_last(&self.drawn, columns), &self.drawn[..]) {
            (_, []) => String::new(),
            (0, _) => "\r".to_owned(),
            (above, _) => format!("\x1b[{above}A\r"),
        };
        // A bar that stays is written over: where it fills the window, and is erased from the top
        // of that, some terminals keep it.
        let stays = message.is_empty() && !lines.is_empty() && columns == self.columns;
        if stays {
            text.push_str(&lines.join("\x1b[K\r\n"));
            text.push_str("\x1b[J");
        } else {
            if !self.drawn.is_empty() {
                text.push_str("\x1b[J");
            }
            text.push_str(message);
            text.push_str(&lines.join("\r\n"));
        }
        if !lines.is_empty() {
            text.push('\r');
        }
        let _nobody_reads_it = self.term.write_str(&text);
        (self.drawn, self.columns) = (lines, columns);
    }
}

impl Shown {
    fn lines(&self, rows: usize, columns: usize) -> Vec<String> {
        let room = columns.saturating_sub(1);
        let fitting = self.heads.iter().find(|head| width(head) <= room);
        let Some(head) = fitting.or(self.heads.last()) else {
            return Vec::new();
        };
        let left = room.saturating_sub(width(head) + "[] ".len());
        let top = match self.done {
            Some(done) if left >= NARROWEST => format!("[{}] {head}", bar(done, left)),
            _ => cut(head, room),
        };
        let mut below = String::new();
        for detail in &self.details {
            let longer = if below.is_empty() {
                cut(detail, room)
            } else {
                format!("{below}, {detail}")
            };
            if width(&longer) > room {
                break;
            }
            below = longer;
        }
        let mut lines = vec![top, below];
        lines.truncate(rows);
        lines
    }
}

fn bar((done, total): (u64, u64), columns: usize) -> String {
    let full = (columns as u64).saturating_mul(done) / total.max(1);
    let full = usize::try_from(full).map_or(columns, |full| full.min(columns));
    let mut bar = "=".repeat(full);
    if full < columns {
        bar.push('>');
    }
    format!("{bar:columns$}")
}

/// How many rows of the terminal the lines before the last take.
fn height_above_last(lines: &[String], columns: usize) -> usize {
    let above = lines.split_last().map_or(&[][..], |(_, above)| above);
    let rows = |line: &String| width(line).div_ceil(columns.max(1)).max(1);
    above.iter().map(rows).sum()
}

/// How many columns a text takes at most: what is not ASCII may be wide.
fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

fn char_width(c: char) -> usize {
    if c.is_ascii() { 1 } else { 2 }
}

fn cut(text: &str, room: usize) -> String {
    let mut left = room;
    let fits = |c: &char| {
        let fits = left >= char_width(*c);
        left = left.saturating_sub(char_width(*c));
        fits
    };
    text.chars().take_while(fits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown() -> Shown {
        let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        Shown {
            done: Some((250, 1_000)),
            heads: texts(&[
                "250/1,000  10.0/s  ETA 75 s",
                "250/1,000  ETA 75 s",
                "25%  ETA 75 s",
                "25%",
            ]),
            details: texts(&["limit: tokens", "20 in flight", "2,000 tokens/s"]),
        }
    }

    #[test]
    fn the_width_decides_what_is_left_out() {
        for (columns, top, below) in [
            (
                60,
                "[=======>                     ] 250/1,000  10.0/s  ETA 75 s",
                "limit: tokens, 20 in flight, 2,000 tokens/s",
            ),
            (
                40,
                "250/1,000  10.0/s  ETA 75 s",
                "limit: tokens, 20 in flight",
            ),
            (20, "250/1,000  ETA 75 s", "limit: tokens"),
            (14, "25%  ETA 75 s", "limit: tokens"),
            (10, "25%", "limit: to"),
            (3, "25", "li"),
            (1, "", ""),
            (0, "", ""),
        ] {
            assert_eq!(shown().lines(24, columns), [top, below], "{columns}");
        }
        assert_eq!(shown().lines(1, 20), ["250/1,000  ETA 75 s"]);
        assert!(Shown::default().lines(24, 80).is_empty());
    }

    #[test]
    fn no_line_reaches_the_edge_whatever_a_server_says() {
        let foreign = Shown {
            details: vec!["on hold (見直しが必要です: too fast)".to_owned()],
            ..shown()
        };
        for columns in 1..60 {
            for line in foreign.lines(24, columns) {
                assert!(width(&line) < columns, "{line:?} in {columns}");
            }
        }
    }

    #[test]
    fn a_window_that_became_narrower_has_wrapped_the_lines() {
        let lines = ["x".repeat(79), "y".repeat(50)];
        assert_eq!(height_above_last(&lines, 120), 1);
        assert_eq!(height_above_last(&lines, 80), 1);
        assert_eq!(height_above_last(&lines, 79), 1);
        assert_eq!(height_above_last(&lines, 40), 2);
        assert_eq!(height_above_last(&lines, 20), 4);
        assert_eq!(height_above_last(&lines, 0), 79);
        assert_eq!(height_above_last(&[], 80), 0);
    }

    #[test]
    fn a_full_bar_is_full() {
        assert_eq!(bar((0, 10), 4), ">   ");
        assert_eq!(bar((5, 10), 4), "==> ");
        assert_eq!(bar((10, 10), 4), "====");
        assert_eq!(bar((11, 10), 4), "====");
        assert_eq!(bar((0, 0), 4), ">   ");
    }
}
