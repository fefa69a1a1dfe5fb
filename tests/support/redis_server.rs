//! A Redis or Valkey server of a test's own, on a free port of 127.0.0.1, that keeps nothing.
//!
//! Unit tests and integration tests use the same file.

#![allow(dead_code, unreachable_pub, reason = "no test file needs all of it")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The servers that are installed here, of Redis and Valkey. None: the caller's test is skipped.
///
/// # Panics
/// If there is none and `TOLLGATE_TEST_REDIS` is `required`.
pub fn programs() -> Vec<&'static str> {
    let mut found = vec!["redis-server", "valkey-server"];
    found.retain(|program| {
        let mut command = Command::new(program);
        let version = command.arg("--version").stdout(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    });
    if found.is_empty() {
        let demand = std::env::var("TOLLGATE_TEST_REDIS").unwrap_or_default();
        assert_ne!(demand, "required", "neither redis-server nor valkey-server");
        eprintln!("skipped: there is neither redis-server nor valkey-server");
    }
    found
}

/// A server that is killed when this is dropped.
pub struct Server {
    program: &'static str,
    options: Vec<String>,
    pub port: u16,
    child: Child,
}

impl Server {
    /// Starts `program` with further options of its configuration.
    pub fn start(program: &'static str, options: &[&str]) -> Self {
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        // Somebody else may take the port between the two steps.
        for _ in 0..10 {
            let port = free_port();
            if let Some(child) = launch(program, port, &options) {
                return Self {
                    program,
                    options,
                    port,
                    child,
                };
            }
        }
        panic!("{program} does not start");
    }

    /// The URL of the shared limit in this key.
    pub fn url(&self, key: &str) -> String {
        format!("redis://127.0.0.1:{}/0?key={key}", self.port)
    }

    /// Kills the server, and with it all that it knows.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again, empty, on the same port.
    pub fn restart(&mut self) {
        self.kill();
        let child = launch(self.program, self.port, &self.options);
        self.child = child.expect("the port is still free");
    }

    /// Lets the server answer nothing, as if its machine were lost.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Ends what `freeze` began.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, name: &str) {
        let mut kill = Command::new("kill");
        let status = kill.args([name, &self.child.id().to_string()]).status();
        assert!(status.expect("kill can be run").success());
    }

    /// What the server answers to a command without spaces in its words.
    pub fn say(&self, command: &str) -> String {
        say(self.port, command).expect("the server answers")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that nobody listens at.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it has an address").port()
}

/// The server, once it answers. None if it ends before that.
fn launch(program: &str, port: u16, options: &[String]) -> Option<Child> {
    let mut command = Command::new(program);
    command
        .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
        .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn().expect("the server can be run");
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(20) {
        if child.try_wait().expect("it is our child").is_some() {
            return None;
        }
        // Another test's server may have been faster at this port.
        let ours = format!("process_id:{}\r\n", child.id());
        if say(port, "INFO server").is_some_and(|answer| answer.contains(&ours)) {
            return Some(child);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

fn say(port: u16, command: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(format!("{command}\r\n").as_bytes()).ok()?;
    let mut answer = [0; 4096];
    let length = stream.read(&mut answer).ok()?;
    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
    (length > 0).then_some(answer)
}
