//! What is wrong with a file, by kind: all of it counted, and enough of it kept to be shown.

use super::super::format::LineError;

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

    /// Of a line that a run would make a failed row of.
    pub(super) fn of_bad_line(line: u64, error: &LineError) -> Self {
        Self {
            column: error.column,
            ..Self::new(error.kind, Some(line), error.message.to_string())
        }
    }

    /// Of a row whose answer is that of another request.
    pub(super) fn of_changed(line: u64) -> Self {
        let message = "has changed since it was answered: give it another id, keep its old answer \
                       (`force_resume`), or start anew (`overwrite`)";
        Self::new("changed", Some(line), message.to_owned())
    }

    /// Of a row that has a record in the output of a shard that it is not in.
    pub(super) fn of_other_shard(line: u64) -> Self {
        let message = "has a record in the output, and is in another shard: give each shard an \
                       output of its own";
        Self::new("other_shard", Some(line), message.to_owned())
    }

    pub(super) fn of_duplicate(first: u64, again: u64, id: &str) -> Self {
        let message = format!("has the \"custom_id\" of line {first}{id}");
        Self {
            first_line: Some(first),
            ..Self::new("duplicate_id", Some(again), message)
        }
    }
}

/// Findings by kind, in the order in which the kinds first came up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings(Vec<OfAKind>);

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
        let known = self.0.iter().position(|known| known.kind == finding.kind);
        let at = known.unwrap_or_else(|| {
            let (kind, none) = (finding.kind, OfAKind::default());
            self.0.push(OfAKind { kind, ..none });
            self.0.len() - 1
        });
        let of_a_kind = &mut self.0[at];
        of_a_kind.total += 1;
        if of_a_kind.kept.len() < KEPT {
            of_a_kind.kept.push(finding);
        }
    }

    /// How many there are, of all kinds.
    pub(crate) fn total(&self) -> u64 {
        self.0.iter().map(|of_a_kind| of_a_kind.total).sum()
    }

    pub(crate) fn by_kind(&self) -> &[OfAKind] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_counted_and_the_first_of_each_kind_are_kept() {
        let mut findings = Findings::default();
        for line in 1..5_001 {
            findings.note(Finding::new("a", Some(line), String::new()));
        }
        findings.note(Finding::new("b", None, "late".to_owned()));
        assert_eq!(findings.total(), 5_001);
        let [a, b] = findings.by_kind() else {
            panic!("{findings:?}");
        };
        let kept: Vec<_> = a.kept.iter().filter_map(|finding| finding.line).collect();
        assert_eq!(kept, (1..=1_000).collect::<Vec<_>>());
        assert_eq!((a.total, b.kind, b.total, b.kept.len()), (5_000, "b", 1, 1));
    }
}
