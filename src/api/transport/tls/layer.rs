//! A TLS session on a connection: the handshake, and then what ureq sends and receives, encrypted
//! and decrypted.
//!
//! A handshake is the deepest that a connection puts on a stack, and a stack keeps what it has once
//! grown to. So each has a thread of its own, which ends with it.

use std::io::{ErrorKind, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Error};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, NextTimeout};
use ureq::unversioned::transport::{Transport, TransportAdapter};

use super::super::buffers::LentBuffers;
use super::super::connection::without_waiting;
use super::super::context;
use super::super::error::{bare_host, fail};
use super::super::{HttpConfig, TransportErrorKind};
use super::trust::{LazyConfig, configure};
use super::words::failed;
use crate::error;
use crate::opaque::opaque;

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

    /// Makes a session on `inner` with the host that is meant. What is left to be sent of the
    /// handshake leaves with the request.
    pub(in crate::api::transport) fn connect(
        &self,
        inner: Box<dyn Transport>,
        details: &ConnectionDetails<'_>,
    ) -> TransportResult {
        let (mut inner, mut context) = (Some(inner), context::swap(None));
        let mut made = Err(ureq::Error::ConnectionFailed);
        let mut work = || {
            if let Some(inner) = inner.take() {
                context::swap(context.take());
                made = self.shake_hands(inner, details);
                context = context::swap(None);
            }
        };
        let builder = thread::Builder::new().name("tollgate-tls".into());
        let builder = builder.stack_size(HANDSHAKE_STACK);
        if thread::scope(|scope| builder.spawn_scoped(scope, &mut work).is_err()) {
            // No thread to be had: the caller's own will do.
            work();
        }
        context::swap(context);
        made
    }

    fn shake_hands(
        &self,
        inner: Box<dyn Transport>,
        details: &ConnectionDetails<'_>,
    ) -> TransportResult {
        use TransportErrorKind::{Connect, Tls};
        // Until one has succeeded, what fails is a wrong URL. After that it is a hiccup: of a
        // balancer that restarts, or speaks for a server that does.
        let has_succeeded = self.has_succeeded.load(Ordering::Relaxed);
        let kind = Some(if has_succeeded { Connect } else { Tls });
        let name = ServerName::try_from(bare_host(details.uri).to_owned());
        let name = name.map_err(|error| Error::General(error.to_string()));
        let session = name.and_then(|name| ClientConnection::new((*self.config).clone()?, name));
        let mut session = Box::new(session.map_err(|error| failed(error, kind))?);
        let mut inner = TransportAdapter::new(inner, details.current_time.clone());
        let ended = match session.complete_io(&mut inner) {
            Ok(_) if session.is_handshaking() => Err(ErrorKind::UnexpectedEof.into()),
            ended => ended,
        };
        if let Err(error) = ended {
            // A courtesy to the peer, whose log should say what ours says.
            while session.wants_write() && session.write_tls(&mut inner).is_ok() {}
            let _ = inner.get_mut().transmit_output(0, NextTimeout::default());
            return Err(match error.downcast() {
                Ok(error) => failed(error, kind),
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    let why = "the peer closed the connection in the TLS handshake, as it may if it \
                               speaks no TLS";
                    fail(Connect, why)
                }
                Err(error) => error.into(),
            });
        }
        self.has_succeeded.store(true, Ordering::Relaxed);
        let lent = LentBuffers::default();
        Ok(Box::new(TlsSession {
            inner,
            session,
            lent,
        }))
    }
}

/// A connection with TLS on it.
struct TlsSession {
    inner: TransportAdapter,
    session: Box<ClientConnection>,
    /// What is to be encrypted, and what has been decrypted.
    lent: LentBuffers,
}

impl TlsSession {
    /// Has the layer beneath take what is encrypted. Not by way of the adapter: what that cannot
    /// send at once it would be given again.
    fn flush(&mut self, limit: NextTimeout) -> Result<(), ureq::Error> {
        let inner = self.inner.get_mut();
        while self.session.wants_write() {
            let mut room = inner.buffers().output();
            // A slice takes what fits, and it is never empty.
            let count = self.session.write_tls(&mut room)?;
            inner.transmit_output(count, limit)?;
        }
        Ok(())
    }
}

impl Transport for TlsSession {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.lent
    }

    fn transmit_output(&mut self, amount: usize, limit: NextTimeout) -> Result<(), ureq::Error> {
        let output = &mut self.lent.output;
        output.fill(amount);
        let encrypted = self.session.writer().write_all(output.bytes());
        output.consume(amount);
        encrypted?;
        self.flush(limit)?;
        if amount == 0 {
            self.inner.get_mut().transmit_output(0, limit)?;
        }
        Ok(())
    }

    fn await_input(&mut self, limit: NextTimeout) -> Result<bool, ureq::Error> {
        self.inner.set_timeout(limit);
        loop {
            let processed = self.session.process_new_packets();
            let room = self.lent.input.room(1);
            let read = self.session.reader().read(room);
            self.lent.input.fill(*read.as_ref().unwrap_or(&0));
            match (read, processed) {
                // What was decrypted before an error counts. The error comes again.
                (Ok(1..), _) => return Ok(true),
                (_, Err(error)) => return Err(failed(error, None)),
                // After the peer's `close_notify` nothing counts, the end of the connection
                // included.
                (Ok(0), Ok(_)) => return Ok(false),
                (Err(error), Ok(_)) if error.kind() == ErrorKind::UnexpectedEof => {
                    context::with(|context| context.is_cut_short |= !limit.after.is_zero());
                    return Ok(false);
                }
                // A record may hold a message of the protocol's own, and no byte of the answer.
                (Err(_), Ok(_)) => {}
            }
            self.flush(limit)?;
            self.session.read_tls(&mut self.inner)?;
        }
    }

    fn is_open(&mut self) -> bool {
        // By this it is told that the call is over. What it answers does not count: tickets and new
        // keys come when they like. What there is to be said to them leaves with the next request.
        self.inner.get_mut().is_open();
        let waits = self.await_input(without_waiting());
        matches!(waits, Err(ureq::Error::Timeout(_))) && self.lent.input.is_empty()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

opaque!(TlsSession, "TlsSession", |_it|);
