//! One pass over all lines of a file, on all cores.
//!
//! One thread reads, as only the [line reader](super::lines) knows where lines begin and which
//! numbers they have. The lines read are a [`Chunk`] of about 1 MiB. rayon's threads look at one
//! chunk while the next is read, so two chunks are in memory, however long the file. What the lines
//! say is then put together by the thread that reads, in the order of the file.
//!
//! A file of less than one chunk is looked at by the thread that reads it, and so is every file
//! without the feature `parallel`, or where the system gives no threads.

use std::io::{self, Read};
use std::mem;
use std::ops::Range;

#[cfg(feature = "parallel")]
use rayon::{ThreadPool, ThreadPoolBuilder, prelude::*};

use super::lines::{Line, Lines};
use crate::cancel::Cancel;
use crate::error::{Error, Result};

/// How much is read ahead, in bytes. A line that is longer is a chunk of its own.
const CHUNK: usize = 1 << 20;

/// Lines that a thread takes at a time, at least.
#[cfg(feature = "parallel")]
const LINES_AT_ONCE: usize = 64;

#[cfg(not(feature = "parallel"))]
enum ThreadPool {}

/// What is collected over the lines of a file.
pub(super) trait LineFold: Sync {
    /// What one line says.
    type Facts: Send;

    /// Reads a line. Several threads do so at once, so what takes time belongs here.
    fn read(&self, line: Line<&[u8]>) -> Self::Facts;

    /// Takes what the next line says, in the order of the file, on the thread that called [`fold`].
    ///
    /// # Errors
    /// Any error ends the pass.
    fn add(&mut self, facts: Self::Facts) -> Result<()>;
}

/// Shows all of `lines` to `fold`. Blank lines are not shown; a line that is too long is, without
/// its text.
///
/// # Errors
/// What `unreadable` makes of a failed read, [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled)
/// within a chunk of a cancel, and what `fold` returns.
pub(super) fn fold<R: Read>(
    lines: &mut Lines<R>,
    fold: &mut impl LineFold,
    cancel: &Cancel,
    unreadable: impl Fn(io::Error) -> Error,
) -> Result<()> {
    let (mut chunk, mut next) = (Chunk::default(), Chunk::default());
    let mut more = next.fill(lines).map_err(&unreadable)?;
    let pool = if more { start_threads() } else { None };
    loop {
        cancel.check()?;
        mem::swap(&mut chunk, &mut next);
        let mut read = Ok(false);
        let read_on = || {
            if more {
                read = next.fill(lines);
            }
        };
        for facts in chunk.facts(fold, pool.as_ref(), read_on) {
            fold.add(facts)?;
        }
        if !more {
            return Ok(());
        }
        more = read.map_err(&unreadable)?;
    }
}

/// Lines in a row.
#[derive(Default)]
struct Chunk {
    text: Vec<u8>,
    /// With the places of their texts.
    lines: Vec<Line<Range<usize>>>,
}

impl Chunk {
    /// Replaces what is there by the next lines. Whether there may be more behind them.
    fn fill<R: Read>(&mut self, lines: &mut Lines<R>) -> io::Result<bool> {
        self.text.clear();
        // The memory of a very long line is given back.
        self.text.shrink_to(2 * CHUNK);
        self.lines.clear();
        // Lines with next to nothing in them take more memory in `lines` than in `text`.
        while self.text.len() + size_of_val(&self.lines[..]) < CHUNK {
            let Some(line) = lines.next()? else {
                return Ok(false);
            };
            let start = self.text.len();
            self.lines.push(line.map(|text| {
                self.text.extend_from_slice(text);
                start..self.text.len()
            }));
        }
        Ok(true)
    }

    /// What the lines say. This thread does `meanwhile` if others read the lines, else before.
    fn facts<F: LineFold>(
        &self,
        fold: &F,
        pool: Option<&ThreadPool>,
        meanwhile: impl FnOnce(),
    ) -> Vec<F::Facts> {
        let read = |line: &Line<Range<usize>>| {
            let line = line.map(|text| &self.text[text.clone()]);
            fold.read(line)
        };
        match pool {
            #[cfg(feature = "parallel")]
            Some(pool) => {
                let mut facts = Vec::new();
                pool.in_place_scope(|scope| {
                    scope.spawn(|_| {
                        let lines = self.lines.par_iter().with_min_len(LINES_AT_ONCE);
                        facts = lines.map(read).collect();
                    });
                    meanwhile();
                });
                facts
            }
            _ => {
                meanwhile();
                self.lines.iter().map(read).collect()
            }
        }
    }
}

/// Threads for one pass: one a core, or as `RAYON_NUM_THREADS` says. They end with the pass, as a
/// run that takes a night has no more work for them.
#[cfg(feature = "parallel")]
fn start_threads() -> Option<ThreadPool> {
    ThreadPoolBuilder::new()
        .thread_name(|number| format!("tollgate-core-{number}"))
        .build()
        .inspect_err(|error| log::warn!("no threads to read the file on all cores: {error}"))
        .ok()
}

#[cfg(not(feature = "parallel"))]
fn start_threads() -> Option<ThreadPool> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    /// A line's number, offset and end, and its text unless that is too long.
    type Seen = (u64, u64, bool, Option<Vec<u8>>);

    fn seen(line: &Line<&[u8]>) -> Seen {
        let text = line.text.map(<[u8]>::to_vec);
        (line.number, line.offset, line.ended, text)
    }

    #[derive(Default)]
    struct Collect(Vec<Seen>);

    impl LineFold for Collect {
        type Facts = Seen;

        fn read(&self, line: Line<&[u8]>) -> Seen {
            seen(&line)
        }

        fn add(&mut self, facts: Seen) -> Result<()> {
            self.0.push(facts);
            Ok(())
        }
    }

    fn pass(lines: &mut Lines<impl Read>, all: &mut impl LineFold, cancel: &Cancel) -> Result<()> {
        fold(lines, all, cancel, |error| {
            Error::new(ErrorKind::Io, error.to_string())
        })
    }

    #[test]
    fn facts_come_in_the_order_of_the_file_with_every_line_once() {
        let mut input = String::new();
        for n in 0..60_000_u32 {
            match n % 97 {
                14 => input.push_str("\n\r"),
                _ => input.push_str(&["line number ", &n.to_string(), " of many"].concat()),
            }
            input.push('\n');
        }
        input += &"too long".repeat(CHUNK / 3);
        input.push('\n');
        input += &"a line longer than a chunk ".repeat(CHUNK / 20);
        input += "\nnot ended";
        let open = || Lines::of_anything(input.as_bytes(), 2 * CHUNK);
        let (mut lines, mut expected) = (open(), Vec::new());
        while let Some(line) = lines.next().unwrap() {
            expected.push(seen(&line));
        }
        let mut all = Collect::default();
        pass(&mut open(), &mut all, &Cancel::new()).unwrap();
        assert!(all.0 == expected);
    }

    #[test]
    fn a_read_that_fails_is_told_after_the_lines_before_it() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let lines = "a line\n".repeat(CHUNK / 7 + 1);
        let mut lines = Lines::new(lines.as_bytes().chain(Broken));
        let mut all = Collect::default();
        let error = pass(&mut lines, &mut all, &Cancel::new()).unwrap_err();
        assert!(error.to_string().contains("broken"), "{error}");
        assert!(!all.0.is_empty());
    }

    #[test]
    fn a_cancel_is_heard_between_chunks() {
        struct CancelAtOnce(u64, Cancel);
        impl LineFold for CancelAtOnce {
            type Facts = ();

            fn read(&self, _: Line<&[u8]>) {}

            fn add(&mut self, (): ()) -> Result<()> {
                self.0 += 1;
                self.1.cancel();
                Ok(())
            }
        }
        let cancel = Cancel::new();
        let lines = "a line\n".repeat(CHUNK);
        let mut count = CancelAtOnce(0, cancel.clone());
        let mut lines = Lines::new(lines.as_bytes());
        let error = pass(&mut lines, &mut count, &cancel).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert!((1..CHUNK as u64 / 7).contains(&count.0), "{}", count.0);
    }
}
