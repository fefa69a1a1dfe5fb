//! Connections that are refused, reset, closed, silent, slow, or gone when they are used again.

use std::thread;
use std::time::{Duration, Instant};

use tollgate::{Cancel, ErrorKind, Monitor};

use crate::support::faultd::{Faultd, Reply, refused_addr};
use crate::*;

/// The first request meets this, the others are answered.
fn once(fault: Reply) -> Faultd {
    Faultd::replies([fault, Reply::ok_chat("ok")])
}

#[test]
fn a_refused_port_is_waited_for_and_nothing_is_counted_as_sent() {
    let client = Client::builder()
        .base_url(format!("http://{}/v1", refused_addr()))
        .api_key(KEY)
        .build()
        .unwrap()
        .with_deadline(Duration::from_millis(1_500));
    let start = Instant::now();
    let error = client.chat("m", "hi").send().unwrap_err();
    // One try at once and one after a second; the next would be too late.
    assert_eq!(error.kind(), ErrorKind::Deadline);
    assert_eq!((error.attempts(), error.possibly_billed()), (0, false));
    assert!(start.elapsed() >= Duration::from_secs(1));
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("cannot connect"), "{cause}");
}

#[test]
fn resets_and_closes_are_tried_again_on_a_new_connection() {
    for (what, fault) in [
        ("reset before the head", Reply::reset()),
        ("closed before the head", Reply::close()),
        (
            "reset within the head",
            Reply::raw("HTTP/1.1 200 O").then_reset(),
        ),
        (
            "closed within the head",
            Reply::raw("HTTP/1.1 200 OK\r\ncontent-le"),
        ),
        ("half a body", Reply::ok_chat("hello").half_body()),
        (
            "half a body, reset",
            Reply::ok_chat("hello").half_body().then_reset(),
        ),
        (
            "shorter than said",
            Reply::ok_chat("hello").content_length("5000").then_close(),
        ),
        ("chunks that are none", Reply::chunked_garbage()),
        (
            "no last chunk",
            Reply::raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n"),
        ),
    ] {
        let server = once(fault);
        let monitor = Monitor::new();
        let client = client(&server).with_monitor(&monitor);
        let reply = client.chat("m", "hi").send();
        let reply = reply.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        assert_eq!((reply.attempts(), server.count()), (2, 2), "{what}");
        assert_eq!(reply.text().as_deref(), Some("ok"), "{what}");
        assert_eq!(monitor.snapshot().possibly_billed, 1, "{what}");
        let seen = server.requests();
        assert_ne!(seen[0].connection, seen[1].connection, "{what}");
        assert_eq!(seen[0].body, seen[1].body, "{what}");
    }
}

#[test]
fn what_stays_broken_fails_with_its_own_kind() {
    for (fault, kind, tries) in [
        (Reply::reset(), ErrorKind::Network, 3),
        (Reply::close(), ErrorKind::Network, 3),
        (Reply::ok_chat("x").half_body(), ErrorKind::Truncated, 3),
        (
            Reply::raw("SSH-2.0-OpenSSH_9.6\r\n"),
            ErrorKind::Protocol,
            3,
        ),
        (Reply::raw("HTTP/1.1 what\r\n\r\n"), ErrorKind::Protocol, 3),
        (
            Reply::raw([0_u8, 159, 146, 150, 13, 10]),
            ErrorKind::Protocol,
            3,
        ),
    ] {
        let server = Faultd::replies([fault.clone()]);
        let error = failure(&client(&server));
        assert_eq!(error.kind(), kind, "{fault:?}: {error:?}");
        assert_eq!(server.count(), tries, "{fault:?}");
        assert_eq!(error.attempts(), 3);
        assert!(error.possibly_billed());
        assert!(error.to_string().contains("127.0.0.1"), "{error}");
    }
}

#[test]
fn silence_ends_at_the_timeout_and_not_before() {
    let limit = Duration::from_millis(200);
    for fault in [
        Reply::stall(),
        Reply::raw("HTTP/1.1 200 OK\r\n").then_hold(),
        Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{").then_hold(),
        // A byte now and then is no progress: the limit is on the whole exchange.
        Reply::ok_chat("hello").drip(1, Duration::from_millis(20)),
    ] {
        let server = Faultd::replies([fault]);
        let client = client_with(&server, |builder| {
            builder.timeout(limit).retry(quick().max_attempts(2))
        });
        let start = Instant::now();
        let error = failure(&client);
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
        assert!(start.elapsed() >= 2 * limit);
        assert_eq!((server.count(), error.attempts()), (2, 2));
        assert!(error.possibly_billed());
    }
}

#[test]
fn slow_is_not_silent() {
    // Longer in all than any pause of it, and within the limit.
    let server = Faultd::replies([Reply::ok_chat("slow")
        .after(Duration::from_millis(100))
        .drip(16, Duration::from_millis(5))]);
    let reply = client(&server).chat("m", "hi").send().unwrap();
    assert_eq!(reply.text().as_deref(), Some("slow"));
    assert_eq!(server.count(), 1);
}

#[test]
fn a_server_that_closes_after_every_answer_is_no_fault() {
    let server = Faultd::script(|_| Reply::ok_chat("ok").connection_close());
    let client = client_with(&server, |builder| builder.concurrency(8));
    let replies = client.chat_all("m", &prompts(200));
    assert!(
        replies
            .iter()
            .all(|reply| reply.as_ref().unwrap().attempts() == 1)
    );
    assert_eq!((server.count(), server.connections()), (200, 200));
    assert!(server.in_flight_peak() <= 8);
}

#[test]
fn a_connection_that_dies_between_two_requests_costs_no_row() {
    // Closed without a word after each answer: the race of every keep-alive connection.
    let server = Faultd::script(|_| Reply::ok_chat("ok").then_close());
    let client = client_with(&server, |builder| {
        builder.concurrency(8).retry(quick().max_attempts(6))
    });
    let replies = client.chat_all("m", &prompts(300));
    for reply in &replies {
        assert_eq!(reply.as_ref().unwrap().text().as_deref(), Some("ok"));
    }
    assert_eq!(server.count(), 300, "a dead connection brings no request");
}

#[test]
fn connections_are_kept_and_are_no_more_than_the_places() {
    let server = Faultd::script(|_| Reply::ok_chat("ok").after(Duration::from_millis(1)));
    let client = client_with(&server, |builder| builder.concurrency(8));
    let replies = client.chat_all("m", &prompts(400));
    assert!(replies.iter().all(Result::is_ok));
    assert!(server.connections() <= 8, "{}", server.connections());
    assert!(server.in_flight_peak() <= 8);
}

#[test]
fn interim_answers_and_chunks_are_read_over() {
    let server = Faultd::replies([
        Reply::ok_chat("ok").prefix("HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"),
        Reply::ok_chat("ok").chunked(7),
        Reply::ok_chat("ok").without_length(),
    ]);
    for expected in 1..=3 {
        let reply = client(&server).chat("m", "hi").send().unwrap();
        assert_eq!(reply.text().as_deref(), Some("ok"));
        assert_eq!(server.count(), expected);
    }
}

#[test]
fn an_abort_interrupts_what_is_in_flight_and_the_client_stays_usable() {
    let server = Faultd::script(|seen| match seen.json()["model"].as_str() {
        Some("stuck") => Reply::stall(),
        Some("slow") => Reply::ok_chat("ok").after(Duration::from_millis(100)),
        _ => Reply::ok_chat("ok"),
    });
    let monitor = Monitor::new();
    // One place more than the run that gets stuck will fill.
    let neighbour = client_with(&server, |builder| builder.concurrency(9));
    let client = neighbour.clone().with_monitor(&monitor);
    let cancel = Cancel::new();
    let stuck = client.clone().with_cancel(&cancel);
    let results = thread::scope(|scope| {
        let run = scope.spawn(|| stuck.chat_all("stuck", &prompts(8)));
        while server.count() < 8 {
            thread::yield_now();
        }
        // What others of the same transport have in flight is none of its business.
        let other = scope.spawn(|| neighbour.chat("slow", "hi").send());
        while server.count() < 9 {
            thread::yield_now();
        }
        cancel.abort();
        let aborted = Instant::now();
        let results = run.join().unwrap();
        // The attempts' own time is a minute, and would end them as well.
        assert!(aborted.elapsed() < Duration::from_secs(30));
        other.join().unwrap().unwrap();
        results
    });
    for result in &results {
        assert_eq!(result.as_ref().unwrap_err().kind(), ErrorKind::Cancelled);
    }
    assert_eq!(server.count(), 9, "and nothing was tried again");
    let seen = monitor.snapshot();
    assert_eq!((seen.abandoned, seen.failed, seen.in_flight), (8, 0, 0));
    assert_eq!(client.limiter().in_flight(), 0);
    let reply = client.chat("fine", "hi").send().unwrap();
    assert_eq!(reply.text().as_deref(), Some("ok"));
}

#[test]
fn a_cancel_lets_what_is_in_flight_finish() {
    let server = Faultd::script(|_| Reply::ok_chat("ok").after(Duration::from_millis(100)));
    let cancel = Cancel::new();
    let client = client_with(&server, |builder| builder.concurrency(4)).with_cancel(&cancel);
    let results = thread::scope(|scope| {
        let run = scope.spawn(|| client.chat_all("m", &prompts(40)));
        while server.count() < 4 {
            thread::yield_now();
        }
        cancel.cancel();
        run.join().unwrap()
    });
    // Whoever had been admitted before the cancel, and nobody after it.
    let good = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(good, server.count());
    assert!(good >= 4);
    assert!(results[39].is_err());
}

#[test]
fn dropping_the_outcomes_stops_an_endless_input() {
    let server = Faultd::script(|_| Reply::ok_chat("ok"));
    let client = client_with(&server, |builder| builder.concurrency(4));
    let requests = (0_u64..).map(|n| tollgate::Request::chat("m", n.to_string()));
    let mut outcomes = client.as_completed(requests).unwrap();
    for _ in 0..3 {
        outcomes.next().unwrap().result.unwrap();
    }
    drop(outcomes);
    while client.limiter().in_flight() > 0 {
        thread::yield_now();
    }
    // A worker that had passed the limiter may still have been on its way to the socket.
    thread::sleep(Duration::from_millis(100));
    let after = server.count();
    thread::sleep(Duration::from_millis(100));
    assert_eq!(server.count(), after);
}
