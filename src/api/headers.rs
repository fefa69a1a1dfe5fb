//! The headers of an answer.

/// The headers of one answer, in the order they came; names are compared without case.
///
/// ```
/// use tollgate::Headers;
///
/// let headers: Headers = [("Retry-After", "2"), ("X-Request-Id", "req_1")].into_iter().collect();
/// assert_eq!(headers.get("retry-after"), Some("2"));
/// assert_eq!(headers.get("date"), None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// All names and values in one buffer: an answer brings a dozen, and they are rarely read.
    text: String,
    /// Ends of each name and of each value in `text`.
    ends: Vec<(u32, u32)>,
}

impl Headers {
    /// No header yet, and room for `count` with names and values of `bytes` bytes in all.
    pub(crate) fn with_capacity(count: usize, bytes: usize) -> Self {
        Self {
            text: String::with_capacity(bytes),
            ends: Vec::with_capacity(count),
        }
    }

    /// Adds one header; a value that is not UTF-8 should be passed lossily.
    pub fn push(&mut self, name: &str, value: &str) {
        self.text.push_str(name);
        let name_end = self.text.len();
        self.text.push_str(value);
        // A head is bounded (64 KiB by the transport), so the offsets fit; what would not is left out.
        match (u32::try_from(name_end), u32::try_from(self.text.len())) {
            (Ok(name_end), Ok(value_end)) => self.ends.push((name_end, value_end)),
            _ => self.text.truncate(name_end - name.len()),
        }
    }

    /// The first value under `name`, in any case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find(|(candidate, _)| candidate.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// The value under `name` if it is there exactly once: of two limits nobody knows which counts.
    pub(crate) fn only(&self, name: &str) -> Option<&str> {
        let mut values = self
            .iter()
            .filter(|(candidate, _)| candidate.eq_ignore_ascii_case(name));
        let (_, value) = values.next()?;
        values.next().is_none().then_some(value)
    }

    /// The provider's id of the answer, to quote to its support: `x-request-id` (OpenAI and most),
    /// `request-id` (Anthropic), `apim-request-id` (Azure).
    pub(crate) fn request_id(&self) -> Option<&str> {
        ["x-request-id", "request-id", "apim-request-id"]
            .iter()
            .find_map(|name| self.get(name))
            .filter(|id| !id.is_empty())
    }

    /// All headers as `(name, value)`, in the order they came.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut start = 0;
        self.ends.iter().map(move |&(name_end, value_end)| {
            let (name_end, value_end) = (name_end as usize, value_end as usize);
            let pair = (&self.text[start..name_end], &self.text[name_end..value_end]);
            start = value_end;
            pair
        })
    }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut headers = Self::default();
        for (name, value) in pairs {
            headers.push(name.as_ref(), value.as_ref());
        }
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_without_case_and_order_is_kept() {
        let headers: Headers = [("A", "1"), ("b", ""), ("a", "2"), ("", "3")]
            .into_iter()
            .collect();
        assert_eq!(
            (headers.get("a"), headers.get("B"), headers.get("c")),
            (Some("1"), Some(""), None)
        );
        let all: Vec<_> = headers.iter().collect();
        assert_eq!(all, [("A", "1"), ("b", ""), ("a", "2"), ("", "3")]);
    }

    #[test]
    fn a_doubled_header_is_not_the_only_one() {
        let headers: Headers = [("a", "1"), ("b", "2"), ("A", "1")].into_iter().collect();
        assert_eq!(
            (headers.only("a"), headers.only("B"), headers.only("c")),
            (None, Some("2"), None)
        );
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
            let headers: Headers = pairs.iter().copied().collect();
            assert_eq!(headers.request_id(), id);
        }
    }
}
