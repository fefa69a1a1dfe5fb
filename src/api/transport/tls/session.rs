//! One TLS session without a socket: records in and out of borrowed buffers.
//!
//! rustls' unbuffered interface keeps nothing between calls but keys and the state of the handshake.
//! What has arrived stays with the link below until it is whole, and is opened where it stands; what
//! is to be sent stands here sealed. Between an answer and the next request both are given back.

use std::fmt;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{ClientConfig, Error};

use super::super::buffers::{Input, Output};

/// The most bytes a record holds (RFC 8446, section 5.1).
const FRAGMENT: usize = 16 * 1024;

/// The client's end of a TLS session.
pub(super) struct Session {
    /// Behind a pointer, so that a plain connection does not carry the room for it.
    tls: Box<UnbufferedClientConnection>,
    /// What is sealed and not yet sent.
    pub(super) sealed: Output,
    is_over: bool,
    failure: Option<Error>,
}

impl Session {
    pub(super) fn new(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        sealed: Output,
    ) -> Result<Self, Error> {
        Ok(Self {
            tls: Box::new(UnbufferedClientConnection::new(config, name)?),
            sealed,
            is_over: false,
            failure: None,
        })
    }

    /// Opens the `records` that have arrived into `plain`, as far as they are whole, and seals what
    /// the protocol has to say for itself. Whether the handshake is over.
    ///
    /// What was opened before an error counts, and is in `plain`; after it nothing is opened any more.
    pub(super) fn open(&mut self, records: &mut Input, plain: &mut Input) -> Result<bool, Error> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let opened = self.open_whole(records, plain);
        self.failure = opened.as_ref().err().cloned();
        opened
    }

    fn open_whole(&mut self, records: &mut Input, plain: &mut Input) -> Result<bool, Error> {
        loop {
            let UnbufferedStatus { mut discard, state } =
                self.tls.process_tls_records(records.bytes_mut());
            let stands = match state? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        if !plain.append(record.payload) {
                            return Err(general("more has arrived than is asked for"));
                        }
                    }
                    None
                }
                ConnectionState::EncodeTlsData(mut message) => {
                    let sealed = match message.encode(self.sealed.room()) {
                        Err(EncodeError::InsufficientSize(wants)) => {
                            message.encode(self.sealed.room_of(wants.required_size))
                        }
                        encoded => encoded,
                    };
                    self.sealed
                        .fill(sealed.map_err(|error| general(error.to_string()))?);
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
            records.consume(discard);
            if let Some(stands) = stands {
                return Ok(stands);
            }
        }
    }

    /// Seals the first of `plaintext`, one record's worth, and says how much that was. For after the
    /// handshake, when everything whole has been opened.
    pub(super) fn seal(&mut self, records: &mut Input, plaintext: &[u8]) -> Result<usize, Error> {
        let fragment = &plaintext[..plaintext.len().min(FRAGMENT)];
        let status = self.tls.process_tls_records(records.bytes_mut());
        let ConnectionState::WriteTraffic(mut traffic) = status.state? else {
            return Err(general("nothing can be sent now"));
        };
        let sealed = match traffic.encrypt(fragment, self.sealed.room()) {
            Err(EncryptError::InsufficientSize(wants)) => {
                traffic.encrypt(fragment, self.sealed.room_of(wants.required_size))
            }
            encrypted => encrypted,
        };
        self.sealed
            .fill(sealed.map_err(|error| general(error.to_string()))?);
        Ok(fragment.len())
    }

    /// After an error: seals the alert that tells the peer why, if there is one to be sent.
    pub(super) fn seal_alert(&mut self) {
        if !self.tls.wants_write() {
            return;
        }
        // What is to be sent comes before what has arrived, which is not looked at any more.
        let status = self.tls.process_tls_records(&mut []);
        if let Ok(ConnectionState::EncodeTlsData(mut alert)) = status.state
            && let Ok(sealed) = alert.encode(self.sealed.room())
        {
            self.sealed.fill(sealed);
        }
    }

    /// Whether the peer has said that it will send no more.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// What keeps the session from opening any more.
    pub(super) fn failure(&self) -> Option<&Error> {
        self.failure.as_ref()
    }
}

fn general(why: impl Into<String>) -> Error {
    Error::General(why.into())
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("is_over", &self.is_over)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::super::buffers::BufferPool;
    use super::*;
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use rustls::{RootCertStore, ServerConfig, ServerConnection};
    use std::io::{Read, Write};

    struct Pair {
        client: Session,
        records: Input,
        plain: Input,
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
        let sealed = Output::new(Arc::clone(&pool));
        let name = ServerName::try_from("server.test").unwrap();
        Pair {
            client: Session::new(Arc::new(client), name, sealed).unwrap(),
            records: Input::new(Arc::clone(&pool)),
            plain: Input::new(pool),
            server: ServerConnection::new(Arc::new(server)).unwrap(),
            heard: Vec::new(),
        }
    }

    impl Pair {
        /// Opens what is there, and has the server read what is sealed.
        fn open(&mut self) -> bool {
            let stands = self
                .client
                .open(&mut self.records, &mut self.plain)
                .unwrap();
            self.deliver();
            stands
        }

        fn deliver(&mut self) {
            let mut sealed = self.client.sealed.bytes();
            while !sealed.is_empty() {
                self.server.read_tls(&mut sealed).unwrap();
                let arrived = self.server.process_new_packets().unwrap();
                let mut part = vec![0; arrived.plaintext_bytes_to_read()];
                self.server.reader().read_exact(&mut part).unwrap();
                self.heard.extend(part);
            }
            self.client.sealed.clear();
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
                assert!(self.records.append(&[byte]));
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
            let mut sealed = 0;
            while sealed < request.len() {
                sealed += pair
                    .client
                    .seal(&mut pair.records, &request[sealed..])
                    .unwrap();
                pair.deliver();
            }
            assert!(pair.heard.drain(..).eq(request.iter().copied()));

            pair.server.writer().write_all(&request).unwrap();
            pair.trickle();
            assert_eq!(pair.plain.bytes().len(), size);
            pair.plain.consume(size);
            assert!(pair.records.is_bare() && pair.plain.is_bare());
            assert!(pair.client.sealed.is_bare());
        }
        assert!(!pair.client.is_over());
        pair.server.send_close_notify();
        pair.trickle();
        assert!(pair.client.is_over());
    }

    #[test]
    fn a_record_changed_on_the_way_is_an_error_with_an_alert() {
        let mut pair = pair();
        pair.connect();
        pair.trickle();
        pair.server.writer().write_all(b"answer").unwrap();
        let mut bytes = pair.server_sends();
        *bytes.last_mut().unwrap() ^= 1;
        assert!(pair.records.append(&bytes));
        let error = pair
            .client
            .open(&mut pair.records, &mut pair.plain)
            .unwrap_err();
        assert_eq!(error, Error::DecryptError);
        assert!(pair.plain.is_empty());
        pair.client.seal_alert();
        let mut alert = pair.client.sealed.bytes();
        pair.server.read_tls(&mut alert).unwrap();
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
                if !pair.records.append(part)
                    || pair.client.open(&mut pair.records, &mut pair.plain).is_err()
                {
                    break;
                }
            }
            pair.client.seal_alert();
        }
    }
}
