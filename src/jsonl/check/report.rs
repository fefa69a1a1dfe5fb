//! What a file holds, in numbers and names.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::super::record::beginning;
use super::Findings;
use crate::api::{Size, writes};

/// What was found in a file, or in a part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Lines that are requests.
    pub(crate) requests: u64,
    /// Lines that are none, blank ones not counted.
    pub(crate) bad_lines: u64,
    /// Physical lines, blank ones included. Known at the end.
    pub(crate) lines: u64,
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
    /// Lines with nothing in them.
    pub(crate) fn blank_lines(&self) -> u64 {
        self.lines - self.requests - self.bad_lines
    }

    pub(super) fn note_tokens(&mut self, path: &str, size: Size) {
        self.prompt_tokens = self.prompt_tokens.saturating_add(size.prompt);
        self.output_tokens = self.output_tokens.saturating_add(size.output(0));
        if size.max_output.is_none() && writes(path) {
            self.unlimited += 1;
        }
    }

    /// Takes what was found in later lines.
    pub(super) fn append(&mut self, later: Self) {
        self.requests += later.requests;
        self.bad_lines += later.bad_lines;
        self.prompt_tokens = self.prompt_tokens.saturating_add(later.prompt_tokens);
        self.output_tokens = self.output_tokens.saturating_add(later.output_tokens);
        self.unlimited += later.unlimited;
        self.embedding_inputs = self.embedding_inputs.saturating_add(later.embedding_inputs);
        self.models.append(&later.models);
        self.endpoints.append(&later.endpoints);
        self.findings.append(later.findings);
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

    pub(super) fn note(&mut self, name: &str, line: u64) {
        let used = Used {
            requests: 1,
            first_line: line,
        };
        self.add(beginning(name, Self::LONGEST), used);
    }

    fn add(&mut self, name: &str, used: Used) {
        if let Some(known) = self.kept.get_mut(name) {
            known.requests += used.requests;
        } else if self.kept.len() < Self::MOST {
            self.kept.insert(name.to_owned(), used);
        } else {
            self.others += used.requests;
        }
    }

    fn append(&mut self, later: &Self) {
        self.others += later.others;
        for (name, used) in later.in_order() {
            self.add(name, used);
        }
    }

    /// By their first lines, so that the same ones are kept however many cores there are.
    fn in_order(&self) -> Vec<(&str, Used)> {
        let kept = self.kept.iter();
        let mut names: Vec<_> = kept.map(|(name, used)| (name.as_str(), *used)).collect();
        names.sort_unstable_by_key(|(_, used)| used.first_line);
        names
    }

    /// The names kept, those of most requests first.
    pub(crate) fn by_requests(&self) -> Vec<(&str, Used)> {
        let mut names = self.in_order();
        names.sort_by_key(|(_, used)| Reverse(used.requests));
        names
    }

    /// The second name and its first line, if there is more than one.
    pub(super) fn second(&self) -> Option<(&str, u64)> {
        let names = self.in_order();
        names.get(1).map(|(name, used)| (*name, used.first_line))
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
        let mut later = Names::default();
        later.note("c", 5);
        later.note("c", 6);
        names.append(&later);
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
        for part in 0..30_u64 {
            let mut names = Names::default();
            for line in part * 100..(part + 1) * 100 {
                let name = format!("{line:05}{}", "\u{e9}".repeat(500));
                names.note(&name, line);
            }
            whole.append(&names);
        }
        let kept = whole.by_requests();
        assert_eq!(kept.len(), Names::MOST);
        assert!(kept.iter().all(|(name, _)| name.len() <= Names::LONGEST));
        assert_eq!(kept.last().unwrap().1.first_line, 999);
        assert_eq!(whole.others, 2_000);
        assert_eq!(whole.second().unwrap().1, 1);
    }
}
