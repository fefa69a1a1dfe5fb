//! A simulated provider: a real HTTP server on 127.0.0.1 that behaves like an AI API.
//!
//! It is made for tests, and for trying a run before paying for it. It needs no key and no network,
//! and the same request always gets the same bytes. It keeps latency, limits in requests
//! and tokens, errors and broken connections as a [`SimSpec`] says, and counts what it saw in
//! [`SimStats`], so that a test can ask whether a client kept within a limit.
//!
//! | Method and path (with or without `/v1`) | Simulated |
//! |---|---|
//! | `POST /v1/chat/completions` | `n`, `max_completion_tokens` or `max_tokens`, `stream` with `stream_options.include_usage` |
//! | `POST /v1/completions` | one prompt or several, `n`, `max_tokens` (16 unless given) |
//! | `POST /v1/embeddings` | text or tokens, one or many, `encoding_format` float or base64, `dimensions` |
//! | `POST /v1/responses` | text or messages, `instructions`, `max_output_tokens` |
//! | `POST /v1/moderations` | one input or several; nothing is ever flagged |
//! | `POST /v1/messages` | Anthropic's: text or parts, `system`, `max_tokens` |
//! | `GET /v1/models`, `GET /v1/models/{id}` | any id exists |
//!
//! Any key is taken, or none, and any model name. Everything else a request may hold is accepted
//! and ignored. Errors have OpenAI's shape, also those of Anthropic's path. Texts start with
//! "Simulated answer".
//!
//! ```
//! use std::io::{Read, Write};
//! use std::net::TcpStream;
//! use tollgate::sim::{SimServer, SimSpec};
//!
//! let server = SimServer::start("latency=0".parse::<SimSpec>()?)?;
//! let mut stream = TcpStream::connect(server.addr())?;
//! stream.write_all(b"GET /v1/models HTTP/1.1\r\nhost: sim\r\nconnection: close\r\n\r\n")?;
//! let mut answer = String::new();
//! stream.read_to_string(&mut answer)?;
//! assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"));
//! assert_eq!(server.stats().requests, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// The decisions are pure. `endpoints` reads a request's `fields` and drafts what would be answered.
// `model` rules on the draft: limits by its own `meter`, never the client's bucket; chance and texts
// from hashes (`generate`). `answer` puts both into bytes. Around them, `http` reads requests and
// `server` holds the sockets and the threads.

mod answer;
mod api_error;
mod endpoints;
mod fields;
mod generate;
mod http;
mod meter;
mod model;
mod server;
mod spec;
mod stats;

pub use server::{SimServer, SimServerBuilder};
pub use spec::SimSpec;
pub use stats::SimStats;
