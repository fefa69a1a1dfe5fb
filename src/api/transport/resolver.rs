//! Host names to addresses, once every half minute and not once a request.
//!
//! A thousand connections may be opened at once, and a lookup for each would be a thousand times the
//! same question. So an answer is kept for [`KEPT`], one lookup at a time is made for a name whoever
//! asks, and nobody waits for it while an older answer will do. Failures are not kept. The one thread
//! a lookup takes is what lets a caller give up on it: the system's resolver cannot be interrupted.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ureq_proto::http::Uri;

use super::TransportErrorKind;
use super::fault::{Failure, bare_host, origin, port};
use crate::sync::{Condvar, Mutex};

/// How long an answer is good for: long enough to cost nothing, short enough to follow a failover.
const KEPT: Duration = Duration::from_secs(30);
/// How much longer it is used while, or because, no newer one is to be had.
const STALE: Duration = Duration::from_secs(300);
/// Addresses tried at most.
const ADDRESSES: usize = 16;
/// Names remembered at most; a client talks to one or two.
const NAMES: usize = 64;

type Lookup = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// The resolver all connections of a transport share.
#[derive(Clone)]
pub(super) struct CachingResolver(Arc<Shared>);

struct Shared {
    names: Mutex<Vec<Name>>,
    lookup: Box<Lookup>,
}

struct Name {
    host: String,
    port: u16,
    addresses: Arc<[SocketAddr]>,
    /// Those of them at which nobody answered since the last lookup.
    silent: Vec<SocketAddr>,
    good_until: Instant,
    flight: Option<Arc<Flight>>,
    uses: usize,
}

type Outcome = Result<Arc<[SocketAddr]>, Arc<io::Error>>;

/// A lookup under way, and its outcome for those who wait for it.
#[derive(Default)]
struct Flight {
    outcome: Mutex<Option<Outcome>>,
    landed: Condvar,
}

impl CachingResolver {
    pub(super) fn system() -> Self {
        Self::new(|host, port| Ok((host, port).to_socket_addrs()?.collect()))
    }

    /// Where `uri` is to be reached, beginning with another address each time; waits for the answer
    /// until `by`.
    pub(super) fn resolve(&self, uri: &Uri, by: Instant) -> Result<Vec<SocketAddr>, Failure> {
        let (host, port) = (bare_host(uri), port(uri));
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        self.addresses(host, port, by).map_err(|error| {
            let why = format!("no address for the host of {}", origin(uri));
            Failure::new(TransportErrorKind::Resolve, why).because(error)
        })
    }

    /// Puts `address` behind the others of `uri` until the next lookup: nobody answered there. A host
    /// with one dead address of two would otherwise make every second connection wait for it.
    pub(super) fn avoid(&self, uri: &Uri, address: SocketAddr) {
        let (host, port) = (bare_host(uri), port(uri));
        let mut names = self.0.names.lock();
        if let Some(name) = names.iter_mut().find(|name| name.is(host, port))
            && !name.silent.contains(&address)
        {
            name.silent.push(address);
        }
    }

    fn new(
        lookup: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Shared {
            names: Mutex::new(Vec::new()),
            lookup: Box::new(lookup),
        }))
    }

    fn addresses(&self, host: &str, port: u16, by: Instant) -> io::Result<Vec<SocketAddr>> {
        let now = Instant::now();
        let (known, flight, is_new, turn) = {
            let mut names = self.0.names.lock();
            let at = find_or_add(&mut names, host, port);
            let name = &mut names[at];
            name.uses = name.uses.wrapping_add(1);
            let known = name.known(now);
            if known.is_some() && now < name.good_until {
                return Ok(name.in_turn());
            }
            let is_new = name.flight.is_none();
            let flight = Arc::clone(name.flight.get_or_insert_default());
            (known, flight, is_new, name.uses)
        };
        if is_new {
            self.start(host, port, &flight);
        }
        if let Some(addresses) = known {
            return Ok(addresses);
        }
        match flight.wait(by) {
            Some(Ok(addresses)) => Ok(rotated(&addresses, turn)),
            Some(Err(error)) => Err(io::Error::new(error.kind(), error)),
            None => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    fn start(&self, host: &str, port: u16, flight: &Arc<Flight>) {
        let (resolver, host) = (self.clone(), host.to_owned());
        let job = {
            let (flight, host) = (Arc::clone(flight), host.clone());
            move || resolver.fly(&host, port, &flight)
        };
        let thread = thread::Builder::new()
            .name("tollgate-dns".into())
            .spawn(job);
        if thread.is_err() {
            // No thread to be had: the caller's own will do.
            self.fly(&host, port, flight);
        }
    }

    fn fly(&self, host: &str, port: u16, flight: &Arc<Flight>) {
        let outcome = match (self.0.lookup)(host, port) {
            Ok(addresses) if addresses.is_empty() => {
                Err(Arc::new(io::Error::from(io::ErrorKind::NotFound)))
            }
            Ok(addresses) => Ok(Arc::from(addresses)),
            Err(error) => Err(Arc::new(error)),
        };
        {
            let mut names = self.0.names.lock();
            if let Some(name) = names.iter_mut().find(|name| name.is(host, port)) {
                name.flight = None;
                if let Ok(addresses) = &outcome {
                    name.addresses = Arc::clone(addresses);
                    name.silent.clear();
                    name.good_until = Instant::now() + KEPT;
                }
            }
        }
        *flight.outcome.lock() = Some(outcome);
        flight.landed.notify_all();
    }
}

impl Flight {
    fn wait(&self, by: Instant) -> Option<Outcome> {
        let mut outcome = self.outcome.lock();
        while outcome.is_none() && Instant::now() < by {
            outcome = self.landed.wait_until(outcome, by);
        }
        outcome.clone()
    }
}

impl Name {
    fn is(&self, host: &str, port: u16) -> bool {
        self.port == port && self.host.eq_ignore_ascii_case(host)
    }

    /// The last answer, if it can still be used.
    fn known(&self, now: Instant) -> Option<Vec<SocketAddr>> {
        let usable = !self.addresses.is_empty() && now < self.good_until + STALE;
        usable.then(|| self.in_turn())
    }

    fn in_turn(&self) -> Vec<SocketAddr> {
        let mut addresses = rotated(&self.addresses, self.uses);
        // Stable, so that both halves keep their turns.
        addresses.sort_by_key(|address| self.silent.contains(address));
        addresses
    }
}

fn find_or_add(names: &mut Vec<Name>, host: &str, port: u16) -> usize {
    if let Some(at) = names.iter().position(|name| name.is(host, port)) {
        return at;
    }
    if names.len() >= NAMES {
        names.remove(0);
    }
    names.push(Name {
        host: host.to_owned(),
        port,
        addresses: Arc::from([]),
        silent: Vec::new(),
        good_until: Instant::now(),
        flight: None,
        uses: 0,
    });
    names.len() - 1
}

fn rotated(addresses: &[SocketAddr], by: usize) -> Vec<SocketAddr> {
    let first = by % addresses.len().max(1);
    let (later, earlier) = addresses.split_at(first);
    earlier
        .iter()
        .chain(later)
        .take(ADDRESSES)
        .copied()
        .collect()
}

impl fmt::Debug for CachingResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachingResolver").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn two_addresses() -> Vec<SocketAddr> {
        vec![
            "192.0.2.1:80".parse().unwrap(),
            "192.0.2.2:80".parse().unwrap(),
        ]
    }

    #[test]
    fn many_callers_make_one_lookup_and_its_answer_is_kept_and_rotated() {
        let lookups = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&lookups);
        let resolver = CachingResolver::new(move |_, _| {
            counted.fetch_add(1, Ordering::SeqCst);
            Ok(two_addresses())
        });
        let start = Barrier::new(8);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    start.wait();
                    resolver.addresses("Host.test", 80, soon()).unwrap();
                });
            }
        });
        let first = resolver.addresses("host.test", 80, soon()).unwrap()[0];
        let second = resolver.addresses("host.test", 80, soon()).unwrap()[0];
        assert_ne!(first, second);
        assert_eq!(lookups.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn those_who_wait_for_the_same_lookup_begin_with_different_addresses() {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = Mutex::new(held);
        let resolver = CachingResolver::new(move |_, _| {
            // Ends when the test drops its side.
            let _ = held.lock().recv();
            Ok(two_addresses())
        });
        let firsts = thread::scope(|scope| {
            let callers: Vec<_> = (0..2)
                .map(|_| scope.spawn(|| resolver.addresses("host.test", 80, soon()).unwrap()[0]))
                .collect();
            while resolver
                .0
                .names
                .lock()
                .first()
                .is_none_or(|name| name.uses < 2)
            {
                thread::yield_now();
            }
            drop(release);
            callers
                .into_iter()
                .map(|caller| caller.join().unwrap())
                .collect::<Vec<_>>()
        });
        assert_ne!(firsts[0], firsts[1]);
    }

    #[test]
    fn an_address_where_nobody_answers_goes_last_until_the_next_lookup() {
        let resolver = CachingResolver::new(|_, _| Ok(two_addresses()));
        let uri: Uri = "http://host.test:80/".parse().unwrap();
        let [silent, lively] = two_addresses()[..] else {
            panic!("there are two")
        };
        resolver.addresses("host.test", 80, soon()).unwrap();
        for _ in 0..2 {
            resolver.avoid(&uri, silent);
        }
        for _ in 0..4 {
            let order = resolver.addresses("host.test", 80, soon()).unwrap();
            assert_eq!(order, [lively, silent]);
        }
        // The answer has grown old: it is used once more, and a new one forgets what was.
        resolver.0.names.lock()[0].good_until = Instant::now();
        let wait = soon();
        while !resolver.0.names.lock()[0].silent.is_empty() {
            assert!(Instant::now() < wait, "no second lookup");
            resolver.addresses("host.test", 80, soon()).unwrap();
            thread::yield_now();
        }
    }

    #[test]
    fn failures_are_not_kept() {
        let lookups = AtomicUsize::new(0);
        let resolver = CachingResolver::new(move |_, _| {
            if lookups.fetch_add(1, Ordering::SeqCst) == 0 {
                return Err(io::Error::other("no such host"));
            }
            Ok(two_addresses())
        });
        assert!(resolver.addresses("host.test", 80, soon()).is_err());
        assert!(resolver.addresses("host.test", 80, soon()).is_ok());
    }

    #[test]
    fn a_lookup_that_hangs_is_waited_for_only_so_long_and_not_started_twice() {
        let lookups = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&lookups);
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = Mutex::new(held);
        let resolver = CachingResolver::new(move |_, _| {
            counted.fetch_add(1, Ordering::SeqCst);
            // Ends when the test drops its side.
            let _ = held.lock().recv();
            Ok(two_addresses())
        });
        for _ in 0..3 {
            let by = Instant::now() + Duration::from_millis(5);
            let error = resolver.addresses("host.test", 80, by).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
        drop(release);
        assert!(resolver.addresses("host.test", 80, soon()).is_ok());
        assert_eq!(lookups.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn names_are_bounded() {
        let resolver = CachingResolver::new(|_, _| Ok(two_addresses()));
        for port in 0..200 {
            resolver.addresses("host.test", port, soon()).unwrap();
        }
        assert!(resolver.0.names.lock().len() <= NAMES);
    }
}
