//! One pass over all the lines of a file, on all cores.
//!
//! Reading is serial, as the [line reader](super::reader) is the one authority on lines and their
//! numbers. Looking at them, the larger part by far, is done by as many threads as there are
//! [cores](super::cores), on one stretch of some 4 MiB while the next is read, however long the
//! file. What they found comes back in parts, in the order of the file.

use std::io::{self, Read};
use std::mem;
use std::slice;
use std::vec;

use super::cores::Cores;
use super::reader::{Line, Lines};

/// How much is read at a time, in bytes, of which there are two at once; a longer line stands alone.
const READ_AHEAD: usize = 4 << 20;

/// The pass, as an iterator over what `look` found in each stretch of lines.
///
/// A caller that asks [`Cancel::check`](crate::Cancel::check) in its loop hears of a cancellation
/// within a read-ahead. A read that fails ends the iterator.
pub(super) struct Sweep<'c, R, T, L> {
    lines: Lines<R>,
    cores: &'c Cores,
    look: L,
    read_ahead: usize,
    batch: Batch,
    /// What is read while `batch` is looked at.
    ahead: Batch,
    /// How that went, if there was anything to read: whether there is more behind it.
    filled: Option<io::Result<bool>>,
    found: vec::IntoIter<T>,
    has_begun: bool,
}

impl<'c, R, T, L> Sweep<'c, R, T, L>
where
    R: Read,
    T: Send,
    L: Fn(Stretch<'_>) -> T + Sync,
{
    /// Shows all of `lines` to `look`, some at a time: a line that is too long as such, blank ones
    /// not at all.
    pub(super) fn new(lines: Lines<R>, cores: &'c Cores, look: L) -> Self {
        Self {
            lines,
            cores,
            look,
            read_ahead: READ_AHEAD,
            batch: Batch::default(),
            ahead: Batch::default(),
            filled: None,
            found: Vec::new().into_iter(),
            has_begun: false,
        }
    }

    /// As [`new`](Self::new), with another read-ahead.
    #[cfg(test)]
    pub(super) fn reading_ahead(self, read_ahead: usize) -> Self {
        Self { read_ahead, ..self }
    }
}

impl<R, T, L> Iterator for Sweep<'_, R, T, L>
where
    R: Read,
    T: Send,
    L: Fn(Stretch<'_>) -> T + Sync,
{
    type Item = io::Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(part) = self.found.next() {
                return Some(Ok(part));
            }
            if !self.has_begun {
                self.has_begun = true;
                self.filled = Some(self.ahead.fill(&mut self.lines, self.read_ahead));
            }
            let more = match self.filled.take()? {
                Ok(more) => more,
                Err(error) => return Some(Err(error)),
            };
            mem::swap(&mut self.batch, &mut self.ahead);
            let Batch { text, spans } = &self.batch;
            let look = |spans: &[Span]| {
                let spans = spans.iter();
                (self.look)(Stretch { text, spans })
            };
            let read_on = || {
                if more {
                    self.filled = Some(self.ahead.fill(&mut self.lines, self.read_ahead));
                }
            };
            let found = self.cores.map(spans, self.batch.held(), look, read_on);
            self.found = found.into_iter();
        }
    }
}

/// Some lines in a row.
pub(super) struct Stretch<'b> {
    text: &'b [u8],
    spans: slice::Iter<'b, Span>,
}

impl<'b> Iterator for Stretch<'b> {
    type Item = Line<'b>;

    fn next(&mut self) -> Option<Line<'b>> {
        let span = self.spans.next()?;
        Some(Line {
            number: span.number,
            offset: span.offset,
            ended: span.ended,
            text: match &span.kept {
                Kept::At { start, length } => Some(&self.text[*start..*start + *length]),
                Kept::TooLong => None,
            },
        })
    }
}

/// What is read ahead.
#[derive(Default)]
struct Batch {
    text: Vec<u8>,
    spans: Vec<Span>,
}

/// One line of it.
struct Span {
    number: u64,
    offset: u64,
    ended: bool,
    kept: Kept,
}

enum Kept {
    At { start: usize, length: usize },
    TooLong,
}

impl Batch {
    /// Takes the next lines in place of those it has; whether there may be more.
    fn fill<R: Read>(&mut self, lines: &mut Lines<R>, read_ahead: usize) -> io::Result<bool> {
        self.text.clear();
        self.text.shrink_to(2 * read_ahead);
        self.spans.clear();
        while self.held() < read_ahead {
            let Some(line) = lines.next()? else {
                return Ok(false);
            };
            let kept = match line.text {
                None => Kept::TooLong,
                Some(text) => {
                    let start = self.text.len();
                    self.text.extend_from_slice(text);
                    let length = text.len();
                    Kept::At { start, length }
                }
            };
            self.spans.push(Span {
                number: line.number,
                offset: line.offset,
                ended: line.ended,
                kept,
            });
        }
        Ok(true)
    }

    /// In bytes: of lines with next to nothing in them, what is noted of each is the larger part.
    fn held(&self) -> usize {
        self.text.len() + size_of_val(&self.spans[..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is seen of a line: its number, offset and end, and its text unless that is too long.
    type Seen = (u64, u64, bool, Option<Vec<u8>>);

    fn seen(line: &Line<'_>) -> Seen {
        let text = line.text.map(<[u8]>::to_vec);
        (line.number, line.offset, line.ended, text)
    }

    fn one_by_one(input: &[u8], cap: usize) -> Vec<Seen> {
        let mut lines = Lines::with_cap(input, cap).unwrap();
        let mut all = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            all.push(seen(&line));
        }
        all
    }

    #[test]
    fn parts_come_in_the_order_of_the_file_with_every_line_once() {
        let mut input = String::new();
        for n in 0..60_000_u32 {
            match n % 97 {
                13 => input.push_str(&"too long ".repeat(20)),
                14 => input.push_str("\n\r"),
                _ => input.push_str(&["line number ", &n.to_string(), " of many"].concat()),
            }
            input.push('\n');
        }
        input.push_str("not ended");
        let expected = one_by_one(input.as_bytes(), 100);
        assert!(input.len() > 1 << 20, "too little for threads");
        // In one go, in several with threads, and each line by itself.
        for read_ahead in [1 << 30, 2 << 20, 1] {
            let cores = Cores::default();
            let lines = Lines::with_cap(input.as_bytes(), 100).unwrap();
            let look = |stretch: Stretch<'_>| stretch.map(|line| seen(&line)).collect::<Vec<_>>();
            let sweep = Sweep::new(lines, &cores, look).reading_ahead(read_ahead);
            let parts: io::Result<Vec<_>> = sweep.collect();
            assert!(parts.unwrap().concat() == expected, "{read_ahead}");
        }
    }

    #[test]
    fn a_read_that_fails_is_told_and_ends_it() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let cores = Cores::default();
        let lines = Lines::open((&b"{1}\n{2}\n"[..]).chain(Broken)).unwrap();
        let mut sweep = Sweep::new(lines, &cores, |some| some.count()).reading_ahead(1);
        assert_eq!(sweep.next().unwrap().unwrap(), 1);
        assert_eq!(sweep.next().unwrap().unwrap(), 1);
        assert_eq!(sweep.next().unwrap().unwrap_err().to_string(), "broken");
        assert!(sweep.next().is_none());
    }
}
