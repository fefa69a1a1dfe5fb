//! The client: one handle on a provider, its limiter and its connections.

use std::borrow::{Borrow, Cow};
use std::sync::Arc;
use std::time::Duration;

use super::classify::AttemptError;
use super::cost::{Size, model_key};
use super::endpoint::Endpoint;
use super::job::{ApiJob, finished};
use super::reply::Reply;
use super::request::{Chat, Request};
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::limit::Limiter;
use crate::opaque::opaque;
use crate::pool::{Feed, Job, JobOutcome, Monitor, Observer, Outcome, Outcomes, Pool, Settings};

/// A client of one AI API: any number of requests, no faster than its limits, each with retries.
///
/// Cloning is cheap. Clones share the limiter and the connections, so all their requests together
/// stay within the limits. Every call blocks the calling thread; no async runtime is needed.
///
/// | For | Call | Answers |
/// |---|---|---|
/// | one request | [`chat`](Client::chat), [`send`](Client::send) | a [`Reply`], on this thread |
/// | a slice | [`chat_all`](Client::chat_all), [`send_all`](Client::send_all) | a `Vec`, in the input's order |
/// | texts to embed | [`embed`](Client::embed) | a `Vec` of vectors, in the texts' order |
/// | a lazy input, borrowed | [`for_each`](Client::for_each) | a callback on this thread, as they come |
/// | a lazy input, owned | [`as_completed`](Client::as_completed) | an iterator, as they come |
/// | the same, in order | [`in_order`](Client::in_order) | an iterator, in the input's order |
///
/// ```no_run
/// use tollgate::Client;
///
/// # fn main() -> tollgate::Result<()> {
/// let client = Client::builder()
///     .base_url("https://api.example.com/v1")
///     .api_key("a-key-from-somewhere-safe")
///     .concurrency(20)
///     .requests_per_second(10)
///     .tokens_per_minute(200_000)
///     .build()?;
/// let prompts = ["Say hi", "Say bye"];
/// for (prompt, reply) in prompts.iter().zip(client.chat_all("a-model", &prompts)) {
///     match reply {
///         Ok(reply) => println!("{prompt}: {}", reply.text().unwrap_or_default()),
///         Err(error) => eprintln!("{prompt}: {error}"),
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    pool: Pool,
    endpoint: Arc<Endpoint>,
}

impl Client {
    pub(super) fn new(pool: Pool, endpoint: Endpoint) -> Self {
        Self {
            pool,
            endpoint: Arc::new(endpoint),
        }
    }

    /// The same client, whose calls `cancel` stops: single requests and whole runs.
    pub fn with_cancel(mut self, cancel: &Cancel) -> Self {
        self.pool = self.pool.with_cancel(cancel);
        self
    }

    /// The same client, whose calls `monitor` counts.
    pub fn with_monitor(mut self, monitor: &Monitor) -> Self {
        self.pool = self.pool.with_monitor(monitor);
        self
    }

    /// The same client, which tells `observer` of each [`Event`](crate::Event).
    pub fn with_observer(mut self, observer: impl Observer + 'static) -> Self {
        self.pool = self.pool.with_observer(observer);
        self
    }

    /// The same client, each of whose calls may take as long as `deadline`. A call is a single
    /// request with its retries, or a whole run. Default: no limit.
    ///
    /// What is not done by then fails with [`ErrorKind::Deadline`](crate::ErrorKind::Deadline). An
    /// attempt that is under way is cut off.
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.pool = self.pool.with_deadline(deadline);
        self
    }

    /// The limiter of this client: to watch it, to change its limits, or to share it with another.
    pub fn limiter(&self) -> &Limiter {
        self.pool.limiter()
    }

    /// The root that paths are joined to.
    pub fn base_url(&self) -> &str {
        &self.endpoint.base_url
    }

    /// A chat completion ([`Chat`]) with one user message, to be added to and sent:
    /// `client.chat(model, prompt).max_tokens(500).send()`.
    pub fn chat(&self, model: impl Into<String>, prompt: impl Into<String>) -> Chat<&Self> {
        Chat::new(self, model).message("user", prompt)
    }

    /// Sends one request on this thread: waits for the limiter, and retries as the policy says.
    ///
    /// A server that cannot be reached is tried for about two minutes. For less,
    /// [set a deadline](Client::with_deadline).
    ///
    /// # Errors
    /// The failure of the last attempt. If there was no attempt, the reason: the request fits no
    /// limit or is not valid, a deadline passed, or a [`Cancel`] was raised.
    pub fn send(&self, request: impl Into<Request>) -> Result<Reply> {
        // A run of one item has no second thread: the first worker of a slice is its caller. It has
        // a result for each item.
        self.send_all([request]).swap_remove(0)
    }

    /// Sends one chat for each prompt; the replies are in the order of the prompts.
    ///
    /// One failure never takes the others down. If the run is stopped, each prompt that was not
    /// done has an error of kind [`Cancelled`](crate::ErrorKind::Cancelled). For more than a model
    /// and a prompt, make [`Request`]s and give them to [`send_all`](Client::send_all).
    pub fn chat_all<P: AsRef<str> + Sync>(&self, model: &str, prompts: &[P]) -> Vec<Result<Reply>> {
        // A body is written when it is sent; its cost is known without it.
        let key = model_key(model);
        let job = ApiJob::new(
            &self.endpoint,
            |endpoint: &Endpoint, prompt: &&P| Ok(endpoint.reserve_chat(key, (*prompt).as_ref())),
            |prompt: &&P| {
                let prompt = (*prompt).as_ref();
                let size = Size::of_chat(key, prompt).into();
                let request = Request::chat(model, prompt).into();
                Ok(Cow::Owned(Request { size, ..request }))
            },
        );
        self.collect(job, prompts)
    }

    /// Sends all requests; the replies are in their order.
    ///
    /// Takes whatever becomes a [`Request`]: requests and [`Chat`]s, owned or borrowed, in a slice,
    /// a `Vec` or any other iterator. Each may have a [timeout](Request::timeout) of its own.
    ///
    /// Never fails as a whole: a run that is stopped has an error of kind
    /// [`Cancelled`](crate::ErrorKind::Cancelled) for every request that was not done.
    ///
    /// ```
    /// # let echo = tollgate::MemoryTransport::new(|_| Ok(tollgate::HttpResponse {
    /// #     body: br#"{"choices":[{"text":"yes"}]}"#.to_vec(), ..Default::default() }));
    /// # let client = tollgate::Client::builder().no_auth().transport(echo).build()?;
    /// use tollgate::Request;
    ///
    /// let ask = |n| Request::chat("a-model", format!("Is {n} a prime?")).max_tokens(5);
    /// let chats: Vec<_> = (1..=3).map(ask).collect();
    /// for reply in client.send_all(&chats) {
    ///     assert_eq!(reply?.text().as_deref(), Some("yes"));
    /// }
    /// # Ok::<(), tollgate::Error>(())
    /// ```
    pub fn send_all(&self, requests: impl IntoIterator<Item: Into<Request>>) -> Vec<Result<Reply>> {
        let requests: Vec<Request> = requests.into_iter().map(Into::into).collect();
        self.collect(self.job(), &requests)
    }

    fn collect<'a, T: Sync>(
        &self,
        job: impl Job<Input = &'a T, Output = Reply, Error = AttemptError>,
        items: &'a [T],
    ) -> Vec<Result<Reply>> {
        match self.settings().collect(job, items) {
            Ok(outcomes) => outcomes.map(|outcome| finished(outcome).result).collect(),
            Err(error) => items.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    /// The job that sends requests as they are.
    fn job<I: Borrow<Request> + Clone + Send>(
        &self,
    ) -> impl Job<Input = I, Output = Reply, Error = AttemptError> + use<I> {
        ApiJob::new(
            &self.endpoint,
            |endpoint: &Endpoint, request: &I| Ok(endpoint.reserve(request.borrow())),
            |request: &I| Ok(Cow::Borrowed(request.borrow())),
        )
    }

    /// Sends the requests of an iterator, and calls `done` on this thread with each outcome as it
    /// comes. Returns when all are through. The iterator is pulled on a thread of its own, as
    /// requests are needed.
    ///
    /// At most max(1024, 4 × concurrency) requests are pulled and not yet handed to `done`.
    ///
    /// # Errors
    /// [`Nested`](crate::ErrorKind::Nested) inside a pool's job that holds a permit of this
    /// client's limiter, and [`Io`](crate::ErrorKind::Io) if no thread can be started. Failures of
    /// requests are in their outcomes.
    pub fn for_each(
        &self,
        requests: impl IntoIterator<Item: Into<Request>> + Send,
        mut done: impl FnMut(Outcome<Request, Reply, Error>),
    ) -> Result<()> {
        self.settings().for_each(
            self.job(),
            Feed::scoped(Requests(requests)),
            &mut |outcome: JobOutcome<_, _, _>| done(finished(outcome)),
        )
    }

    /// Sends the requests of an iterator, and gives the outcomes as they finish.
    ///
    /// At most max(1024, 4 × concurrency) requests are pulled and not yet taken as outcomes, so a
    /// consumer that stops taking stops the input. Dropping the outcomes stops new work at once;
    /// what is in flight ends by itself.
    ///
    /// # Errors
    /// As [`for_each`](Client::for_each).
    pub fn as_completed(
        &self,
        requests: impl IntoIterator<Item: Into<Request> + 'static> + Send + 'static,
    ) -> Result<Outcomes<Request, Reply, Error>> {
        self.stream(requests, false)
    }

    /// As [`as_completed`](Client::as_completed), with the outcomes in the order of the requests.
    /// One that comes before its turn is held back, and counts as not yet taken.
    ///
    /// ```no_run
    /// # fn main() -> tollgate::Result<()> {
    /// use tollgate::{Client, Request};
    ///
    /// let prompts = ["Say hi", "Say bye"];
    /// let requests = prompts.map(|prompt| Request::chat("a-model", prompt));
    /// for outcome in Client::from_env()?.in_order(requests)? {
    ///     println!("{}", outcome.result?.text().unwrap_or_default());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`for_each`](Client::for_each).
    pub fn in_order(
        &self,
        requests: impl IntoIterator<Item: Into<Request> + 'static> + Send + 'static,
    ) -> Result<Outcomes<Request, Reply, Error>> {
        self.stream(requests, true)
    }

    fn stream(
        &self,
        requests: impl IntoIterator<Item: Into<Request> + 'static> + Send + 'static,
        in_order: bool,
    ) -> Result<Outcomes<Request, Reply, Error>> {
        let requests = Requests(requests);
        let outcomes = self.settings().stream(self.job(), requests, in_order)?;
        let outcomes = outcomes.map(finished);
        Ok(Outcomes(Box::new(outcomes)))
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.pool.settings
    }

    pub(crate) fn monitor(&self) -> &Monitor {
        &self.settings().monitor
    }

    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }
}

opaque!(Client, "Client", |it| base_url: it.endpoint.base_url, limiter: it.limiter());

impl Chat<&Client> {
    /// Sends it on this thread: waits for the limiter, and retries as the policy says.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub fn send(self) -> Result<Reply> {
        self.client.send(self.to_request())
    }
}

/// Makes requests of an iterator's items as they are pulled.
struct Requests<I>(I);

impl<I: IntoIterator<Item: Into<Request>>> IntoIterator for Requests<I> {
    type Item = Request;
    type IntoIter = std::iter::Map<I::IntoIter, fn(I::Item) -> Request>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter().map(Into::into)
    }
}
