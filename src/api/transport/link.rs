//! What an exchange needs of a connection: bytes out, bytes in, and whether it can be kept.

use std::fmt;
use std::time::{Duration, Instant};

use super::TransportStage;
use super::buffers::Input;
use super::exchange::Exchange;
use super::fault::Failure;
use super::head::Head;
use crate::Cancel;

/// How long a server that has begun a success may leave the rest of the request unread. Some answer
/// while they read; but nobody who means to read does nothing for so long.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection to a server, or to a proxy on the way there: TCP, or TLS on another link.
pub(super) trait Link: Send + fmt::Debug {
    /// Sends all of `bytes`. A peer that has answered without reading the request to its end gets no
    /// more of it, which is no failure: there is an answer to be read. One whose answer is a success may
    /// yet read the rest, and has [`PATIENCE`] for each part.
    fn send(&mut self, mut bytes: &[u8], exchange: &mut Exchange<'_>) -> Result<(), Failure> {
        let mut patience = None;
        while !bytes.is_empty() && !exchange.deaf {
            let sent = if matches!(final_status(self.input().bytes()), Some(200..300)) {
                let patience = *patience.get_or_insert_with(|| Instant::now() + PATIENCE);
                let sending = |exchange: &mut _| self.send_some(bytes, exchange);
                exchange.waiting_until(patience, sending).0
            } else {
                self.send_some(bytes, exchange)
            };
            if let Ok(count @ 1..) = sent {
                bytes = &bytes[count..];
                patience = None;
                continue;
            }
            if exchange.deaf {
                break;
            }
            // What a link that broke has left is for whoever reads next.
            if sent.is_ok() {
                // Whether it is still open, the next attempt will say.
                let _ = self.take_in();
            }
            match (sent, final_status(self.input().bytes())) {
                (Ok(_), Some(300..)) | (Err(_), Some(200..)) => {
                    exchange.deaf = true;
                    exchange.stage = TransportStage::Answering;
                }
                (Ok(_), _) => {}
                (Err(failure), _) => return Err(failure),
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

/// The status of an answer, if `bytes` begin with its head, or with interim ones and then that.
fn final_status(mut bytes: &[u8]) -> Option<u16> {
    // Nearly always: nothing is said before the request has gone out.
    if bytes.is_empty() {
        return None;
    }
    while let Ok(Some(head)) = Head::parse(bytes) {
        if !head.is_interim() {
            return Some(head.status);
        }
        bytes = &bytes[head.length..];
    }
    None
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_interim_head_is_no_answer_and_neither_is_half_of_one() {
        let interim = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
        for (bytes, status) in [
            ("HTTP/1.1 200 OK\r\n\r\nok", Some(200)),
            ("HTTP/1.0 302 Found\r\n\r\n", Some(302)),
            ("\r\n\nHTTP/1.1 413 No\r\n\r\n", Some(413)),
            (
                &format!("{interim}{interim}HTTP/1.1 503 No\r\n\r\n"),
                Some(503),
            ),
            (interim, None),
            (&format!("{interim}HTTP/1.1 200 OK\r\n"), None),
            ("HTTP/1.1 100 Continue\r\n", None),
            ("HTTP/1.1 ", None),
            ("\r\n", None),
            ("", None),
            ("SSH-2.0-OpenSSH_9.2\r\n", None),
        ] {
            assert_eq!(final_status(bytes.as_bytes()), status, "{bytes:?}");
        }
    }
}
