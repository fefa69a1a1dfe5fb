//! What an exchange needs of a connection: bytes out, bytes in, and whether it can be kept.

use std::fmt;

use super::Stage;
use super::buffers::Input;
use super::exchange::Exchange;
use super::fault::Failure;
use crate::Cancel;

/// A connection to a server, or to a proxy on the way there: TCP, or TLS on another link.
pub(super) trait Link: Send + fmt::Debug {
    /// Sends all of `bytes`. A peer that has answered without reading the request to its end gets no
    /// more of it, which is no failure: there is an answer to be read.
    fn send(&mut self, mut bytes: &[u8], exchange: &mut Exchange<'_>) -> Result<(), Failure> {
        while !bytes.is_empty() && !exchange.deaf {
            let count = self.send_some(bytes, exchange)?;
            bytes = &bytes[count..];
            // What a link that broke has left is for whoever reads next.
            if count == 0 && !exchange.deaf {
                // Whether it is still open, the next attempt will say.
                let _ = self.take_in();
                if begins_an_answer(self.input().bytes()) {
                    exchange.deaf = true;
                    exchange.stage = Stage::Answering;
                }
            }
        }
        Ok(())
    }

    /// Sends the first of `bytes` and says how many those are: none if the peer has taken nothing for
    /// a while and something has arrived meanwhile. If that is no answer, it is to be tried again with
    /// the same bytes.
    fn send_some(&mut self, bytes: &[u8], exchange: &mut Exchange<'_>) -> Result<usize, Failure>;

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

/// Whether `bytes` begin with the head of an answer, or with interim ones and then such a head.
fn begins_an_answer(mut bytes: &[u8]) -> bool {
    while let Some(status) = bytes
        .strip_prefix(b"HTTP/1.")
        .and_then(|bytes| bytes.get(2))
    {
        if *status != b'1' {
            return matches!(status, b'2'..=b'5');
        }
        let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") else {
            return false;
        };
        bytes = &bytes[end + 4..];
    }
    false
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_interim_head_is_no_answer_and_neither_is_half_of_one() {
        let interim = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
        for (bytes, answers) in [
            ("HTTP/1.1 2", true),
            ("HTTP/1.0 302 Found\r\n\r\n", true),
            (&format!("{interim}{interim}HTTP/1.1 413 No"), true),
            (interim, false),
            (&format!("{interim}HTTP/1.1 "), false),
            ("HTTP/1.1 100 Continue\r\n", false),
            ("HTTP/1.1 ", false),
            ("", false),
            ("SSH-2.0-OpenSSH_9.2\r\n", false),
        ] {
            assert_eq!(begins_an_answer(bytes.as_bytes()), answers, "{bytes:?}");
        }
    }
}
