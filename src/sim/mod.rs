//! A simulated provider: a real HTTP server on 127.0.0.1 that behaves like an AI API.
//!
//! It is made for tests, and for trying a run before paying for it. It needs no key and no network,
//! and the same request always gets the same bytes. It keeps latency, limits in requests
//! and tokens, errors and broken connections as a [`SimSpec`] says, and counts what it saw in
//! [`SimStats`], so that a test can ask whether a client kept within a limit.
//!
//! | Method and path (with or without `/v1`) | Simulated |
//! |---|---|
//! | `POST /v1/chat/completions` | `n`, `max_completion_tokens` or `max_tokens`, `response_format`, `tool_choice`, `stream` with `stream_options.include_usage` |
//! | `POST /v1/completions` | one prompt or several, `n`, `max_tokens` (16 unless given) |
//! | `POST /v1/embeddings` | text or tokens, one or many, `encoding_format` float or base64, `dimensions` |
//! | `POST /v1/responses` | text or messages, `instructions`, `max_output_tokens`, `text.format`, `tool_choice` |
//! | `POST /v1/moderations` | one input or several; nothing is ever flagged |
//! | `POST /v1/messages` | Anthropic's: text or parts, `system`, `max_tokens`, `output_config.format`, `tool_choice` |
//! | `GET /v1/models`, `GET /v1/models/{id}` | three models; 404 for the id of another |
//!
//! Any key is taken, or none. Requests for answers may name any model. Everything else that a
//! request holds is accepted and ignored. Errors have the shape of OpenAI's, with
//! `headers=gemini` of Gemini's, or of Anthropic's on its paths; there 529 stands for 503. Texts start with "Simulated answer".
//!
//! JSON that a request asks for by a schema has the fields, types and values of that schema, except
//! for a `pattern`. A tool is called if `tool_choice` demands a call; a request that leaves the
//! choice to the model gets a text.
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
// `model` rules on the draft: limits by a `gauge` each, with a `meter` or a `window` of its own and
// never the client's bucket; how many are worked on; chance and texts from hashes (`generate`).
// `form` writes JSON, and `stream` makes events of it. `answer` puts all of it into bytes, or an
// `api_error`. Around them, `http` reads requests and `server` holds the sockets and the threads.
// `spec` and `manners` say how the provider behaves, and `stats` what it saw.

mod answer;
mod api_error;
mod endpoints;
mod fields;
mod form;
mod gauge;
mod generate;
mod http;
mod manners;
mod meter;
mod model;
mod server;
mod spec;
mod stats;
mod stream;
mod window;

#[cfg(feature = "cli")]
pub(crate) use generate::NATURAL;
pub use manners::{Dialect, Hints, Judged};
pub use server::{SimServer, SimServerBuilder};
#[cfg(feature = "cli")]
pub(crate) use spec::SimPlan;
pub use spec::SimSpec;
pub use stats::SimStats;
