//! Host names to addresses, once every half minute and not once a connection.
//!
//! ureq asks before every request, though most go over a connection that is kept. So it is told
//! nothing, and whoever makes a connection asks here. A thousand may be made at once: so one lookup
//! at a time is made for a name whoever asks, and what it finds is kept for [`FRESH_FOR`]. Failures
//! are not kept. The one thread a lookup takes is what lets a caller give up on it: the system's
//! resolver cannot be interrupted.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use http::Uri;
use ureq::config::Config;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use super::error::{bare_host, fail_for, port};
use super::{TransportErrorKind, context};
use crate::opaque::opaque;
use crate::sync::{Condvar, Mutex};

/// How long an answer is good for: long enough to cost nothing, short enough to follow a failover.
const FRESH_FOR: Duration = Duration::from_secs(30);

type Find = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

/// The resolver all connections of a transport share.
#[derive(Clone)]
pub(super) struct CachingResolver {
    names: Arc<(Mutex<HashMap<String, Lookup>>, Condvar)>,
    /// The address of a name that was last connected to, if it was not the first in the list. It is
    /// tried first from then on: a dead one would cost each connection the time it is given.
    answered: Arc<Mutex<HashMap<String, IpAddr>>>,
    find: Arc<Find>,
}

/// The last lookup of a name.
enum Lookup {
    UnderWay,
    /// When, and what it has found.
    Ended(Instant, Result<Vec<IpAddr>, Arc<io::Error>>),
}

impl CachingResolver {
    pub(super) fn system() -> Self {
        Self::new(|host| Ok((host, 0).to_socket_addrs()?.map(|it| it.ip()).collect()))
    }

    fn new(find: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static) -> Self {
        Self {
            names: Arc::default(),
            answered: Arc::default(),
            find: Arc::new(find),
        }
    }

    /// Where to connect to for `uri`.
    pub(super) fn addresses(&self, uri: &Uri) -> Result<Vec<SocketAddr>, ureq::Error> {
        let host = bare_host(uri);
        let found = match host.parse() {
            Ok(address) => Ok(vec![address]),
            Err(_) => self
                .find(host, context::with(|context| context.connect_by))
                .map(|found| self.in_order(host, found)),
        };
        let found = found.map_err(|error| {
            let why = "no address for the host";
            fail_for(TransportErrorKind::Resolve, why, error)
        })?;
        let with_port = |address| SocketAddr::new(address, port(uri));
        Ok(found.into_iter().map(with_port).collect())
    }

    /// Notes which of the `tried` addresses of `uri` has answered.
    pub(super) fn note_answer(&self, uri: &Uri, tried: &[SocketAddr], answered: IpAddr) {
        if tried.first().is_some_and(|first| first.ip() != answered) {
            let host = bare_host(uri).to_owned();
            self.answered.lock().insert(host, answered);
        }
    }

    /// The addresses of `host` in the order in which they are tried.
    fn in_order(&self, host: &str, mut found: Vec<IpAddr>) -> Vec<IpAddr> {
        let answered = self.answered.lock().get(host).copied();
        if let Some(place) = found.iter().position(|it| Some(*it) == answered) {
            found[..=place].rotate_right(1);
        }
        found
    }

    /// The addresses of `host`; waits for them until `by`.
    fn find(&self, host: &str, by: Instant) -> io::Result<Vec<IpAddr>> {
        let begun = Instant::now();
        let (names, ended) = &*self.names;
        let mut lookups = names.lock();
        loop {
            match lookups.get(host) {
                Some(Lookup::Ended(at, Ok(addresses))) if at.elapsed() < FRESH_FOR => {
                    return Ok(addresses.clone());
                }
                Some(Lookup::Ended(at, Err(error))) if *at >= begun => {
                    return Err(io::Error::new(error.kind(), Arc::clone(error)));
                }
                Some(Lookup::UnderWay) => {}
                _ => {
                    self.look_up(host.to_owned())?;
                    lookups.insert(host.to_owned(), Lookup::UnderWay);
                }
            }
            if Instant::now() >= by {
                return Err(io::ErrorKind::TimedOut.into());
            }
            lookups = ended.wait_until(lookups, by);
        }
    }

    /// Looks `host` up, on a thread of its own.
    fn look_up(&self, host: String) -> io::Result<()> {
        let this = self.clone();
        let thread = thread::Builder::new().name("tollgate-dns".into());
        let work = move || {
            let found = (this.find)(&host).map_err(Arc::new);
            let (names, ended) = &*this.names;
            let lookup = Lookup::Ended(Instant::now(), found);
            let _before = names.lock().insert(host, lookup);
            ended.notify_all();
        };
        thread.spawn(work).map(drop)
    }
}

impl Resolver for CachingResolver {
    fn resolve(
        &self,
        _: &Uri,
        _: &Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        Ok(self.empty())
    }
}

opaque!(CachingResolver, "CachingResolver", |_it|);

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn two_addresses() -> Vec<IpAddr> {
        vec!["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()]
    }

    #[test]
    fn many_callers_make_one_lookup_and_its_answer_is_kept() {
        let lookups = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&lookups);
        let resolver = CachingResolver::new(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            Ok(two_addresses())
        });
        let start = Barrier::new(8);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    start.wait();
                    resolver.find("host.test", soon()).unwrap();
                });
            }
        });
        let kept = resolver.find("host.test", soon()).unwrap();
        assert_eq!(kept, two_addresses());
        assert_eq!(lookups.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn the_address_that_answered_is_tried_first() {
        let resolver = CachingResolver::new(|_| Ok(two_addresses()));
        let uri: Uri = "https://host.test/v1".parse().unwrap();
        let [first, second] = two_addresses()[..] else {
            panic!("two addresses")
        };
        let in_order = || resolver.in_order("host.test", two_addresses());
        let note = |answered| {
            let tried: Vec<_> = in_order().into_iter().map(|it| (it, 443).into()).collect();
            resolver.note_answer(&uri, &tried, answered);
            in_order()
        };
        assert_eq!(note(first), [first, second]);
        assert_eq!(note(second), [second, first]);
        // It answers again.
        assert_eq!(note(second), [second, first]);
        // A failover: the one that was tried first is dead by now.
        assert_eq!(note(first), [first, second]);
        // The name has moved.
        assert_eq!(resolver.in_order("host.test", vec![second]), [second]);
    }

    #[test]
    fn failures_are_not_kept() {
        let lookups = AtomicUsize::new(0);
        let resolver = CachingResolver::new(move |_| {
            if lookups.fetch_add(1, Ordering::SeqCst) == 0 {
                return Err(io::Error::other("no such host"));
            }
            Ok(two_addresses())
        });
        assert!(resolver.find("host.test", soon()).is_err());
        assert!(resolver.find("host.test", soon()).is_ok());
    }

    #[test]
    fn a_lookup_that_hangs_is_waited_for_only_so_long_and_not_started_twice() {
        let lookups = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&lookups);
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = Mutex::new(held);
        let resolver = CachingResolver::new(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            // Ends when the test drops its side.
            let _ = held.lock().recv();
            Ok(two_addresses())
        });
        for _ in 0..3 {
            let by = Instant::now() + Duration::from_millis(5);
            let error = resolver.find("host.test", by).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
        drop(release);
        assert!(resolver.find("host.test", soon()).is_ok());
        assert_eq!(lookups.load(Ordering::SeqCst), 1);
    }
}
