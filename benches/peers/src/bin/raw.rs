//! The floor: one thread and one socket for each place in flight, the request as ready bytes, the
//! answer read to its end and not looked into. What the other clients need above this is theirs;
//! and where this one is the fastest, the server is not what holds them up.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use peers::chat::{self, Question};
use peers::task::{self, Done, Task};
use peers::{Result, wire};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

fn main() -> ExitCode {
    task::main(run)
}

trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

/// Where to, and what to say there.
struct Call {
    address: String,
    tls: Option<Arc<ClientConfig>>,
    bytes: Vec<u8>,
}

fn run(task: &Task) -> Result<Done> {
    let call = Call::new(task)?;
    let (taken, answered) = (AtomicUsize::new(0), AtomicUsize::new(0));
    task.on_threads(128 << 10, || {
        let mut stream = call.connect()?;
        let mut buffer = vec![0; 4 << 10];
        while taken.fetch_add(1, Ordering::Relaxed) < task.requests {
            stream.write_all(&call.bytes)?;
            read_answer(&mut *stream, &mut buffer)?;
            answered.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    })?;
    Ok(Done::counted(answered.into_inner()))
}

impl Call {
    fn new(task: &Task) -> Result<Self> {
        let (scheme, rest) = task.base_url.split_once("://").ok_or("no scheme")?;
        let (address, path) = rest.split_once('/').ok_or("no path")?;
        let body = serde_json::to_string(&Question::new(&chat::prompt()))?;
        let bytes = format!(
            "POST /{path}{} HTTP/1.1\r\n\
             host: {address}\r\n\
             authorization: Bearer {}\r\n\
             content-type: application/json\r\n\
             content-length: {}\r\n\
             \r\n{body}",
            chat::PATH,
            chat::KEY,
            body.len(),
        )
        .into_bytes();
        Ok(Self {
            address: address.to_owned(),
            tls: (scheme == "https").then(|| config(task)).transpose()?,
            bytes,
        })
    }

    fn connect(&self) -> Result<Box<dyn Stream>> {
        let socket = TcpStream::connect(&self.address)?;
        socket.set_nodelay(true)?;
        let Some(config) = &self.tls else {
            return Ok(Box::new(socket));
        };
        let name = ServerName::try_from("127.0.0.1")?;
        let connection = ClientConnection::new(Arc::clone(config), name)?;
        Ok(Box::new(StreamOwned::new(connection, socket)))
    }
}

fn config(task: &Task) -> Result<Arc<ClientConfig>> {
    let pem = task
        .ca_pem()?
        .ok_or("https needs the server's certificate")?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&pem)?)?;
    Ok(Arc::new(
        ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth(),
    ))
}

fn read_answer(stream: &mut dyn Stream, buffer: &mut Vec<u8>) -> Result<()> {
    let mut filled = 0;
    loop {
        if filled == buffer.len() {
            buffer.resize(2 * filled, 0);
        }
        let read = stream.read(&mut buffer[filled..])?;
        if read == 0 {
            return Err("the server closed the connection".into());
        }
        filled += read;
        if let Some(head) = wire::head(&buffer[..filled])? {
            if !head.first_line.starts_with(b"HTTP/1.1 200 ") {
                return Err("not answered with 200".into());
            }
            if filled >= head.message {
                return Ok(());
            }
        }
    }
}
