//! Connections that wait for their next request.
//!
//! The last one used is the first to be used again, so that the others grow old and go, whoever's
//! they are, when the next one comes. The lock is held to take one, put one, or move the old ones out:
//! looking whether a connection is still open, and closing one, are done outside.

use std::collections::VecDeque;
use std::collections::vec_deque::Drain;
use std::fmt;
use std::time::{Duration, Instant};

use ureq_proto::http::Uri;

use super::fault::{is_https, port};
use super::link::Link;
use crate::sync::Mutex;

/// Servers keep a connection for 5 s or more. Each is looked at before it is used again, so this
/// only bounds how many are held for nothing.
const AGE: Duration = Duration::from_secs(8);

/// A transport's idle connections.
pub(super) struct Idle {
    servers: Mutex<Vec<Server>>,
    /// Connections kept for a server at most.
    most: usize,
}

/// The idle connections to one server, the one used last at the back. How it is reached, through a
/// proxy or not, follows from what it is.
struct Server {
    https: bool,
    host: Box<str>,
    port: u16,
    links: VecDeque<(Instant, Box<dyn Link>)>,
}

impl Server {
    fn new(uri: &Uri) -> Self {
        Self {
            https: is_https(uri),
            host: uri.host().unwrap_or_default().into(),
            port: port(uri),
            links: VecDeque::new(),
        }
    }

    /// Takes out the connections that have waited too long.
    fn take_old(&mut self, now: Instant) -> Drain<'_, (Instant, Box<dyn Link>)> {
        let old = self.links.partition_point(|(since, _)| is_old(*since, now));
        self.links.drain(..old)
    }

    fn is(&self, uri: &Uri) -> bool {
        self.https == is_https(uri)
            && self.port == port(uri)
            && uri
                .host()
                .is_some_and(|host| self.host.eq_ignore_ascii_case(host))
    }
}

fn is_old(since: Instant, now: Instant) -> bool {
    now.saturating_duration_since(since) >= AGE
}

impl Idle {
    pub(super) fn new(most: usize) -> Self {
        Self {
            servers: Mutex::default(),
            most,
        }
    }

    /// A connection to the server of `uri` that can be used at once.
    ///
    /// Whatever has arrived on one that waited would be read as the answer to the next request: the
    /// end of a connection, a second answer, a complaint of having waited too long. So each is
    /// looked at first, which costs a system call (under half a microsecond), and only silence will do.
    pub(super) fn take(&self, uri: &Uri) -> Option<Box<dyn Link>> {
        while let Some((since, mut link)) = self.pop(uri) {
            let is_young = !is_old(since, Instant::now());
            if is_young && link.take_in() && link.input().is_empty() {
                return Some(link);
            }
        }
        None
    }

    fn pop(&self, uri: &Uri) -> Option<(Instant, Box<dyn Link>)> {
        let mut servers = self.servers.lock();
        let server = servers.iter_mut().find(|server| server.is(uri))?;
        server.links.pop_back()
    }

    /// Keeps a connection to the server of `uri` for a later request.
    pub(super) fn put(&self, uri: &Uri, link: Box<dyn Link>) {
        let now = Instant::now();
        let mut servers = self.servers.lock();
        let mut gone = Vec::new();
        for server in servers.iter_mut() {
            gone.extend(server.take_old(now));
        }
        let at = if let Some(at) = servers.iter().position(|server| server.is(uri)) {
            at
        } else {
            servers.retain(|server| !server.links.is_empty());
            servers.push(Server::new(uri));
            servers.len() - 1
        };
        let links = &mut servers[at].links;
        links.push_back((now, link));
        if links.len() > self.most {
            gone.extend(links.pop_front());
        }
        drop(servers);
        drop(gone);
    }
}

impl fmt::Debug for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idle").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::buffers::{BufferPool, Input};
    use super::super::exchange::Exchange;
    use super::super::fault::Failure;
    use super::*;
    use crate::Cancel;
    use std::sync::Arc;

    /// A connection that moves nothing, known by its number, and what has arrived on it.
    struct Still {
        number: usize,
        arrives: Option<&'static [u8]>,
        input: Input,
    }

    /// What arrives is silence, or the end of the connection.
    const SILENCE: Option<&[u8]> = Some(b"");
    const END: Option<&[u8]> = None;

    impl Link for Still {
        fn send_some(&mut self, bytes: &[u8], _: &mut Exchange<'_>) -> Result<usize, Failure> {
            Ok(bytes.len())
        }

        fn receive(&mut self, _: &mut Exchange<'_>) -> Result<bool, Failure> {
            Ok(false)
        }

        fn input(&mut self) -> &mut Input {
            &mut self.input
        }

        fn work_for(&mut self, _: &Cancel) -> bool {
            true
        }

        fn rest(&mut self) -> bool {
            true
        }

        fn take_in(&mut self) -> bool {
            self.arrives.is_some_and(|bytes| self.input.append(bytes))
        }
    }

    impl fmt::Debug for Still {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{}", self.number)
        }
    }

    fn still(number: usize, arrives: Option<&'static [u8]>) -> Box<dyn Link> {
        Box::new(Still {
            number,
            arrives,
            input: Input::new(Arc::<BufferPool>::default()),
        })
    }

    fn take(idle: &Idle, uri: &str) -> Option<usize> {
        let link = idle.take(&uri.parse().unwrap())?;
        Some(format!("{link:?}").parse().unwrap())
    }

    fn put(idle: &Idle, uri: &str, link: Box<dyn Link>) {
        idle.put(&uri.parse().unwrap(), link);
    }

    #[test]
    fn the_last_one_used_is_used_again_if_nothing_has_come_on_it_not_even_its_end() {
        let idle = Idle::new(8);
        for (number, arrives) in [(1, SILENCE), (2, SILENCE), (3, Some(b"HTTP")), (4, END)] {
            put(&idle, "http://host/v1", still(number, arrives));
        }
        assert_eq!(take(&idle, "http://HOST:80/v2"), Some(2));
        assert_eq!(take(&idle, "http://host/"), Some(1));
        assert_eq!(take(&idle, "http://host/"), None);
    }

    #[test]
    fn no_server_gets_the_connection_of_another() {
        let idle = Idle::new(8);
        put(&idle, "http://host", still(1, SILENCE));
        for other in [
            "https://host",
            "http://host:81",
            "http://hos",
            "http://host2",
        ] {
            assert_eq!(take(&idle, other), None, "{other}");
        }
        assert_eq!(take(&idle, "http://host"), Some(1));
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let idle = Idle::new(2);
        for number in 1..=5 {
            put(&idle, "http://host", still(number, SILENCE));
        }
        let left: Vec<_> = std::iter::from_fn(|| take(&idle, "http://host")).collect();
        assert_eq!(left, [5, 4]);
    }

    #[test]
    fn what_is_old_goes_whether_it_is_asked_for_or_not() {
        let Some(long_ago) = Instant::now().checked_sub(AGE) else {
            return;
        };
        let idle = Idle::new(100);
        for server in ["http://here", "http://there"] {
            for _ in 0..4 {
                put(&idle, server, still(1, SILENCE));
            }
        }
        let make_old = || {
            for server in idle.servers.lock().iter_mut() {
                server
                    .links
                    .iter_mut()
                    .for_each(|(since, _)| *since = long_ago);
            }
        };
        make_old();
        assert_eq!(take(&idle, "http://here"), None);
        put(&idle, "http://there", still(2, SILENCE));
        let left = |idle: &Idle| -> Vec<_> {
            let servers = idle.servers.lock();
            servers.iter().map(|server| server.links.len()).collect()
        };
        assert_eq!(left(&idle), [0, 1]);
        put(&idle, "http://elsewhere", still(3, SILENCE));
        assert_eq!(left(&idle), [1, 1], "the first is forgotten");
        make_old();
        put(&idle, "http://elsewhere", still(4, SILENCE));
        assert_eq!(left(&idle), [0, 1]);
    }
}
