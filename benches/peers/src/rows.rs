//! What is measured: the rows of the table.

use std::time::Duration;

use crate::server::{FAR, Ports};

/// Which of the server's ports a row goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    Plain,
    Tls,
    /// TLS at a round trip of [`FAR`], every connection a new one.
    Far,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// As `--rows` takes it.
    pub(crate) name: &'static str,
    pub(crate) port: Port,
    pub(crate) requests: usize,
    pub(crate) at_once: usize,
    /// How long the server thinks about each.
    pub(crate) latency: Duration,
}

const fn row(
    name: &'static str,
    port: Port,
    requests: usize,
    at_once: usize,
    latency_ms: u64,
) -> Row {
    Row {
        name,
        port,
        requests,
        at_once,
        latency: Duration::from_millis(latency_ms),
    }
}

pub(crate) const ROWS: [Row; 8] = [
    row("in-flight-4000", Port::Plain, 16_000, 4_000, 1_000),
    row("in-flight-1000", Port::Plain, 4_000, 1_000, 1_000),
    row("tls-1000", Port::Tls, 4_000, 1_000, 1_000),
    row("no-latency", Port::Plain, 20_000, 64, 0),
    row("hundred-10", Port::Plain, 100, 10, 500),
    row("hundred-20", Port::Plain, 100, 20, 500),
    row("hundred-50", Port::Plain, 100, 50, 500),
    row("cold-tls-far", Port::Far, 1_000, 1_000, 0),
];

impl Row {
    /// The same question at a tenth of its size and a fifth of its latency, to see that everything
    /// works.
    pub(crate) fn smoke(self) -> Self {
        let tenth = |count| if count < 1_000 { count } else { count / 10 };
        Self {
            requests: tenth(self.requests),
            at_once: tenth(self.at_once),
            latency: self.latency / 5,
            ..self
        }
    }

    pub(crate) fn title(&self) -> String {
        let (requests, at_once) = (self.requests, self.at_once);
        let latency = self.latency.as_millis();
        match self.port {
            Port::Plain => format!("{requests} × {latency} ms, {at_once} at once"),
            Port::Tls => format!("{requests} × {latency} ms, {at_once} at once, over TLS"),
            Port::Far => format!(
                "{requests} cold TLS connections at once, {} ms round trip",
                FAR.as_millis(),
            ),
        }
    }

    /// What it takes if nothing but the server's own time counts; zero where that is nothing.
    pub(crate) fn ideal(&self) -> Duration {
        // Connect, handshake, request.
        let trips = if self.port == Port::Far { 3 } else { 0 };
        let turns = u32::try_from(self.requests.div_ceil(self.at_once)).unwrap_or(u32::MAX);
        FAR * trips + self.latency * turns
    }

    pub(crate) fn base_url(&self, ports: &Ports) -> String {
        let (scheme, port) = match self.port {
            Port::Plain => ("http", ports.plain),
            Port::Tls => ("https", ports.tls),
            Port::Far => ("https", ports.far),
        };
        let latency = self.latency.as_millis();
        format!("{scheme}://127.0.0.1:{port}/delay-{latency}/v1")
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, ROWS};

    #[test]
    fn the_ideal_is_turns_times_latency_or_three_round_trips() {
        let ideals = ROWS.map(|row| row.ideal().as_millis());
        assert_eq!(ideals, [4_000, 4_000, 4_000, 0, 5_000, 2_500, 1_000, 300]);
        let smoke = ROWS[0].smoke();
        assert_eq!((smoke.requests, smoke.at_once), (1_600, 400));
        assert_eq!(smoke.ideal(), Duration::from_millis(800));
    }
}
