//! A TLS session on a connection: the handshake, and then what ureq sends and receives, encrypted
//! and decrypted.
//!
//! A handshake is the deepest that a connection puts on a stack, and a stack keeps what it has once
//! grown to. So each has a thread of its own, which ends with it.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Error};
use ureq::unversioned::transport::{Buffers, NextTimeout, Transport};

use super::super::buffers::LentBuffers;
use super::super::connection::without_waiting;
use super::super::context::{self, broken, fail};
use super::super::{HttpConfig, TransportErrorKind};
use super::trust::{LazyConfig, configure};
use super::words::explain;
use crate::error;

type TransportResult = Result<Box<dyn Transport>, ureq::Error>;

/// Enough for a handshake in a debug build.
const HANDSHAKE_STACK: usize = 512 * 1024;

/// What all TLS connections of a transport are made with.
#[derive(Debug)]
pub(in crate::api::transport) struct TlsConnector {
    config: LazyConfig,
    /// Whether a handshake has succeeded before.
    has_succeeded: AtomicBool,
}

impl TlsConnector {
    /// Trusts the certificates in the CA file alone, or the built-in ones.
    pub(in crate::api::transport) fn new(config: &HttpConfig) -> error::Result<Self> {
        Ok(Self {
            config: configure(config)?,
            has_succeeded: AtomicBool::new(false),
        })
    }

    /// Makes a session with `host`, a name or a bare address, on `inner`. What is left to be sent
    /// of the handshake leaves with the request.
    pub(in crate::api::transport) fn connect(
        &self,
        inner: Box<dyn Transport>,
        host: &str,
    ) -> TransportResult {
        let mut inner = Some(inner);
        let mut context = context::swap(None);
        let mut made = None;
        let mut work = || {
            context::swap(context.take());
            made = inner.take().map(|inner| self.shake_hands(inner, host));
            context = context::swap(None);
        };
        let builder = thread::Builder::new().name("tollgate-tls".into());
        let builder = builder.stack_size(HANDSHAKE_STACK);
        if thread::scope(|scope| builder.spawn_scoped(scope, &mut work).is_err()) {
            // No thread to be had: the caller's own will do.
            work();
        }
        context::swap(context);
        made.unwrap_or(Err(ureq::Error::ConnectionFailed))
    }

    fn shake_hands(&self, inner: Box<dyn Transport>, host: &str) -> TransportResult {
        let session = self.session(host);
        let mut tls = Box::new(Tls {
            inner,
            session: session.map_err(|error| no_handshake(TransportErrorKind::Tls, &error))?,
            lent: LentBuffers::default(),
            end: None,
        });
        while tls.session.is_handshaking() {
            tls.flush(NextTimeout::default())?;
            if !tls.inner.await_input(NextTimeout::default())? {
                let why = "the peer closed the connection in the TLS handshake, as it may if it \
                           speaks no TLS";
                return Err(fail(TransportErrorKind::Connect, why));
            }
            tls.decrypt();
            if let Some(Err(error)) = tls.end.clone() {
                // A courtesy to the peer, whose log should say what ours says.
                let _ = tls.transmit_output(0, NextTimeout::default());
                return Err(self.handshake_failed(&error));
            }
        }
        self.has_succeeded.store(true, Ordering::Relaxed);
        tls.flush(NextTimeout::default())?;
        Ok(tls)
    }

    fn session(&self, host: &str) -> Result<Box<ClientConnection>, Error> {
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|error| Error::General(error.to_string()))?;
        ClientConnection::new((*self.config).clone()?, name).map(Box::new)
    }

    /// What it means that the peer's part of a handshake fails. A peer that cannot show who it is,
    /// or does not take us, is never asked again. All else is a wrong URL as long as no handshake
    /// has succeeded, and after that a hiccup: of a balancer that restarts, or speaks for a server
    /// that does.
    fn handshake_failed(&self, error: &Error) -> ureq::Error {
        use TransportErrorKind::{Connect, Tls};
        let is_hiccup = self.has_succeeded.load(Ordering::Relaxed) && !is_about_identity(error);
        no_handshake(if is_hiccup { Connect } else { Tls }, error)
    }
}

/// A connection with TLS on it.
#[derive(Debug)]
struct Tls {
    inner: Box<dyn Transport>,
    session: Box<ClientConnection>,
    /// What is to be encrypted, and what has been decrypted.
    lent: LentBuffers,
    /// Why nothing more is decrypted: the peer has said that it will send no more, or an error.
    end: Option<Result<(), Error>>,
}

impl Tls {
    /// Decrypts what has arrived, as far as it is whole. What was decrypted before an error counts.
    fn decrypt(&mut self) {
        let mut arrived = self.inner.buffers().input();
        let count = arrived.len();
        let input = &mut self.lent.input;
        while !arrived.is_empty() && self.end.is_none() {
            let read = self.session.read_tls(&mut arrived);
            let read = read.map_err(|error| Error::General(error.to_string()));
            match read.and_then(|_| self.session.process_new_packets()) {
                Ok(state) => self.end = state.peer_has_closed().then_some(Ok(())),
                Err(error) => self.end = Some(Err(error)),
            }
            while let Ok(count @ 1..) = self.session.reader().read(input.room(1)) {
                input.fill(count);
            }
            if input.room(1).is_empty() {
                let why = "more has arrived than is asked for";
                self.end = Some(Err(Error::General(why.to_owned())));
            }
            input.fill(0);
        }
        self.inner.buffers().input_consume(count);
    }

    /// Has the layer beneath take what is encrypted.
    fn flush(&mut self, limit: NextTimeout) -> Result<(), ureq::Error> {
        while self.session.wants_write() {
            let mut room = self.inner.buffers().output();
            // A slice takes what fits, and it is never empty.
            let count = self.session.write_tls(&mut room).unwrap_or_default();
            self.inner.transmit_output(count, limit)?;
        }
        Ok(())
    }
}

impl Transport for Tls {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.lent
    }

    fn transmit_output(&mut self, amount: usize, limit: NextTimeout) -> Result<(), ureq::Error> {
        let output = &mut self.lent.output;
        output.fill(amount);
        let encrypted = self.session.writer().write_all(output.bytes());
        output.consume(amount);
        encrypted.map_err(broken)?;
        self.flush(limit)?;
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
            match self.end.clone() {
                None => {}
                Some(Err(error)) => return Err(no_connection(error)),
                // After the peer's `close_notify` nothing counts, the end of the connection
                // included.
                Some(Ok(())) => return Ok(false),
            }
            if !self.inner.await_input(limit)? {
                context::with(|context| context.is_cut_short = true);
                return Ok(false);
            }
            self.decrypt();
            self.flush(limit)?;
        }
        Ok(true)
    }

    fn is_open(&mut self) -> bool {
        // Asked in any case: it is also told by this that the call is over.
        let is_silent = self.inner.is_open();
        // Tickets and new keys come when they like, and are no reason to part. What there is to be
        // said to them leaves with the next request.
        let is_open = is_silent
            || matches!(
                self.await_input(without_waiting()),
                Err(ureq::Error::Timeout(_))
            );
        let is_spoiled = context::with(|context| {
            context.failure = None;
            context.is_spoiled
        });
        is_open && !is_spoiled && self.end.is_none() && self.lent.input.is_empty()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

/// What it means that the handshake fails: nothing is known of whom the peer is.
fn no_handshake(kind: TransportErrorKind, error: &Error) -> ureq::Error {
    let why = format!("the TLS handshake failed: {}", explain(error));
    fail(kind, why)
}

/// What it means that a session fails later: it is lost like any connection. A verdict on who the
/// two are belongs to the handshake, but in TLS 1.3 it is said when the client has long done with
/// that.
fn no_connection(error: Error) -> ureq::Error {
    if is_about_identity(&error) {
        no_handshake(TransportErrorKind::Tls, &error)
    } else {
        broken(error)
    }
}

/// Whether TLS failed over who the two are.
fn is_about_identity(error: &Error) -> bool {
    match error {
        Error::InvalidCertificate(_)
        | Error::InvalidCertRevocationList(_)
        | Error::NoCertificatesPresented => true,
        // The alerts about certificates, access_denied and unrecognised_name (RFC 8446, section 6).
        Error::AlertReceived(alert) => matches!(u8::from(*alert), 41..=46 | 48 | 49 | 112 | 116),
        _ => false,
    }
}
