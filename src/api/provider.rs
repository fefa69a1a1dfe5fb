//! Providers differ in how a key is sent and in which environment variables hold it.

use std::env;

use super::key::ApiKey;
use crate::error::{Error, Result};

/// Whose conventions a client follows: how it sends the key, and what it finds in the environment.
///
/// What counts against its limits of model tokens is known as well, as the guide's page on
/// [limits](crate::_guide::limits) says. A request's body is the provider's own and is never
/// rewritten.
///
/// ```no_run
/// # fn main() -> tollgate::Result<()> {
/// use serde_json::json;
/// use tollgate::{Client, Provider, Request};
///
/// let client = Client::builder().from_env(Provider::Anthropic).build()?; // ANTHROPIC_API_KEY
/// let reply = client.send(Request::post(
///     "/v1/messages",
///     json!({
///         "model": "claude-sonnet-4-5",
///         "max_tokens": 100,
///         "messages": [{"role": "user", "content": "Say hi"}],
///     }),
/// ))?;
/// println!("{}", reply.text().unwrap_or_default());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Provider {
    /// `OpenAI` and every server that speaks its API: `Authorization: Bearer …`. Reads
    /// `OPENAI_API_KEY`, `OPENAI_BASE_URL` (and below it `OPENAI_API_BASE`), `OPENAI_ORG_ID` and
    /// `OPENAI_PROJECT_ID`.
    #[default]
    OpenAi,
    /// Anthropic: `x-api-key` and `anthropic-version: 2023-06-01`. Reads `ANTHROPIC_API_KEY`, or
    /// `ANTHROPIC_AUTH_TOKEN` (sent as `Authorization: Bearer …`), and `ANTHROPIC_BASE_URL`.
    Anthropic,
    /// Azure `OpenAI`: `api-key`. Reads `AZURE_OPENAI_API_KEY`. The base URL must be given, such as
    /// `https://NAME.openai.azure.com/openai/v1`.
    Azure,
}

/// The version of Anthropic's API that its own clients ask for.
const ANTHROPIC_VERSION: &str = "2023-06-01";

impl Provider {
    /// The variable that holds the key.
    pub fn key_variable(self) -> &'static str {
        match self {
            Self::OpenAi => "OPENAI_API_KEY",
            Self::Anthropic => "ANTHROPIC_API_KEY",
            Self::Azure => "AZURE_OPENAI_API_KEY",
        }
    }

    /// The base URL of its API; Azure has another one for each customer.
    pub(crate) fn default_base_url(self) -> Option<&'static str> {
        match self {
            Self::OpenAi => Some("https://api.openai.com/v1"),
            Self::Anthropic => Some("https://api.anthropic.com"),
            Self::Azure => None,
        }
    }

    /// The base URL in the environment, and the variable that holds it.
    pub(crate) fn base_url_from_env(self) -> Option<(&'static str, String)> {
        let names: &[&str] = match self {
            Self::OpenAi => &["OPENAI_BASE_URL", "OPENAI_API_BASE"],
            Self::Anthropic => &["ANTHROPIC_BASE_URL"],
            Self::Azure => &[],
        };
        names
            .iter()
            .find_map(|name| variable(name).map(|url| (*name, url)))
    }

    /// The key in the environment, and whether it must be sent as a bearer token.
    pub(crate) fn key_from_env(self) -> Result<Option<(ApiKey, bool)>> {
        let bearer = (self == Self::Anthropic).then_some(("ANTHROPIC_AUTH_TOKEN", true));
        for (name, is_bearer) in [(self.key_variable(), false)].into_iter().chain(bearer) {
            if let Some(text) = variable(name) {
                let named = |error: Error| error.behind(&format!("the key in {name}"));
                return Ok(Some((ApiKey::new(&text).map_err(named)?, is_bearer)));
            }
        }
        Ok(None)
    }

    /// The headers of every request, without the key's.
    pub(crate) fn headers(self, from_env: bool) -> Vec<(String, String)> {
        let value = |name| from_env.then(|| variable(name)).flatten();
        let (org, project) = (value("OPENAI_ORG_ID"), value("OPENAI_PROJECT_ID"));
        let headers = match self {
            Self::OpenAi => vec![("openai-organization", org), ("openai-project", project)],
            Self::Anthropic => vec![("anthropic-version", Some(ANTHROPIC_VERSION.to_owned()))],
            Self::Azure => Vec::new(),
        };
        let set = |(name, value): (&str, Option<String>)| Some((name.to_owned(), value?));
        headers.into_iter().filter_map(set).collect()
    }

    /// The header that carries the key.
    pub(crate) fn key_header(self, key: &ApiKey, bearer: bool) -> (String, String) {
        match self {
            Self::Anthropic if !bearer => ("x-api-key".to_owned(), key.expose().to_owned()),
            Self::Azure => ("api-key".to_owned(), key.expose().to_owned()),
            Self::OpenAi | Self::Anthropic => (
                "authorization".to_owned(),
                format!("Bearer {}", key.expose()),
            ),
        }
    }
}

/// The value of a variable that is set and not empty. Shells unset a variable by an empty value.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}
