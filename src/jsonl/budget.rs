//! What a run spends, counted as the answers come, and when that is enough.

use crate::api::{Price, Usage, Usd};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::Mutex;

/// What a run may spend, and at which price.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Terms {
    pub(super) price: Option<Price>,
    pub(super) max_cost: Option<Usd>,
    /// Model tokens, of prompts and answers together.
    pub(super) max_tokens: Option<u64>,
}

impl Terms {
    /// # Errors
    /// [`ErrorKind::Config`] for a bound on the cost of what has no price, or one that allows nothing.
    pub(super) fn check(&self) -> Result<()> {
        let refused =
            |what, settings| Err(Error::new(ErrorKind::Config, what).with_settings(settings));
        if self.max_cost.is_some() && self.price.is_none() {
            return refused(
                "a limit on the cost needs the price of model tokens",
                &["price"],
            );
        }
        if self.max_cost == Some(Usd::ZERO) {
            return refused(
                "a limit of 0 USD allows no request: give more, or leave it out",
                &["max_cost"],
            );
        }
        if self.max_tokens == Some(0) {
            return refused(
                "a budget of 0 model tokens allows no request: give more, or leave it out",
                &["token_budget"],
            );
        }
        Ok(())
    }
}

/// The account of one run, kept by the threads that get the answers.
#[derive(Debug)]
pub(super) struct Budget {
    terms: Terms,
    spent: Mutex<Spent>,
}

/// Model tokens, as the provider counted them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spent {
    pub(super) prompt_tokens: u64,
    pub(super) completion_tokens: u64,
    /// Answers that did not say what they took.
    pub(super) uncounted: u64,
}

impl Spent {
    fn tokens(self) -> u64 {
        self.prompt_tokens.saturating_add(self.completion_tokens)
    }
}

impl Budget {
    pub(super) fn new(terms: Terms) -> Self {
        Self {
            terms,
            spent: Mutex::new(Spent::default()),
        }
    }

    /// Counts what one answer took. Whether nothing more may be sent.
    pub(super) fn spend(&self, usage: &Usage) -> bool {
        let spent = {
            let mut spent = self.spent.lock();
            // Each count is bounded, their sum is not.
            spent.prompt_tokens = spent.prompt_tokens.saturating_add(usage.prompt_tokens);
            spent.completion_tokens = spent
                .completion_tokens
                .saturating_add(usage.completion_tokens);
            *spent
        };
        self.over_cost(spent).is_some() || self.over_tokens(spent).is_some()
    }

    /// Counts an answer that did not say what it took. The first is told where that matters: no
    /// bound is ever reached by what has no count.
    pub(super) fn uncounted(&self) {
        let first = {
            let mut spent = self.spent.lock();
            spent.uncounted += 1;
            spent.uncounted == 1
        };
        if first && (self.terms.max_cost.is_some() || self.terms.max_tokens.is_some()) {
            log::warn!(
                "an answer did not say how many model tokens it took (it has no \"usage\"): such \
                 answers count nothing against the budget, so it may never be reached"
            );
        }
    }

    pub(super) fn spent(&self) -> Spent {
        *self.spent.lock()
    }

    /// What the run has cost, if there is a price.
    pub(super) fn cost(&self) -> Option<Usd> {
        self.cost_of(self.spent())
    }

    /// What an answer with this usage costs, if there is a price.
    pub(super) fn cost_of_one(&self, usage: &Usage) -> Option<Usd> {
        self.terms.price.map(|price| price.cost(usage))
    }

    /// Why nothing more is sent, once the budget is spent.
    pub(super) fn exhausted(&self) -> Option<Error> {
        let spent = self.spent();
        let (why, setting): (_, &[_]) = if let Some((cost, most)) = self.over_cost(spent) {
            let why = format!("this run has spent {cost} USD, and its limit is {most} USD");
            (why, &["max_cost"])
        } else {
            let most = self.over_tokens(spent)?;
            let tokens = spent.tokens();
            let why = format!("this run has used {tokens} model tokens, and its budget is {most}");
            (why, &["token_budget"])
        };
        let message =
            format!("{why}: nothing more is sent; a rerun carries on, with as much again");
        Some(Error::new(ErrorKind::Budget, message).with_settings(setting))
    }

    fn cost_of(&self, spent: Spent) -> Option<Usd> {
        let price = self.terms.price?;
        Some(price.of(spent.prompt_tokens, spent.completion_tokens))
    }

    /// The cost and its bound, where that is reached.
    fn over_cost(&self, spent: Spent) -> Option<(Usd, Usd)> {
        let (cost, most) = (self.cost_of(spent)?, self.terms.max_cost?);
        (cost >= most).then_some((cost, most))
    }

    /// The bound on tokens, where it is reached.
    fn over_tokens(&self, spent: Spent) -> Option<u64> {
        self.terms.max_tokens.filter(|most| spent.tokens() >= *most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(prompt_tokens: u64, completion_tokens: u64) -> Usage {
        Usage {
            prompt_tokens,
            completion_tokens,
            ..Usage::default()
        }
    }

    fn terms(price: &str, max_cost: &str, max_tokens: Option<u64>) -> Terms {
        Terms {
            price: price.parse().ok(),
            max_cost: max_cost.parse().ok(),
            max_tokens,
        }
    }

    #[test]
    fn it_is_spent_when_the_bound_is_reached_and_not_before() {
        // A dollar a token.
        let budget = Budget::new(terms("1000000,1000000", "3", None));
        assert!(!budget.spend(&usage(1, 1)));
        assert!(budget.exhausted().is_none());
        assert!(budget.spend(&usage(0, 1)));
        assert!(budget.spend(&usage(2, 0)), "what was in flight");
        let why = budget.exhausted().unwrap();
        assert_eq!(why.kind(), ErrorKind::Budget);
        let why = why.to_string();
        assert!(
            why.contains("5 USD") && why.contains("limit is 3 USD") && why.contains("`max_cost`"),
            "{why}"
        );
        assert_eq!(budget.cost().unwrap().to_string(), "5");

        let budget = Budget::new(terms("", "", Some(10)));
        assert!(!budget.spend(&usage(4, 5)));
        assert!(budget.spend(&usage(1, 1)));
        let why = budget.exhausted().unwrap().to_string();
        assert!(
            why.contains("11 model")
                && why.contains("budget is 10")
                && why.contains("`token_budget`"),
            "{why}"
        );
        assert_eq!(budget.cost(), None);
    }

    #[test]
    fn without_bounds_it_only_counts() {
        let budget = Budget::new(terms("0,0", "", None));
        assert!(!budget.spend(&usage(u64::MAX, u64::MAX)));
        assert!(!budget.spend(&usage(1, 1)));
        assert_eq!(budget.cost(), Some(Usd::ZERO));
        assert_eq!(budget.spent().prompt_tokens, u64::MAX);
        assert!(budget.exhausted().is_none());
    }

    #[test]
    fn bounds_that_cannot_be_meant_are_refused() {
        for (terms, word) in [
            (terms("", "1", None), "`price`"),
            (terms("1,1", "0", None), "`max_cost`"),
            (terms("", "", Some(0)), "`token_budget`"),
        ] {
            let error = terms.check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(word), "{error}");
        }
        assert!(terms("0,0", "1", Some(1)).check().is_ok());
    }
}
