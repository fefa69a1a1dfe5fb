//! [`Shared`]: the URL that names the store of a shared limit.

use std::fmt;
use std::path;
use std::sync::Arc;

use super::exchange::{Ask, Store};
use super::file::FileStore;
#[cfg(feature = "redis")]
use super::redis::{RedisStore, RedisUrl};
use crate::error::{ErrorKind, Result, config};

/// A limit that several processes share: the store that keeps it, and what to do without the store.
///
/// The rates and bursts that a limiter is given are then those of all these processes together.
/// Where they differ, the lowest holds. What one process does not use goes to the others.
///
/// | URL | Who shares it |
/// |---|---|
/// | `file:PATH` | processes on one machine. The file is made if it is not there, for this user only |
/// | `redis://[[USER]:PASSWORD@]HOST[:PORT]/DB?key=NAME` | processes anywhere, by a Redis or Valkey server; `rediss://` is the same with TLS, and trusts the system's certificates, or those in the file that the variable `SSL_CERT_FILE` names. Needs the crate's feature `redis` |
///
/// Processes that name the same URL share the limit. Each *leases* small parts of it from the store
/// ahead of use. A process may be killed at any time: what it had leased is lost, and no other
/// process gets it.
///
/// While the store cannot be reached, nothing is sent beyond what was leased before, unless there
/// is a [`fallback_share`](Shared::fallback_share).
///
/// Cloning is cheap. `Debug` and `Display` show no password.
///
/// ```
/// use tollgate::Shared;
///
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("limit");
/// let shared = Shared::open(&format!("file:{}", path.display()))?.fallback_share(8)?;
/// assert_eq!(shared.to_string(), format!("file:{}", path.display()));
/// assert!(Shared::open("http://example.com").is_err());
/// # Ok::<(), tollgate::Error>(())
/// ```
#[derive(Clone)]
pub struct Shared {
    /// The URL, without a password.
    url: Arc<str>,
    open: Arc<dyn Fn() -> Box<dyn Store> + Send + Sync>,
    fallback: Option<u32>,
}

impl Shared {
    /// The shared limit that this URL names.
    ///
    /// A file is made if it is not there. One that is there must hold a shared limit and nothing
    /// else. Nothing connects to a server yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if the URL is none of the table above, if
    /// the file cannot be used, or if the URL needs the feature `redis` and this build is without
    /// it.
    pub fn open(url: &str) -> Result<Self> {
        match url.split_once(':') {
            Some(("file", "")) => Err(config(
                "the URL file: of a shared limit must name a file: file:PATH",
            )),
            Some(("file", path)) => {
                // The program may change its directory later.
                let path = path::absolute(path).unwrap_or_else(|_| path.into());
                FileStore::new(&path).check()?;
                let url = format!("file:{}", path.display());
                Ok(Self::of(&url, move || Box::new(FileStore::new(&path))))
            }
            #[cfg(feature = "redis")]
            Some(("redis" | "rediss", _)) => {
                let url = RedisUrl::parse(url)?;
                let shown = url.to_string();
                Ok(Self::of(&shown, move || Box::new(RedisStore::new(&url))))
            }
            #[cfg(not(feature = "redis"))]
            Some(("redis" | "rediss", _)) => Err(config(
                "this build of tollgate cannot share a limit through Redis: build it with the \
                 feature redis, or share the limit in a file with file:PATH",
            )),
            // Nothing of it is repeated: there may be a password in it.
            _ => Err(config(
                "the URL of a shared limit begins with file:, redis:// or rediss://; \
                 write file:PATH or redis://HOST[:PORT]/DB?key=NAME",
            )),
        }
    }

    fn of(url: &str, open: impl Fn() -> Box<dyn Store> + Send + Sync + 'static) -> Self {
        Self {
            url: url.into(),
            open: Arc::new(open),
            fallback: None,
        }
    }

    /// While the store cannot be reached, goes on without it, at the configured rates and bursts
    /// divided by `processes`. Give the greatest number of processes that may share the limit.
    /// Default: a limiter sends nothing without the store, and waits for it.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if `processes` is 0.
    pub fn fallback_share(mut self, processes: u32) -> Result<Self> {
        if processes == 0 {
            return Err(config(
                "the share of a shared limit's fallback is 1/N, with N of 1 or more",
            ));
        }
        self.fallback = Some(processes);
        Ok(self)
    }

    /// By how much the limits are divided while the store cannot be reached.
    pub(crate) fn fallback(&self) -> Option<u32> {
        self.fallback
    }

    /// A store for one thread that talks to it. It was asked for nothing once, so that one that
    /// can never be used is found at the start.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the store answers that it can never be used, as for a wrong
    /// password. One that cannot be reached is no error: it may be there soon.
    pub(crate) fn connect(&self) -> Result<Box<dyn Store>> {
        let mut store = (self.open)();
        let nothing = Ask {
            leaves: true,
            ..Ask::default()
        };
        match store.exchange(&nothing) {
            Err(error) if is_for_good(error.kind()) => Err(config(error.to_string())),
            _ => Ok(store),
        }
    }
}

fn is_for_good(kind: ErrorKind) -> bool {
    use ErrorKind::{Auth, Config, Permission, Protocol};
    matches!(kind, Auth | Config | Permission | Protocol)
}

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

#[expect(clippy::missing_fields_in_debug, reason = "a function shows nothing")]
impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("url", &self.url)
            .field("fallback", &self.fallback)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_names_no_store_is_refused_and_shows_no_password() {
        for url in [
            "",
            "limit",
            "http://user:secret@host/0?key=a",
            "file:",
            "REDIS//:secret@host",
            "redis://user:secret@host/0?key=a&key=b",
            "rediss:secret",
        ] {
            let error = Shared::open(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{url}");
            let said = format!("{error} {error:?}");
            assert!(
                !said.contains("secret") && !said.contains("user:"),
                "{said}"
            );
            assert!(
                said.contains("file:PATH") || said.contains("redis://"),
                "{said}"
            );
        }
    }

    #[cfg(not(feature = "redis"))]
    #[test]
    fn a_build_without_redis_says_so() {
        let error = Shared::open("redis://:secret@host/0?key=a").unwrap_err();
        assert!(
            error.to_string().contains("with the feature redis"),
            "{error}"
        );
    }

    #[test]
    fn a_store_is_shown_without_its_password() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("file:{}", directory.path().join("limit").display());
        let shared = Shared::open(&url).unwrap().fallback_share(3).unwrap();
        let shown = format!("Shared {{ url: {url:?}, fallback: Some(3) }}");
        assert_eq!(format!("{shared:?}"), shown);
        #[cfg(feature = "redis")]
        {
            let shared = Shared::open("rediss://user:secret@host:7/0?key=a").unwrap();
            let shown = format!("{shared} {shared:?}");
            assert!(shown.contains("host") && shown.contains("key=a"), "{shown}");
            assert!(!shown.contains("secret"), "{shown}");
        }
    }

    /// A program may change its directory while its stores are open.
    #[test]
    fn a_relative_path_is_one_from_here() {
        let error = Shared::open("file:missing-directory/limit").unwrap_err();
        let here = std::env::current_dir().unwrap().join("missing-directory");
        let quoted = format!("{:?}", here.join("limit"));
        assert!(error.to_string().contains(&quoted), "{error}");
    }

    #[test]
    fn a_fallback_of_no_share_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("file:{}", directory.path().join("limit").display());
        let error = Shared::open(&url).unwrap().fallback_share(0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
    }
}
