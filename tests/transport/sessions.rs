//! TLS once the handshake is over: what arrives between two answers, and what breaks.

use std::io::{Read, Write};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use rustls::version::TLS13;
use tempfile::NamedTempFile;
use tollgate::{Client, TransportError, TransportErrorKind, TransportStage};

use crate::server::*;
use crate::tls::*;

/// What TLS adds to a record of application data: its head, its type and its tag.
const RECORD: usize = 5 + 1 + 16;
/// A record that no key opens.
const UNOPENED: &[u8] = b"\x17\x03\x03\x00\x28 forty bytes of nothing, and more of that";

/// For what has been sent to a peer on this machine to arrive.
const SETTLED: Duration = Duration::from_millis(50);

/// Answers all requests of a session with [`OK`].
fn be_polite(mut session: Session) {
    while read_request(&mut session).is_some() {
        let _ = session.write_all(OK);
    }
}

/// Seals `bytes` into a record that leaves with the next write.
fn seal(session: &mut Session, bytes: &[u8]) {
    session.conn.writer().write_all(bytes).unwrap();
}

/// Sends what is sealed, and does nothing else.
fn push(session: &mut Session) {
    while session.conn.wants_write() {
        session.conn.write_tls(&mut session.sock).unwrap();
    }
}

#[test]
fn what_comes_behind_an_answer_is_not_the_next_one() {
    let identity = issued(&["127.0.0.1"]);
    // In one write with it, in a record that begins where a read ends; and later.
    for (length, pause) in [(4096 - RECORD, None), (100, Some(SETTLED))] {
        let (tell, sent) = mpsc::channel();
        let tell = Mutex::new(tell);
        let address = tls_server(&identity, move |number, mut session| {
            if number == 0 {
                // The tickets leave with this one.
                read_request(&mut session);
                session.write_all(OK).unwrap();
                read_request(&mut session);
                seal(&mut session, &answer_of(length));
                if let Some(pause) = pause {
                    session.flush().unwrap();
                    thread::sleep(pause);
                }
                seal(&mut session, &answer_of(50));
                session.flush().unwrap();
                tell.lock().unwrap().send(()).unwrap();
            }
            be_polite(session);
        });
        let (transport, url) = (trusting(&identity.root), https(address, "127.0.0.1"));
        assert_eq!(post(&transport, &url, b"{}").unwrap().body, b"ok");
        assert!(
            post(&transport, &url, b"{}")
                .unwrap()
                .body
                .ends_with(b"xxx")
        );
        sent.recv().unwrap();
        thread::sleep(SETTLED);
        let next = post(&transport, &url, b"{}").unwrap();
        assert_eq!(next.body, b"ok", "behind {length} bytes, after {pause:?}");
    }
}

#[test]
fn tickets_and_new_keys_that_come_late_do_not_cost_the_connection() {
    let identity = issued(&["127.0.0.1"]);
    let mut config = server_config(&identity, &TLS13);
    // So that it can answer before it makes tickets, which it does as the handshake is over.
    config.send_half_rtt_data = true;
    let (tell, served) = mpsc::channel();
    let tell = Mutex::new(tell);
    let address = tls_server_with(config, move |number, mut session| {
        let tell = tell.lock().unwrap().clone();
        session.conn.read_tls(&mut session.sock).unwrap();
        session.conn.process_new_packets().unwrap();
        push(&mut session);
        // The end of the handshake, and the request: answered before they are looked at.
        session.conn.read_tls(&mut session.sock).unwrap();
        seal(&mut session, OK);
        push(&mut session);
        thread::sleep(SETTLED);
        session.conn.process_new_packets().unwrap();
        push(&mut session);
        tell.send(number).unwrap();

        assert!(read_request(&mut session).is_some(), "the first");
        read_request(&mut session);
        session.write_all(OK).unwrap();
        thread::sleep(SETTLED);
        session.conn.refresh_traffic_keys().unwrap();
        session.flush().unwrap();
        tell.send(number).unwrap();
        be_polite(session);
    });
    let (transport, url) = (trusting(&identity.root), https(address, "127.0.0.1"));
    for _ in 0..2 {
        assert_eq!(post(&transport, &url, b"{}").unwrap().body, b"ok");
        assert_eq!(served.recv().unwrap(), 0, "one connection for all");
        thread::sleep(SETTLED);
    }
    for _ in 0..2 {
        assert_eq!(post(&transport, &url, b"{}").unwrap().body, b"ok");
    }
    assert!(served.try_recv().is_err());
}

#[test]
fn a_connection_whose_session_ended_while_idle_is_not_used_again() {
    let identity = issued(&["127.0.0.1"]);
    let (tell, said) = mpsc::channel();
    let tell = Mutex::new(tell);
    let address = tls_server(&identity, move |number, mut session| {
        read_request(&mut session);
        session.write_all(OK).unwrap();
        if number == 0 {
            thread::sleep(SETTLED);
            session.conn.send_close_notify();
            session.flush().unwrap();
            tell.lock().unwrap().send(()).unwrap();
            // The connection itself stays open.
            hold(session.sock);
        }
    });
    let (transport, url) = (trusting(&identity.root), https(address, "127.0.0.1"));
    assert_eq!(post(&transport, &url, b"{}").unwrap().body, b"ok");
    said.recv().unwrap();
    thread::sleep(SETTLED);
    assert_eq!(post(&transport, &url, b"{}").unwrap().body, b"ok");
}

/// What comes of a second request, which a session answers so after it has answered the first.
fn second(serve: impl Fn(&mut Session) + Send + Sync + 'static) -> TransportError {
    let identity = issued(&["127.0.0.1"]);
    let address = tls_server(&identity, move |_, mut session| {
        read_request(&mut session);
        session.write_all(OK).unwrap();
        read_request(&mut session);
        serve(&mut session);
        hold(session.sock);
    });
    let (transport, url) = (trusting(&identity.root), https(address, "127.0.0.1"));
    assert_eq!(post(&transport, &url, b"{}").unwrap().body, b"ok");
    post(&transport, &url, b"{}").unwrap_err()
}

#[test]
fn what_tls_gives_up_on_after_the_handshake_is_a_broken_connection() {
    let unopened = second(|session| session.sock.write_all(UNOPENED).unwrap());
    let plain = second(|session| {
        let gateway = b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n";
        session.sock.write_all(gateway).unwrap();
    });
    let alert = second(|session| {
        // As if the client had sent it.
        session.conn.read_tls(&mut &*UNOPENED).unwrap();
        session.conn.process_new_packets().unwrap_err();
        session.flush().unwrap_or_default();
    });
    for error in [unopened, plain, alert] {
        assert_eq!(
            (error.kind, error.stage),
            (TransportErrorKind::Broken, TransportStage::Sent),
            "{error:?}"
        );
        let cause = std::error::Error::source(&error).unwrap();
        assert!(cause.is::<rustls::Error>(), "{cause:?}");
    }
    let within = second(|session| {
        let half = b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nhalf";
        session.write_all(half).unwrap();
        session.sock.write_all(UNOPENED).unwrap();
    });
    assert_eq!(
        (within.kind, within.stage),
        (TransportErrorKind::Truncated, TransportStage::Answering),
        "{within:?}"
    );
}

#[test]
fn an_answer_is_not_lost_by_what_comes_behind_it() {
    let identity = issued(&["127.0.0.1"]);
    let address = tls_server(&identity, |_, mut session| {
        read_request(&mut session);
        let mut bytes = Vec::new();
        seal(&mut session, OK);
        while session.conn.wants_write() {
            session.conn.write_tls(&mut bytes).unwrap();
        }
        bytes.extend(UNOPENED);
        session.sock.write_all(&bytes).unwrap();
        hold(session.sock);
    });
    let (transport, url) = (trusting(&identity.root), https(address, "127.0.0.1"));
    for _ in 0..2 {
        assert_eq!(post(&transport, &url, b"{}").unwrap().body, b"ok");
    }
}

#[test]
fn a_server_that_asks_for_a_certificate_of_ours_refuses_the_handshake() {
    let identity = issued(&["127.0.0.1"]);
    for version in rustls::ALL_VERSIONS {
        let address = tls_server_with(asking_for_one(&identity, version), |_, mut session| {
            session
                .conn
                .complete_io(&mut session.sock)
                .expect_err("no certificate");
            hold(session.sock);
        });
        let (transport, url) = (trusting(&identity.root), https(address, "127.0.0.1"));
        let error = post(&transport, &url, b"{}").unwrap_err();
        assert_eq!(error.kind, TransportErrorKind::Tls, "{version:?} {error:?}");
    }
}

#[test]
fn a_handshake_that_fails_where_others_have_stood_is_a_hiccup_unless_it_is_about_who_they_are() {
    const LAST: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
    const INTERNAL_ERROR: &[u8] = b"\x15\x03\x03\x00\x02\x02\x50";
    const ACCESS_DENIED: &[u8] = b"\x15\x03\x03\x00\x02\x02\x31";
    let identity = issued(&["127.0.0.1"]);
    for (said, kind) in [
        (INTERNAL_ERROR, TransportErrorKind::Connect),
        (
            b"HTTP/1.1 503 Service Unavailable\r\n\r\n",
            TransportErrorKind::Connect,
        ),
        (ACCESS_DENIED, TransportErrorKind::Tls),
    ] {
        let address = tls_server(&identity, move |number, mut session| {
            if number == 1 {
                let _ = session.sock.read(&mut [0; 2048]);
                let _ = session.sock.write_all(said);
                return hold(session.sock);
            }
            read_request(&mut session);
            let _ = session.write_all(LAST);
        });
        let (transport, url) = (trusting(&identity.root), https(address, "127.0.0.1"));
        assert_eq!(post(&transport, &url, b"{}").unwrap().body, b"ok");
        let error = post(&transport, &url, b"{}").unwrap_err();
        assert_eq!(
            (error.kind, error.stage),
            (kind, TransportStage::NothingSent)
        );
        assert_eq!(post(&transport, &url, b"{}").unwrap().body, b"ok");

        let stranger = tls_server(&issued(&["127.0.0.1"]), |_, session| be_polite(session));
        let error = post(&transport, &https(stranger, "127.0.0.1"), b"{}").unwrap_err();
        assert_eq!(error.kind, TransportErrorKind::Tls);
    }
}

#[test]
fn one_record_that_cannot_be_opened_costs_a_retry_and_not_the_run() {
    let identity = issued(&["127.0.0.1"]);
    let address = tls_server(&identity, |number, mut session| {
        let reply = r#"{"choices":[{"message":{"content":"hi"}}]}"#;
        let length = reply.len();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{reply}");
        for request in 0.. {
            if read_request(&mut session).is_none() {
                return;
            }
            if (number, request) == (1, 2) {
                let _ = session.sock.write_all(UNOPENED);
                return hold(session.sock);
            }
            // So that all connections have a part in it.
            thread::sleep(Duration::from_millis(2));
            let _ = session.write_all(answer.as_bytes());
        }
    });
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(identity.root.as_bytes()).unwrap();
    let client = Client::builder()
        .base_url(https(address, "127.0.0.1"))
        .api_key("sk-0123456789")
        .ca_file(file.path())
        .concurrency(4)
        .build()
        .unwrap();
    let replies = client.chat_all("m", &["x"; 200]);
    for reply in replies {
        assert_eq!(reply.unwrap().text().unwrap(), "hi");
    }
}

#[test]
fn an_answer_to_an_upload_that_nobody_reads_is_read() {
    let identity = issued(&["127.0.0.1"]);
    let address = tls_server(&identity, |_, mut session| {
        session.read_exact(&mut [0; 1000]).unwrap();
        let answer = b"HTTP/1.1 302 Found\r\nlocation: /login\r\ncontent-length: 3\r\n\r\nbig";
        session.write_all(answer).unwrap();
        thread::sleep(AMPLE);
    });
    let (transport, url) = (trusting(&identity.root), https(address, "127.0.0.1"));
    let answer = post(&transport, &url, &vec![b'x'; 8 << 20]).unwrap();
    assert_eq!(
        (answer.status.as_u16(), &answer.body[..]),
        (302, &b"big"[..])
    );
}

#[test]
fn an_upload_goes_on_after_tickets_have_come_while_it_was_stuck() {
    let identity = issued(&["127.0.0.1"]);
    let body: Vec<u8> = (0..=250).cycle().take(8 << 20).collect();
    let expected = body.clone();
    let address = tls_server(&identity, move |_, mut session| {
        while session.conn.is_handshaking() {
            session.conn.complete_io(&mut session.sock).unwrap();
        }
        push(&mut session);
        // Until the client has nothing more to fill and has looked why.
        thread::sleep(Duration::from_secs(3));
        let (_, body) = read_request(&mut session).unwrap();
        let arrived = if body == expected { OK } else { b"" };
        session.write_all(arrived).unwrap();
    });
    let (transport, url) = (trusting(&identity.root), https(address, "127.0.0.1"));
    assert_eq!(post(&transport, &url, &body).unwrap().body, b"ok");
}
