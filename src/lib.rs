//! tollgate

mod api;
mod cancel;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
mod clock;
mod error;
mod escape;
mod jsonl;
mod limit;
mod pool;
mod retry;
#[cfg(feature = "sim")]
pub mod sim;
mod sync;

pub use api::{
    Answer, ApiKey, Call, Chat, Client, ClientBuilder, Completion, Completions, Fault, Headers,
    HttpConfig, HttpTransport, MemoryTransport, Provider, ProxyPolicy, Reply, Request, Stage,
    Transport, TransportError, Usage,
};
pub use cancel::Cancel;
pub use clock::{Clock, VirtualClock};
pub use error::{Error, ErrorKind, Result};
pub use jsonl::{FileProgress, FileRun, Summary};
pub use limit::{Cost, Limiter, LimiterBuilder, Permit, Rate, Refusal, Waited};
pub use pool::{Completed, Done, Failure, Monitor, Panicked, Pool, Progress};
pub use retry::{Backoff, Retry, Verdict};
