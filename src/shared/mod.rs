//! A shared limit: rates that many processes keep to together, leased in small parts from a store.
//!
//! [`exchange`] has what a process asks a store and what the store answers. [`ledger`] is the
//! account that a store keeps, and answers an ask. [`file`] is the store in a file, with
//! [`record`] as its bytes. `redis` asks a server, where a script keeps the same account. [`home`]
//! reads the URL that names a store, and [`status`] is what a user is told of it.

mod exchange;
mod file;
mod home;
mod ledger;
mod ledger_trial;
mod record;
mod record_trial;
#[cfg(feature = "redis")]
mod redis;
mod status;

#[cfg(test)]
pub(crate) use exchange::Want;
pub(crate) use exchange::{Ask, Limit, Micros, Reply, Span, Store};
pub use home::Shared;
#[cfg(test)]
pub(crate) use ledger::Ledger;
pub use status::SharedStatus;
