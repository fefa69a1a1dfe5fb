//! A TLS session on a link: what an exchange sends and receives, sealed and opened.

use std::fmt;
use std::mem;

use rustls::{AlertDescription, Error};

use super::super::TransportErrorKind;
use super::super::buffers::Input;
use super::super::exchange::Exchange;
use super::super::fault::Failure;
use super::super::link::Link;
use super::session::Session;
use crate::Cancel;

/// A connection with TLS on it.
pub(super) struct Tls {
    pub(super) inner: Box<dyn Link>,
    pub(super) session: Session,
    plain: Input,
    /// The length of what has been sealed and not yet sent whole.
    under_way: usize,
}

impl Tls {
    pub(super) fn new(inner: Box<dyn Link>, session: Session, plain: Input) -> Self {
        Self {
            inner,
            session,
            plain,
            under_way: 0,
        }
    }

    /// Opens what has arrived, as far as it is whole. Whether the handshake is over.
    pub(super) fn open(&mut self) -> Result<bool, Error> {
        self.session.open(self.inner.input(), &mut self.plain)
    }

    /// Sends what is sealed.
    pub(super) fn flush(&mut self, exchange: &mut Exchange<'_>) -> Result<(), Failure> {
        self.inner.send(self.session.sealed.bytes(), exchange)?;
        self.session.sealed.clear();
        Ok(())
    }
}

impl Link for Tls {
    fn send_some(&mut self, bytes: &[u8], exchange: &mut Exchange<'_>) -> Result<usize, Failure> {
        // A record of which a part has gone must go whole, whatever else is done in between.
        if self.under_way == 0 {
            let sealed = self.session.seal(self.inner.input(), bytes);
            self.under_way = sealed.map_err(|error| no_connection(error, exchange))?;
        }
        while !self.session.sealed.bytes().is_empty() {
            match self
                .inner
                .send_some(self.session.sealed.bytes(), exchange)?
            {
                0 => return Ok(0),
                count => self.session.sealed.consume(count),
            }
        }
        Ok(mem::take(&mut self.under_way))
    }

    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Result<bool, Failure> {
        let before = self.plain.bytes().len();
        // A record may hold a message of the protocol's own, and no byte of the answer.
        while self.plain.bytes().len() == before {
            // By now, whatever was opened before it has been given out.
            if let Some(failure) = self.session.failure() {
                return Err(no_connection(failure.clone(), exchange));
            }
            // After the peer's farewell nothing counts, the end of the connection included.
            if self.session.is_over() {
                return Ok(false);
            }
            if !self.inner.receive(exchange)? {
                exchange.cut_short = true;
                return Ok(false);
            }
            if self.open().is_ok() {
                self.flush(exchange)?;
            }
        }
        Ok(true)
    }

    fn input(&mut self) -> &mut Input {
        &mut self.plain
    }

    fn work_for(&mut self, cancel: &Cancel) -> bool {
        self.inner.work_for(cancel)
    }

    fn rest(&mut self) -> bool {
        // Asked in any case: it is also told by this that the exchange is over.
        self.inner.rest() && !self.session.is_over()
    }

    fn take_in(&mut self) -> bool {
        let is_open = self.inner.take_in();
        // Tickets and new keys come when they like, and are no reason to part. What there is to be
        // said to them leaves with the next request.
        let opened = self.open();
        is_open && opened.is_ok() && !self.session.is_over()
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
pub(super) fn no_handshake(error: Error) -> Failure {
    Failure::new(
        TransportErrorKind::Tls,
        format!("the TLS handshake failed: {error}"),
    )
    .because(error)
}

/// What it means that a session fails later: it is lost like any connection. A verdict on who the two
/// are belongs to the handshake, but in TLS 1.3 it is said when the client has long done with that.
fn no_connection(error: Error, exchange: &Exchange<'_>) -> Failure {
    if is_about_identity(&error) {
        no_handshake(error)
    } else {
        exchange.broken(error)
    }
}

/// Whether TLS failed over who the two are.
pub(super) fn is_about_identity(error: &Error) -> bool {
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
