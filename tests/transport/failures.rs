//! Exchanges that do not come about, and what is said of them.

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Instant;

use tollgate::{Call, Cancel, Fault, Stage, Transport};

use crate::server::*;

#[test]
fn a_closed_port_is_a_connect_fault() {
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let error = post(&transport(), &url(address), b"{}").unwrap_err();
    assert_eq!(
        (error.fault, error.stage),
        (Fault::Connect, Stage::NothingSent)
    );
    assert!(error.message.contains(&address.to_string()), "{error}");
    let cause = error.source().unwrap().downcast_ref::<io::Error>();
    assert_eq!(cause.unwrap().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_name_without_an_address_is_a_resolve_fault() {
    let error = post(&transport(), "http://nowhere.invalid/secret", b"{}").unwrap_err();
    assert_eq!(
        (error.fault, error.stage),
        (Fault::Resolve, Stage::NothingSent)
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
                    assert_eq!((answer.status, &answer.body[..]), (413, &b"big"[..]));
                    answered += 1;
                }
                Err(error) => assert_eq!(error.fault, Fault::Broken, "{error:?}"),
            }
        }
        assert!(answered > 0, "closes: {closes}");
    }
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
    ] {
        let mut call = Call::new(method, url, Instant::now() + AMPLE, &cancel);
        call.headers = headers;
        let error = transport.send(&call).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert_eq!(
            (error.fault, error.stage),
            (Fault::Unsendable, Stage::NothingSent),
            "{shown}"
        );
        assert!(!shown.contains("secret"), "{shown}");
    }
}
