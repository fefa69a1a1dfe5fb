//! One TLS session without a socket: records in and out of borrowed buffers.
//!
//! rustls' unbuffered interface keeps nothing between calls but keys and the state of the handshake.
//! What has arrived stands in `records` until it is whole, what is to be sent stands there sealed;
//! between an answer and the next request both are empty and given back.

use std::fmt;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{ClientConfig, Error};
use ureq::unversioned::transport::Buffers;

use super::super::buffers::PooledBuffers;

/// The most bytes a record holds (RFC 8446, section 5.1).
const FRAGMENT: usize = 16 * 1024;

/// The client's end of a TLS session.
pub(super) struct Session {
    /// Behind a pointer, so that a plain connection does not carry the room for it.
    tls: Box<UnbufferedClientConnection>,
    /// Input: what has arrived and is not yet opened. Output held: what is sealed and not yet sent.
    pub(super) records: PooledBuffers,
    is_over: bool,
}

impl Session {
    pub(super) fn new(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        records: PooledBuffers,
    ) -> Result<Self, Error> {
        Ok(Self {
            tls: Box::new(UnbufferedClientConnection::new(config, name)?),
            records,
            is_over: false,
        })
    }

    /// Opens what has arrived into `plain`, as far as the records are whole, and seals what the
    /// protocol has to say for itself. Whether the handshake is over.
    pub(super) fn open(&mut self, plain: &mut PooledBuffers) -> Result<bool, Error> {
        loop {
            let UnbufferedStatus { mut discard, state } =
                self.tls.process_tls_records(self.records.input_mut());
            let stands = match state? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        if !plain.append_input(record.payload) {
                            return Err(general("more has arrived than is asked for"));
                        }
                    }
                    None
                }
                ConnectionState::EncodeTlsData(mut message) => {
                    let sealed = match message.encode(self.records.output()) {
                        Err(EncodeError::InsufficientSize(wants)) => {
                            message.encode(self.records.output_of(wants.required_size))
                        }
                        encoded => encoded,
                    };
                    self.records.hold(sealed.map_err(general)?);
                    None
                }
                // Whoever asked for this sends what is sealed before anything else.
                ConnectionState::TransmitTlsData(sealed) => {
                    sealed.done();
                    None
                }
                ConnectionState::PeerClosed => {
                    self.is_over = true;
                    None
                }
                ConnectionState::BlockedHandshake => Some(false),
                ConnectionState::WriteTraffic(_) | ConnectionState::Closed => Some(true),
                state => return Err(general(format!("a client cannot be in {state:?}"))),
            };
            self.records.input_consume(discard);
            if let Some(stands) = stands {
                return Ok(stands);
            }
        }
    }

    /// Seals the first of `plaintext`, one record's worth, and says how much that was. For after the
    /// handshake, when everything whole has been opened.
    pub(super) fn seal(&mut self, plaintext: &[u8]) -> Result<usize, Error> {
        let fragment = &plaintext[..plaintext.len().min(FRAGMENT)];
        let status = self.tls.process_tls_records(self.records.input_mut());
        let ConnectionState::WriteTraffic(mut traffic) = status.state? else {
            return Err(general("nothing can be sent now"));
        };
        let sealed = match traffic.encrypt(fragment, self.records.output()) {
            Err(EncryptError::InsufficientSize(wants)) => {
                traffic.encrypt(fragment, self.records.output_of(wants.required_size))
            }
            encrypted => encrypted,
        };
        self.records.hold(sealed.map_err(general)?);
        Ok(fragment.len())
    }

    /// After an error: seals the alert that tells the peer why, if there is one to be sent.
    pub(super) fn seal_alert(&mut self) {
        // It comes before anything that has arrived is looked at.
        let status = self.tls.process_tls_records(&mut []);
        if let Ok(ConnectionState::EncodeTlsData(mut alert)) = status.state
            && let Ok(sealed) = alert.encode(self.records.output())
        {
            self.records.hold(sealed);
        }
    }

    /// Whether the peer has said that it will send no more.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }
}

fn general(why: impl ToString) -> Error {
    Error::General(why.to_string())
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("is_over", &self.is_over)
            .finish_non_exhaustive()
    }
}
