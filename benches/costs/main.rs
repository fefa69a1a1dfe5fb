//! What each part costs on its own: the limiter, the pool, an exchange, an answer, a file.
//!
//! With divan, and not criterion: it adds 4 crates to the tree where criterion adds 20, and figures
//! are read here for proportions, not for a change of 1 % that only statistics would find. (It has had
//! no release since April 2025 and criterion has; all that is used of it is a macro, a timer and a
//! table.)
//!
//! Run with `cargo bench --bench costs`, and a part of a name after `--` for one of them. Where a line
//! has `item/s`, that is the figure: the time is of a whole batch there, over all its threads.
//!
//! Only what is public is called, so a part that is not (the bucket, `classify`, the headers) is
//! measured through the least that reaches it; two lines that differ by it alone tell what it is.

#[path = "../common/mod.rs"]
pub mod common;

mod answers;
mod exchange;
mod files;
mod limiter;
mod pool;
mod rounds;

fn main() {
    divan::main();
}

/// At how many threads whatever can be contended is measured.
const THREADS: [usize; 4] = [1, 8, 64, 1_000];

/// How many of something: all when it is measured, a few when it is only to be seen to work.
fn sized(all: usize) -> usize {
    if common::measuring() { all } else { all / 100 }
}
