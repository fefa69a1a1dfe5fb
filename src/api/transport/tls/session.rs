//! One TLS session without a socket: records in and out of borrowed buffers.
//!
//! rustls' unbuffered interface keeps nothing between calls but keys and the state of the handshake,
//! where the other one keeps a buffer for each direction.

use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{ClientConfig, Error};

use super::super::buffers::Lent;

/// The most bytes a record holds (RFC 8446, section 5.1).
pub(super) const FRAGMENT: usize = 16 * 1024;

/// The client's end of a TLS session.
pub(super) struct Session {
    tls: UnbufferedClientConnection,
    /// Whether the peer has said that it will send no more.
    pub(super) is_over: bool,
    /// What keeps the session from decrypting any more.
    pub(super) failure: Option<Error>,
}

impl Session {
    pub(super) fn new(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, Error> {
        Ok(Self {
            tls: UnbufferedClientConnection::new(config, name)?,
            is_over: false,
            failure: None,
        })
    }

    /// Decrypts the `records` that have arrived into `plain`, as far as they are whole, and writes what
    /// the protocol has to say for itself to `out`. How much that is; and whether the handshake is over.
    ///
    /// What was decrypted before an error counts, and is in `plain`; what is then written is the alert
    /// that tells the peer why. After an error nothing is decrypted any more.
    pub(super) fn open(
        &mut self,
        records: &mut Lent,
        plain: &mut Lent,
        out: &mut [u8],
    ) -> (usize, Result<bool, Error>) {
        let mut written = 0;
        if let Some(failure) = &self.failure {
            return (written, Err(failure.clone()));
        }
        let opened = self.open_whole(records, plain, out, &mut written);
        if let Err(failure) = &opened {
            self.failure = Some(failure.clone());
            // What is to be sent comes before what has arrived, which is not looked at any more.
            if self.tls.wants_write()
                && let Ok(ConnectionState::EncodeTlsData(mut alert)) =
                    self.tls.process_tls_records(&mut []).state
            {
                written += alert.encode(&mut out[written..]).unwrap_or_default();
            }
        }
        (written, opened)
    }

    fn open_whole(
        &mut self,
        records: &mut Lent,
        plain: &mut Lent,
        out: &mut [u8],
        written: &mut usize,
    ) -> Result<bool, Error> {
        loop {
            let UnbufferedStatus { mut discard, state } =
                self.tls.process_tls_records(records.bytes_mut());
            let mut is_ready = None;
            match state? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        if !plain.push(record.payload) {
                            return Err(general("more has arrived than is asked for"));
                        }
                    }
                }
                ConnectionState::EncodeTlsData(mut message) => {
                    let encoded = message.encode(&mut out[*written..]);
                    *written += encoded.map_err(|error| general(error.to_string()))?;
                }
                // Whoever asked for this sends what is written before anything else.
                ConnectionState::TransmitTlsData(message) => message.done(),
                ConnectionState::PeerClosed => self.is_over = true,
                ConnectionState::BlockedHandshake => is_ready = Some(false),
                ConnectionState::WriteTraffic(_) | ConnectionState::Closed => is_ready = Some(true),
                state => return Err(general(format!("a client cannot be in {state:?}"))),
            }
            records.consume(discard);
            if let Some(is_ready) = is_ready {
                return Ok(is_ready);
            }
        }
    }

    /// Encrypts `plain`, one record's worth, into `out`, and says how much that makes. For after the
    /// handshake, when everything whole has been decrypted.
    pub(super) fn seal(
        &mut self,
        records: &mut Lent,
        plain: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let status = self.tls.process_tls_records(records.bytes_mut());
        let ConnectionState::WriteTraffic(mut traffic) = status.state? else {
            return Err(general("nothing can be sent now"));
        };
        let sealed = traffic.encrypt(plain, out);
        sealed.map_err(|error| general(error.to_string()))
    }
}

fn general(why: impl Into<String>) -> Error {
    Error::General(why.into())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::super::buffers::{BufferPool, RECORD};
    use super::*;
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use rustls::{RootCertStore, ServerConfig, ServerConnection};
    use std::io::{Read, Write};

    struct Pair {
        client: Session,
        records: Lent,
        plain: Lent,
        server: ServerConnection,
        heard: Vec<u8>,
    }

    fn pair() -> Pair {
        let key = rcgen::KeyPair::generate().unwrap();
        let names = vec!["server.test".to_owned()];
        let params = rcgen::CertificateParams::new(names).unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let pool = Arc::new(BufferPool::default());
        let name = ServerName::try_from("server.test").unwrap();
        Pair {
            client: Session::new(Arc::new(client), name).unwrap(),
            records: Lent::new(&pool),
            plain: Lent::new(&pool),
            server: ServerConnection::new(Arc::new(server)).unwrap(),
            heard: Vec::new(),
        }
    }

    impl Pair {
        /// Decrypts what is there, and has the server read what is written.
        fn open(&mut self) -> bool {
            let mut out = [0; RECORD];
            let (written, is_ready) =
                self.client
                    .open(&mut self.records, &mut self.plain, &mut out);
            self.deliver(&out[..written]);
            is_ready.unwrap()
        }

        fn deliver(&mut self, mut sealed: &[u8]) {
            while !sealed.is_empty() {
                self.server.read_tls(&mut sealed).unwrap();
                let arrived = self.server.process_new_packets().unwrap();
                let mut part = vec![0; arrived.plaintext_bytes_to_read()];
                self.server.reader().read_exact(&mut part).unwrap();
                self.heard.extend(part);
            }
        }

        /// What the server has to send.
        fn server_sends(&mut self) -> Vec<u8> {
            let mut bytes = Vec::new();
            while self.server.wants_write() {
                self.server.write_tls(&mut bytes).unwrap();
            }
            bytes
        }

        /// Brings it to the client byte by byte.
        fn trickle(&mut self) {
            for byte in self.server_sends() {
                assert!(self.records.push(&[byte]));
                self.open();
            }
        }

        fn connect(&mut self) {
            assert!(!self.open());
            while self.server.is_handshaking() {
                self.trickle();
            }
            assert!(self.open());
        }
    }

    #[test]
    fn a_session_survives_any_cut_and_waits_with_empty_hands() {
        let mut pair = pair();
        pair.connect();
        for size in [1, FRAGMENT, FRAGMENT + 1, 3 * FRAGMENT] {
            let request = vec![b'q'; size];
            let mut out = [0; RECORD];
            for plain in request.chunks(FRAGMENT) {
                let sealed = pair.client.seal(&mut pair.records, plain, &mut out);
                pair.deliver(&out[..sealed.unwrap()]);
            }
            assert!(pair.heard.drain(..).eq(request.iter().copied()));

            pair.server.writer().write_all(&request).unwrap();
            pair.trickle();
            assert_eq!(pair.plain.bytes().len(), size);
            pair.plain.consume(size);
            assert!(pair.records.is_empty() && pair.plain.is_empty());
        }
        assert!(!pair.client.is_over);
        pair.server.send_close_notify();
        pair.trickle();
        assert!(pair.client.is_over);
    }

    #[test]
    fn a_record_changed_on_the_way_is_an_error_with_an_alert() {
        let mut pair = pair();
        pair.connect();
        pair.trickle();
        pair.server.writer().write_all(b"answer").unwrap();
        let mut bytes = pair.server_sends();
        *bytes.last_mut().unwrap() ^= 1;
        assert!(pair.records.push(&bytes));
        let mut out = [0; RECORD];
        let (written, opened) = pair
            .client
            .open(&mut pair.records, &mut pair.plain, &mut out);
        assert_eq!(opened.unwrap_err(), Error::DecryptError);
        assert!(pair.plain.is_empty());
        pair.server.read_tls(&mut &out[..written]).unwrap();
        assert!(matches!(
            pair.server.process_new_packets(),
            Err(Error::AlertReceived(_))
        ));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(hello: bool, bytes: Vec<u8>, at in 0usize..4096, xor: u8) {
            let mut pair = pair();
            pair.open();
            let mut arrived = if hello { pair.server_sends() } else { Vec::new() };
            arrived.extend(&bytes);
            if !arrived.is_empty() {
                let at = at % arrived.len();
                arrived[at] ^= xor;
            }
            for part in arrived.chunks(700) {
                let mut out = [0; RECORD];
                let fits = pair.records.push(part);
                let (_, opened) =
                    pair.client
                        .open(&mut pair.records, &mut pair.plain, &mut out);
                if !fits || opened.is_err() {
                    break;
                }
            }
        }
    }
}
