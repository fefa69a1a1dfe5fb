//! The simulated provider in a planned run. Its model rules on each attempt, as in its server.

use std::time::Duration;

use super::Planned;
use super::draws::{End, Nanos};
use crate::limit::{Announced, Counted, Reset};
use crate::retry::{Reach, Verdict};
use crate::sim::{Dialect, Draft, Fate, Hints, Limit, Model, Quota, Ruling, SimSpec};

pub(super) struct Simulated {
    dialect: Dialect,
    hints: Hints,
    model: Model,
}

impl Simulated {
    pub(super) fn new(spec: SimSpec) -> Self {
        let (dialect, hints) = spec.manners();
        Self {
            dialect,
            hints,
            model: Model::new(spec, false),
        }
    }

    /// What becomes of a request that arrives now. Its answer, if there is one, has so many tokens.
    pub(super) fn rule(
        &mut self,
        now: Nanos,
        index: u64,
        request: &Planned,
        output: u64,
    ) -> Ruling {
        let draft = Draft::of_size(request.prompt_tokens, output, index);
        self.model.rule(Duration::from_nanos(now), &draft)
    }

    /// How a request ends, by the tables for answers and for broken connections.
    pub(super) fn end(&self, ruling: &Ruling, output: u64) -> End {
        let verdict = match ruling.fate {
            Fate::Answer => return Ok(output),
            Fate::Reset => return Err((Verdict::Retry, Reach::Unanswered)),
            Fate::Limited { wait: None, .. } => Verdict::Fail,
            Fate::Limited { wait, .. } | Fate::TooMany { wait, .. } => self.refusal(wait),
            // It says that it is overloaded.
            Fate::Error(503) => Verdict::Throttled,
            Fate::Error(_) | Fate::Cut => Verdict::Retry,
        };
        Err((verdict, Reach::Answered))
    }

    fn refusal(&self, wait: Option<Duration>) -> Verdict {
        match (wait, self.hints) {
            (None, _) | (_, Hints::Silent) => Verdict::Throttled,
            (Some(wait), Hints::Seconds) => {
                let more = u64::from(wait.subsec_nanos() > 0);
                Verdict::PauseAll(Duration::from_secs(wait.as_secs() + more))
            }
            (Some(wait), _) => Verdict::PauseAll(wait),
        }
    }

    /// A request has been answered. Returns what its headers announce; those of a day's limit are
    /// left out.
    pub(super) fn answered(&mut self, ruling: &Ruling) -> impl Iterator<Item = Announced> {
        self.model.answered(ruling, 200);
        let dialect = self.dialect;
        let tells = move |quota: &&Quota| match (dialect, quota.limit) {
            (Dialect::Silent, _)
            | (Dialect::Groq, Limit::Requests)
            | (Dialect::OpenRouter, Limit::Tokens) => false,
            _ => !matches!(ruling.fate, Fate::Reset | Fate::Cut),
        };
        let told = ruling.quotas.iter().filter(tells);
        told.map(|quota| announced(quota, ruling.fate))
    }
}

fn announced(quota: &Quota, fate: Fate) -> Announced {
    let counted = match quota.limit {
        Limit::Requests => Counted::Requests,
        Limit::Tokens => Counted::Tokens,
    };
    let is_up = matches!(fate, Fate::Limited { by, .. } if by == quota.limit);
    let left = quota.most.saturating_sub(quota.used);
    Announced {
        counted,
        scope: counted as u64,
        limit: quota.most,
        remaining: Some(if is_up { 0 } else { left }),
        reset: Some(Reset {
            after: quota.full_in,
            grain: Duration::from_millis(1),
        }),
        window: None,
    }
}
