//! A provider that answers any number of rows and remembers which it was asked for, in order.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::support::quick::{Quick, QuickServer};
use crate::tool::{Folder, KEY, Tool};

pub(crate) struct Provider {
    asked: Arc<Mutex<Vec<usize>>>,
    server: QuickServer,
}

impl Provider {
    /// Answers in a few milliseconds, and says no to the rows that `refuses`.
    pub(crate) fn start(refuses: impl Fn(usize) -> bool + Send + Sync + 'static) -> Self {
        Self::with(move |row, count| {
            let answer = if refuses(row) {
                Quick::json(400, r#"{"error":{"message":"no","code":"bad"}}"#)
            } else {
                Quick::json(200, &answer(row))
            };
            let spread = (row.wrapping_mul(2_654_435_761) ^ count.wrapping_mul(40_503)) >> 7;
            answer.after(Duration::from_micros(500 + spread as u64 % 6_000))
        })
    }

    /// Answers with what `script` makes of a row and of how many requests there were before.
    pub(crate) fn with(script: impl Fn(usize, usize) -> Quick + Send + Sync + 'static) -> Self {
        let asked: Arc<Mutex<Vec<usize>>> = Arc::default();
        let log = Arc::clone(&asked);
        let server = QuickServer::start(move |body| {
            let row = row_of(body);
            let count = {
                let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                log.push(row);
                log.len() - 1
            };
            script(row, count)
        });
        Self { asked, server }
    }

    /// The rows asked for, in order, from the `from`-th request on.
    pub(crate) fn asked(&self, from: usize) -> Vec<usize> {
        self.log()[from..].to_vec()
    }

    pub(crate) fn count(&self) -> usize {
        self.log().len()
    }

    fn log(&self) -> std::sync::MutexGuard<'_, Vec<usize>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tool, told to come here.
    pub(crate) fn tool(&self, folder: &Folder, arguments: &[&str]) -> Tool {
        self.told(folder.tool(arguments))
    }

    /// The same for one that is ready but for that.
    pub(crate) fn told(&self, tool: Tool) -> Tool {
        tool.env("OPENAI_BASE_URL", &self.server.base_url())
            .env("OPENAI_API_KEY", KEY)
    }
}

/// The id of a row: of characters of one to four bytes, so that a record may be torn within one.
pub(crate) fn id(row: usize) -> String {
    format!("r{row}-é-漢-🦀")
}

/// A file of this many requests.
pub(crate) fn requests(rows: usize) -> String {
    (0..rows).map(|row| request(row, "hi")).collect()
}

/// The line of one row.
pub(crate) fn request(row: usize, prompt: &str) -> String {
    let body = format!(
        r#"{{"model":"m","user":"{row}","messages":[{{"role":"user","content":"{prompt}"}}]}}"#
    );
    let id = id(row);
    format!(
        "{{\"custom_id\":\"{id}\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\",\"body\":{body}}}\n"
    )
}

/// The number in a request's body.
pub(crate) fn row_of(body: &[u8]) -> usize {
    const MARK: &[u8] = b"\"user\":\"";
    let at = body.windows(MARK.len()).position(|part| part == MARK);
    let digits = &body[at.expect("a body of ours") + MARK.len()..];
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |sum, digit| 10 * sum + usize::from(digit - b'0'))
}

/// What a row is answered with: of a length of its own, so that no two files tear alike.
pub(crate) fn answer(row: usize) -> String {
    let mut text = format!("re {row} ");
    for word in 0..row * 7 % 23 {
        let _ = write!(text, "naïve {word} 漢字 🦀 ");
    }
    format!(
        r#"{{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}}}"#
    )
}

/// The row a record belongs to, which must be as it was answered.
pub(crate) fn row_in(line: &str) -> usize {
    let record: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    let name = record["custom_id"].as_str().expect("an id");
    let digits = name[1..].split('-').next().unwrap_or_default();
    let row = digits.parse().expect("an id of ours");
    assert_eq!(name, id(row));
    if record["response"]["status_code"] == 200 {
        assert_eq!(record["response"]["body"], json(&answer(row)), "{line}");
    }
    row
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}
