//! Host names to addresses, once every half minute and not once a request.
//!
//! ureq asks before every request, though most go over a connection that is kept; and a thousand
//! connections may be opened at once. So an answer is kept for [`FRESH_FOR`], one lookup at a time
//! is made for a name whoever asks, and nobody waits for it while an older answer will do. Failures
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

use super::TransportErrorKind;
use super::context::{self, fail_for};
use super::error::{bare_host, origin, port};
use crate::opaque::opaque;
use crate::sync::{Condvar, Mutex};

/// How long an answer is good for: long enough to cost nothing, short enough to follow a failover.
const FRESH_FOR: Duration = Duration::from_secs(30);
/// How long it is used while, or because, no newer one is to be had.
const USABLE_FOR: Duration = Duration::from_secs(330);
/// Addresses tried at most; ureq has room for no more.
const MAX_ADDRESSES: usize = 16;

type Lookup = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

/// The resolver all connections of a transport share.
#[derive(Clone)]
pub(super) struct CachingResolver(Arc<Shared>);

struct Shared {
    names: Mutex<HashMap<String, Known>>,
    /// A lookup has ended.
    looked_up: Condvar,
    lookup: Box<Lookup>,
}

/// What is known of a name.
#[derive(Default)]
struct Known {
    addresses: Vec<IpAddr>,
    since: Option<Instant>,
    is_looking: bool,
    /// Why the last lookup failed, if it did.
    failure: Option<Arc<io::Error>>,
}

impl CachingResolver {
    pub(super) fn system() -> Self {
        Self::new(|host| Ok((host, 0).to_socket_addrs()?.map(|it| it.ip()).collect()))
    }

    fn new(lookup: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared {
            names: Mutex::default(),
            looked_up: Condvar::default(),
            lookup: Box::new(lookup),
        }))
    }

    /// The addresses of `host`; waits for them until `by`.
    fn addresses(&self, host: &str, by: Instant) -> io::Result<Vec<IpAddr>> {
        let mut names = self.0.names.lock();
        let mut has_waited = false;
        loop {
            let known = names.entry(host.to_owned()).or_default();
            let age = known.since.map_or(USABLE_FOR, |since| since.elapsed());
            if age >= FRESH_FOR && !known.is_looking && !has_waited {
                (known.is_looking, known.failure) = (true, None);
                if let Err(error) = self.look_up(host) {
                    known.learn(Err(error));
                }
            }
            if age < USABLE_FOR {
                return Ok(known.addresses.clone());
            }
            if let Some(error) = known.failure.clone() {
                return Err(io::Error::new(error.kind(), error));
            }
            if Instant::now() >= by {
                return Err(io::ErrorKind::TimedOut.into());
            }
            names = self.0.looked_up.wait_until(names, by);
            has_waited = true;
        }
    }

    /// Looks `host` up on a thread of its own.
    fn look_up(&self, host: &str) -> io::Result<()> {
        let (shared, host) = (Arc::clone(&self.0), host.to_owned());
        let thread = thread::Builder::new().name("tollgate-dns".into());
        thread.spawn(move || {
            let found = (shared.lookup)(&host);
            shared.names.lock().entry(host).or_default().learn(found);
            shared.looked_up.notify_all();
        })?;
        Ok(())
    }

    /// Puts `address` behind the others of `uri` until the next lookup: nobody answered there. A
    /// host with a dead first address would otherwise make every connection wait for it.
    pub(super) fn avoid(&self, uri: &Uri, address: SocketAddr) {
        if let Some(known) = self.0.names.lock().get_mut(bare_host(uri)) {
            // Stable, so that the others keep their places.
            known.addresses.sort_by_key(|it| *it == address.ip());
        }
    }
}

impl Known {
    fn learn(&mut self, found: io::Result<Vec<IpAddr>>) {
        self.is_looking = false;
        match found {
            Ok(addresses) => (self.addresses, self.since) = (addresses, Some(Instant::now())),
            Err(error) => self.failure = Some(Arc::new(error)),
        }
    }
}

impl Resolver for CachingResolver {
    fn resolve(
        &self,
        uri: &Uri,
        _: &Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = bare_host(uri);
        let addresses = match host.parse() {
            Ok(address) => Ok(vec![address]),
            Err(_) => self.addresses(host, context::with(|context| context.connect_by)),
        };
        let addresses = addresses.map_err(|error| {
            let why = format!("no address for the host of {}", origin(uri));
            fail_for(TransportErrorKind::Resolve, why, error)
        })?;
        let mut resolved = self.empty();
        for address in addresses.into_iter().take(MAX_ADDRESSES) {
            resolved.push(SocketAddr::new(address, port(uri)));
        }
        Ok(resolved)
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
                    resolver.addresses("host.test", soon()).unwrap();
                });
            }
        });
        let kept = resolver.addresses("host.test", soon()).unwrap();
        assert_eq!(kept, two_addresses());
        assert_eq!(lookups.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn an_address_where_nobody_answers_goes_last_until_the_next_lookup() {
        let resolver = CachingResolver::new(|_| Ok(two_addresses()));
        let uri: Uri = "http://host.test:80/".parse().unwrap();
        let [silent, lively] = two_addresses()[..] else {
            panic!("there are two")
        };
        let order = || resolver.addresses("host.test", soon()).unwrap();
        assert_eq!(order(), [silent, lively]);
        for _ in 0..2 {
            resolver.avoid(&uri, SocketAddr::new(silent, 80));
            assert_eq!(order(), [lively, silent]);
        }
        // The answer has grown old: it is used once more, and a new one forgets what was.
        let age = |known: &mut Known| known.since = Instant::now().checked_sub(FRESH_FOR);
        resolver.0.names.lock().get_mut("host.test").map(age);
        let wait = soon();
        while order() != [silent, lively] {
            assert!(Instant::now() < wait, "no second lookup");
            thread::yield_now();
        }
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
        assert!(resolver.addresses("host.test", soon()).is_err());
        assert!(resolver.addresses("host.test", soon()).is_ok());
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
            let error = resolver.addresses("host.test", by).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
        drop(release);
        assert!(resolver.addresses("host.test", soon()).is_ok());
        assert_eq!(lookups.load(Ordering::SeqCst), 1);
    }
}
