//! A TLS session on a connection: what ureq reads and writes, sealed and opened.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, NextTimeout, Transport,
};

use super::super::Fault;
use super::super::buffers::{BufferPool, PooledBuffers};
use super::super::exchange::{current, note};
use super::session::Session;
use super::trust::Trust;

/// Puts TLS on the connections for https.
#[derive(Debug)]
pub(in crate::api::transport) struct TlsConnector {
    pub(in crate::api::transport) trust: Trust,
    pub(in crate::api::transport) buffers: Arc<BufferPool>,
}

impl<In: Transport> Connector<In> for TlsConnector {
    type Out = Either<In, TlsTransport<In>>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        let Some(inner) = chained else {
            return Ok(None);
        };
        if !details.needs_tls() {
            return Ok(Some(Either::A(inner)));
        }
        let host = details.uri.host().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(bare.to_owned())
            .map_err(|error| failed(rustls::Error::General(error.to_string())))?;
        let buffers = || PooledBuffers::new(Arc::clone(&self.buffers));
        let session = self
            .trust
            .config()
            .and_then(|config| Session::new(config, name, buffers()))
            .map_err(failed)?;
        let mut transport = TlsTransport {
            inner,
            session,
            plain: buffers(),
        };
        transport.shake_hands(details.timeout)?;
        Ok(Some(Either::B(transport)))
    }
}

/// A connection with TLS on it.
#[derive(Debug)]
pub(in crate::api::transport) struct TlsTransport<T> {
    inner: T,
    session: Session,
    plain: PooledBuffers,
}

impl<T: Transport> TlsTransport<T> {
    fn shake_hands(&mut self, timeout: NextTimeout) -> Result<(), Error> {
        loop {
            match self.session.open(&mut self.plain) {
                Ok(stands) => {
                    // The last of it is held below until the request is ready, and leaves with it.
                    self.send(timeout)?;
                    if stands {
                        return Ok(());
                    }
                }
                Err(error) => {
                    let error = failed(error);
                    self.session.seal_alert();
                    // A courtesy to the peer, whose log should say what ours says.
                    let _ = self
                        .send(timeout)
                        .and_then(|()| self.inner.transmit_output(0, timeout));
                    return Err(error);
                }
            }
            if !self.receive(timeout)? {
                return Err(Error::Io(ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Hands what is sealed down.
    fn send(&mut self, timeout: NextTimeout) -> Result<(), Error> {
        let mut sealed = self.session.records.held();
        while !sealed.is_empty() {
            let room = self.inner.buffers().output();
            let amount = sealed.len().min(room.len());
            let (now, later) = sealed.split_at(amount);
            room[..amount].copy_from_slice(now);
            self.inner.transmit_output(amount, timeout)?;
            sealed = later;
        }
        self.session.records.sent();
        self.session.records.release_output();
        Ok(())
    }

    /// Waits for more records; `false` at the end of the connection.
    fn receive(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let more = self.inner.maybe_await_input(timeout)?;
        let arrived = self.inner.buffers();
        let amount = arrived.input().len();
        if !self.session.records.append_input(arrived.input()) {
            return Err(failed(rustls::Error::PeerSentOversizedRecord));
        }
        arrived.input_consume(amount);
        Ok(more)
    }

    /// Seals what is held and hands it down.
    fn flush(&mut self, timeout: NextTimeout) -> Result<(), Error> {
        let mut sealed = 0;
        while sealed < self.plain.held().len() {
            let held = &self.plain.held()[sealed..];
            sealed += self.session.seal(held).map_err(failed)?;
            self.send(timeout)?;
        }
        self.plain.sent();
        Ok(())
    }
}

impl<T: Transport> Transport for TlsTransport<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.plain
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        // Held back like a plain request, so that head and body share a record.
        if self.plain.hold(amount) {
            self.flush(timeout)?;
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.flush(timeout)?;
        self.plain.release_output();
        let before = self.plain.input().len();
        // A record may hold a message of the protocol's own, and no byte of the answer.
        while self.plain.input().len() == before {
            // After the peer's farewell nothing counts, the end of the connection included.
            if self.session.is_over() || !self.receive(timeout)? {
                return Ok(false);
            }
            self.session.open(&mut self.plain).map_err(failed)?;
            self.send(timeout)?;
        }
        Ok(true)
    }

    fn is_open(&mut self) -> bool {
        self.plain.release_output();
        self.plain.release_input();
        let at_rest =
            !self.session.is_over() && !self.plain.has_input() && !self.session.records.has_input();
        // Asked in any case: it is also told by this that the exchange is over.
        self.inner.is_open() && at_rest
    }

    fn is_tls(&self) -> bool {
        true
    }
}

/// Leaves word that it is TLS that failed, and not the connection.
fn failed(error: rustls::Error) -> Error {
    let connecting = current(|exchange| exchange.is_connecting()) == Some(true);
    note(Fault::Tls, || {
        let what = if connecting {
            "handshake"
        } else {
            "connection"
        };
        format!("the TLS {what} failed: {error}")
    });
    Error::Io(io::Error::new(ErrorKind::InvalidData, error))
}
