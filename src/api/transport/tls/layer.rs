//! A TLS session on a link: what an exchange sends and receives, sealed and opened.

use std::fmt;
use std::sync::Arc;
use std::thread;

use rustls::AlertDescription;
use rustls::pki_types::ServerName;

use super::super::Fault;
use super::super::buffers::{BufferPool, Input, Output};
use super::super::exchange::Exchange;
use super::super::fault::Failure;
use super::super::link::Link;
use super::session::Session;
use super::trust::Trust;
use crate::Cancel;

/// Room for the deepest handshake many times over; what is not touched costs nothing.
const HANDSHAKE_STACK: usize = 512 * 1024;

/// Makes a session with `host`, a name or a bare address, on `inner`.
pub(in crate::api::transport) fn shake_hands(
    mut inner: Box<dyn Link>,
    host: &str,
    trust: &Trust,
    buffers: &Arc<BufferPool>,
    exchange: &mut Exchange<'_>,
) -> Result<Box<dyn Link>, Failure> {
    let (session, plain) = on_a_stack_of_its_own(|| {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| no_handshake(rustls::Error::General(error.to_string())))?;
        let sealed = Output::new(Arc::clone(buffers));
        let mut session = trust
            .config()
            .and_then(|config| Session::new(config, name, sealed))
            .map_err(no_handshake)?;
        let mut plain = Input::new(Arc::clone(buffers));
        establish(&mut session, &mut *inner, &mut plain, exchange)?;
        Ok((session, plain))
    })?;
    Ok(Box::new(Tls {
        inner,
        session,
        plain,
    }))
}

/// The handshake itself; what is left to be sent of it leaves with the request.
fn establish(
    session: &mut Session,
    inner: &mut dyn Link,
    plain: &mut Input,
    exchange: &mut Exchange<'_>,
) -> Result<(), Failure> {
    loop {
        match session.open(inner.input(), plain) {
            Ok(true) => return Ok(()),
            Ok(false) => flush(session, inner, exchange)?,
            Err(error) => {
                session.seal_alert();
                // A courtesy to the peer, whose log should say what ours says.
                let _ = flush(session, inner, exchange);
                return Err(no_handshake(error));
            }
        }
        if !inner.receive(exchange)? {
            return Err(Failure::new(
                Fault::Connect,
                "the peer closed the connection while it was being made",
            ));
        }
    }
}

/// Sends what is sealed.
fn flush(
    session: &mut Session,
    inner: &mut dyn Link,
    exchange: &mut Exchange<'_>,
) -> Result<(), Failure> {
    inner.send(session.sealed.bytes(), exchange)?;
    session.sealed.clear();
    Ok(())
}

/// A handshake's frames are by far the deepest of all, and what a thread's stack has once touched it
/// keeps. So they are put on the stack of a thread that ends with them.
fn on_a_stack_of_its_own<T: Send>(mut job: impl FnMut() -> T + Send) -> T {
    let done = thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("tollgate-tls".into())
            .stack_size(HANDSHAKE_STACK)
            .spawn_scoped(scope, &mut job);
        thread.map(thread::ScopedJoinHandle::join)
    });
    match done {
        Ok(Ok(done)) => done,
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        // No thread to be had: the caller's own will do.
        Err(_) => job(),
    }
}

/// A connection with TLS on it.
pub(in crate::api::transport) struct Tls {
    inner: Box<dyn Link>,
    session: Session,
    plain: Input,
}

impl Link for Tls {
    fn send(&mut self, mut bytes: &[u8], exchange: &mut Exchange<'_>) -> Result<(), Failure> {
        while !bytes.is_empty() {
            let sealed = self.session.seal(self.inner.input(), bytes);
            bytes = &bytes[sealed.map_err(|error| no_connection(error, exchange))?..];
            flush(&mut self.session, &mut *self.inner, exchange)?;
        }
        Ok(())
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
            let opened = self.session.open(self.inner.input(), &mut self.plain);
            if opened.is_ok() {
                flush(&mut self.session, &mut *self.inner, exchange)?;
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
        let opened = self.session.open(self.inner.input(), &mut self.plain);
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

fn no_handshake(error: rustls::Error) -> Failure {
    Failure::new(Fault::Tls, format!("the TLS handshake failed: {error}")).because(error)
}

/// What it means that a session fails once the handshake is over: nothing about whom the peer is.
fn no_connection(error: rustls::Error, exchange: &Exchange<'_>) -> Failure {
    match error {
        // But in TLS 1.3 this is said only when the client has long done with it.
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => no_handshake(error),
        error => exchange.broken(error),
    }
}
