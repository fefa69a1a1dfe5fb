//! TLS: whom the transport trusts, and what a server sees of a request when it does not.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    HandshakeKind, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    SupportedProtocolVersion,
};
use tempfile::NamedTempFile;
use tollgate::{
    Cancel, ErrorKind, HttpConfig, HttpRequest, HttpTransport, ProxyPolicy, Transport,
    TransportErrorKind, TransportStage,
};

use crate::server::*;

pub(crate) struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    /// What a client has to trust, as PEM.
    pub(crate) root: String,
}

impl Identity {
    fn new(certificate: &Certificate, key: &KeyPair, root: String) -> Self {
        Self {
            chain: vec![certificate.der().clone()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            root,
        }
    }
}

fn self_signed(names: &[&str], is_ca: IsCa) -> Identity {
    let mut params = CertificateParams::new(owned(names)).unwrap();
    params.is_ca = is_ca;
    self_signed_as(&params)
}

fn self_signed_as(params: &CertificateParams) -> Identity {
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    Identity::new(&certificate, &key, certificate.pem())
}

const CA: IsCa = IsCa::Ca(BasicConstraints::Unconstrained);

pub(crate) fn issued(names: &[&str]) -> Identity {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = CA;
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(owned(names)).unwrap();
    let certificate = params.signed_by(&key, &ca).unwrap();
    Identity::new(&certificate, &key, ca.pem())
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

pub(crate) fn trusting(pem: &str) -> HttpTransport {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(pem.as_bytes()).unwrap();
    HttpTransport::new(direct().ca_file(file.path())).unwrap()
}

pub(crate) type Session = StreamOwned<ServerConnection, std::net::TcpStream>;

/// A TLS server that gives each session, counted from 0, to `serve`.
pub(crate) fn tls_server(
    identity: &Identity,
    serve: impl Fn(usize, Session) + Send + Sync + 'static,
) -> SocketAddr {
    tls_server_of(identity, &rustls::version::TLS13, serve)
}

fn tls_server_of(
    identity: &Identity,
    version: &'static SupportedProtocolVersion,
    serve: impl Fn(usize, Session) + Send + Sync + 'static,
) -> SocketAddr {
    tls_server_with(server_config(identity, version), serve)
}

pub(crate) fn tls_server_with(
    config: ServerConfig,
    serve: impl Fn(usize, Session) + Send + Sync + 'static,
) -> SocketAddr {
    let config = Arc::new(config);
    server(move |number, stream| {
        let session = ServerConnection::new(Arc::clone(&config)).unwrap();
        serve(number, StreamOwned::new(session, stream));
    })
}

pub(crate) fn server_config(
    identity: &Identity,
    version: &'static SupportedProtocolVersion,
) -> ServerConfig {
    server_config_for(WebPkiClientVerifier::no_client_auth(), identity, version)
}

/// As [`server_config`], of a server that wants a certificate of its clients too.
pub(crate) fn asking_for_one(
    identity: &Identity,
    version: &'static SupportedProtocolVersion,
) -> ServerConfig {
    let mut roots = RootCertStore::empty();
    roots.add(identity.chain[0].clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .unwrap();
    server_config_for(clients, identity, version)
}

fn server_config_for(
    clients: Arc<dyn ClientCertVerifier>,
    identity: &Identity,
    version: &'static SupportedProtocolVersion,
) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = provider
        .key_provider
        .load_private_key(identity.key.clone_key())
        .unwrap();
    // Without a look at whether the key fits the certificate.
    let certified = CertifiedKey::new(identity.chain.clone(), key);
    ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
}

/// Answers every request, and tells how many came, whoever was trusted.
fn polite(tell: mpsc::Sender<usize>) -> impl Fn(usize, Session) {
    let tell = Mutex::new(tell);
    move |number, mut session| {
        let tell = tell.lock().unwrap().clone();
        while read_request(&mut session).is_some() {
            let _ = tell.send(number);
            session.write_all(OK).unwrap();
        }
    }
}

pub(crate) fn https(address: SocketAddr, host: &str) -> String {
    format!("https://{host}:{}/v1/x", address.port())
}

#[test]
fn a_private_ca_is_trusted_and_the_connection_is_kept() {
    let identity = issued(&["127.0.0.1", "localhost"]);
    let (tell, seen) = mpsc::channel();
    let address = tls_server(&identity, polite(tell));
    let transport = trusting(&identity.root);
    for _ in 0..20 {
        let answer = post(&transport, &https(address, "127.0.0.1"), b"{}").unwrap();
        assert_eq!(answer.body, b"ok");
    }
    assert_eq!(connections(&seen), 1);
    assert!(post(&transport, &https(address, "localhost"), b"{}").is_ok());
}

#[test]
fn a_self_signed_server_certificate_is_its_own_root() {
    for is_ca in [IsCa::NoCa, IsCa::ExplicitNoCa] {
        let identity = self_signed(&["127.0.0.1"], is_ca);
        let (tell, _seen) = mpsc::channel();
        let address = tls_server(&identity, polite(tell));
        let transport = trusting(&identity.root);
        assert!(post(&transport, &https(address, "127.0.0.1"), b"{}").is_ok());
    }
}

#[test]
fn a_server_certificate_marked_as_a_ca_is_trusted_if_the_file_holds_it() {
    let identity = self_signed(&["127.0.0.1"], CA);
    let other = self_signed(&["127.0.0.1"], CA);
    let (tell, seen) = mpsc::channel();
    let address = tls_server(&identity, polite(tell));
    let url = https(address, "127.0.0.1");
    let both = format!("{}{}", other.root, identity.root);
    for root in [&identity.root, &both] {
        assert_eq!(post(&trusting(root), &url, b"{}").unwrap().body, b"ok");
    }
    assert_eq!(connections(&seen), 2);

    let wrong_name = https(address, "localhost");
    for (root, url, why) in [
        (
            &other.root,
            &url,
            "marked as a CA's, as self-signed ones are",
        ),
        (
            &identity.root,
            &wrong_name,
            "for other names (127.0.0.1), not for localhost",
        ),
    ] {
        let error = post(&trusting(root), url, b"{}").unwrap_err();
        assert_eq!(
            (error.kind, error.stage),
            (TransportErrorKind::Tls, TransportStage::NothingSent)
        );
        assert!(error.message.contains(why), "{error}");
    }
    assert_eq!(connections(&seen), 0);
}

#[test]
fn a_certificate_in_the_file_is_trusted_whatever_its_dates() {
    for (from, until) in [(2000, 2001), (2100, 2101)] {
        let mut params = CertificateParams::new(owned(&["127.0.0.1"])).unwrap();
        params.is_ca = CA;
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let identity = self_signed_as(&params);
        let (tell, _seen) = mpsc::channel();
        let address = tls_server(&identity, polite(tell));
        let url = https(address, "127.0.0.1");
        assert!(post(&trusting(&identity.root), &url, b"{}").is_ok());
    }
}

#[test]
fn what_is_wrong_with_a_certificate_is_said_in_words() {
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = CA;
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    let many = ["a.test", "b.test", "c.test", "d.test", "e.test", "f.test"];
    for (names, years, purpose, words) in [
        (
            &["127.0.0.1"][..],
            (2000, 2021),
            ServerAuth,
            "expired on 2021-12-31",
        ),
        (
            &["127.0.0.1"],
            (2100, 2101),
            ServerAuth,
            "not valid before 2100-01-01",
        ),
        (
            &["a.test", "10.0.0.1"],
            (2000, 2100),
            ServerAuth,
            "for other names (a.test, 10.0.0.1), not for 127.0.0.1",
        ),
        (
            &many,
            (2000, 2100),
            ServerAuth,
            "(a.test, b.test, c.test, d.test, e.test), not",
        ),
        (&[], (2000, 2100), ServerAuth, "names no host"),
        (
            &["127.0.0.1"],
            (2000, 2100),
            ClientAuth,
            "does not allow extended key usage",
        ),
    ] {
        let mut params = CertificateParams::new(owned(names)).unwrap();
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 12, 31);
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &ca).unwrap();
        let identity = Identity::new(&certificate, &key, ca.pem());
        let (tell, seen) = mpsc::channel();
        let url = https(tls_server(&identity, polite(tell)), "127.0.0.1");
        let error = post(&trusting(&identity.root), &url, b"{}").unwrap_err();
        assert_eq!(error.kind, TransportErrorKind::Tls);
        assert!(error.message.contains(words), "{error}");
        assert_eq!(connections(&seen), 0);
    }
}

#[test]
fn a_certificate_without_its_key_is_worth_nothing() {
    let identity = self_signed(&["127.0.0.1"], CA);
    let thief = Identity {
        chain: identity.chain.clone(),
        ..self_signed(&["127.0.0.1"], CA)
    };
    for version in rustls::ALL_VERSIONS {
        let (tell, seen) = mpsc::channel();
        let address = tls_server_of(&thief, version, polite(tell));
        let url = https(address, "127.0.0.1");
        let error = post(&trusting(&identity.root), &url, b"{}").unwrap_err();
        assert_eq!(
            (error.kind, error.stage),
            (TransportErrorKind::Tls, TransportStage::NothingSent)
        );
        assert!(error.message.contains("is not the server's"), "{error}");
        assert_eq!(connections(&seen), 0);
    }
}

#[test]
fn an_untrusted_server_sees_no_request() {
    let identity = issued(&["127.0.0.1"]);
    let elsewhere = issued(&["127.0.0.1"]);
    let (tell, seen) = mpsc::channel();
    let address = tls_server(&identity, polite(tell));
    let built_in = HttpTransport::new(direct()).unwrap();
    let wrong_name = https(address, "localhost");
    let by_address = https(address, "127.0.0.1");
    for (transport, url) in [
        (&built_in, &by_address),
        (&trusting(&elsewhere.root), &by_address),
        (&trusting(&identity.root), &wrong_name),
    ] {
        let error = post(transport, url, b"secret").unwrap_err();
        assert_eq!(
            (error.kind, error.stage),
            (TransportErrorKind::Tls, TransportStage::NothingSent),
            "{error:?}"
        );
    }
    assert_eq!(connections(&seen), 0);
}

#[test]
fn a_server_without_tls_is_a_tls_fault() {
    let address = server(|_, mut stream| {
        let mut hello = [0; 5];
        stream.read_exact(&mut hello).unwrap();
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        hold(stream);
    });
    let error = post(&transport(), &https(address, "127.0.0.1"), b"{}").unwrap_err();
    assert!(error.message.contains("does not speak TLS"), "{error}");
    assert_eq!(
        (error.kind, error.stage),
        (TransportErrorKind::Tls, TransportStage::NothingSent)
    );
}

#[test]
fn a_connection_lost_in_the_handshake_is_not_blamed_on_the_certificate() {
    let address = server(|_, mut stream| {
        let mut hello = [0; 5];
        stream.read_exact(&mut hello).unwrap();
    });
    let error = post(&transport(), &https(address, "127.0.0.1"), b"{}").unwrap_err();
    assert_eq!(
        (error.kind, error.stage),
        (TransportErrorKind::Connect, TransportStage::NothingSent),
        "{error:?}"
    );
}

#[test]
fn an_answer_cut_short_under_tls_is_truncated_even_without_a_length() {
    // A number may be the start of a longer one; an object says itself where it ends.
    const BODIES: [&str; 8] = [
        "half",
        "half",
        r#"{"a":[1]"#,
        "12",
        r#"{"a":"]}"#,
        r#"{"a":"\"}"#,
        r#" {"a":[1]} "#,
        "\u{feff}{\"a\":[1]}",
    ];
    let identity = issued(&["127.0.0.1"]);
    let address = tls_server(&identity, |number, mut session| {
        read_request(&mut session);
        let answer = format!("HTTP/1.1 200 OK\r\n\r\n{}", BODIES[number]);
        session.write_all(answer.as_bytes()).unwrap();
        if number == 0 {
            session.conn.send_close_notify();
            session.flush().unwrap();
        }
    });
    let (transport, url) = (trusting(&identity.root), https(address, "127.0.0.1"));
    assert_eq!(post(&transport, &url, b"{}").unwrap().body, b"half");
    for body in &BODIES[1..6] {
        let error = post(&transport, &url, b"{}").unwrap_err();
        let partial = error.partial.expect(body);
        assert_eq!(
            (partial.status.as_u16(), partial.body),
            (200, body.as_bytes().to_vec())
        );
        assert_eq!(
            (error.kind, error.stage),
            (TransportErrorKind::Truncated, TransportStage::Answering)
        );
    }
    for body in &BODIES[6..] {
        let whole = post(&transport, &url, b"{}").expect(body);
        assert_eq!(whole.body, body.as_bytes());
    }
}

#[test]
fn a_head_may_be_as_large_as_without_tls() {
    let identity = issued(&["127.0.0.1"]);
    let address = tls_server(&identity, |_, mut session| {
        while let Some((_, body)) = read_request(&mut session) {
            let long = "y".repeat(std::str::from_utf8(&body).unwrap().parse().unwrap());
            let _ = write!(
                session,
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-long: {long}\r\n\r\nok"
            );
        }
    });
    let (transport, url) = (trusting(&identity.root), https(address, "127.0.0.1"));
    for size in [10, 20_000, 60_000] {
        let answer = post(&transport, &url, size.to_string().as_bytes()).unwrap();
        assert_eq!(answer.headers["x-long"].len(), size);
    }
    let error = post(&transport, &url, b"100000").unwrap_err();
    assert_eq!(
        (error.kind, error.stage),
        (TransportErrorKind::Protocol, TransportStage::Answering)
    );
}

#[test]
fn large_bodies_pass_both_ways() {
    let identity = issued(&["127.0.0.1"]);
    let address = tls_server(&identity, |_, mut session| {
        while let Some((_, body)) = read_request(&mut session) {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            session.write_all(head.as_bytes()).unwrap();
            session.write_all(&body).unwrap();
        }
    });
    let (transport, url) = (trusting(&identity.root), https(address, "127.0.0.1"));
    for size in [1, 16_384, 1_000_000] {
        let body: Vec<u8> = (0..=250).cycle().take(size).collect();
        assert!(
            post(&transport, &url, &body).unwrap().body == body,
            "{size}"
        );
    }
}

#[test]
fn tls_runs_through_a_proxy_tunnel() {
    let identity = issued(&["api.test"]);
    let (tell, seen) = mpsc::channel();
    let target = tls_server(&identity, polite(tell));
    let proxy = server(move |_, mut stream| {
        let (head, _) = read_request(&mut stream).unwrap();
        assert!(
            head.starts_with("CONNECT api.test:443 HTTP/1.1\r\n"),
            "{head}"
        );
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        let mut inner = std::net::TcpStream::connect(target).unwrap();
        let (mut up, mut down) = (stream.try_clone().unwrap(), inner.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut up, &mut down));
        let _ = std::io::copy(&mut inner, &mut stream);
    });
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(identity.root.as_bytes()).unwrap();
    let config = HttpConfig::new()
        .ca_file(file.path())
        .proxy(ProxyPolicy::Url(format!("http://{proxy}")));
    let transport = HttpTransport::new(config).unwrap();
    for _ in 0..3 {
        let answer = post(&transport, "https://api.test/v1", b"{}").unwrap();
        assert_eq!(answer.body, b"ok");
    }
    assert_eq!(connections(&seen), 1);
}

#[test]
fn tls_runs_within_the_tls_of_a_proxy() {
    let identity = issued(&["api.test", "127.0.0.1"]);
    let config = Arc::new(server_config(&identity, &rustls::version::TLS13));
    let target = ServerConnection::new(config).unwrap();
    let target = Mutex::new(Some(target));
    let proxy = tls_server(&identity, move |_, mut outer| {
        let (head, _) = read_request(&mut outer).unwrap();
        assert!(head.starts_with("CONNECT api.test:443 "), "{head}");
        outer.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        let target = target.lock().unwrap().take().unwrap();
        let mut inner = StreamOwned::new(target, outer);
        while let Some((_, body)) = read_request(&mut inner) {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            inner.write_all(head.as_bytes()).unwrap();
            inner.write_all(&body).unwrap();
        }
    });
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(identity.root.as_bytes()).unwrap();
    let config = HttpConfig::new()
        .ca_file(file.path())
        .proxy(ProxyPolicy::Url(format!("https://{proxy}")));
    let transport = HttpTransport::new(config).unwrap();
    for size in [2, 100_000] {
        let body = vec![b'b'; size];
        let answer = post(&transport, "https://api.test/v1", &body).unwrap();
        assert!(answer.body == body, "{size}");
    }
}

#[test]
fn a_server_that_asks_is_shown_the_certificate_and_nobody_the_key() {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(owned(&["127.0.0.1"])).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let identity = Identity::new(&certificate, &key, certificate.pem());
    let file = |pem: String| {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(pem.as_bytes()).unwrap();
        file
    };
    let secret = key.serialize_pem();
    let (root, pem, key) = (
        file(identity.root.clone()),
        file(certificate.pem()),
        file(secret.clone()),
    );
    let without = direct().ca_file(root.path());
    let with = without
        .clone()
        .client_cert(pem.path())
        .client_key(key.path());
    for version in rustls::ALL_VERSIONS {
        let (tell, seen) = mpsc::channel();
        let config = asking_for_one(&identity, version);
        let url = https(tls_server_with(config, polite(tell)), "127.0.0.1");
        let transport = HttpTransport::new(with.clone()).unwrap();
        assert_eq!(post(&transport, &url, b"{}").unwrap().body, b"ok");
        assert_eq!(connections(&seen), 1);
        let shown = format!("{with:?} {transport:?}");
        let mut lines = secret.lines().filter(|line| !line.starts_with('-'));
        assert!(lines.all(|line| !shown.contains(line)), "{shown}");
        let transport = HttpTransport::new(without.clone()).unwrap();
        let error = post(&transport, &url, b"{}").unwrap_err();
        assert_eq!(error.kind, TransportErrorKind::Tls, "{version:?}: {error}");
        assert!(error.message.contains("(`client_cert`)"), "{error}");
        assert_eq!(connections(&seen), 0);
    }
}

#[test]
fn the_second_connection_resumes_the_session_of_the_first() {
    for version in rustls::ALL_VERSIONS {
        let identity = issued(&["127.0.0.1"]);
        let (tell, kinds) = mpsc::channel();
        let tell = Mutex::new(tell);
        let address = tls_server_of(&identity, version, move |_, mut session| {
            read_request(&mut session);
            let kind = session.conn.handshake_kind().unwrap();
            tell.lock().unwrap().send(kind).unwrap();
            let _ = session
                .write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok");
        });
        let (transport, url) = (trusting(&identity.root), https(address, "127.0.0.1"));
        for _ in 0..3 {
            assert_eq!(post(&transport, &url, b"{}").unwrap().body, b"ok");
        }
        let kinds: Vec<_> = kinds.try_iter().collect();
        let expected = [
            HandshakeKind::Full,
            HandshakeKind::Resumed,
            HandshakeKind::Resumed,
        ];
        assert_eq!(kinds, expected, "{version:?}");
    }
}

#[test]
fn a_refused_server_is_told_why() {
    let identity = issued(&["127.0.0.1"]);
    for version in rustls::ALL_VERSIONS {
        let (tell, told) = mpsc::channel();
        let tell = Mutex::new(tell);
        let address = tls_server_of(&identity, version, move |_, mut session| {
            let ended = session.conn.complete_io(&mut session.sock).unwrap_err();
            tell.lock().unwrap().send(ended.to_string()).unwrap();
        });
        let elsewhere = trusting(&issued(&["127.0.0.1"]).root);
        let error = post(&elsewhere, &https(address, "127.0.0.1"), b"{}").unwrap_err();
        assert_eq!(
            (error.kind, error.stage),
            (TransportErrorKind::Tls, TransportStage::NothingSent)
        );
        assert!(told.recv().unwrap().contains("alert"), "{version:?}");
    }
}

#[test]
fn an_abort_ends_an_exchange_that_waits_under_tls() {
    let identity = issued(&["127.0.0.1"]);
    for stage in [TransportStage::Sent, TransportStage::Answering] {
        let (tell, arrived) = mpsc::channel();
        let tell = Mutex::new(tell);
        let address = tls_server(&identity, move |_, mut session| {
            read_request(&mut session);
            if stage == TransportStage::Answering {
                let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n";
                session.write_all(head).unwrap();
            }
            tell.lock().unwrap().send(()).unwrap();
            let _ = session.read(&mut [0]);
        });
        let (transport, url) = (trusting(&identity.root), https(address, "127.0.0.1"));
        let cancel = Cancel::new();
        thread::scope(|scope| {
            let exchange = scope.spawn(|| {
                let call = HttpRequest::new("GET", &url, Instant::now() + AMPLE, &cancel);
                transport.send(&call)
            });
            arrived.recv().unwrap();
            let started = Instant::now();
            cancel.abort();
            let error = exchange.join().unwrap().unwrap_err();
            assert_eq!(error.kind, TransportErrorKind::Aborted);
            // The head may still be on its way.
            assert!(matches!(
                error.stage,
                TransportStage::Sent | TransportStage::Answering
            ));
            assert!(error.stage == TransportStage::Sent || stage == TransportStage::Answering);
            assert!(started.elapsed() < AMPLE / 2);
        });
    }
}

#[test]
fn a_deadline_ends_a_handshake_that_does_not_come() {
    let address = server(|_, stream| hold(stream));
    let url = https(address, "127.0.0.1");
    let error = post_within(&transport(), &url, b"{}", Duration::from_millis(50)).unwrap_err();
    assert_eq!(
        (error.kind, error.stage),
        (TransportErrorKind::Timeout, TransportStage::NothingSent)
    );
    let quick = HttpTransport::new(direct().connect_timeout(Duration::from_millis(50))).unwrap();
    let error = post(&quick, &url, b"{}").unwrap_err();
    assert_eq!(
        (error.kind, error.stage),
        (TransportErrorKind::Connect, TransportStage::NothingSent)
    );
}

#[test]
fn handshakes_that_hang_hold_up_no_other() {
    const HANGING: usize = 64;
    let identity = issued(&["127.0.0.1"]);
    let (tell, hellos) = mpsc::channel();
    let tell = Mutex::new(tell);
    let config = Arc::new(server_config(&identity, &rustls::version::TLS13));
    let address = server(move |number, mut stream| {
        if number < HANGING {
            stream.read_exact(&mut [0; 5]).unwrap();
            tell.lock().unwrap().send(()).unwrap();
            return hold(stream);
        }
        let session = ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut session = StreamOwned::new(session, stream);
        while read_request(&mut session).is_some() {
            session.write_all(OK).unwrap();
        }
    });
    let (transport, url) = (trusting(&identity.root), https(address, "127.0.0.1"));
    let cancel = Cancel::new();
    thread::scope(|scope| {
        let hanging: Vec<_> = (0..HANGING)
            .map(|_| {
                scope.spawn(|| {
                    let call = HttpRequest::new("GET", &url, Instant::now() + AMPLE, &cancel);
                    transport.send(&call)
                })
            })
            .collect();
        for _ in 0..HANGING {
            hellos.recv_timeout(AMPLE).unwrap();
        }
        assert_eq!(post(&transport, &url, b"{}").unwrap().body, b"ok");
        let started = Instant::now();
        cancel.abort();
        for exchange in hanging {
            let error = exchange.join().unwrap().unwrap_err();
            let end = (error.kind, error.stage);
            assert_eq!(
                end,
                (TransportErrorKind::Aborted, TransportStage::NothingSent)
            );
        }
        assert!(started.elapsed() < AMPLE / 2);
    });
}

#[test]
fn an_early_refusal_of_an_upload_is_read_under_tls() {
    let identity = issued(&["127.0.0.1"]);
    let address = tls_server(&identity, |_, mut session| {
        session.read_exact(&mut [0; 1000]).unwrap();
        let refusal =
            b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbig";
        session.write_all(refusal).unwrap();
        // Closed with most of the request unread, which resets the connection.
    });
    let (transport, url) = (trusting(&identity.root), https(address, "127.0.0.1"));
    let mut answered = 0;
    for _ in 0..3 {
        match post(&transport, &url, &vec![b'x'; 4 << 20]) {
            Ok(answer) => {
                assert_eq!(
                    (answer.status.as_u16(), &answer.body[..]),
                    (413, &b"big"[..])
                );
                answered += 1;
            }
            // What a reset leaves of the answer is for the system to say.
            Err(error) => assert_eq!(error.kind, TransportErrorKind::Broken, "{error:?}"),
        }
    }
    assert!(answered > 0);
}

#[test]
fn many_threads_keep_a_connection_each() {
    const THREADS: usize = 64;
    let identity = issued(&["127.0.0.1"]);
    let together = Barrier::new(THREADS);
    let (tell, seen) = mpsc::channel();
    let address = tls_server(&identity, polite(tell));
    let (transport, url) = (trusting(&identity.root), https(address, "127.0.0.1"));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            let (transport, url, together) = (&transport, &url, &together);
            scope.spawn(move || {
                together.wait();
                let cancel = Cancel::new();
                for _ in 0..20 {
                    let mut call = HttpRequest::new("POST", url, Instant::now() + AMPLE, &cancel);
                    call.body = b"{}";
                    assert_eq!(transport.send(&call).unwrap().body, b"ok");
                }
            });
        }
    });
    assert!(connections(&seen) <= THREADS);
}

#[test]
fn a_ca_file_without_a_certificate_is_a_config_error_that_names_it() {
    let file = NamedTempFile::new().unwrap();
    let missing = file.path().with_extension("missing");
    for path in [file.path(), &missing, std::path::Path::new("/")] {
        let error = HttpTransport::new(direct().ca_file(path)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
    }
}
