//! A race: two attempts at one item at the same time. [`hedge`](super::hedge) decides when one
//! begins and which attempt counts. This file has the lock, the flags that cut attempts off, and
//! the counters.

use std::time::Duration;

use super::hedge::{Copied, Race, Standing, Withdrawn};
use super::job::{Attempt, Billed, Caught, Job};
use super::leader::{JobItem, RunShared};
use super::schedule::Item;
use crate::binding::Binding;
use crate::clock::unpark;
use crate::limit::{Cost, Permit, Refusal};
use crate::retry::Verdict;

/// How long a copy is put off if the limiter cannot say when it will have room.
const PUT_OFF: Duration = Duration::from_millis(50);

/// What becomes of an attempt that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It decides about its item.
    Decides,
    /// It has failed, and another attempt decides.
    Withdraws,
    /// Another attempt has decided.
    Lost,
}

impl<J: Job> RunShared<'_, J> {
    /// Makes a copy ready for an attempt that is about to begin. There is none unless hedging is
    /// on, and the item has had none and may be tried again.
    pub(super) fn let_hedge(&self, item: &mut JobItem<J>) {
        let settings = &self.settings;
        if !settings.hedge
            || item.copied != Copied::No
            || item.history.is_last_attempt(&settings.retry)
        {
            return;
        }
        let Some(input) = self.job.second(&item.input) else {
            return;
        };
        let id = (settings.limiter.clock().now(), item.index);
        let race = |is_copy, cut| Some(Box::new(Race { id, is_copy, cut }));
        let cut = settings.cancel.child();
        let spare = Box::new(Item {
            index: item.index,
            input,
            history: item.history.clone(),
            cost: item.cost,
            last: None,
            backing_off: None,
            times: item.times,
            // What the first attempt repeats is counted by that.
            billed: match item.billed {
                Billed::Possibly => Billed::PossiblyTwice,
                other => other,
            },
            refused: None,
            race: race(true, None),
            copied: Copied::Yes,
            spans: item.spans.clone(),
        });
        item.race = race(false, Some(cut.clone()));
        let mut state = self.state.lock();
        if let Some(hedging) = &mut state.schedule.hedging {
            hedging.first_sent(id, cut, spare);
        }
        // A leader that waits has to know until when.
        let leader = state.parked_leader();
        drop(state);
        unpark(leader);
    }

    /// Gets a permit for a copy that is due, if the limiter has room for it now.
    pub(super) fn admit_copy(&self, mut copy: JobItem<J>) -> Option<(JobItem<J>, Permit)> {
        let limiter = &self.settings.limiter;
        let admitted = limiter.try_acquire(copy.cost.unwrap_or(Cost::ONE));
        if let Some(race) = &mut copy.race {
            race.cut = admitted.is_ok().then(|| self.settings.cancel.child());
        }
        let until = match &admitted {
            Err(Refusal::NotUntil(at)) => *at,
            _ => limiter.clock().now() + PUT_OFF,
        };
        // Dropped after the lock.
        let _unused;
        let mut state = self.state.lock();
        if let Some(hedging) = &mut state.schedule.hedging
            && let Some(race) = &copy.race
        {
            match admitted {
                Ok(permit) if hedging.copy_sent(race) => return Some((copy, permit)),
                Err(Refusal::NotUntil(_) | Refusal::Busy) => {
                    _unused = (None, hedging.put_off(race.id, copy, until));
                }
                // The first attempt has ended meanwhile.
                admitted => _unused = (admitted.ok(), Some(copy)),
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
        let (stops, possibly_billed) = match result {
            Ok(Err((error, verdict))) => {
                (self.stops_run(*verdict), self.job.possibly_billed(error))
            }
            _ => (false, false),
        };
        let withdrawn = Withdrawn {
            attempts: u32::from(attempt.was_sent()),
            possibly_billed,
        };
        let now = self.settings.limiter.clock().now();
        let took = now.saturating_duration_since(attempt.began);
        let standing = {
            let mut state = self.state.lock();
            let hedging = state.schedule.hedging.as_mut();
            hedging.map(|hedging| hedging.ended(&race, took, succeeded || stops, withdrawn))
        };
        let decides = match standing {
            Some(Standing::Decides(decides)) => decides,
            Some(Standing::Withdraws) => return End::Withdraws,
            Some(Standing::Lost) | None => return End::Lost,
        };
        let withdrawn = decides.withdrawn.unwrap_or_default();
        item.history.attempts += withdrawn.attempts;
        let mut possibly_billed = withdrawn.possibly_billed;
        if let Some(cut) = decides.cut {
            cut.abort();
            item.history.attempts += 1;
            possibly_billed = true;
        } else if decides.withdrawn.is_none() {
            return End::Decides;
        }
        if race.is_copy {
            // Until it was sent the item waited for its first attempt.
            let before = attempt.began.saturating_duration_since(race.id.0);
            item.times.add(Binding::Wire, before);
        }
        let won = race.is_copy && succeeded;
        item.copied = if won { Copied::Won } else { Copied::Yes };
        let is_new = possibly_billed && item.billed != Billed::PossiblyTwice;
        if is_new {
            item.billed = Billed::PossiblyTwice;
        }
        self.settings.monitor.update(|progress| {
            progress.hedges_won += u64::from(won);
            progress.possibly_billed += u64::from(is_new);
        });
        End::Decides
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
