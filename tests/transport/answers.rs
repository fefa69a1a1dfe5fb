//! What counts as an answer, whole or broken.

use std::io::{Read, Write};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::read::GzEncoder;
use tollgate::{Cancel, HttpRequest, Transport, TransportErrorKind, TransportStage};

use crate::server::*;

#[test]
fn redirects_are_answers() {
    let (tell, followed) = mpsc::channel();
    let target = server(keep_alive(tell));
    for status in [301, 302, 303, 307, 308] {
        let address = answering(format!(
            "HTTP/1.1 {status} Moved\r\nlocation: http://{target}/stolen\r\ncontent-length: 0\r\n\r\n"
        ));
        let answer = post(&transport(), &url(address), b"{}").unwrap();
        assert_eq!(answer.status, status);
        assert!(answer.headers.get("location").is_some());
    }
    assert_eq!(connections(&followed), 0);
}

#[test]
fn an_error_answer_keeps_status_headers_and_body() {
    let address = answering(
        "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nx-latin: caf\u{e9}\r\n\
         content-length: 8\r\n\r\n{\"e\":1}\n",
    );
    let answer = post(&transport(), &url(address), b"{}").unwrap();
    assert_eq!(answer.status, 429);
    assert_eq!(answer.headers["retry-after"], "7");
    assert_eq!(answer.headers["x-latin"], "caf\u{e9}");
    assert_eq!(answer.body, b"{\"e\":1}\n");
}

#[test]
fn an_error_body_is_kept_to_64_kib_and_the_connection_unless_it_is_longer() {
    for (length, kept, connected) in [(60_000, 60_000, 1), (100_000, 65_536, 3)] {
        let (tell, seen) = mpsc::channel();
        let mut answer =
            format!("HTTP/1.1 500 No\r\ncontent-length: {length}\r\n\r\n").into_bytes();
        answer.resize(answer.len() + length, b'x');
        let tell = Mutex::new(tell);
        let address = server(move |number, mut stream| {
            while read_request(&mut stream).is_some() {
                tell.lock().unwrap().send(number).unwrap();
                let _ = stream.write_all(&answer);
            }
        });
        let transport = transport();
        for _ in 0..3 {
            let answer = post(&transport, &url(address), b"{}").unwrap();
            assert_eq!((answer.status.as_u16(), answer.body.len()), (500, kept));
        }
        assert_eq!(connections(&seen), connected, "{length}");
    }
}

#[test]
fn an_error_answer_whose_body_breaks_off_is_still_one() {
    let address = answering("HTTP/1.1 503 No\r\nretry-after: 3\r\ncontent-length: 99\r\n\r\npart");
    let answer = post(&transport(), &url(address), b"{}").unwrap();
    assert_eq!(
        (answer.status.as_u16(), &answer.body[..]),
        (503, &b"part"[..])
    );
}

#[test]
fn chunked_bodies_are_joined_and_may_not_break_off() {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let whole = answering(format!("{head}3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n"));
    assert_eq!(
        post(&transport(), &url(whole), b"{}").unwrap().body,
        b"abcdefg"
    );

    // With trailers, and with the last line forgotten.
    for end in ["0\r\nx-sum: 7\r\n\r\n", "0\r\n"] {
        let whole = answering(format!("{head}3\r\nabc\r\n{end}"));
        assert_eq!(post(&transport(), &url(whole), b"{}").unwrap().body, b"abc");
    }

    for cut in ["3\r\nab", "3\r\nabc\r\n", "3\r\nabc\r\n4\r\n"] {
        let address = answering(format!("{head}{cut}"));
        let error = post(&transport(), &url(address), b"{}").unwrap_err();
        assert_eq!(
            (error.kind, error.stage),
            (TransportErrorKind::Truncated, TransportStage::Answering),
            "{cut:?}"
        );
    }
    for bad in ["FFFFFFFFFFFFFFFF\r\nabc", "zz\r\nabc", "-1\r\n"] {
        let address = answering(format!("{head}{bad}"));
        let error = post(&transport(), &url(address), b"{}").unwrap_err();
        assert!(
            matches!(
                error.kind,
                TransportErrorKind::Truncated | TransportErrorKind::Protocol
            ),
            "{bad:?} {error:?}"
        );
    }
}

#[test]
fn what_broke_is_told_in_words_of_http_and_its_cause_is_kept() {
    for (answer, words) in [
        ("", "the server closed the connection before it answered"),
        ("SSH-2.0-x\r\n\r\n", "the answer is not HTTP: "),
        (
            "HTTP/1.1 200 OK\r\nx",
            "the answer broke off within its head",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc",
            "the answer broke off after 3 of 10 bytes",
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
            "the answer broke off after 3 bytes",
        ),
    ] {
        let error = post(&transport(), &url(answering(answer)), b"{}").unwrap_err();
        let told = error.message.as_str();
        assert!(told.starts_with(words), "{answer:?}: {told}");
        let foreign = ["Peer", "io:", "protocol:", "parse fail"];
        assert!(!foreign.iter().any(|it| told.contains(it)), "{told}");
        assert!(error.source.is_some(), "{answer:?}");
    }
}

#[test]
fn a_body_shorter_than_announced_is_truncated() {
    let address = answering("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc");
    let error = post(&transport(), &url(address), b"{}").unwrap_err();
    assert_eq!(
        (error.kind, error.stage),
        (TransportErrorKind::Truncated, TransportStage::Answering)
    );
}

#[test]
fn a_reset_within_a_body_of_unknown_length_is_not_its_end() {
    let address = server(|_, mut stream| {
        // Closed with the request unread, so the kernel answers with a reset; the answer is read
        // first, for the client is waiting for it.
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhalf").unwrap();
        thread::sleep(Duration::from_millis(50));
    });
    let error = post(&transport(), &url(address), b"{}").unwrap_err();
    assert_eq!(
        (error.kind, error.stage),
        (TransportErrorKind::Truncated, TransportStage::Answering)
    );
}

#[test]
fn no_body_where_there_is_none() {
    let address = server(|_, mut stream| {
        while let Some((head, _)) = read_request(&mut stream) {
            let answer: &[u8] = if head.starts_with("HEAD") {
                b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n"
            } else {
                b"HTTP/1.1 204 No Content\r\n\r\n"
            };
            stream.write_all(answer).unwrap();
        }
    });
    let (transport, url, cancel) = (transport(), url(address), Cancel::new());
    for method in ["HEAD", "GET", "DELETE", "HEAD"] {
        let call = HttpRequest::new(method, &url, Instant::now() + AMPLE, &cancel);
        assert!(transport.send(&call).unwrap().body.is_empty());
    }
}

#[test]
fn interim_answers_are_skipped() {
    let address = answering(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n\
         HTTP/1.1 100 Continue\r\ndate: now\r\ncontent-length: 0\r\n\r\n\
         HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    );
    let answer = post(&transport(), &url(address), b"{}").unwrap();
    assert_eq!(
        (answer.status.as_u16(), &answer.body[..]),
        (200, &b"ok"[..])
    );
}

#[test]
fn no_connection_is_kept_whose_answer_may_end_elsewhere() {
    let chunked = "transfer-encoding: chunked";
    for (head, kept) in [
        (format!("HTTP/1.1 200 OK\r\n{chunked}"), true),
        (
            format!("HTTP/1.1 200 OK\r\ncontent-length: 12\r\n{chunked}"),
            false,
        ),
        (
            format!("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n{chunked}"),
            false,
        ),
        (
            format!("HTTP/1.1 200 OK\r\n{chunked}\r\ntransfer-encoding: gzip"),
            false,
        ),
    ] {
        let (tell, seen) = mpsc::channel();
        let address = repeating(format!("{head}\r\n\r\n2\r\nok\r\n0\r\n\r\n"), tell);
        let transport = transport();
        for _ in 0..3 {
            let answer = post(&transport, &url(address), b"{}").unwrap();
            assert_eq!(answer.body, b"ok", "{head}");
        }
        let expected = if kept { 1 } else { 3 };
        assert_eq!(connections(&seen), expected, "{head}");
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    GzEncoder::new(bytes, Compression::default())
        .read_to_end(&mut packed)
        .unwrap();
    packed
}

/// An answer that says that its body is coded so.
fn coded(status: u16, coding: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-encoding: {coding}\r\ncontent-length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

#[test]
fn a_coding_that_nobody_asked_for_is_undone() {
    let (tell, _seen) = mpsc::channel();
    let transport = transport();
    for status in [200, 503] {
        for (body, expected) in [(gzip(b"zip"), b"zip"), (b"zip".to_vec(), b"zip")] {
            let server = url(repeating(coded(status, "gzip", &body), tell.clone()));
            let answer = post(&transport, &server, b"{}").unwrap();
            assert_eq!(
                (answer.status.as_u16(), &answer.body[..]),
                (status, &expected[..])
            );
        }
    }
    // Whoever asks for a coding undoes it.
    let cancel = Cancel::new();
    let server = url(repeating(coded(200, "gzip", &gzip(b"zip")), tell));
    let mut call = HttpRequest::new("GET", &server, Instant::now() + AMPLE, &cancel);
    call.headers = &[("Accept-Encoding", "gzip")];
    assert_eq!(transport.send(&call).unwrap().body, gzip(b"zip"));
}

#[test]
fn a_coding_that_is_not_understood_is_named_and_takes_nothing_from_a_refusal() {
    let (tell, _seen) = mpsc::channel();
    let transport = transport();
    let success = url(repeating(coded(200, "br", b"\x0b\xff"), tell.clone()));
    let error = post(&transport, &success, b"{}").unwrap_err();
    assert_eq!(
        (error.kind, error.stage),
        (TransportErrorKind::Encoded, TransportStage::Answering)
    );
    assert!(error.message.contains("\"br\""), "{error}");
    assert_eq!(error.partial.unwrap().body, b"\x0b\xff");

    let refusal = url(repeating(coded(503, "br", b"\x0b\xff"), tell));
    let answer = post(&transport, &refusal, b"{}").unwrap();
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (503, &b""[..]));
}

#[test]
fn a_small_body_does_not_unpack_to_more_than_is_allowed() {
    let bomb = gzip(&vec![b'x'; 1 << 20]);
    let cancel = Cancel::new();
    let (ok, refused) = (coded(200, "gzip", &bomb), coded(503, "gzip", &bomb));
    for (answer, expected) in [(ok, None), (refused, Some(64 << 10))] {
        let url = url(answering(answer));
        let mut call = HttpRequest::new("POST", &url, Instant::now() + AMPLE, &cancel);
        call.max_body = 512 << 10;
        match (transport().send(&call), expected) {
            (Ok(answer), Some(length)) => assert_eq!(answer.body.len(), length),
            (Err(error), None) => assert_eq!(error.kind, TransportErrorKind::TooLarge),
            (other, _) => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_odd_head_is_read_if_there_is_one_way_to_read_it() {
    for (head, expected) in [
        ("HTTP/1.1 200\r\ncontent-length: 2", true),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2",
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\ncontent-length: 2",
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-a: b\r\n c",
            false,
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-a : b", false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx a: b", false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n: b", false),
        ("HTTP/1.1 200 OK\r\ncontent-length : 2", false),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3",
            false,
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2x", false),
    ] {
        let address = answering(format!("{head}\r\n\r\nok"));
        match post(&transport(), &url(address), b"{}") {
            Ok(answer) => assert!(expected && answer.body == b"ok", "{head:?} {answer:?}"),
            Err(error) => assert!(
                !expected
                    && error.kind == TransportErrorKind::Protocol
                    && (error.message.contains("content-length")
                        || error.message.contains("HTTP: invalid header name")),
                "{head:?} {error:?}"
            ),
        }
    }
    let chunked = "transfer-encoding: chunked\r\n".repeat(2);
    let address = answering(format!(
        "HTTP/1.1 200 OK\r\n{chunked}\r\n2\r\nok\r\n0\r\n\r\n"
    ));
    let answer = post(&transport(), &url(address), b"{}").unwrap();
    assert_eq!(answer.body, b"ok");
}

#[test]
fn a_line_without_an_end_is_no_chunk() {
    let address = server(move |_, mut stream| {
        read_request(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        let ones = [b'1'; 4096];
        while stream.write_all(&ones).is_ok() {}
    });
    let error = post(&transport(), &url(address), b"{}").unwrap_err();
    assert_eq!(error.kind, TransportErrorKind::Protocol, "{error}");
}

#[test]
fn a_body_may_be_as_large_as_allowed_and_no_larger() {
    let chunked =
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n";
    let sized = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n0123456789";
    for answer in [chunked, sized] {
        let (url, cancel) = (url(answering(answer)), Cancel::new());
        let mut call = HttpRequest::new("POST", &url, Instant::now() + AMPLE, &cancel);
        call.max_body = 10;
        assert_eq!(transport().send(&call).unwrap().body, b"0123456789");
        call.max_body = 9;
        let error = transport().send(&call).unwrap_err();
        assert_eq!(
            (error.kind, error.stage),
            (TransportErrorKind::TooLarge, TransportStage::Answering)
        );
    }
}

#[test]
fn an_endless_body_ends_at_the_cap() {
    let address = server(|_, mut stream| {
        read_request(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        let filler = vec![b'x'; 65536];
        while stream.write_all(&filler).is_ok() {}
    });
    let (url, cancel) = (url(address), Cancel::new());
    let mut call = HttpRequest::new("POST", &url, Instant::now() + AMPLE, &cancel);
    call.max_body = 1 << 20;
    assert_eq!(
        transport().send(&call).unwrap_err().kind,
        TransportErrorKind::TooLarge
    );
}

#[test]
fn what_is_not_http_is_a_protocol_fault() {
    let long = "x-long: ".to_owned() + &"y".repeat(100_000) + "\r\n";
    for bytes in [
        "SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned(),
        "\0\0\0\0\0\0\0\0".to_owned(),
        "HTTP/1.1 abc OK\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nnul: a\0b\r\n\r\n".to_owned(),
        format!("HTTP/1.1 200 OK\r\n{long}\r\n"),
    ] {
        let shown = bytes.chars().take(40).collect::<String>();
        let error = post(&transport(), &url(answering(bytes)), b"{}").unwrap_err();
        assert_eq!(
            (error.kind, error.stage),
            (TransportErrorKind::Protocol, TransportStage::Answering),
            "{shown:?}"
        );
    }
}

#[test]
fn a_head_of_48_kib_is_an_answer() {
    let long = "y".repeat(48 * 1024);
    let address = answering(format!(
        "HTTP/1.1 200 OK\r\nx-long: {long}\r\ncontent-length: 2\r\n\r\nok"
    ));
    let answer = post(&transport(), &url(address), b"{}").unwrap();
    assert_eq!(answer.headers["x-long"], &long[..]);
}
