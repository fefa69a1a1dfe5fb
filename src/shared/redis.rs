//! The home on a server: Redis or Valkey keeps the state, and a script there does what
//! `ledger.rs` does, in one call and by the server's clock.

use std::fmt;
use std::time::Duration;

use redis::{
    Client, Connection, ConnectionAddr, ConnectionInfo, ErrorKind as Said, IntoConnectionInfo as _,
    RedisError, Script,
};

use super::exchange::{Ask, Limit, Reply, Span, Store};
use super::ledger::LAST;
use crate::error::{Error, ErrorKind, Result, config};
use crate::escape::printable;

/// How long a connection may take, and then each read and each write.
const TIME_LIMIT: Duration = Duration::from_secs(1);

/// A key of a server, as a URL names it. It shows no password.
#[derive(Clone)]
pub(crate) struct RedisUrl {
    client: Client,
    /// The server's host and port.
    place: String,
    key: String,
}

/// The store in that key, and the connection to it.
pub(crate) struct RedisStore {
    url: RedisUrl,
    script: Script,
    connection: Option<Connection>,
}

impl RedisUrl {
    /// Reads a URL such as `rediss://:PASSWORD@HOST:PORT/DB?key=NAME`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if it is no such URL. The message repeats nothing of it, since a
    /// password with a `/` or a `#` in it may be anywhere.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let flaw = |what: &str| {
            config(format!(
                "the URL of the shared limit {what}; write \
                 redis://[[USER]:PASSWORD@]HOST[:PORT]/DB?key=NAME, or rediss:// for TLS, and \
                 characters such as @ / # ? in a password as %40 %2F %23 %3F"
            ))
        };
        let parsed = redis::parse_redis_url(url)
            .filter(|url| matches!(url.scheme(), "redis" | "rediss"))
            .ok_or_else(|| flaw("cannot be read"))?;
        if parsed.fragment().is_some() {
            return Err(flaw("has a # in it"));
        }
        if !parsed.username().is_empty() && parsed.password().is_none() {
            return Err(flaw("has a user without a password"));
        }
        let mut settings = parsed.query_pairs();
        let key = match (settings.next(), settings.next()) {
            (Some((name, key)), None) if name == "key" && !key.is_empty() => key.into_owned(),
            _ => return Err(flaw("must name a key, and nothing else, behind the ?")),
        };
        let place = match parsed.host_str() {
            Some(host) if !host.is_empty() => format!("{host}:{}", parsed.port().unwrap_or(6379)),
            _ => return Err(flaw("names no host")),
        };
        if parsed.scheme() == "rediss" {
            // The `redis` crate takes the process's provider, and panics where there is none and a
            // program has built rustls with two. If there is one already, that one serves.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let info: ConnectionInfo = parsed
            .into_connection_info()
            .map_err(|_| flaw("has a database that is no number, or 0.0.0.0 for a host"))?;
        // Without these two commands there is nothing to be said before the first call.
        let quiet = info.redis_settings().clone().set_skip_set_lib_name();
        let eager = info.tcp_settings().clone().set_nodelay(true);
        let info = info.set_redis_settings(quiet).set_tcp_settings(eager);
        let client = Client::open(info).map_err(|_| flaw("cannot be used"))?;
        Ok(Self { client, place, key })
    }

    fn connect(&self) -> Result<Connection, RedisError> {
        let connection = self.client.get_connection_with_timeout(TIME_LIMIT)?;
        connection.set_read_timeout(Some(TIME_LIMIT))?;
        connection.set_write_timeout(Some(TIME_LIMIT))?;
        Ok(connection)
    }

    fn has_tls(&self) -> bool {
        let addr = self.client.get_connection_info().addr();
        matches!(addr, ConnectionAddr::TcpTls { .. })
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.has_tls() { "rediss" } else { "redis" };
        let database = self.client.get_connection_info().redis_settings().db();
        let key = printable(&self.key, 100);
        write!(f, "{scheme}://{}/{database}?key={key}", self.place)
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Store for RedisStore {
    fn exchange(&mut self, ask: &Ask) -> Result<Reply> {
        let arguments = encode(ask, fastrand::u64(1..));
        let answer = self.call(&arguments);
        if ask.leaves {
            // Servers and firewalls close idle connections after some minutes, some without a word.
            self.connection = None;
        }
        let numbers = answer.map_err(|error| self.explain(&error))?;
        decode(&numbers).ok_or_else(|| {
            self.error(
                ErrorKind::Protocol,
                "gave an answer that this version of tollgate does not understand; let all \
                 processes that share the limit be of one version",
            )
        })
    }
}

impl RedisStore {
    /// Connects to nothing yet.
    pub(crate) fn new(url: &RedisUrl) -> Self {
        Self {
            url: url.clone(),
            script: Script::new(include_str!("redis.lua")),
            connection: None,
        }
    }

    /// After an error the connection is gone: an answer that comes late would be taken for the
    /// next one's, and a server that became a replica would keep us.
    fn call(&mut self, arguments: &[String]) -> Result<Vec<u64>, RedisError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.url.connect()?,
        };
        let mut call = self.script.key(&self.url.key);
        let answer = call.arg(arguments).invoke(&mut connection)?;
        self.connection = Some(connection);
        Ok(answer)
    }

    fn explain(&self, error: &RedisError) -> Error {
        let info = self.url.client.get_connection_info();
        let tls = self.url.has_tls();
        let text = match (error.code(), error.detail()) {
            (Some(code), Some(detail)) => format!("{code} {detail}"),
            _ => error.to_string(),
        };
        // A proxy that does not know AUTH may repeat what it was sent.
        let text = match info.redis_settings().password() {
            Some(password) if !password.is_empty() => text.replace(password, "[redacted]"),
            _ => text,
        };
        let text = printable(&text, 300);
        let other_scheme = if tls {
            "if it speaks no TLS, write redis://"
        } else {
            "if it wants TLS, write rediss://"
        };
        let known = ADVICE
            .iter()
            .find(|(words, ..)| words.iter().any(|word| text.contains(word)));
        let (kind, advice) = match error.kind() {
            Said::AuthenticationFailed => (
                ErrorKind::Auth,
                "it takes neither this user nor this password: check both",
            ),
            // What Linux tells a process that was stopped and goes on (signal(7), SO_RCVTIMEO).
            Said::Io if error.is_timeout() || text.contains("Interrupted system call") => {
                (ErrorKind::Timeout, other_scheme)
            }
            Said::Io if error.is_connection_refusal() => {
                (ErrorKind::Unreachable, "start it, or correct host and port")
            }
            Said::Io if text.contains("certificate") => (
                ErrorKind::Tls,
                "it is not trusted: let SSL_CERT_FILE name the file of its CA, and the URL the \
                 host as the certificate does",
            ),
            Said::Io if error.is_connection_dropped() => (ErrorKind::Network, other_scheme),
            Said::Io if tls => (ErrorKind::Tls, other_scheme),
            Said::Io => (
                ErrorKind::Unreachable,
                "correct the host, or look at the network",
            ),
            Said::Parse | Said::UnexpectedReturnType => (
                ErrorKind::Protocol,
                "it does not answer as Redis does: check host and port",
            ),
            _ => known.map_or(
                (ErrorKind::Server, "look at its log"),
                |&(_, kind, advice)| (kind, advice),
            ),
        };
        let what = match kind {
            ErrorKind::Timeout => "did not answer in time",
            ErrorKind::Network | ErrorKind::Tls | ErrorKind::Unreachable => "cannot be reached",
            _ => "refuses",
        };
        self.error(kind, &format!("{what} ({text}); {advice}"))
    }

    fn error(&self, kind: ErrorKind, what: &str) -> Error {
        Error::new(
            kind,
            format!(
                "the server of the shared limit at {} {what}",
                self.url.place
            ),
        )
    }
}

/// Words of refusals, what kind of error they are, and what can be done.
const ADVICE: [(&[&str], ErrorKind, &str); 9] = {
    use ErrorKind::{Auth, Config, Permission, Server};
    // A long command is refused before it is read, in other words.
    let no_password: &[&str] = &["NOAUTH", "unauthenticated", "Authentication required"];
    let log_in = "put its password into the URL, as in redis://:PASSWORD@HOST/0?key=NAME";
    let not_allowed: &[&str] = &["NOPERM", "can't run this command"];
    let allow = "let this user call EVALSHA, SCRIPT LOAD, TIME, GET and SET for this key";
    let no_database: &[&str] = &["DB index", "SELECT"];
    let database = "correct the number behind the host; a cluster has database 0 only";
    let elsewhere = "let the URL name the node of the cluster that has the key";
    let full = "its memory is full: raise its maxmemory, or let it evict keys";
    [
        (no_password, Auth, log_in),
        (not_allowed, Permission, allow),
        (no_database, Config, database),
        (
            &["WRONGTYPE"],
            Config,
            "give the limit a key of its own (key=NAME)",
        ),
        (
            &["unknown command"],
            Config,
            "use Redis 5 or newer, or Valkey",
        ),
        (&["MOVED"], Config, elsewhere),
        (
            &["READONLY"],
            Server,
            "a replica: let the URL name the primary",
        ),
        (&["OOM"], Server, full),
        (&["max number of clients"], Server, "raise its maxclients"),
    ]
};

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("RedisStore");
        shown.field("url", &self.url).finish_non_exhaustive()
    }
}

/// The arguments of the script, in the order in which it reads them. `fresh` is the incarnation of
/// a state that begins anew.
fn encode(ask: &Ask, fresh: u64) -> Vec<String> {
    let limits = ask.configured.into_iter().chain(ask.announced);
    let limits = limits.flat_map(Limit::numbers);
    let limits: Vec<_> = limits.map(|number| number.to_string()).collect();
    let mut arguments = vec![
        fresh.to_string(),
        ask.holder.to_string(),
        ask.incarnation.to_string(),
        limits.join(" "),
        ask.owed_tokens.to_string(),
        u64::from(ask.leaves).to_string(),
        u64::from(ask.returns).to_string(),
    ];
    let mut numbers = vec![ask.pause, ask.lease, ask.slack];
    for (want, back) in ask.wants.iter().zip(&ask.back) {
        numbers.extend([want.least, want.most]);
        numbers.extend(Span::numbers(back));
    }
    // The script counts in doubles.
    let numbers = numbers.into_iter().map(|number| number.min(LAST));
    arguments.extend(numbers.map(|number| number.to_string()));
    arguments
}

/// The script's answer. None if it is not whole.
fn decode(numbers: &[u64]) -> Option<Reply> {
    let numbers = &mut numbers.iter().copied();
    let mut reply = Reply {
        incarnation: numbers.next()?,
        now: numbers.next()?,
        paused_until: numbers.next()?,
        holders: numbers.next()?,
        ..Reply::default()
    };
    for axis in 0..2 {
        reply.configured[axis] = Limit::read(numbers)?;
        reply.limits[axis] = Limit::read(numbers)?;
        reply.credit[axis] = Span::read(numbers)?;
    }
    numbers.next().is_none().then_some(reply)
}

#[cfg(test)]
mod tests;
