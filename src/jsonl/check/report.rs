//! What a file holds, in numbers and names, and what is wrong with it, by kind: all of it counted,
//! and enough of it kept to be shown.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::super::record::beginning;
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
    /// Texts that requests have embedded.
    pub(super) embedding_inputs: u64,
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

/// How many findings of a kind are kept; more are only counted.
pub(crate) const KEPT: usize = 1_000;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// A word for programs, such as `not_json`.
    pub(crate) kind: &'static str,
    /// The physical line, from 1; `None` for the file as a whole.
    pub(crate) line: Option<u64>,
    /// In bytes, from 1, where it is one place in the line.
    pub(crate) column: Option<usize>,
    /// The earlier line that has the same `custom_id`.
    pub(crate) first_line: Option<u64>,
    /// What it is, for people.
    pub(crate) message: String,
}

impl Finding {
    pub(super) fn new(kind: &'static str, line: Option<u64>, message: String) -> Self {
        Self {
            kind,
            line,
            column: None,
            first_line: None,
            message,
        }
    }
}

/// Findings by kind, in the order in which the kinds first came up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    pub(crate) by_kind: Vec<OfAKind>,
}

/// Findings of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OfAKind {
    pub(crate) kind: &'static str,
    /// How many there are.
    pub(crate) total: u64,
    /// The first [`KEPT`] of them.
    pub(crate) kept: Vec<Finding>,
}

impl Findings {
    pub(super) fn note(&mut self, finding: Finding) {
        let known = self
            .by_kind
            .iter()
            .position(|known| known.kind == finding.kind);
        let at = known.unwrap_or(self.by_kind.len());
        if known.is_none() {
            self.by_kind.push(OfAKind {
                kind: finding.kind,
                ..OfAKind::default()
            });
        }
        let of_a_kind = &mut self.by_kind[at];
        of_a_kind.total += 1;
        if of_a_kind.kept.len() < KEPT {
            of_a_kind.kept.push(finding);
        }
    }

    /// How many there are of this kind.
    #[cfg(feature = "cli")]
    pub(crate) fn of(&self, kind: &str) -> u64 {
        let found = self.by_kind.iter().find(|it| it.kind == kind);
        found.map_or(0, |it| it.total)
    }

    /// How many there are, of all kinds.
    pub(crate) fn total(&self) -> u64 {
        self.by_kind.iter().map(|of_a_kind| of_a_kind.total).sum()
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

    #[test]
    fn all_are_counted_and_the_first_of_each_kind_are_kept() {
        let mut findings = Findings::default();
        for line in 1..5_001 {
            findings.note(Finding::new("a", Some(line), String::new()));
        }
        findings.note(Finding::new("b", None, "late".to_owned()));
        assert_eq!(findings.total(), 5_001);
        let [a, b] = &findings.by_kind[..] else {
            panic!("{findings:?}");
        };
        let kept: Vec<_> = a.kept.iter().filter_map(|finding| finding.line).collect();
        assert_eq!(kept, (1..=1_000).collect::<Vec<_>>());
        assert_eq!((a.total, b.kind, b.total, b.kept.len()), (5_000, "b", 1, 1));
    }
}
