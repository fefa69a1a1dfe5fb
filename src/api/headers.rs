//! Reads an answer's headers, and keeps them in little memory.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::key::ApiKey;

/// Under what names providers send the id of an answer, to quote to their support: `x-request-id`
/// (OpenAI and most), `request-id` (Anthropic), `apim-request-id` (Azure).
const REQUEST_IDS: [&str; 3] = ["x-request-id", "request-id", "apim-request-id"];

/// The first value under `name`, if it is visible ASCII.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The provider's id of the answer.
pub(crate) fn request_id<'a>(header: impl Fn(&str) -> Option<&'a str>) -> Option<&'a str> {
    REQUEST_IDS
        .iter()
        .find_map(|name| header(name))
        .filter(|id| !id.is_empty())
}

/// The headers of a kept answer, one `name:value` a line. Thirty of them would take 5 kB as a map.
#[derive(Clone, Default)]
pub(crate) struct Head(Box<str>);

impl Head {
    /// Those of `headers` whose value is text. A provider's id goes into files, so `key` is taken
    /// out of it.
    pub(crate) fn of(headers: &HeaderMap, key: Option<&ApiKey>) -> Self {
        let length = |(name, value): (&HeaderName, &HeaderValue)| {
            name.as_str().len() + value.len() + ":\n".len()
        };
        // What growing leaves behind would be kept for each thread.
        let mut lines = String::with_capacity(headers.iter().map(length).sum());
        for (name, value) in headers {
            if let Ok(value) = value.to_str() {
                let name = name.as_str();
                let value = match key.filter(|_| REQUEST_IDS.contains(&name)) {
                    Some(key) => Cow::Owned(key.scrub_str(value)),
                    None => Cow::Borrowed(value),
                };
                lines.extend([name, ":", &value, "\n"]);
            }
        }
        Self(lines.into())
    }

    /// The first value under `name`, in any case.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut lines = self.0.lines().filter_map(|line| line.split_once(':'));
        let found = lines.find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A map of these headers.
    pub(crate) fn map<N: AsRef<str>, V: AsRef<str>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name: HeaderName = name.as_ref().parse().unwrap();
            headers.append(
                name,
                HeaderValue::from_bytes(value.as_ref().as_bytes()).unwrap(),
            );
        }
        headers
    }

    #[test]
    fn the_request_id_goes_by_several_names() {
        for (pairs, id) in [
            (&[("Request-Id", "r")][..], Some("r")),
            (
                &[("apim-request-id", "a"), ("X-Request-ID", "x")],
                Some("x"),
            ),
            (&[("x-request-id", "")], None),
            (&[("date", "x")], None),
        ] {
            let headers = map(pairs.iter().copied());
            assert_eq!(request_id(|name| text(&headers, name)), id);
            let head = Head::of(&headers, None);
            assert_eq!(request_id(|name| head.get(name)), id);
        }
    }
}
