//! The server that every client is measured on: HTTP/1.1 with keep-alive, plain and over TLS, one
//! event loop a core, the same answer to every request, after as long as its path says.
//!
//! It runs as a process of its own until its standard input ends. At its start it prints where it
//! listens, and after each line it reads, how much it has done so far.

mod connection;
mod events;

use std::io::BufRead;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use mio::net::TcpStream;
use peers::{Result, chat, figures};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection};
use serde::{Deserialize, Serialize};
use socket2::{Domain, SockRef, Socket, Type};

use self::connection::Connection;
use self::events::Door;

/// Where it listens.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Ports {
    pub(crate) plain: u16,
    pub(crate) tls: u16,
    /// TLS, and [`FAR`] away.
    pub(crate) far: u16,
    pub(crate) ca_file: PathBuf,
}

/// What it has done since its start.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Work {
    pub(crate) requests: u64,
    pub(crate) cpu_s: f64,
}

/// The round trip that the far port pretends: one for the connect, one for the handshake of TLS 1.3,
/// one for the request.
pub(crate) const FAR: Duration = Duration::from_millis(100);

/// Serves until standard input ends; leaves its certificate in `folder`.
///
/// # Errors
/// Ports, threads or files that the system does not give.
pub(crate) fn run(folder: &Path) -> Result<()> {
    // The hard limit decides; a row that needs more is refused by its client.
    figures::raise_descriptor_limit(0)?;
    let ca_file = folder.join("ca.pem");
    let tls = Arc::new(certificate(&ca_file)?);
    let answer: Arc<[u8]> = answer().into();
    let requests = Arc::new(AtomicU64::new(0));
    let loops = thread::available_parallelism()?.get();
    let doors = (0..loops)
        .map(|_| events::start(Arc::clone(&answer), Arc::clone(&requests)))
        .collect::<Result<Vec<_>>>()?;
    let ports = Ports {
        plain: listen(&doors, None, Duration::ZERO)?,
        tls: listen(&doors, Some(&tls), Duration::ZERO)?,
        far: listen(&doors, Some(&tls), FAR)?,
        ca_file,
    };
    println!("{}", serde_json::to_string(&ports)?);
    for line in std::io::stdin().lock().lines() {
        line?;
        let work = Work {
            requests: requests.load(Ordering::Relaxed),
            cpu_s: figures::cpu().as_secs_f64(),
        };
        println!("{}", serde_json::to_string(&work)?);
    }
    Ok(())
}

/// Accepts on a thread of its own and deals the connections out in turn.
fn listen(doors: &[Door], tls: Option<&Arc<ServerConfig>>, round_trip: Duration) -> Result<u16> {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    // The standard library's queue of 128 drops connects that come in thousands, and a dropped
    // connect is tried again after a second.
    listener.listen(4096)?;
    let listener = TcpListener::from(listener);
    let port = listener.local_addr()?.port();
    let doors: Vec<_> = doors.iter().map(Door::another).collect();
    let tls = tls.cloned();
    thread::Builder::new().spawn(move || {
        for (socket, door) in listener.incoming().zip(doors.iter().cycle()) {
            let entered = socket.map_err(Into::into).and_then(|socket| {
                socket.set_nonblocking(true)?;
                socket.set_nodelay(true)?;
                // A reset at the end, so that no client leaves thousands of ports in TIME_WAIT
                // behind for the next.
                SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
                let tls = match &tls {
                    Some(config) => Some(Box::new(ServerConnection::new(Arc::clone(config))?)),
                    None => None,
                };
                let socket = TcpStream::from_std(socket);
                door.enter(Connection::new(socket, tls, round_trip))
            });
            if let Err(error) = entered {
                eprintln!("the server could not take a connection: {error}");
            }
        }
    })?;
    Ok(port)
}

/// A certificate for 127.0.0.1 by an authority of its own, which `ca_file` makes known.
fn certificate(ca_file: &Path) -> Result<ServerConfig> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // By default both would have one name, and OpenSSL would take the server's for self-signed.
    params
        .distinguished_name
        .push(DnType::CommonName, "the authority of the bench");
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let certificate = CertificateParams::new(names)?.signed_by(&key, &authority)?;
    std::fs::write(ca_file, authority.pem())
        .map_err(|error| format!("cannot write {}: {error}", ca_file.display()))?;
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    Ok(ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.into())?)
}

/// With a head like that of OpenAI's answers through its proxies: some 1.4 kB in 25 lines. Programs
/// that only ask for a body pay for a head as well, and most of it is not about the answer.
fn answer() -> Vec<u8> {
    let body = chat::answer();
    format!(
        "HTTP/1.1 200 OK\r\n\
         date: Sat, 21 Nov 2026 12:00:00 GMT\r\n\
         content-type: application/json\r\n\
         content-length: {}\r\n\
         connection: keep-alive\r\n\
         access-control-expose-headers: X-Request-ID\r\n\
         openai-organization: an-organization-0123456789\r\n\
         openai-processing-ms: 700\r\n\
         openai-project: proj_0123456789ABCDEFGHIJKLMN\r\n\
         openai-version: 2020-10-01\r\n\
         x-envoy-upstream-service-time: 706\r\n\
         x-ratelimit-limit-requests: 60000000\r\n\
         x-ratelimit-limit-tokens: 3000000000\r\n\
         x-ratelimit-remaining-requests: 59999999\r\n\
         x-ratelimit-remaining-tokens: 2999999500\r\n\
         x-ratelimit-reset-requests: 6ms\r\n\
         x-ratelimit-reset-tokens: 1ms\r\n\
         x-request-id: req_0123456789abcdef0123456789abcdef\r\n\
         cf-cache-status: DYNAMIC\r\n\
         set-cookie: __cf_bm={}; path=/; expires=Sat, 21-Nov-26 12:30:00 GMT; \
         domain=.api.example.com; HttpOnly; Secure; SameSite=None\r\n\
         strict-transport-security: max-age=31536000; includeSubDomains; preload\r\n\
         x-content-type-options: nosniff\r\n\
         set-cookie: _cfuvid={}; path=/; domain=.api.example.com; HttpOnly; Secure; \
         SameSite=None\r\n\
         server: cloudflare\r\n\
         cf-ray: 0123456789abcdef-FRA\r\n\
         alt-svc: h3=\":443\"; ma=86400\r\n\
         \r\n{body}",
        body.len(),
        "0123456789abcdef".repeat(10),
        "0123456789abcdef".repeat(5),
    )
    .into_bytes()
}
