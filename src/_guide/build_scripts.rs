//! Build scripts: few dependencies, and no network on an ordinary build.
//!
//! A build script has no runtime to borrow, and should have no more dependencies than it must:
//!
//! ```toml
//! [build-dependencies]
//! tollgate = { version = "0.1", default-features = false, features = ["rustls"] }
//! ```
//!
//! Without the default features there is no rayon, which checks large files on all cores and
//! nothing else. `rustls` is for `https`; a model server on this machine does without. The crate
//! installs nothing globally, and a call that has returned has left no thread behind. There are
//! three that may outlast their call: those of a dropped
//! [`as_completed`](crate::Client::as_completed), until what was in flight has ended; the look-up
//! of a host name that nobody waits for any more; and the reader of a stream that gives nothing.
//!
//! An ordinary build must not need a key, a network or somebody's money: on docs.rs and in most
//! distributions there is none. So ask when you are told to, and keep the answers in the
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
//! yet; a row whose request has changed under the same id is refused with its line number, so that
//! no stale answer is built in. Writing into the source tree is for that one case; it is what cargo
//! otherwise forbids to a published crate.
//!
//! Set a deadline: cargo shows nothing while a script runs, and waits for ever. A build script is
//! compiled without optimization as a rule, and the pool's threads have stacks for that.
