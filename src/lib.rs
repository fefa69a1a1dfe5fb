//! tollgate

mod api;
mod cancel;
mod clock;
mod error;
mod limit;
mod retry;
#[cfg(feature = "sim")]
pub mod sim;
mod sync;

pub use api::headers::Headers;
pub use api::transport::{Answer, Call, Fault, Stage, Transport, TransportError};
pub use cancel::Cancel;
pub use clock::{Clock, VirtualClock};
pub use error::{Error, ErrorKind, Result};
pub use limit::{Cost, Rate};
pub use retry::Verdict;
