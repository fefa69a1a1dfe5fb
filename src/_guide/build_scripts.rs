//! Build scripts: few dependencies, and no network on an ordinary build.
//!
//! A build script has no async runtime, and should have few dependencies:
//!
//! ```toml
//! [build-dependencies]
//! tollgate = { version = "0.1", default-features = false, features = ["rustls"] }
//! ```
//!
//! Without the default features there is no rayon. It is only needed to check large files on all
//! cores. `rustls` is needed for `https`, but not for a model server on this machine. The crate
//! installs nothing globally. When a call returns, its threads have ended, with three exceptions:
//!
//! - After [`as_completed`](crate::Client::as_completed) or [`in_order`](crate::Client::in_order)
//!   is dropped, the requests in flight finish on their threads.
//! - A look-up of a host name that timed out goes on until the system answers.
//! - A thread that reads an input stream stays until the stream gives something.
//!
//! An ordinary build must not need a key, a network or money: docs.rs and most distributions have
//! none of them. So let the script ask only when it is told to, and keep the answers in the
//! repository. This one has a prompt in each file of `prompts`:
//!
#![doc = concat!("```no_run\n", include_str!("../../tests/data/build.rs"), "```")]
//!
//! The crate takes an answer with `include_str!(concat!(env!("OUT_DIR"), "/hello.txt"))`.
//!
//! | Build | Does |
//! |---|---|
//! | `cargo build`, no answer kept | fails, and says: run once `ASK=1 cargo build` |
//! | `ASK=1 cargo build` | asks for the answers that are missing, and keeps them in `answers` |
//! | `cargo build` from then on | takes the answers that are kept; needs no network |
//! | `cargo build`, a prompt edited or added | fails as above: an answer counts only below the question that it answers |
//! | the same build again | does not run the script |
//!
//! Add `answers` to the repository, and `answers/*.new` to what it ignores. An answer is renamed
//! into place when it is whole. So a build that is ended early leaves no half of an answer. It
//! loses only answers that had not come yet. Only a build with `ASK` writes into the source tree;
//! cargo forbids that to the build scripts of published crates. For thousands of requests, [run a
//! file](super::batch_files) before the build, and let the script read the results.
//!
//! Set a deadline: cargo shows nothing while a script runs, and waits for it for ever. Build
//! scripts are usually compiled without optimization, which needs more stack; the pool's threads
//! have it.
