//! Host names to addresses, once every half minute and not once a request.
//!
//! ureq asks before every request, though most go over a connection that is kept; and a thousand
//! connections may be opened at once. So an answer is kept for [`KEPT`], one lookup at a time is made
//! for a name whoever asks, and nobody waits for it while an older answer will do. Failures are not
//! kept. The one thread a lookup takes is what lets a caller give up on it: the system's resolver
//! cannot be interrupted.

use std::collections::HashMap;
use std::fmt;
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
use crate::sync::{Condvar, Mutex};

/// How long an answer is good for: long enough to cost nothing, short enough to follow a failover.
const KEPT: Duration = Duration::from_secs(30);
/// How long it is used while, or because, no newer one is to be had.
const USABLE: Duration = Duration::from_secs(330);
/// Addresses tried at most; ureq has room for no more.
const ADDRESSES: usize = 16;
/// Names remembered at most; a client talks to one or two.
const NAMES: usize = 64;

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
    /// Those of them at which nobody answered since the last lookup.
    silent: Vec<IpAddr>,
    since: Option<Instant>,
    is_looking: bool,
    lookups: usize,
    /// Why the last lookup failed, if it did.
    failure: Option<Arc<io::Error>>,
    uses: usize,
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

    /// The addresses of `host`, beginning with another one each time; waits for them until `by`.
    fn addresses(&self, host: &str, by: Instant) -> io::Result<Vec<IpAddr>> {
        let mut names = self.0.names.lock();
        if names.len() >= NAMES && !names.contains_key(host) {
            names.retain(|_, known| known.is_looking);
        }
        if !names.contains_key(host) {
            names.insert(host.to_owned(), Known::default());
        }
        let mut before = None;
        while let Some(known) = names.get_mut(host) {
            let age = known.since.map_or(USABLE, |since| since.elapsed());
            if age >= KEPT && !known.is_looking && before.is_none() {
                match self.look_up(host) {
                    Ok(()) => known.is_looking = true,
                    Err(error) if age >= USABLE => return Err(error),
                    Err(_) => {}
                }
            }
            if age < USABLE {
                return Ok(known.in_turn());
            }
            if *before.get_or_insert(known.lookups) != known.lookups
                && let Some(error) = &known.failure
            {
                return Err(io::Error::new(error.kind(), Arc::clone(error)));
            }
            if Instant::now() >= by {
                break;
            }
            names = self.0.looked_up.wait_until(names, by);
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Looks `host` up on a thread of its own.
    fn look_up(&self, host: &str) -> io::Result<()> {
        let (shared, host) = (Arc::clone(&self.0), host.to_owned());
        let thread = thread::Builder::new().name("tollgate-dns".into());
        thread.spawn(move || {
            let found = (shared.lookup)(&host);
            if let Some(known) = shared.names.lock().get_mut(&host) {
                known.learn(found);
            }
            shared.looked_up.notify_all();
        })?;
        Ok(())
    }

    /// Puts `address` behind the others of `uri` until the next lookup: nobody answered there. A host
    /// with one dead address of two would otherwise make every second connection wait for it.
    pub(super) fn avoid(&self, uri: &Uri, address: SocketAddr) {
        if let Some(known) = self.0.names.lock().get_mut(bare_host(uri)) {
            known.silent.push(address.ip());
        }
    }
}

impl Known {
    fn learn(&mut self, found: io::Result<Vec<IpAddr>>) {
        self.is_looking = false;
        self.lookups += 1;
        match found {
            Ok(addresses) if !addresses.is_empty() => {
                (self.addresses, self.since) = (addresses, Some(Instant::now()));
                self.silent.clear();
                self.failure = None;
            }
            Ok(_) => self.failure = Some(Arc::new(io::ErrorKind::NotFound.into())),
            Err(error) => self.failure = Some(Arc::new(error)),
        }
    }

    fn in_turn(&mut self) -> Vec<IpAddr> {
        self.uses = self.uses.wrapping_add(1);
        let mut addresses = self.addresses.clone();
        addresses.rotate_left(self.uses % self.addresses.len().max(1));
        // Stable, so that both halves keep their turns.
        addresses.sort_by_key(|address| self.silent.contains(address));
        addresses
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
        for address in addresses.into_iter().take(ADDRESSES) {
            resolved.push(SocketAddr::new(address, port(uri)));
        }
        Ok(resolved)
    }
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

    fn two_addresses() -> Vec<IpAddr> {
        vec!["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()]
    }

    #[test]
    fn many_callers_make_one_lookup_and_its_answer_is_kept_and_rotated() {
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
        let first = resolver.addresses("host.test", soon()).unwrap()[0];
        let second = resolver.addresses("host.test", soon()).unwrap()[0];
        assert_ne!(first, second);
        assert_eq!(lookups.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn those_who_wait_for_the_same_lookup_begin_with_different_addresses() {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = Mutex::new(held);
        let resolver = CachingResolver::new(move |_| {
            // Ends when the test drops its side.
            let _ = held.lock().recv();
            Ok(two_addresses())
        });
        let firsts = thread::scope(|scope| {
            let callers: Vec<_> = (0..2)
                .map(|_| scope.spawn(|| resolver.addresses("host.test", soon()).unwrap()[0]))
                .collect();
            while resolver.0.names.lock().is_empty() {
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
        let resolver = CachingResolver::new(|_| Ok(two_addresses()));
        let uri: Uri = "http://host.test:80/".parse().unwrap();
        let [silent, lively] = two_addresses()[..] else {
            panic!("there are two")
        };
        resolver.addresses("host.test", soon()).unwrap();
        for _ in 0..2 {
            resolver.avoid(&uri, SocketAddr::new(silent, 80));
        }
        for _ in 0..4 {
            let order = resolver.addresses("host.test", soon()).unwrap();
            assert_eq!(order, [lively, silent]);
        }
        // The answer has grown old: it is used once more, and a new one forgets what was.
        let age = |known: &mut Known| known.since = Instant::now().checked_sub(KEPT);
        resolver.0.names.lock().get_mut("host.test").map(age);
        let wait = soon();
        while !resolver.0.names.lock()["host.test"].silent.is_empty() {
            assert!(Instant::now() < wait, "no second lookup");
            resolver.addresses("host.test", soon()).unwrap();
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

    #[test]
    fn names_are_bounded() {
        let resolver = CachingResolver::new(|_| Ok(two_addresses()));
        for number in 0..200 {
            resolver.addresses(&number.to_string(), soon()).unwrap();
        }
        assert!(resolver.0.names.lock().len() <= NAMES);
    }
}
