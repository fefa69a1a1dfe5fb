//! Embeddings: texts in, vectors out.

use serde_json::json;
use serde_json::value::RawValue;

use super::client::Client;
use super::json::{count, fields};
use super::reply::Reply;
use super::request::Request;
use crate::error::{Error, ErrorKind, Result};

/// Texts in one request. Providers accept more; with this many, a limit on requests rarely matters.
const BATCH: usize = 100;

impl Client {
    /// The embedding of each text, in the order of the texts.
    ///
    /// Asks `/v1/embeddings`, with up to 100 texts in a request. If a request is refused for what
    /// is in it, each of its texts is sent again in a request of its own, so that one text that is
    /// too long fails alone. Any other failure is the error of all texts of that request. For more
    /// than a model and texts, make a [`Request`] and read [`Reply::embeddings`].
    ///
    /// ```
    /// # let fixed = tollgate::MemoryTransport::new(|_| Ok(tollgate::HttpResponse {
    /// #     body: br#"{"data":[{"index":0,"embedding":[0.5,1]},{"index":1,"embedding":[2,0]}]}"#.to_vec(),
    /// #     ..Default::default() }));
    /// # let client = tollgate::Client::builder().no_auth().transport(fixed).build()?;
    /// let vectors = client.embed("a-model", &["a text", "another"]);
    /// assert_eq!(vectors.len(), 2);
    /// for vector in vectors {
    ///     println!("{} dimensions", vector?.len());
    /// }
    /// # Ok::<(), tollgate::Error>(())
    /// ```
    pub fn embed<T: AsRef<str>>(&self, model: &str, texts: &[T]) -> Vec<Result<Vec<f32>>> {
        let mut vectors = self.embed_batches(model, texts, BATCH);
        let was_alone = |at: usize| at + 1 == texts.len() && at.is_multiple_of(BATCH);
        let is_refused = |at: &usize| vectors[*at].as_ref().is_err_and(is_for_content);
        let refused: Vec<usize> = (0..texts.len())
            .filter(|at| is_refused(at) && !was_alone(*at))
            .collect();
        let again: Vec<&str> = refused.iter().map(|&at| texts[at].as_ref()).collect();
        let again = self.embed_batches(model, &again, 1);
        for (at, vector) in refused.into_iter().zip(again) {
            vectors[at] = vector;
        }
        vectors
    }

    fn embed_batches<T: AsRef<str>>(
        &self,
        model: &str,
        texts: &[T],
        size: usize,
    ) -> Vec<Result<Vec<f32>>> {
        let request = |batch: &[T]| {
            let input: Vec<&str> = batch.iter().map(AsRef::as_ref).collect();
            Request::post("/v1/embeddings", json!({"model": model, "input": input}))
        };
        let replies = self.send_all(texts.chunks(size).map(request));
        let vectors = |(batch, reply): (&[T], Result<Reply>)| {
            let vectors = reply.and_then(|reply| reply.embeddings());
            match vectors {
                Ok(vectors) if vectors.len() == batch.len() => {
                    vectors.into_iter().map(Ok).collect()
                }
                Ok(_) => vec![Err(malformed()); batch.len()],
                Err(error) => vec![Err(error); batch.len()],
            }
        };
        texts.chunks(size).zip(replies).flat_map(vectors).collect()
    }
}

/// Whether a request failed for one of its texts, or for being so many.
fn is_for_content(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Invalid
            | ErrorKind::TooLarge
            | ErrorKind::ContentFilter
            | ErrorKind::NeverFits
            | ErrorKind::BodyTooLarge
    )
}

impl Reply {
    /// The vectors of an answer to a request for embeddings, in the order of its inputs.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] if the answer is not a list of embeddings, as numbers.
    pub fn embeddings(&self) -> Result<Vec<Vec<f32>>> {
        self.read_embeddings().ok_or_else(malformed)
    }

    fn read_embeddings(&self) -> Option<Vec<Vec<f32>>> {
        let body = str::from_utf8(self.body()).ok()?;
        let [data] = fields(body, &["data"]).ok()?.values;
        let items: Vec<&RawValue> = serde_json::from_str(data?.get()).ok()?;
        let mut vectors = Vec::new();
        for (at, item) in items.into_iter().enumerate() {
            let [index, embedding] = fields(item.get(), &["index", "embedding"]).ok()?.values;
            let index = index.and_then(count).unwrap_or(at as u64);
            let vector: Vec<f32> = serde_json::from_str(embedding?.get()).ok()?;
            vectors.push((index, vector));
        }
        vectors.sort_by_key(|(index, _)| *index);
        Some(vectors.into_iter().map(|(_, vector)| vector).collect())
    }
}

#[cold]
fn malformed() -> Error {
    let what = "the answer does not have an embedding for each text";
    Error::new(ErrorKind::Malformed, what)
}
