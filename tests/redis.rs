//! Limiters that share their rates by a server of Redis or Valkey, while that server goes away,
//! forgets all and is slow.

#![cfg(feature = "redis")]

pub mod support;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use support::redis_server::{Server, programs};
use support::until::until;
use tollgate::{Cost, Limiter, Rate, Shared, SharedStatus};

const RATE: u64 = 200;
const BURST: u64 = 20;

/// Limiters as of several processes, and threads that take whatever they are granted.
struct Sharers {
    limiters: Vec<Limiter>,
    granted: Arc<Mutex<Vec<Instant>>>,
    ended: Arc<AtomicBool>,
}

impl Sharers {
    fn start(limiters: usize, url: &str) -> Self {
        Self::at(RATE, BURST, limiters, url)
    }

    fn at(rate: u64, burst: u64, limiters: usize, url: &str) -> Self {
        let limiter = |_| {
            let limits = Limiter::builder().requests(Rate::per_second(rate));
            let shared = Shared::open(url).expect("the URL is right");
            let limits = limits.burst(burst).concurrency(1000).shared(shared);
            limits.build().expect("the limits are right")
        };
        let sharers = Self {
            limiters: (0..limiters).map(limiter).collect(),
            granted: Arc::default(),
            ended: Arc::default(),
        };
        for limiter in &sharers.limiters {
            let (limiter, granted) = (limiter.clone(), Arc::clone(&sharers.granted));
            let ended = Arc::clone(&sharers.ended);
            thread::spawn(move || {
                while !ended.load(Relaxed) {
                    let wait = Duration::from_millis(500);
                    if limiter.acquire_timeout(Cost::ONE, wait).is_ok() {
                        granted.lock().unwrap().push(Instant::now());
                    }
                }
            });
        }
        sharers
    }

    fn count(&self) -> usize {
        self.granted.lock().unwrap().len()
    }

    fn until_granted(&self, count: usize) {
        until("enough are granted", || self.count() >= count);
    }

    fn until_all(&self, what: &str, is_so: fn(SharedStatus) -> bool) {
        let of_all = || {
            self.limiters
                .iter()
                .all(|it| is_so(it.shared_status().expect("it shares")))
        };
        until(what, of_all);
    }

    /// The last moment at which nobody had reached the store yet.
    fn last_gone(&self) -> Instant {
        let gone = |limiter: &Limiter| limiter.shared_status().is_some_and(|it| it.gone.is_some());
        let mut last = Instant::now();
        loop {
            let now = Instant::now();
            if !self.limiters.iter().all(gone) {
                return last;
            }
            last = now;
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Since that moment there was never more than this many and what the rate allows. A grant can
    /// be noted late and never early, so no slow machine breaks this.
    fn never_over(&self, since: Instant, at_once: u64) {
        let granted = self.granted.lock().unwrap();
        let after = granted.iter().filter(|&&grant| grant >= since);
        for (before, grant) in after.enumerate() {
            let most = at_once as f64 + RATE as f64 * (*grant - since).as_secs_f64();
            assert!(before as f64 <= most, "{before} where {most} are allowed");
        }
    }
}

impl Drop for Sharers {
    fn drop(&mut self) {
        self.ended.store(true, Relaxed);
    }
}

/// Waits until nothing leased is left, and sees that nothing more is granted.
fn assert_nothing_is_granted(sharers: &Sharers) {
    sharers.until_all("the store is gone", |status| status.gone.is_some());
    // A lease is good for a burst: 100 ms.
    thread::sleep(Duration::from_millis(400));
    let granted = sharers.count();
    thread::sleep(Duration::from_millis(400));
    assert_eq!(sharers.count(), granted, "granted without the store");
}

#[test]
fn limiters_keep_one_rate_together() {
    for program in programs() {
        let server = Server::start(program, &[]);
        let started = Instant::now();
        let sharers = Sharers::start(8, &server.url("together"));
        sharers.until_granted(200);
        sharers.never_over(started, BURST);
        sharers.until_all("all are known", |status| status.processes == 8);
    }
}

#[test]
fn a_server_that_stops_holds_all_until_it_is_back() {
    for program in programs() {
        let server = Server::start(program, &[]);
        let sharers = Sharers::at(RATE, 10 * RATE, 4, &server.url("stopped"));
        sharers.until_granted(50);
        server.freeze();
        assert_nothing_is_granted(&sharers);
        let before = sharers.count();
        server.thaw();
        let back = sharers.last_gone();
        sharers.until_granted(before + 100);
        // Nothing was saved up meanwhile.
        sharers.never_over(back, BURST);
        sharers.until_all("the store is back", |status| status.gone.is_none());
    }
}

#[test]
fn a_server_that_forgot_all_is_no_reason_for_a_burst() {
    for program in programs() {
        let mut server = Server::start(program, &[]);
        let sharers = Sharers::at(RATE, 10 * RATE, 4, &server.url("forgotten"));
        sharers.until_granted(50);
        server.kill();
        assert_nothing_is_granted(&sharers);
        let before = sharers.count();
        server.restart();
        let back = sharers.last_gone();
        sharers.until_granted(before + 100);
        // It begins empty.
        sharers.never_over(back, 1);
    }
}

#[test]
fn a_slow_server_only_makes_leases_longer() {
    for program in programs() {
        let server = Server::start(program, &[]);
        let url = server.url("slow");
        let proxy = delaying_proxy(server.port, Duration::from_millis(25));
        let started = Instant::now();
        let slow = url.replace(&server.port.to_string(), &proxy.to_string());
        let sharers = Sharers::start(4, &slow);
        sharers.until_granted(200);
        sharers.never_over(started, BURST);
    }
}

/// Prints what share of the rate is used, and how often the store is asked for a request.
#[test]
#[ignore = "measures"]
fn what_sharing_costs() {
    for program in programs() {
        for (rate, burst) in [(200, 1), (200, 20), (200, 200), (1000, 100), (1000, 1000)] {
            for delay in [0, 1, 25] {
                let server = Server::start(program, &[]);
                let proxy = delaying_proxy(server.port, Duration::from_millis(delay));
                let port = if delay == 0 { server.port } else { proxy };
                let url = format!("redis://127.0.0.1:{port}/0?key=costs");
                let sharers = Sharers::at(rate, burst, 8, &url);
                sharers.until_granted(usize::try_from(rate / 2).expect("a rate is small"));
                let asked = |sharers: &Sharers| -> u64 {
                    let status = sharers.limiters.iter().filter_map(Limiter::shared_status);
                    status.map(|status| status.round_trips).sum()
                };
                let (before, trips, from) = (sharers.count(), asked(&sharers), Instant::now());
                thread::sleep(Duration::from_secs(4));
                let granted = (sharers.count() - before) as f64;
                let seconds = from.elapsed().as_secs_f64();
                println!(
                    "{program}, {rate}/s burst {burst}, {} ms: {:.3} of the rate, {:.3} round trips a request",
                    2 * delay,
                    granted / (rate as f64 * seconds),
                    (asked(&sharers) - trips) as f64 / granted,
                );
            }
        }
    }
}

/// The port of a proxy that delays every byte in both directions.
fn delaying_proxy(port: u16, delay: Duration) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let own = listener.local_addr().expect("it has an address").port();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else {
                continue;
            };
            let pump = |mut from: TcpStream, mut to: TcpStream| {
                thread::spawn(move || {
                    let mut bytes = vec![0; 65_536];
                    while let Ok(length @ 1..) = from.read(&mut bytes) {
                        thread::sleep(delay);
                        if to.write_all(&bytes[..length]).is_err() {
                            break;
                        }
                    }
                    let _ = to.shutdown(Shutdown::Both);
                });
            };
            let twin = |stream: &TcpStream| stream.try_clone().expect("a socket can be cloned");
            pump(twin(&client), twin(&server));
            pump(server, client);
        }
    });
    own
}
