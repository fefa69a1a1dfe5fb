//! What an exchange needs of a connection: bytes out, bytes in, and whether it can be kept.

use std::fmt;

use super::buffers::Input;
use super::exchange::Exchange;
use super::fault::Failure;
use crate::Cancel;

/// A connection to a server, or to a proxy on the way there: TCP, or TLS on another link.
pub(super) trait Link: Send + fmt::Debug {
    /// Sends all of `bytes`. A peer that has answered without reading the request to its end gets no
    /// more of it, which is no failure: there is an answer to be read.
    fn send(&mut self, bytes: &[u8], exchange: &mut Exchange<'_>) -> Result<(), Failure>;

    /// Waits until more has arrived than [`Link::input`] holds; `false` at the end of the stream.
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Result<bool, Failure>;

    /// What has arrived and is not yet consumed.
    fn input(&mut self) -> &mut Input;

    /// Works for `cancel` from now on, whose abort shuts it down; `false` if it is shut already.
    fn work_for(&mut self, cancel: &Cancel) -> bool;

    /// The exchange is over. Whether the link, as far as can be known, will carry another.
    fn rest(&mut self) -> bool;

    /// Adds what has arrived unasked to [`Link::input`], without waiting; `false` if the link is no
    /// longer open.
    fn take_in(&mut self) -> bool;
}
