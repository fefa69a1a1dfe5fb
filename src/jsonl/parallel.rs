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

/// Shows all of `lines` to `read`, and what it makes of each to `add`, in the order of the file.
/// Blank lines are not shown; a line that is too long is, without its text.
///
/// Several threads call `read` at once, so what takes time belongs there. `add` is called on this
/// thread.
///
/// # Errors
/// What `unreadable` makes of a failed read, [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled)
/// within a chunk of a cancel, and what `add` returns.
pub(super) fn fold<R: Read, F: Send>(
    lines: &mut Lines<R>,
    cancel: &Cancel,
    unreadable: impl Fn(io::Error) -> Error,
    read: impl Fn(Line<&[u8]>) -> F + Sync,
    mut add: impl FnMut(F) -> Result<()>,
) -> Result<()> {
    let (mut chunk, mut next) = (Chunk::default(), Chunk::default());
    let mut more = next.fill(lines).map_err(&unreadable)?;
    let pool = if more { start_threads() } else { None };
    loop {
        cancel.check()?;
        mem::swap(&mut chunk, &mut next);
        let mut filled = Ok(false);
        let read_on = || {
            if more {
                filled = next.fill(lines);
            }
        };
        for facts in chunk.facts(&read, pool.as_ref(), read_on) {
            add(facts)?;
        }
        if !more {
            return Ok(());
        }
        more = filled.map_err(&unreadable)?;
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
    fn facts<F: Send>(
        &self,
        read: impl Fn(Line<&[u8]>) -> F + Sync,
        pool: Option<&ThreadPool>,
        meanwhile: impl FnOnce(),
    ) -> Vec<F> {
        let read = |line: &Line<Range<usize>>| read(line.map(|text| &self.text[text.clone()]));
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

    fn pass<F: Send>(
        lines: &mut Lines<impl Read>,
        cancel: &Cancel,
        read: impl Fn(Line<&[u8]>) -> F + Sync,
        add: impl FnMut(F) -> Result<()>,
    ) -> Result<()> {
        let unreadable = |error: io::Error| Error::new(ErrorKind::Io, error.to_string());
        fold(lines, cancel, unreadable, read, add)
    }

    /// What was seen of the lines, and how it ended.
    fn collect(lines: &mut Lines<impl Read>) -> (Vec<Seen>, Result<()>) {
        let mut all = Vec::new();
        let ended = pass(
            lines,
            &Cancel::new(),
            |line| seen(&line),
            |facts| {
                all.push(facts);
                Ok(())
            },
        );
        (all, ended)
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
        let (all, ended) = collect(&mut open());
        ended.unwrap();
        assert!(all == expected);
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
        let (all, ended) = collect(&mut Lines::new(lines.as_bytes().chain(Broken)));
        let error = ended.unwrap_err();
        assert!(error.to_string().contains("broken"), "{error}");
        assert!(!all.is_empty());
    }

    #[test]
    fn a_cancel_is_heard_between_chunks() {
        let (cancel, mut count) = (Cancel::new(), 0);
        let lines = "a line\n".repeat(CHUNK);
        let add = |()| {
            count += 1;
            cancel.cancel();
            Ok(())
        };
        let error = pass(&mut Lines::new(lines.as_bytes()), &cancel, |_| (), add).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert!((1..CHUNK / 7).contains(&count), "{count}");
    }
}
