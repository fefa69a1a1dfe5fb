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

use super::error::{bare_host, fail_for, origin, port};
use super::{TransportErrorKind, context};
use crate::opaque::opaque;
use crate::sync::{Condvar, Mutex};

/// How long an answer is good for: long enough to cost nothing, short enough to follow a failover.
const FRESH_FOR: Duration = Duration::from_secs(30);

type Find = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

/// The resolver all connections of a transport share.
#[derive(Clone)]
pub(super) struct CachingResolver {
    lookups: Arc<Mutex<HashMap<String, Arc<Lookup>>>>,
    find: Arc<Find>,
}

/// One lookup of a name.
struct Lookup {
    begun: Instant,
    /// `None` while it is under way.
    found: Mutex<Option<Result<Vec<IpAddr>, Arc<io::Error>>>>,
    ended: Condvar,
}

impl CachingResolver {
    pub(super) fn system() -> Self {
        Self::new(|host| Ok((host, 0).to_socket_addrs()?.map(|it| it.ip()).collect()))
    }

    fn new(find: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static) -> Self {
        let (lookups, find) = (Arc::default(), Arc::new(find));
        Self { lookups, find }
    }

    /// Where to connect to for `uri`.
    pub(super) fn addresses(&self, uri: &Uri) -> Result<Vec<SocketAddr>, ureq::Error> {
        let host = bare_host(uri);
        let found = match host.parse() {
            Ok(address) => Ok(vec![address]),
            Err(_) => self.find(host, context::with(|context| context.connect_by)),
        };
        let found = found.map_err(|error| {
            let why = format!("no address for the host of {}", origin(uri));
            fail_for(TransportErrorKind::Resolve, why, error)
        })?;
        let with_port = |address| SocketAddr::new(address, port(uri));
        Ok(found.into_iter().map(with_port).collect())
    }

    /// The addresses of `host`; waits for them until `by`.
    fn find(&self, host: &str, by: Instant) -> io::Result<Vec<IpAddr>> {
        let lookup = self.lookup(host)?;
        let mut found = lookup.found.lock();
        loop {
            match &*found {
                Some(Ok(addresses)) => return Ok(addresses.clone()),
                Some(Err(error)) => return Err(io::Error::new(error.kind(), Arc::clone(error))),
                None if Instant::now() >= by => return Err(io::ErrorKind::TimedOut.into()),
                None => found = lookup.ended.wait_until(found, by),
            }
        }
    }

    /// The lookup of `host` that is under way or fresh, or a new one, on a thread of its own.
    fn lookup(&self, host: &str) -> io::Result<Arc<Lookup>> {
        let mut lookups = self.lookups.lock();
        if let Some(known) = lookups.get(host) {
            let is_usable = match &*known.found.lock() {
                None => true,
                Some(Ok(_)) => known.begun.elapsed() < FRESH_FOR,
                Some(Err(_)) => false,
            };
            if is_usable {
                return Ok(Arc::clone(known));
            }
        }
        let lookup = Arc::new(Lookup {
            begun: Instant::now(),
            found: Mutex::default(),
            ended: Condvar::default(),
        });
        let (this, find, name) = (Arc::clone(&lookup), Arc::clone(&self.find), host.to_owned());
        let thread = thread::Builder::new().name("tollgate-dns".into());
        thread.spawn(move || {
            let found = find(&name).map_err(Arc::new);
            *this.found.lock() = Some(found);
            this.ended.notify_all();
        })?;
        lookups.insert(host.to_owned(), Arc::clone(&lookup));
        Ok(lookup)
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
