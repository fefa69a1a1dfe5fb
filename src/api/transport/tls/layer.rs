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
use super::super::buffers::{BufferPool, Lent, LentBuffers};
use super::super::connection::{AT_ONCE, UNLIMITED};
use super::super::context::{self, broken, fail, fail_for};
use super::session::{FRAGMENT, Session};
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
        let session = self.session(host).map_err(no_handshake)?;
        let mut tls = Tls {
            inner,
            session,
            records: Lent::new(buffers),
            lent: LentBuffers::new(buffers),
        };
        loop {
            let (written, is_ready) = tls.open();
            // After an error a courtesy to the peer, whose log should say what ours says.
            let sent = tls.inner.transmit_output(written, UNLIMITED);
            let is_ready = is_ready.map_err(|error| {
                let _ = tls.inner.transmit_output(0, UNLIMITED);
                self.refused(error)
            })?;
            sent?;
            if is_ready {
                self.has_succeeded.store(true, Ordering::Relaxed);
                return Ok(Box::new(tls));
            }
            if !tls.inner.await_input(UNLIMITED)? {
                let why = "the peer closed the connection while it was being made";
                return Err(fail(TransportErrorKind::Connect, why));
            }
        }
    }

    fn session(&self, host: &str) -> Result<Session, Error> {
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|error| Error::General(error.to_string()))?;
        Session::new(self.trust.config()?, name)
    }

    /// What it means that the peer's part of a handshake fails. A peer that cannot show who it is, or
    /// does not take us, is never asked again. All else is a wrong URL as long as no handshake has
    /// succeeded, and after that a hiccup: of a balancer that restarts, or speaks for a server that does.
    fn refused(&self, error: Error) -> ureq::Error {
        if self.has_succeeded.load(Ordering::Relaxed) && !is_about_identity(&error) {
            let why = format!("the TLS handshake failed: {error}");
            return fail_for(TransportErrorKind::Connect, why, error);
        }
        no_handshake(error)
    }
}

/// A connection with TLS on it.
struct Tls {
    inner: Box<dyn Transport>,
    session: Session,
    /// What has arrived and is not a whole record yet.
    records: Lent,
    /// What is to be encrypted, and what has been decrypted.
    lent: LentBuffers,
}

impl Tls {
    /// Decrypts what has arrived, as far as it is whole. How much there is to be sent for that; and
    /// whether the handshake is over.
    fn open(&mut self) -> (usize, Result<bool, Error>) {
        let arrived = self.inner.buffers().input();
        // There is room: what is not whole is less than a record.
        let _ = self.records.push(arrived);
        let count = arrived.len();
        self.inner.buffers().input_consume(count);
        let out = self.inner.buffers().output();
        self.session
            .open(&mut self.records, &mut self.lent.input, out)
    }
}

impl Transport for Tls {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.lent
    }

    fn transmit_output(&mut self, amount: usize, limit: NextTimeout) -> Result<(), ureq::Error> {
        self.lent.output.fill(amount);
        while !self.lent.output.is_empty() {
            let plain = self.lent.output.bytes();
            let plain = &plain[..plain.len().min(FRAGMENT)];
            let out = self.inner.buffers().output();
            let sealed = self.session.seal(&mut self.records, plain, out);
            let count = plain.len();
            self.lent.output.consume(count);
            self.inner
                .transmit_output(sealed.map_err(no_connection)?, limit)?;
        }
        if amount == 0 {
            self.inner.transmit_output(0, limit)?;
        }
        Ok(())
    }

    fn await_input(&mut self, limit: NextTimeout) -> Result<bool, ureq::Error> {
        let before = self.lent.input.bytes().len();
        // A record may hold a message of the protocol's own, and no byte of the answer.
        while self.lent.input.bytes().len() == before {
            // By now, whatever was decrypted before it has been given out.
            if let Some(failure) = &self.session.failure {
                return Err(no_connection(failure.clone()));
            }
            // After the peer's `close_notify` nothing counts, the end of the connection included.
            if self.session.is_over {
                return Ok(false);
            }
            if !self.inner.await_input(limit)? {
                context::with(|context| context.is_cut_short = true);
                return Ok(false);
            }
            let (written, _) = self.open();
            if written > 0 {
                self.inner.transmit_output(written, limit)?;
            }
        }
        Ok(true)
    }

    fn is_open(&mut self) -> bool {
        // Asked in any case: it is also told by this that the call is over.
        let is_silent = self.inner.is_open();
        // Tickets and new keys come when they like, and are no reason to part. What there is to be
        // said to them leaves with the next request.
        let is_open =
            is_silent || matches!(self.await_input(AT_ONCE), Err(ureq::Error::Timeout(_)));
        let is_spoiled = context::with(|context| {
            context.failure = None;
            context.is_spoiled
        });
        let has_ended = self.session.is_over || self.session.failure.is_some();
        is_open && !is_spoiled && !has_ended && self.lent.input.is_empty()
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
fn no_handshake(error: Error) -> ureq::Error {
    let why = format!("the TLS handshake failed: {error}");
    fail_for(TransportErrorKind::Tls, why, error)
}

/// What it means that a session fails later: it is lost like any connection. A verdict on who the two
/// are belongs to the handshake, but in TLS 1.3 it is said when the client has long done with that.
fn no_connection(error: Error) -> ureq::Error {
    if is_about_identity(&error) {
        no_handshake(error)
    } else {
        broken(error)
    }
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
