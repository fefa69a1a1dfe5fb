//! Exchanges that do not come about, and what is said of them.

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use tollgate::{Cancel, HttpRequest, Transport, TransportErrorKind, TransportStage};

use crate::server::*;

#[test]
fn a_closed_port_is_a_connect_fault() {
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let error = post(&transport(), &url(address), b"{}").unwrap_err();
    assert_eq!(
        (error.kind, error.stage),
        (TransportErrorKind::Connect, TransportStage::NothingSent)
    );
    assert!(error.message.contains(&address.to_string()), "{error}");
    let cause = error.source().unwrap().downcast_ref::<io::Error>();
    assert_eq!(cause.unwrap().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_name_without_an_address_is_a_resolve_fault() {
    let error = post(&transport(), "http://nowhere.invalid/secret", b"{}").unwrap_err();
    assert_eq!(
        (error.kind, error.stage),
        (TransportErrorKind::Resolve, TransportStage::NothingSent)
    );
    assert!(error.message.contains("nowhere.invalid") && !error.message.contains("secret"));
}

#[test]
fn an_early_refusal_of_an_upload_is_read() {
    let refusal = b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbig";
    for closes in [true, false] {
        let address = server(move |_, mut stream| {
            let mut some = [0; 1000];
            stream.read_exact(&mut some).unwrap();
            stream.write_all(refusal).unwrap();
            if !closes {
                thread::sleep(AMPLE);
            }
        });
        let transport = transport();
        let mut answered = 0;
        for _ in 0..3 {
            match post(&transport, &url(address), &vec![b'x'; 4 << 20]) {
                Ok(answer) => {
                    assert_eq!(
                        (answer.status.as_u16(), &answer.body[..]),
                        (413, &b"big"[..])
                    );
                    answered += 1;
                }
                Err(error) => assert_eq!(error.kind, TransportErrorKind::Broken, "{error:?}"),
            }
        }
        assert!(answered > 0, "closes: {closes}");
    }
}

#[test]
fn an_answer_to_an_upload_that_nobody_reads_is_read_whatever_it_says() {
    let interim = "HTTP/1.1 102 Processing\r\n\r\n";
    for (head, status) in [
        ("HTTP/1.1 302 Found\r\nlocation: /login\r\n", 302),
        ("HTTP/1.1 200 OK\r\n", 200),
        (
            &format!("{interim}HTTP/1.1 503 Service Unavailable\r\n"),
            503,
        ),
        ("\r\nHTTP/1.1 413 Too Large\r\n", 413),
    ] {
        let answer = format!("{head}content-length: 3\r\n\r\n");
        let address = server(move |_, mut stream| {
            stream.read_exact(&mut [0; 1000]).unwrap();
            let _ = stream.write_all(answer.as_bytes());
            let _ = stream.write_all(b"big");
            thread::sleep(AMPLE);
        });
        let transport = transport();
        let body = vec![b'x'; 8 << 20];
        let answer = post(&transport, &url(address), &body).unwrap();
        assert_eq!(
            (answer.status.as_u16(), &answer.body[..]),
            (status, &b"big"[..])
        );
        // Not over the connection that has half an upload in it.
        let next = post(&transport, &url(address), &[b'y'; 1000]).unwrap();
        assert_eq!(next.status, status);
    }
}

#[test]
fn a_head_may_come_byte_by_byte_or_before_the_request_is_sent() {
    let heads = "HTTP/1.1 100 Continue\r\na: b\r\n\r\nHTTP/1.1 413 Too Large\r\nx-b: c\r\n\
               content-length: 4\r\n\r\nx y:";
    let address = server(move |number, mut stream| {
        assert_eq!(number, 0, "one connection serves both");
        read_request(&mut stream);
        for byte in heads.as_bytes().chunks(1) {
            let _ = stream.write_all(byte);
            thread::sleep(Duration::from_millis(1));
        }
        stream.read_exact(&mut [0; 1000]).unwrap();
        let _ = stream.write_all(heads.as_bytes());
        thread::sleep(AMPLE);
    });
    let transport = transport();
    for body in [vec![b'x'; 10], vec![b'x'; 8 << 20]] {
        let answer = post(&transport, &url(address), &body).unwrap();
        assert_eq!(
            (answer.status.as_u16(), &answer.body[..]),
            (413, &b"x y:"[..])
        );
        assert_eq!(answer.headers["x-b"], "c");
    }
}

#[test]
fn a_server_may_answer_while_it_reads_and_take_its_time() {
    let body: Vec<u8> = (0..=250).cycle().take(8 << 20).collect();
    let expected = body.clone();
    let address = server(move |_, mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        // Until the client has nothing more to fill and has looked why.
        thread::sleep(Duration::from_secs(2));
        let (_, body) = read_request(&mut stream).unwrap();
        let arrived: &[u8] = if body == expected {
            b"2\r\nok\r\n0\r\n\r\n"
        } else {
            b"0\r\n\r\n"
        };
        stream.write_all(arrived).unwrap();
    });
    let answer = post(&transport(), &url(address), &body).unwrap();
    assert_eq!(answer.body, b"ok");
}

#[test]
fn an_answer_to_an_upload_that_nobody_reads_has_begun_when_it_is_seen() {
    let address = server(|_, mut stream| {
        stream.read_exact(&mut [0; 1000]).unwrap();
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n");
        thread::sleep(AMPLE);
    });
    let error = post(&transport(), &url(address), &vec![b'x'; 8 << 20]).unwrap_err();
    assert_eq!(
        (error.kind, error.stage),
        (TransportErrorKind::TooLarge, TransportStage::Answering)
    );
}

#[test]
fn requests_that_cannot_be_sent_are_told_without_their_secrets() {
    let address = answering(OK);
    let (transport, cancel) = (transport(), Cancel::new());
    let good = url(address);
    let bad_value: &[(&str, &str)] = &[("authorization", "Bearer secret\nx")];
    let bad_name: &[(&str, &str)] = &[("a b", "secret")];
    let framing: &[(&str, &str)] = &[("Content-Length", "7")];
    let chunked: &[(&str, &str)] = &[("transfer-encoding", "chunked")];
    let expecting: &[(&str, &str)] = &[("Expect", "100-continue")];
    for (url, method, headers) in [
        ("/v1/secret", "GET", &[][..]),
        ("ftp://secret/", "GET", &[]),
        ("http:///secret", "GET", &[]),
        ("http://host:99999/secret", "GET", &[]),
        ("http://user:secret@host/", "GET", &[]),
        (&good, "GE T", &[]),
        (&good, "POST", bad_value),
        (&good, "POST", bad_name),
        (&good, "POST", framing),
        (&good, "POST", chunked),
        (&good, "POST", expecting),
    ] {
        let mut call = HttpRequest::new(method, url, Instant::now() + AMPLE, &cancel);
        call.headers = headers;
        let error = transport.send(&call).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert_eq!(
            (error.kind, error.stage),
            (TransportErrorKind::Unsendable, TransportStage::NothingSent),
            "{shown}"
        );
        assert!(!shown.contains("secret"), "{shown}");
    }
}

#[cfg(not(feature = "rustls"))]
#[test]
fn https_without_tls_is_refused_in_words() {
    let error = post(&transport(), "https://127.0.0.1:1/secret", b"{}").unwrap_err();
    assert_eq!(
        (error.kind, error.stage),
        (TransportErrorKind::Unsendable, TransportStage::NothingSent)
    );
    assert!(error.message.contains("build with the feature"), "{error}");
}
