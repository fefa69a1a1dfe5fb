//! Host names to addresses, once every half minute and not once a request.
//!
//! ureq asks before every request, though most go over a connection that is kept; and a thousand
//! connections may be opened at once. So an answer is kept for [`KEPT`], one lookup at a time is made
//! for a name whoever asks, and nobody waits for it while an older answer will do. Failures are not
//! kept. The one thread a lookup takes is what lets a caller give up on it: the system's resolver
//! cannot be interrupted.

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
/// How much longer it is used while, or because, no newer one is to be had.
const STALE: Duration = Duration::from_secs(300);
/// Addresses tried at most; ureq has room for no more.
const ADDRESSES: usize = 16;
/// Names remembered at most; a client talks to one or two.
const NAMES: usize = 64;

type Lookup = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// The resolver all connections of a transport share.
#[derive(Clone)]
pub(super) struct CachingResolver {
    names: Arc<Mutex<Vec<Arc<Name>>>>,
    lookup: Arc<Lookup>,
}

/// A host and port, and what is known of them.
struct Name {
    host: String,
    port: u16,
    known: Mutex<Known>,
    /// A lookup has ended.
    looked_up: Condvar,
}

#[derive(Default)]
struct Known {
    addresses: Vec<SocketAddr>,
    /// Those of them at which nobody answered since the last lookup.
    silent: Vec<SocketAddr>,
    /// When the addresses were looked up.
    since: Option<Instant>,
    is_looking: bool,
    lookups: usize,
    /// Why the last lookup failed, if it did.
    failure: Option<Arc<io::Error>>,
    uses: usize,
}

impl CachingResolver {
    pub(super) fn system() -> Self {
        Self::new(|host, port| Ok((host, port).to_socket_addrs()?.collect()))
    }

    fn new(
        lookup: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            names: Arc::default(),
            lookup: Arc::new(lookup),
        }
    }

    /// Puts `address` behind the others of `uri` until the next lookup: nobody answered there. A host
    /// with one dead address of two would otherwise make every second connection wait for it.
    pub(super) fn avoid(&self, uri: &Uri, address: SocketAddr) {
        let name = self.name(bare_host(uri), port(uri));
        let mut known = name.known.lock();
        if !known.silent.contains(&address) {
            known.silent.push(address);
        }
    }

    /// The addresses of `host`, beginning with another one each time; waits for them until `by`.
    fn addresses(&self, host: &str, port: u16, by: Instant) -> io::Result<Vec<SocketAddr>> {
        let name = self.name(host, port);
        let mut known = name.known.lock();
        known.uses = known.uses.wrapping_add(1);
        let turn = known.uses;
        let age = known.since.map(|since| since.elapsed());
        let is_good = age.is_some_and(|age| age < KEPT);
        let must_look = !is_good && !known.is_looking;
        let before = known.lookups;
        if must_look {
            known.is_looking = true;
            drop(known);
            self.start(&name);
            known = name.known.lock();
        }
        if age.is_some_and(|age| age < KEPT + STALE) {
            return Ok(known.rotated(turn));
        }
        while known.lookups == before {
            if Instant::now() >= by {
                return Err(io::ErrorKind::TimedOut.into());
            }
            known = name.looked_up.wait_until(known, by);
        }
        match &known.failure {
            None => Ok(known.rotated(turn)),
            Some(error) => Err(io::Error::new(error.kind(), Arc::clone(error))),
        }
    }

    fn name(&self, host: &str, port: u16) -> Arc<Name> {
        let mut names = self.names.lock();
        let is_it = |name: &&Arc<Name>| name.port == port && name.host.eq_ignore_ascii_case(host);
        if let Some(name) = names.iter().find(is_it) {
            return Arc::clone(name);
        }
        if names.len() >= NAMES {
            names.remove(0);
        }
        let name = Arc::new(Name {
            host: host.to_owned(),
            port,
            known: Mutex::default(),
            looked_up: Condvar::default(),
        });
        names.push(Arc::clone(&name));
        name
    }

    fn start(&self, name: &Arc<Name>) {
        let look_up = {
            let (name, lookup) = (Arc::clone(name), Arc::clone(&self.lookup));
            move || name.look_up(&*lookup)
        };
        let thread = thread::Builder::new().name("tollgate-dns".into());
        if thread.spawn(look_up).is_err() {
            // No thread to be had: the caller's own will do.
            name.look_up(&*self.lookup);
        }
    }
}

impl Name {
    fn look_up(&self, lookup: &Lookup) {
        let found = lookup(&self.host, self.port).and_then(|addresses| {
            let is_known = !addresses.is_empty();
            is_known
                .then_some(addresses)
                .ok_or_else(|| io::ErrorKind::NotFound.into())
        });
        let mut known = self.known.lock();
        known.is_looking = false;
        known.lookups += 1;
        match found {
            Ok(addresses) => {
                known.addresses = addresses;
                known.silent.clear();
                known.since = Some(Instant::now());
                known.failure = None;
            }
            Err(error) => known.failure = Some(Arc::new(error)),
        }
        self.looked_up.notify_all();
    }
}

impl Known {
    fn rotated(&self, by: usize) -> Vec<SocketAddr> {
        let mut addresses = self.addresses.clone();
        addresses.rotate_left(by % self.addresses.len().max(1));
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
        let (host, port) = (bare_host(uri), port(uri));
        let mut resolved = self.empty();
        if let Ok(address) = host.parse::<IpAddr>() {
            resolved.push(SocketAddr::new(address, port));
            return Ok(resolved);
        }
        let by = context::with(|context| context.connect_by());
        let addresses = self.addresses(host, port, by).map_err(|error| {
            let why = format!("no address for the host of {}", origin(uri));
            fail_for(TransportErrorKind::Resolve, why, error)
        })?;
        for address in addresses.into_iter().take(ADDRESSES) {
            resolved.push(address);
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
            while resolver.name("host.test", 80).known.lock().uses < 2 {
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
        let name = resolver.name("host.test", 80);
        name.known.lock().since = Instant::now().checked_sub(KEPT);
        let wait = soon();
        while !name.known.lock().silent.is_empty() {
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
        assert!(resolver.names.lock().len() <= NAMES);
    }
}
