//! Many at once: storms of refusals, and limits that are kept as the server counts them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use tollgate::{ErrorKind, Monitor};

use crate::support::faultd::{Faultd, Reply};
use crate::*;

#[test]
fn no_request_is_earlier_than_the_hint_by_the_servers_clock() {
    const HINT: Duration = Duration::from_millis(300);
    // The first is refused; everything that is in flight with it is refused too.
    let refused: Mutex<Option<Instant>> = Mutex::new(None);
    let server = Faultd::script(move |seen| {
        let mut refused = refused.lock().unwrap();
        let first = *refused.get_or_insert(seen.at);
        if seen.at < first + HINT {
            Reply::error(429, "requests", "rate_limit_exceeded", "slow down")
                .header("retry-after-ms", "300")
        } else {
            Reply::ok_chat("ok")
        }
    });
    let monitor = Monitor::new();
    let client = client_with(&server, |builder| builder.concurrency(32)).with_monitor(&monitor);
    let replies = client.chat_all("m", &prompts(64));
    assert!(replies.iter().all(Result::is_ok));

    let seen = server.requests();
    let first = seen[0].at;
    let early = seen.iter().filter(|seen| seen.at < first + HINT).count();
    assert!(early <= 32, "only what was in flight: {early}");
    // A row's own next request is never before its own hint.
    for row in prompts(64) {
        let times: Vec<Instant> = seen
            .iter()
            .filter(|seen| seen.json()["messages"][0]["content"] == *row)
            .map(|seen| seen.at)
            .collect();
        for pair in times.windows(2) {
            assert!(pair[1] - pair[0] >= HINT, "{:?}", pair[1] - pair[0]);
        }
    }
    assert_eq!(seen.len(), 64 + early);
    assert_eq!(monitor.snapshot().throttled, early as u64);
}

#[test]
fn a_storm_of_refusals_is_weathered() {
    // Half of all requests for as long as there are many of them, with hints and without.
    let server = Faultd::script(|seen| match seen.index % 4 {
        _ if seen.index > 200 => Reply::ok_chat("ok"),
        0 => Reply::error(429, "requests", "rate_limit_exceeded", "slow")
            .header("retry-after-ms", "2"),
        1 => Reply::error(503, "x", "overloaded", "busy"),
        _ => Reply::ok_chat("ok"),
    });
    let client = client_with(&server, |builder| {
        builder.concurrency(32).retry(quick().max_attempts(20))
    });
    let replies = client.chat_all("m", &prompts(300));
    assert!(replies.iter().all(Result::is_ok));
    let failed = replies
        .iter()
        .map(|reply| reply.as_ref().unwrap().attempts() as usize - 1);
    assert_eq!(server.count(), 300 + failed.sum::<usize>());
}

#[test]
fn a_wrong_key_is_tried_by_no_more_than_are_in_flight() {
    let server = Faultd::script(|_| {
        Reply::error(401, "invalid_request_error", "invalid_api_key", "wrong key")
            .after(Duration::from_millis(20))
    });
    let client = client_with(&server, |builder| builder.concurrency(64));
    let results = client.chat_all("m", &prompts(1_000));
    assert!(server.count() <= 64, "{} requests", server.count());
    let stopped = results
        .iter()
        .filter(|result| result.as_ref().unwrap_err().stopped_run())
        .count();
    assert_eq!(stopped, server.count());
    assert_eq!(
        results[999].as_ref().unwrap_err().kind(),
        ErrorKind::Cancelled
    );
}

#[test]
fn a_server_that_comes_late_gets_every_row() {
    // Bound and not listening: connects are refused, and nobody else can have the port meanwhile.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    socket.bind(&any.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let monitor = Monitor::new();
    let client = Client::builder()
        .base_url(format!("http://{address}/v1"))
        .api_key(KEY)
        .retry(quick().max_attempts(1))
        .build()
        .unwrap()
        .with_monitor(&monitor);
    let results = thread::scope(|scope| {
        let run = scope.spawn(|| client.chat_all("m", &prompts(3)));
        while monitor.snapshot().backing_off == 0 {
            thread::yield_now();
        }
        socket.listen(16).unwrap();
        let listener = TcpListener::from(socket);
        for _ in 0..3 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            assert!(stream.read(&mut request).unwrap() > 0);
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 16\r\n\r\n{\"choices\":[{}]}")
                .unwrap();
        }
        run.join().unwrap()
    });
    for result in results {
        assert_eq!(result.unwrap().attempts(), 1);
    }
    assert_eq!(monitor.snapshot().attempts, 3);
}

#[cfg(feature = "sim")]
mod limits {
    use tollgate::sim::{SimServer, SimSpec};
    use tollgate::{Client, Monitor, Rate, Request};

    use super::*;

    fn simulated(spec: &str) -> SimServer {
        let spec: SimSpec = spec.parse().unwrap();
        SimServer::builder(spec)
            .record_arrivals(true)
            .start()
            .unwrap()
    }

    fn client(
        server: &SimServer,
        configure: impl FnOnce(ClientBuilder) -> ClientBuilder,
    ) -> Client {
        let builder = Client::builder().base_url(server.base_url()).api_key(KEY);
        configure(builder).build().unwrap()
    }

    #[test]
    fn a_thousand_requests_keep_within_the_servers_limit() {
        let server = simulated("latency=5ms,rps=500");
        let monitor = Monitor::new();
        let client = client(&server, |builder| {
            builder.concurrency(50).requests_per_second(500).burst(50)
        })
        .with_monitor(&monitor);
        let start = Instant::now();
        let replies = client.chat_all("m", &prompts(1_000));
        assert!(replies.iter().all(Result::is_ok));
        assert!(
            start.elapsed() >= Duration::from_millis(1_900),
            "950 of them at 500 a second"
        );
        let stats = server.stats();
        assert_eq!((stats.answered, stats.limited), (1_000, 0));
        assert_eq!(monitor.snapshot().attempts, 1_000);
        // What a stalled machine lets pile up on the way, and never what the burst would add.
        let excess = stats.excess(Rate::per_second(500), 50);
        assert!(excess <= 100, "{excess} too many");
    }

    #[test]
    fn a_client_faster_than_the_server_allows_still_gets_every_row() {
        let server = simulated("latency=1ms,jitter=0,rps=100,burst=5");
        let monitor = Monitor::new();
        let client = client(&server, |builder| builder.concurrency(20)).with_monitor(&monitor);
        let replies = client.chat_all("m", &prompts(150));
        assert!(replies.iter().all(Result::is_ok));
        let stats = server.stats();
        assert_eq!(stats.answered, 150);
        assert_eq!(monitor.snapshot().throttled, stats.limited);
        // Refused again and again without a wait it would be thousands.
        assert!(stats.limited <= 600, "{} refusals", stats.limited);
    }

    #[test]
    fn tokens_are_kept_within_the_servers_limit() {
        // A thousand a second on both sides; the client's burst is half the server's.
        let server = simulated("latency=2ms,tpm=60000");
        let client = client(&server, |builder| {
            builder.concurrency(8).tokens_per_minute(60_000)
        });
        let requests: Vec<Request> = (0..60)
            .map(|n| {
                Request::chat("m", format!("prompt {n}"))
                    .max_tokens(40)
                    .into()
            })
            .collect();
        let replies = client.send_all(&requests);
        assert!(replies.iter().all(Result::is_ok));
        assert_eq!((server.stats().limited, server.stats().answered), (0, 60));
    }

    #[test]
    fn errors_and_broken_connections_are_absorbed() {
        let server = simulated("latency=1ms,errors=0.1,faults=0.1,seed=11");
        let client = client(&server, |builder| {
            builder.concurrency(16).retry(quick().max_attempts(10))
        });
        let replies = client.chat_all("m", &prompts(500));
        assert!(replies.iter().all(Result::is_ok));
        let stats = server.stats();
        assert_eq!(stats.answered, 500);
        assert!(stats.errors >= 25 && stats.faults >= 25, "{stats:?}");
    }
}
