//! Scripted servers on raw sockets, and the calls made to them.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tollgate::{
    Cancel, HttpConfig, HttpRequest, HttpResponse, HttpTransport, ProxyPolicy, Transport,
    TransportError,
};

/// Far above what a loaded machine needs, or one that stands still for some minutes.
pub(crate) const AMPLE: Duration = Duration::from_secs(600);
pub(crate) const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// An answer of `length` bytes in all, with a body of the letter x.
pub(crate) fn answer_of(length: usize) -> Vec<u8> {
    let head = |body: usize| format!("HTTP/1.1 200 OK\r\ncontent-length: {body:04}\r\n\r\n");
    let body = length - head(0).len();
    (head(body) + &"x".repeat(body)).into_bytes()
}

pub(crate) fn direct() -> HttpConfig {
    HttpConfig::new().proxy(ProxyPolicy::None)
}

pub(crate) fn transport() -> HttpTransport {
    HttpTransport::new(direct()).unwrap()
}

pub(crate) fn url(address: SocketAddr) -> String {
    format!("http://{address}/v1/x")
}

pub(crate) fn post(
    transport: &HttpTransport,
    url: &str,
    body: &[u8],
) -> Result<HttpResponse, TransportError> {
    post_within(transport, url, body, AMPLE)
}

pub(crate) fn post_within(
    transport: &HttpTransport,
    url: &str,
    body: &[u8],
    time: Duration,
) -> Result<HttpResponse, TransportError> {
    let cancel = Cancel::new();
    let mut call = HttpRequest::new("POST", url, Instant::now() + time, &cancel);
    call.body = body;
    transport.send(&call)
}

/// A server that gives each connection, counted from 0, to `serve`.
pub(crate) fn server(serve: impl Fn(usize, TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let (Ok(stream), serve) = (stream, serve.clone()) else {
                return;
            };
            stream.set_nodelay(true).unwrap();
            thread::spawn(move || serve(number, stream));
        }
    });
    address
}

/// A server that answers each connection's first request with `bytes`, and closes it.
pub(crate) fn answering(bytes: impl Into<Vec<u8>>) -> SocketAddr {
    let bytes = bytes.into();
    server(move |_, mut stream| {
        if read_request(&mut stream).is_some() {
            let _ = stream.write_all(&bytes);
        }
    })
}

/// Head and body of one request; `None` if the client closed.
pub(crate) fn read_request(stream: &mut impl Read) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 65536];
    loop {
        if let Some(end) = find(&bytes, b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end + 4].to_vec()).unwrap();
            let length: usize = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse().unwrap());
            while bytes.len() < end + 4 + length {
                match stream.read(&mut chunk) {
                    Ok(0) | Err(_) => return None,
                    Ok(count) => bytes.extend_from_slice(&chunk[..count]),
                }
            }
            return Some((head, bytes.split_off(end + 4)));
        }
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
        }
    }
}

pub(crate) fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// Blocks until the client closes.
pub(crate) fn hold(mut stream: TcpStream) {
    let _ = io::copy(&mut stream, &mut io::sink());
}

pub(crate) fn keep_alive(tell: Sender<usize>) -> impl Fn(usize, TcpStream) {
    saying(OK.to_vec(), tell)
}

/// A server that answers every request with `bytes`, and tells over which connection.
pub(crate) fn repeating(bytes: impl Into<Vec<u8>>, tell: Sender<usize>) -> SocketAddr {
    server(saying(bytes.into(), tell))
}

fn saying(bytes: Vec<u8>, tell: Sender<usize>) -> impl Fn(usize, TcpStream) {
    let tell = Mutex::new(tell);
    move |number, mut stream| {
        let tell = tell.lock().unwrap().clone();
        while read_request(&mut stream).is_some() {
            let _ = tell.send(number);
            stream.write_all(&bytes).unwrap();
        }
    }
}

pub(crate) fn connections(seen: &Receiver<usize>) -> usize {
    seen.try_iter()
        .collect::<std::collections::BTreeSet<_>>()
        .len()
}
