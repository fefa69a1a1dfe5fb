//! The headers of an answer.

/// The headers of one answer, in the order they came; names are compared without case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Headers {
    /// All names and values in one buffer: an answer brings a dozen, and they are rarely read.
    text: String,
    /// Ends of each name and of each value in `text`.
    ends: Vec<(u32, u32)>,
}

impl Headers {
    /// No header yet, and room for `count` with names and values of `bytes` bytes in all.
    pub(super) fn with_capacity(count: usize, bytes: usize) -> Self {
        Self {
            text: String::with_capacity(bytes),
            ends: Vec::with_capacity(count),
        }
    }

    /// Adds one header; a value that is not UTF-8 should be passed lossily.
    pub(super) fn push(&mut self, name: &str, value: &str) {
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
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find(|(candidate, _)| candidate.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// The value under `name` if it is there exactly once: of two limits nobody knows which counts.
    pub(super) fn only(&self, name: &str) -> Option<&str> {
        let mut values = self
            .iter()
            .filter(|(candidate, _)| candidate.eq_ignore_ascii_case(name));
        let (_, value) = values.next()?;
        values.next().is_none().then_some(value)
    }

    pub(super) fn to_map(&self) -> http::HeaderMap {
        let mut map = http::HeaderMap::with_capacity(self.ends.len());
        for (name, value) in self.iter() {
            if let (Ok(name), Ok(value)) = (
                name.parse::<http::HeaderName>(),
                http::HeaderValue::from_bytes(value.as_bytes()),
            ) {
                map.append(name, value);
            }
        }
        map
    }

    /// All headers as `(name, value)`, in the order they came.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
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
