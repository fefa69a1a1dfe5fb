//! A TLS session on a connection: the handshake, and then what ureq sends and receives, encrypted and
//! decrypted.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, Error};
use ureq::unversioned::transport::{Buffers, NextTimeout, Transport};

use super::super::TransportErrorKind;
use super::super::buffers::{BufferPool, Input, LentBuffers, Output};
use super::super::context::{self, Sent, fail};
use super::super::error::Failure;
use super::super::layer::{self, Layer, UNLIMITED};
use super::session::Session;
use super::trust::Trust;
use crate::error;

/// What all TLS connections of a transport are made with.
#[derive(Debug)]
pub(in crate::api::transport) struct TlsConnector {
    trust: Trust,
    /// Whether a handshake has succeeded before.
    has_succeeded: AtomicBool,
}

impl TlsConnector {
    /// Trusts the certificates in `ca_file` alone, or the built-in ones.
    pub(in crate::api::transport) fn new(ca_file: Option<&Path>) -> error::Result<Self> {
        Ok(Self {
            trust: Trust::new(ca_file)?,
            has_succeeded: AtomicBool::new(false),
        })
    }

    /// Makes a session with `host`, a name or a bare address, on `inner`. What is left to be sent of
    /// the handshake leaves with the request.
    pub(in crate::api::transport) fn connect(
        &self,
        inner: Box<dyn Transport>,
        host: &str,
        buffers: &Arc<BufferPool>,
    ) -> Result<Box<dyn Transport>, ureq::Error> {
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|error| fail(no_handshake(Error::General(error.to_string()))))?;
        let config = self.trust.config();
        let config = config.map_err(|error| fail(no_handshake(error)))?;
        let session = Session::new(config, name, Output::new(Arc::clone(buffers)));
        let mut tls = Tls {
            inner,
            session: session.map_err(|error| fail(no_handshake(error)))?,
            records: Input::new(Arc::clone(buffers)),
            lent: LentBuffers::new(buffers),
            is_blocked: false,
        };
        loop {
            match tls.open() {
                Ok(true) => {
                    self.has_succeeded.store(true, Ordering::Relaxed);
                    return Ok(Box::new(tls));
                }
                Ok(false) => tls.deliver()?,
                Err(error) => {
                    tls.session.seal_alert();
                    // A courtesy to the peer, whose log should say what ours says.
                    let _ = tls.deliver();
                    return Err(fail(self.refused(error)));
                }
            };
            if !context::beneath(|| tls.inner.await_input(UNLIMITED))? {
                let why = "the peer closed the connection while it was being made";
                return Err(fail(Failure::new(TransportErrorKind::Connect, why)));
            }
        }
    }

    /// What it means that the peer's part of a handshake fails. A peer that cannot show who it is, or
    /// does not take us, is never asked again. All else is a wrong URL as long as no handshake has
    /// succeeded, and after that a hiccup: of a balancer that restarts, or speaks for a server that does.
    fn refused(&self, error: Error) -> Failure {
        let is_hiccup = self.has_succeeded.load(Ordering::Relaxed) && !is_about_identity(&error);
        let mut failure = no_handshake(error);
        if is_hiccup {
            failure.kind = TransportErrorKind::Connect;
        }
        failure
    }
}

/// A connection with TLS on it.
struct Tls {
    inner: Box<dyn Transport>,
    session: Session,
    /// What has arrived and is not a whole record yet.
    records: Input,
    /// What is to be encrypted, and what has been decrypted.
    lent: LentBuffers,
    /// Whether the layer beneath has not yet sent all that it was given.
    is_blocked: bool,
}

impl Tls {
    /// Decrypts what has arrived, as far as it is whole. Whether the handshake is over.
    fn open(&mut self) -> Result<bool, Error> {
        let arrived = self.inner.buffers().input();
        let count = arrived.len();
        if count > 0 {
            if !self.records.append(arrived) {
                return Err(Error::General("a record of TLS is too long".to_owned()));
            }
            self.inner.buffers().input_consume(count);
        }
        self.session.open(&mut self.records, &mut self.lent.input)
    }

    /// Sends what is encrypted.
    fn deliver(&mut self) -> Result<Sent, ureq::Error> {
        loop {
            let sealed = self.session.sealed.bytes();
            if sealed.is_empty() && !self.is_blocked {
                return Ok(Sent::Some);
            }
            let room = self.inner.buffers().output();
            let count = room.len().min(sealed.len());
            room[..count].copy_from_slice(&sealed[..count]);
            self.session.sealed.consume(count);
            let sent = context::beneath(|| self.inner.transmit_output(count, UNLIMITED));
            self.is_blocked = false;
            if let Err(error) = sent {
                let blocked = context::with(|context| context.take_blocked()).ok_or(error)?;
                self.is_blocked = true;
                return Ok(blocked);
            }
        }
    }
}

impl Layer for Tls {
    fn lent(&mut self) -> &mut LentBuffers {
        &mut self.lent
    }

    fn has_unsent(&self) -> bool {
        !self.lent.output.is_empty() || !self.session.sealed.is_empty() || self.is_blocked
    }

    fn send_some(&mut self) -> Result<Sent, ureq::Error> {
        // A record of which a part has gone must go whole, whatever else is done in between.
        if self.session.sealed.is_empty() && !self.is_blocked {
            let plain = self.lent.output.bytes();
            let sealed = self.session.seal(&mut self.records, plain);
            self.lent.output.consume(sealed.map_err(no_connection)?);
        }
        self.deliver()
    }

    fn receive_some(&mut self, limit: NextTimeout) -> Result<bool, ureq::Error> {
        let before = self.lent.input.bytes().len();
        // A record may hold a message of the protocol's own, and no byte of the answer.
        while self.lent.input.bytes().len() == before {
            // By now, whatever was decrypted before it has been given out.
            if let Some(failure) = self.session.failure() {
                return Err(no_connection(failure.clone()));
            }
            // After the peer's `close_notify` nothing counts, the end of the connection included.
            if self.session.is_over() {
                return Ok(false);
            }
            if !context::beneath(|| self.inner.await_input(limit))? {
                context::with(|context| context.is_cut_short = true);
                return Ok(false);
            }
            // Not behind a request that is stuck: then what arrives is what matters.
            if self.open().is_ok() && !self.is_blocked {
                self.deliver()?;
            }
        }
        Ok(true)
    }
}

impl Transport for Tls {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.lent
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        layer::transmit(self, amount)
    }

    fn await_input(&mut self, limit: NextTimeout) -> Result<bool, ureq::Error> {
        layer::receive(self, limit)
    }

    fn is_open(&mut self) -> bool {
        // Asked in any case: it is also told by this that the call is over.
        let is_silent = self.inner.is_open();
        if context::with(|context| context.is_spoiled) {
            return false;
        }
        // Tickets and new keys come when they like, and are no reason to part. What there is to be
        // said to them leaves with the next request.
        let is_open = is_silent || layer::take_in(self);
        context::with(|context| context.failure = None);
        let has_ended = self.session.is_over() || self.session.failure().is_some();
        is_open && !has_ended && self.lent.is_empty()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

/// What it means that the handshake fails: nothing is known of whom the peer is.
fn no_handshake(error: Error) -> Failure {
    let message = format!("the TLS handshake failed: {error}");
    Failure::new(TransportErrorKind::Tls, message).because(error)
}

/// What it means that a session fails later: it is lost like any connection. A verdict on who the two
/// are belongs to the handshake, but in TLS 1.3 it is said when the client has long done with that.
fn no_connection(error: Error) -> ureq::Error {
    let failure = if is_about_identity(&error) {
        no_handshake(error)
    } else {
        context::with(|context| context.broken(error))
    };
    fail(failure)
}

/// Whether TLS failed over who the two are.
fn is_about_identity(error: &Error) -> bool {
    use AlertDescription as Alert;
    matches!(
        error,
        Error::InvalidCertificate(_)
            | Error::InvalidCertRevocationList(_)
            | Error::NoCertificatesPresented
            | Error::AlertReceived(
                Alert::NoCertificate
                    | Alert::BadCertificate
                    | Alert::UnsupportedCertificate
                    | Alert::CertificateRevoked
                    | Alert::CertificateExpired
                    | Alert::CertificateUnknown
                    | Alert::UnknownCA
                    | Alert::AccessDenied
                    | Alert::UnrecognisedName
                    | Alert::CertificateRequired
            )
    )
}
