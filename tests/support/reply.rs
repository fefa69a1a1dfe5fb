//! What the scripted server sends back: right, wrong, late, slowly, in part or not at all.

use std::time::Duration;

/// What comes back for one request. Sent whole, at once, on a connection then kept, unless told.
#[derive(Clone, Debug)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    framing: Framing,
    /// Raw bytes in front of the status line.
    prefix: Vec<u8>,
    /// Raw bytes in place of it all.
    raw: Option<Vec<u8>>,
    pub(super) delay: Duration,
    /// So many bytes at a time, with a pause after each.
    pub(super) drip: Option<(usize, Duration)>,
    /// Only so many bytes of the body.
    cut: Option<usize>,
    /// Sends nothing more, and stays open until the client goes or the server stops.
    pub(super) hold: bool,
    pub(super) end: End,
}

#[derive(Clone, Debug, PartialEq)]
enum Framing {
    Length(String),
    Chunked(usize),
    /// No length: the body ends with the connection.
    None,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum End {
    Keep,
    Close,
    Reset,
}

impl Reply {
    /// An answer with this status and no body.
    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            framing: Framing::Length("0".into()),
            prefix: Vec::new(),
            raw: None,
            delay: Duration::ZERO,
            drip: None,
            cut: None,
            hold: false,
            end: End::Keep,
        }
    }

    /// 200 with a JSON body.
    pub fn json(body: impl Into<Vec<u8>>) -> Self {
        Self::status(200)
            .header("content-type", "application/json")
            .body(body)
    }

    /// A chat completion that says `text`, with a usage of 10 + 5 tokens.
    pub fn ok_chat(text: &str) -> Self {
        let body = serde_json::json!({
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1_767_225_600,
            "model": "test",
            "choices": [{
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "stop",
            }],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        });
        Self::json(body.to_string())
    }

    /// An error in OpenAI's shape.
    pub fn error(status: u16, kind: &str, code: &str, message: &str) -> Self {
        let error = serde_json::json!({"error": {
            "message": message, "type": kind, "param": null, "code": code,
        }});
        Self::status(status)
            .header("content-type", "application/json")
            .body(error.to_string())
    }

    /// These bytes as they are, then the connection's end.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            raw: Some(bytes.into()),
            end: End::Close,
            ..Self::status(200)
        }
    }

    /// Nothing, and the connection closed.
    pub fn close() -> Self {
        Self::raw("")
    }

    /// Nothing, and the connection reset.
    pub fn reset() -> Self {
        Self::raw("").then_reset()
    }

    /// Nothing, for as long as the client waits.
    pub fn stall() -> Self {
        Self::raw("").then_hold()
    }

    /// A chunked 200 whose second chunk's size is not a number.
    pub fn chunked_garbage() -> Self {
        Self::raw(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\nworld\r\n",
        )
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.framing = Framing::Length(self.body.len().to_string());
        self
    }

    /// Announces this length, true or not.
    pub fn content_length(mut self, length: &str) -> Self {
        self.framing = Framing::Length(length.into());
        self
    }

    /// Announces no length; the body ends with the connection.
    pub fn without_length(mut self) -> Self {
        self.framing = Framing::None;
        self.then_close()
    }

    /// Sends the body in chunks of `size` bytes.
    pub fn chunked(mut self, size: usize) -> Self {
        self.framing = Framing::Chunked(size.max(1));
        self
    }

    /// Sends these bytes before the answer: an interim answer, or noise.
    pub fn prefix(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.prefix = bytes.into();
        self
    }

    /// Waits before the first byte.
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Sends `bytes` at a time, head included, with a pause after each piece.
    pub fn drip(mut self, bytes: usize, every: Duration) -> Self {
        self.drip = Some((bytes.max(1), every));
        self
    }

    /// Announces the whole body, sends half of it and closes.
    pub fn half_body(mut self) -> Self {
        self.cut = Some(self.body.len() / 2);
        self.then_close()
    }

    /// Says `Connection: close`, and does.
    pub fn connection_close(self) -> Self {
        self.header("connection", "close").then_close()
    }

    /// Closes after the answer without having said so.
    pub fn then_close(mut self) -> Self {
        self.end = End::Close;
        self
    }

    /// Resets the connection after what has been sent.
    pub fn then_reset(mut self) -> Self {
        self.end = End::Reset;
        self
    }

    /// Falls silent after what has been sent, and stays connected.
    pub fn then_hold(mut self) -> Self {
        self.hold = true;
        self
    }

    /// The bytes of it all, in order.
    pub(super) fn bytes(&self) -> Vec<u8> {
        if let Some(raw) = &self.raw {
            return raw.clone();
        }
        let mut bytes = self.prefix.clone();
        bytes.extend_from_slice(format!("HTTP/1.1 {} Scripted\r\n", self.status).as_bytes());
        for (name, value) in &self.headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        match &self.framing {
            // RFC 9110, section 8.6: these have no body, so no length either.
            Framing::Length(_) if matches!(self.status, 100..200 | 204 | 304) => {}
            Framing::Length(length) => {
                bytes.extend_from_slice(format!("content-length: {length}\r\n").as_bytes());
            }
            Framing::Chunked(_) => bytes.extend_from_slice(b"transfer-encoding: chunked\r\n"),
            Framing::None => {}
        }
        bytes.extend_from_slice(b"\r\n");
        let body = &self.body[..self.cut.unwrap_or(self.body.len())];
        if let Framing::Chunked(size) = self.framing {
            for chunk in body.chunks(size) {
                bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            if self.cut.is_none() {
                bytes.extend_from_slice(b"0\r\n\r\n");
            }
        } else {
            bytes.extend_from_slice(body);
        }
        bytes
    }
}
