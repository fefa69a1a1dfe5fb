//! How TLS comes to stand on a link: the handshake.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::Error;
use rustls::pki_types::ServerName;

use super::super::TransportErrorKind;
use super::super::buffers::{BufferPool, Input, Output};
use super::super::exchange::Exchange;
use super::super::fault::Failure;
use super::super::link::Link;
use super::deep::DeepStacks;
use super::layer::{Tls, is_about_identity, no_handshake};
use super::session::Session;
use super::trust::Trust;
use crate::error;

/// What all TLS connections of a transport are made with.
#[derive(Debug)]
pub(in crate::api::transport) struct TlsConnector {
    trust: Trust,
    stacks: DeepStacks,
    /// Whether a handshake has stood before.
    has_shaken: AtomicBool,
}

impl TlsConnector {
    /// Trusts the certificates in `ca_file` alone, or the built-in ones.
    pub(in crate::api::transport) fn new(ca_file: Option<&Path>) -> error::Result<Self> {
        Ok(Self {
            trust: Trust::new(ca_file)?,
            stacks: DeepStacks::new(),
            has_shaken: AtomicBool::new(false),
        })
    }

    /// Makes a session with `host`, a name or a bare address, on `inner`. What is left to be sent of
    /// the handshake leaves with the request.
    pub(in crate::api::transport) fn shake_hands(
        &self,
        inner: Box<dyn Link>,
        host: &str,
        buffers: &Arc<BufferPool>,
        exchange: &mut Exchange<'_>,
    ) -> Result<Box<dyn Link>, Failure> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| no_handshake(Error::General(error.to_string())))?;
        let config = self.trust.config().map_err(no_handshake)?;
        let sealed = Output::new(Arc::clone(buffers));
        let plain = Input::new(Arc::clone(buffers));
        let first = move || {
            let session = Session::new(config, name, sealed)?;
            Ok(step(Box::new(Tls::new(inner, session, plain))))
        };
        let begun = self.stacks.run(exchange, first)?;
        let (mut tls, mut stands) = begun.map_err(no_handshake)?;
        loop {
            match stands {
                Ok(true) => {
                    self.has_shaken.store(true, Ordering::Relaxed);
                    return Ok(tls);
                }
                Ok(false) => tls.flush(exchange)?,
                Err(error) => {
                    tls.session.seal_alert();
                    // A courtesy to the peer, whose log should say what ours says.
                    let _ = tls.flush(exchange);
                    return Err(self.refused(error));
                }
            }
            if !tls.inner.receive(exchange)? {
                return Err(Failure::new(
                    TransportErrorKind::Connect,
                    "the peer closed the connection while it was being made",
                ));
            }
            (tls, stands) = self.stacks.run(exchange, move || step(tls))?;
        }
    }

    /// What it means that the peer's part of a handshake fails. A peer that cannot show who it is, or
    /// does not take us, is never asked again. All else is a wrong URL as long as no handshake has
    /// stood, and after that a hiccup: of a balancer that restarts, or speaks for a server that does.
    fn refused(&self, error: Error) -> Failure {
        let is_hiccup = self.has_shaken.load(Ordering::Relaxed) && !is_about_identity(&error);
        let mut failure = no_handshake(error);
        if is_hiccup {
            failure.fault = TransportErrorKind::Connect;
        }
        failure
    }
}

/// What there is to compute until the peer is waited for. Whether the handshake is over.
fn step(mut tls: Box<Tls>) -> (Box<Tls>, Result<bool, Error>) {
    let stands = tls.open();
    (tls, stands)
}
