//! An answer as classification sees it, and what its endpoint promises.

use std::time::{Duration, SystemTime};

use http::HeaderMap;

use super::key::ApiKey;

/// One answer, as classification sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResponseView<'a> {
    pub(crate) status: u16,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
    /// The key of the request. Some providers repeat it, and messages quote providers.
    pub(crate) key: Option<&'a ApiKey>,
    /// What the endpoint answers with.
    pub(crate) promise: Promise,
    /// This machine's time, for answers without a `Date`.
    pub(crate) wall: SystemTime,
    /// The model tokens that were reserved: how long to wait depends on them.
    pub(crate) cost_tokens: u64,
    /// The longest wait that is allowed; `None`: any.
    pub(crate) longest_wait: Option<Duration>,
}

/// What an endpoint answers with. The path of the request tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Promise {
    /// `choices`, of chats and completions.
    Choices,
    /// `data`, of embeddings.
    Embeddings,
    /// `content`, of Anthropic's messages.
    Message,
    /// `output`, of `OpenAI`'s responses.
    Response,
    /// An object or an array: nothing more is known of the endpoint.
    #[default]
    Anything,
}

impl Promise {
    /// Those of the endpoints that are known.
    pub(crate) const KNOWN: [Self; 4] = [
        Self::Choices,
        Self::Embeddings,
        Self::Message,
        Self::Response,
    ];

    /// What a POST to `path` is answered with. The path may have a query.
    pub(crate) fn of(path: &str) -> Self {
        let path = path.split('?').next().unwrap_or(path);
        match path.trim_end_matches('/').rsplit('/').next() {
            Some("completions") => Self::Choices,
            Some("embeddings") => Self::Embeddings,
            Some("messages") => Self::Message,
            Some("responses") => Self::Response,
            _ => Self::Anything,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Promise;

    #[test]
    fn the_end_of_a_path_tells_what_is_promised() {
        for (path, promise) in [
            ("/v1/chat/completions", Promise::Choices),
            ("/v1/completions/", Promise::Choices),
            (
                "/openai/deployments/m/chat/completions?api-version=/embeddings",
                Promise::Choices,
            ),
            ("/v1/embeddings", Promise::Embeddings),
            ("/v1/messages", Promise::Message),
            ("/v1/messages/count_tokens", Promise::Anything),
            ("/v1/responses", Promise::Response),
            ("/v1/moderations", Promise::Anything),
            ("/", Promise::Anything),
            ("", Promise::Anything),
        ] {
            assert_eq!(Promise::of(path), promise, "{path}");
        }
    }
}
