//! A race: two attempts at one item at the same time. [`hedge`](super::hedge) decides when one
//! begins and which attempt counts. This file has the lock, the flags that cut attempts off, and
//! the counters.

use std::time::Duration;

use super::hedge::{End, Race, Withdrawn};
use super::item::Item;
use super::job::{Attempt, Billed, Caught, Job};
use super::leader::{JobItem, RunShared};
use super::outcomes::Span;
use crate::binding::Binding;
use crate::clock::unpark;
use crate::error::Error;
use crate::limit::{Cost, Permit, Refusal};
use crate::retry::Verdict;

/// How long a copy is put off if the limiter cannot say when it will have room.
const PUT_OFF: Duration = Duration::from_millis(50);

impl<J: Job> RunShared<'_, J> {
    /// Makes a copy ready for an attempt that is about to begin. There is none unless hedging is
    /// on, and the item has had none and may be tried again.
    pub(super) fn let_hedge(&self, item: &mut JobItem<J>) {
        let settings = &self.settings;
        if !settings.hedge || item.is_copied || item.history.is_last_attempt(&settings.retry) {
            return;
        }
        let Some(input) = self.job.second(&item.input) else {
            return;
        };
        let id = (settings.limiter.clock().now(), item.index);
        let cut = settings.cancel.child();
        let race = |is_copy| {
            let cut = cut.clone();
            Some(Box::new(Race { id, is_copy, cut }))
        };
        let spare = Box::new(Item {
            cost: item.cost,
            times: item.times,
            // What the first attempt repeats is counted by that.
            billed: match item.billed {
                Billed::Possibly => Billed::PossiblyTwice,
                other => other,
            },
            race: race(true),
            is_copied: true,
            spans: item.spans.clone(),
            ..Item::new(item.index, input, item.history.clone())
        });
        item.race = race(false);
        let mut state = self.state.lock();
        if let Some(hedging) = &mut state.schedule.hedging {
            hedging.first_sent(id, spare);
        }
        // A leader that waits has to know until when.
        let leader = state.parked_leader();
        drop(state);
        unpark(leader);
    }

    /// Gets a permit for a copy that is due, if the limiter has room for it now.
    pub(super) fn admit_copy(&self, copy: JobItem<J>) -> Option<(JobItem<J>, Permit)> {
        let limiter = &self.settings.limiter;
        let admitted = limiter.try_acquire(copy.cost.unwrap_or(Cost::ONE));
        let now = limiter.clock().now();
        let until = match &admitted {
            Err(Refusal::NotUntil(at)) => *at,
            _ => now + PUT_OFF,
        };
        // Dropped after the lock.
        let _unused;
        let mut state = self.state.lock();
        if let Some(hedging) = &mut state.schedule.hedging
            && let Some(race) = &copy.race
        {
            match admitted {
                Ok(permit) if hedging.copy_sent(race.id, now) => return Some((copy, permit)),
                // The first attempt has ended meanwhile.
                Ok(permit) => _unused = (Some(permit), Some(copy)),
                Err(_) => _unused = (None, hedging.put_off(race.id, copy, until)),
            }
        }
        state.schedule.leave_race();
        None
    }

    /// Takes an attempt that has ended out of its race, if it is in one. The first attempt to
    /// succeed decides, and the other is cut off. If both fail, the last decides.
    pub(super) fn end_race(
        &self,
        item: &mut JobItem<J>,
        result: &Caught<J>,
        attempt: &Attempt<'_>,
    ) -> End {
        let Some(race) = item.race.take() else {
            return End::Decides;
        };
        let succeeded = matches!(result, Ok(Ok(_)));
        let stops = matches!(result, Ok(Err((_, verdict))) if self.stops_run(*verdict));
        let span = item.spans.last().filter(|_| attempt.was_sent()).copied();
        let withdrawn = Withdrawn {
            span,
            possibly_billed: self.shown(result).is_some_and(Error::possibly_billed),
        };
        let now = self.settings.limiter.clock().now();
        let took = now.saturating_duration_since(attempt.began);
        let (end, pair) = match &mut self.state.lock().schedule.hedging {
            Some(hedging) => hedging.ended(&race, took, succeeded || stops, withdrawn),
            None => (End::Decides, None),
        };
        let Some(pair) = pair else { return end };
        let is_cut = pair.withdrawn.is_none() && pair.under_way > 0;
        let other = match pair.withdrawn {
            Some(withdrawn) => withdrawn,
            None if is_cut => {
                race.cut.abort();
                let began = if race.is_copy {
                    Some(race.id.0)
                } else {
                    pair.copied
                };
                Withdrawn {
                    span: began.map(|began| Span {
                        began,
                        ended: span.map_or(now, |own| own.ended),
                        failure: None,
                        is_cut: true,
                    }),
                    // A row that has its answer lost none.
                    possibly_billed: !succeeded,
                }
            }
            None => return end,
        };
        if let Some(span) = other.span {
            item.history.attempts += 1;
            let own = usize::from(attempt.was_sent());
            item.spans.insert(item.spans.len() - own, span);
        }
        if race.is_copy {
            // Until it was sent the item waited for its first attempt.
            let before = attempt.began.saturating_duration_since(race.id.0);
            item.times.add(Binding::Wire, before);
        }
        let won = race.is_copy && succeeded;
        item.is_copied = true;
        item.by_copy = won;
        let is_new = other.possibly_billed && item.billed != Billed::PossiblyTwice;
        if is_new {
            item.billed = Billed::PossiblyTwice;
        }
        self.settings.monitor.update(|progress| {
            progress.hedges_won += u64::from(won);
            progress.hedges_cut += u64::from(is_cut && succeeded);
            progress.possibly_billed += u64::from(is_new);
        });
        end
    }

    /// An attempt that does not decide has given back its permit.
    pub(super) fn leave_race(&self) {
        self.state.lock().schedule.leave_race();
    }

    /// Whether the run stops for an answer with this verdict.
    pub(super) fn stops_run(&self, verdict: Verdict) -> bool {
        match verdict {
            Verdict::Stop => true,
            Verdict::PauseAll(hint) | Verdict::RetryAfter(hint) => !self.settings.retry.obeys(hint),
            _ => false,
        }
    }
}
