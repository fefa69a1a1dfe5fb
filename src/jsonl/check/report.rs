//! What a file holds, in numbers and names.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::super::record::beginning;
use super::Findings;
use crate::api::{Size, writes};

/// What was found in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Lines that are requests.
    pub(crate) requests: u64,
    /// Lines that are none, blank ones not counted.
    pub(crate) bad_lines: u64,
    /// Physical lines, blank ones included. Known at the end.
    pub(crate) lines: u64,
    /// Lines with nothing in them. Known at the end.
    pub(crate) blank_lines: u64,
    /// What the file has. Known at the end.
    pub(crate) bytes: u64,
    /// What the prompts have, in model tokens, as far as a limit on tokens would reserve them.
    pub(crate) prompt_tokens: u64,
    /// What the answers may have at most, in model tokens, of the requests that set a limit.
    pub(crate) output_tokens: u64,
    /// Requests that let the model write as much as it likes.
    pub(crate) unlimited: u64,
    /// Embedding inputs, where a provider's batch service counts them.
    pub(crate) embedding_inputs: u64,
    pub(crate) models: Names,
    pub(crate) endpoints: Names,
    pub(crate) findings: Findings,
}

impl Report {
    pub(super) fn note_tokens(&mut self, path: &str, size: Size) {
        self.prompt_tokens = self.prompt_tokens.saturating_add(size.prompt);
        self.output_tokens = self.output_tokens.saturating_add(size.output(0));
        if size.max_output.is_none() && writes(path) {
            self.unlimited += 1;
        }
    }
}

/// Names, how many requests have each, and the first line of each.
///
/// A file may hold anything, so names are cut to [`Names::LONGEST`] bytes and the first
/// [`Names::MOST`] are kept; requests with others are counted together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    kept: HashMap<String, Used>,
    /// Requests with a name that is not kept.
    pub(crate) others: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) requests: u64,
    pub(crate) first_line: u64,
}

impl Names {
    /// How many names are kept.
    pub(crate) const MOST: usize = 1_000;
    const LONGEST: usize = 200;

    pub(super) fn note(&mut self, name: &str, first_line: u64) {
        let name = beginning(name, Self::LONGEST);
        if let Some(known) = self.kept.get_mut(name) {
            known.requests += 1;
        } else if self.kept.len() < Self::MOST {
            let requests = 1;
            let used = Used {
                requests,
                first_line,
            };
            self.kept.insert(name.to_owned(), used);
        } else {
            self.others += 1;
        }
    }

    /// The names kept, those of most requests first.
    pub(crate) fn by_requests(&self) -> Vec<(&str, Used)> {
        self.sorted_by_key(|used| (Reverse(used.requests), used.first_line))
    }

    /// The second name and its first line, if there is more than one.
    pub(super) fn second(&self) -> Option<(&str, u64)> {
        let names = self.sorted_by_key(|used| used.first_line);
        names.get(1).map(|(name, used)| (*name, used.first_line))
    }

    fn sorted_by_key<K: Ord>(&self, key: impl Fn(&Used) -> K) -> Vec<(&str, Used)> {
        let kept = self.kept.iter();
        let mut names: Vec<_> = kept.map(|(name, used)| (name.as_str(), *used)).collect();
        names.sort_unstable_by_key(|(_, used)| key(used));
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_counted_and_the_most_used_come_first() {
        let mut names = Names::default();
        for (line, name) in (1..).zip(["b", "a", "c", "a"]) {
            names.note(name, line);
        }
        names.note("c", 5);
        names.note("c", 6);
        let shown: Vec<_> = names
            .by_requests()
            .iter()
            .map(|(name, used)| (*name, used.requests, used.first_line))
            .collect();
        assert_eq!(shown, [("c", 3, 3), ("a", 2, 2), ("b", 1, 1)]);
        assert_eq!(names.second(), Some(("a", 2)));
    }

    #[test]
    fn a_file_of_nothing_but_names_is_held_in_bounds() {
        let mut whole = Names::default();
        for line in 0..3_000 {
            let name = format!("{line:05}{}", "\u{e9}".repeat(500));
            whole.note(&name, line);
        }
        let kept = whole.by_requests();
        assert_eq!(kept.len(), Names::MOST);
        assert!(kept.iter().all(|(name, _)| name.len() <= Names::LONGEST));
        assert_eq!(kept.last().unwrap().1.first_line, 999);
        assert_eq!(whole.others, 2_000);
        assert_eq!(whole.second().unwrap().1, 1);
    }
}
