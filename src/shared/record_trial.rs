//! The protocol of the file home, exhaustively: each interleaving of the steps of a few processes,
//! any of which is killed after any step. The steps are those of `FileStore::exchange`.

#![cfg(test)]

use std::collections::HashSet;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::io::{self, Read, Seek, SeekFrom};

use proptest::prelude::*;

use super::exchange::{Ask, Limit, Span, Want};
use super::ledger::{Axis, Holder, Ledger};
use super::record::{MAGIC, Record, SLOT};

const NOW: u64 = 1_000_000_000;

/// The file's two slots. What lies between them is never read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Slots {
    bytes: [Vec<u8>; 2],
    at: u64,
}

impl Read for Slots {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let slot = &self.bytes[usize::from(self.at >= SLOT)];
        let start = usize::try_from(self.at % SLOT).unwrap().min(slot.len());
        let read = (&slot[start..]).read(into)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for Slots {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let SeekFrom::Start(at) = to else {
            unreachable!()
        };
        self.at = at;
        Ok(at)
    }
}

/// What a process does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Lock,
    Read,
    /// The first part of the record is written up to this byte, or all of it.
    Write(usize),
    WriteRest,
    Unlock,
    Ended,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Process {
    next: Step,
    /// How many exchanges it has left.
    exchanges: u64,
    /// Leased credit, and what is being given back with the next exchange.
    holds: Vec<(u64, u64)>,
    incarnation: u64,
    /// The slot and the record to be written, and the answer that it stands for.
    record: (usize, Vec<u8>),
    answer: (u64, Vec<(u64, u64)>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    file: Slots,
    locked_by: Option<usize>,
    processes: Vec<Process>,
}

/// A fault that is put into the protocol, so that the model is seen to find it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    NoLock,
    OneSlot,
    KeepsLock,
}

impl World {
    fn new(exchanges: &[u64]) -> Self {
        let process = |&exchanges| Process {
            next: Step::Lock,
            exchanges,
            holds: Vec::new(),
            incarnation: 0,
            record: (0, Vec::new()),
            answer: (0, Vec::new()),
        };
        Self {
            file: Slots::default(),
            locked_by: None,
            processes: exchanges.iter().map(process).collect(),
        }
    }

    /// Whether this process can go on.
    fn is_ready(&self, who: usize, fault: Fault) -> bool {
        match self.processes[who].next {
            Step::Ended => false,
            Step::Lock => self.locked_by.is_none() || fault == Fault::NoLock,
            _ => true,
        }
    }

    fn kill(&mut self, who: usize, fault: Fault) {
        self.processes[who].next = Step::Ended;
        // What it held is lost with it. The system takes the lock from it.
        self.processes[who].holds.clear();
        if self.locked_by == Some(who) && fault != Fault::KeepsLock {
            self.locked_by = None;
        }
    }

    /// Every way in which this process may take its next step.
    fn steps(&self, who: usize, fault: Fault) -> Result<Vec<Self>, String> {
        let mut world = self.clone();
        let process = &mut world.processes[who];
        match process.next {
            Step::Ended => {}
            Step::Lock => {
                world.locked_by = Some(who);
                process.next = Step::Read;
            }
            Step::Read => {
                process.exchange(who, &mut world.file, fault);
                let length = process.record.1.len();
                // In the magic, in the check value, in the number, in the middle, before the end.
                let cuts = [1, 36, 44, length / 2, length - 1, length];
                return Ok(cuts
                    .into_iter()
                    .map(|cut| world.with(who, Step::Write(cut)))
                    .collect());
            }
            Step::Write(cut) => {
                let (slot, record) = &process.record;
                world.file.write(*slot, &record[..cut]);
                process.next = if cut < record.len() {
                    Step::WriteRest
                } else {
                    Step::Unlock
                };
            }
            Step::WriteRest => {
                let (slot, record) = &process.record;
                world.file.write(*slot, record);
                process.next = Step::Unlock;
            }
            Step::Unlock => {
                world.locked_by = None;
                let (incarnation, credit) = process.answer.clone();
                process.incarnation = incarnation;
                process.holds = credit;
                process.exchanges -= 1;
                process.next = if process.exchanges == 0 {
                    Step::Ended
                } else {
                    Step::Lock
                };
                world.check(who)?;
            }
        }
        Ok(vec![world])
    }

    fn with(&self, who: usize, next: Step) -> Self {
        let mut world = self.clone();
        world.processes[who].next = next;
        world
    }

    /// After an answer: nobody else holds the same credit, and no state has been lost.
    fn check(&self, who: usize) -> Result<(), String> {
        let process = &self.processes[who];
        for (other, there) in self.processes.iter().enumerate() {
            let both = process
                .holds
                .iter()
                .flat_map(|one| there.holds.iter().map(move |two| (one, two)));
            let overlap = both
                .clone()
                .find(|(one, two)| one.0 < two.1 && two.0 < one.1);
            if other != who && overlap.is_some() {
                return Err(format!("two hold the same: {overlap:?}"));
            }
            let known = [process.incarnation, there.incarnation];
            if !known.contains(&0) && known[0] != known[1] {
                return Err("the account was lost".to_owned());
            }
        }
        Ok(())
    }
}

impl Process {
    /// Asks for two units, and gives back what it holds of the exchange before.
    fn exchange(&mut self, who: usize, file: &mut Slots, fault: Fault) {
        let record = Record::read(file).unwrap().unwrap_or_default();
        self.answer_from(record, who, fault);
    }

    fn answer_from(&mut self, mut record: Record, who: usize, fault: Fault) {
        let limit = Limit {
            units: 10,
            period: 1_000_000,
            burst: 50,
        };
        let span = |&(from, to): &(u64, u64)| Span { from, to };
        let back = self.holds.drain(..).collect::<Vec<_>>();
        let ask = Ask {
            holder: who as u64,
            incarnation: self.incarnation,
            configured: [Some(limit), None],
            wants: [Want { least: 2, most: 2 }, Want::default()],
            back: [back.iter().map(span).collect(), Vec::new()],
            ..Ask::default()
        };
        let fresh = 1 + who as u64 * 10 + self.exchanges;
        let reply = record.ledger.exchange(&ask, NOW, fresh);
        record.number = record.number.saturating_add(1);
        let (at, bytes) = record.encode().unwrap();
        let slot = usize::from(at > 0 && fault != Fault::OneSlot);
        self.record = (slot, bytes);
        let credit = reply.credit[0].iter().map(|span| (span.from, span.to));
        self.answer = (reply.incarnation, credit.collect());
    }
}

impl Slots {
    fn write(&mut self, slot: usize, bytes: &[u8]) {
        let there = &mut self.bytes[slot];
        there.resize(there.len().max(bytes.len()), 0);
        there[..bytes.len()].copy_from_slice(bytes);
    }
}

/// Goes through all that can happen to processes with so many exchanges each. The answer is in how
/// many states they can be, or the first fault.
fn explore(exchanges: &[u64], fault: Fault) -> Result<usize, String> {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let mut seen = HashSet::new();
    let mut left = vec![World::new(exchanges)];
    while let Some(mut world) = left.pop() {
        world.file.at = 0;
        if !seen.insert(hasher.hash_one(&world)) {
            continue;
        }
        let mut all = 0..world.processes.len();
        let is_over = all
            .clone()
            .all(|who| world.processes[who].next == Step::Ended);
        if !is_over && !all.any(|who| world.is_ready(who, fault)) {
            return Err("all wait for ever".to_owned());
        }
        for who in 0..world.processes.len() {
            if world.is_ready(who, fault) {
                left.extend(world.steps(who, fault)?);
            }
            if world.processes[who].next != Step::Ended {
                let mut killed = world.clone();
                killed.kill(who, fault);
                left.push(killed);
            }
        }
    }
    Ok(seen.len())
}

#[test]
fn no_two_processes_ever_hold_the_same_credit_whoever_is_killed_when() {
    for exchanges in [&[2, 2][..], &[3, 1], &[1, 1, 1]] {
        let states = explore(exchanges, Fault::None).unwrap();
        assert!(states > 1_000, "{states}");
    }
}

#[test]
fn the_model_finds_what_would_be_wrong() {
    for (fault, said) in [
        (Fault::NoLock, ""),
        (Fault::OneSlot, "the account was lost"),
        (Fault::KeepsLock, "all wait for ever"),
    ] {
        let found = explore(&[2, 2], fault).unwrap_err();
        assert!(found.contains(said), "{found}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is in a file that begins as ours do, or in the numbers of a whole record.
    #[test]
    fn no_bytes_make_a_reader_panic(
        head in prop::collection::vec(prop_oneof![any::<u64>(), 0_u64..9, Just(u64::MAX / 8 + 2)], 0..20),
        number in prop_oneof![any::<u64>(), Just(u64::MAX)],
        dates in prop::array::uniform6(prop_oneof![any::<u64>(), Just(u64::MAX), Just(NOW)]),
    ) {
        let mut file = Slots::default();
        file.write(0, MAGIC);
        file.bytes[0].extend(head.iter().flat_map(|word| word.to_le_bytes()));
        Record::read(&mut file).unwrap();

        let [incarnation, seen, paused_until, next, from, to] = dates;
        let axis = Axis { next, free: vec![Span { from, to }] };
        let limit = Limit { units: from, period: to, burst: next };
        let holder = Holder {
            configured: [(from > 0).then_some(limit); 2],
            announced: [None; 2],
            live_until: seen,
            busy_until: to,
        };
        let ledger = Ledger {
            incarnation,
            seen,
            paused_until,
            axes: [axis.clone(), axis],
            holders: [(next, holder)].into(),
        };
        let (at, bytes) = Record { number, ledger, ..Record::default() }.encode().unwrap();
        file.write(usize::from(at > 0), &bytes);
        if let Some(record) = Record::read(&mut file).unwrap() {
            let mut process = Process {
                incarnation,
                ..World::new(&[1]).processes.remove(0)
            };
            process.holds = vec![(from, to)];
            process.answer_from(record, 1, Fault::None);
        }
    }
}
