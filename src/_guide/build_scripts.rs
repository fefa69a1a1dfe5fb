//! Build scripts: few dependencies, and no network on an ordinary build.
//!
//! A build script has no async runtime, and should have few dependencies:
//!
//! ```toml
//! [build-dependencies]
//! tollgate = { version = "0.1", default-features = false, features = ["rustls"] }
//! ```
//!
//! Without the default features there is no rayon; it is only needed to check large files on all
//! cores. `rustls` is needed for `https`, but not for a model server on this machine. The crate
//! installs nothing globally, and a call leaves no thread behind when it returns, with three
//! exceptions: after [`as_completed`](crate::Client::as_completed) or
//! [`in_order`](crate::Client::in_order) is dropped, the requests in flight finish on their threads;
//! a look-up of a host name that timed out goes on until the system answers; and a thread that reads
//! an input stream stays until the stream gives something.
//!
//! An ordinary build must not need a key, a network or money: docs.rs and most distributions have
//! none of them. So let the script ask only when it is told to, and keep the answers in the
//! repository:
//!
//! ```no_run
//! // build.rs
//! use std::time::Duration;
//! use std::{env, error::Error, fs, path::Path};
//!
//! fn main() -> Result<(), Box<dyn Error>> {
//!     println!("cargo::rerun-if-changed=prompts");
//!     println!("cargo::rerun-if-env-changed=ASK");
//!     if env::var_os("ASK").is_some() {
//!         let client = tollgate::Client::from_env()?.with_deadline(Duration::from_secs(300));
//!         let summary = client
//!             .jsonl("prompts/in.jsonl", "prompts/out.jsonl")
//!             .on_progress(|now| eprintln!("{} answered", now.succeeded))
//!             .run()?;
//!         if summary.not_attempted > 0 || summary.progress.failed > 0 {
//!             println!("cargo::warning=some prompts have no answer; build again to go on");
//!         }
//!     }
//!     let answers = Path::new(&env::var("OUT_DIR")?).join("answers.jsonl");
//!     fs::copy("prompts/out.jsonl", answers)?;
//!     Ok(())
//! }
//! ```
//!
//! The results file is the cache. A build with `ASK` set sends only the rows that have no answer
//! yet. A row whose request has changed under the same id is refused, and its line is named, so no
//! stale answer is built in. Only a build with `ASK` writes into the source tree; cargo forbids that
//! to the build scripts of published crates.
//!
//! Set a deadline: cargo shows nothing while a script runs, and waits for it for ever. Build scripts
//! are usually compiled without optimization, which needs more stack; the pool's threads have it.
