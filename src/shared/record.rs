//! The ledger as bytes of a file. A writer that is killed at any byte loses nothing.
//!
//! The file has two slots. A record goes into the slot that does not hold the latest one, so what
//! was there before stays whole until the new record is. A record has a check value and a number;
//! the whole record with the highest number counts.

use std::collections::BTreeMap;
use std::hash::Hasher as _;
use std::io::{self, Read, Seek, SeekFrom};

use siphasher::sip::SipHasher13;

use super::exchange::{Limit, Span};
use super::ledger::{Axis, Holder, Ledger};

/// The first bytes of each slot, and so of the file.
pub(super) const MAGIC: &[u8; 32] = b"tollgate shared allowance, v2\r\n\x1a";

/// The magic, the check value, the record's number, and how many words follow.
const HEAD: usize = 32 + 3 * 8;

/// How far the second slot is from the first. Room for some two thousand processes.
pub(super) const SLOT: u64 = 256 * 1024;

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    /// The first record is number 1, and goes to the beginning of the file.
    pub(crate) number: u64,
    /// Which boot of which machine wrote it; 0 where that is not known.
    pub(crate) boot: u64,
    /// Which file it was written to. A copy of the file has another number.
    pub(crate) file: u64,
    /// When it was written, in seconds since 1970 by the time of day.
    pub(crate) written: u64,
    pub(crate) ledger: Ledger,
}

impl Record {
    /// The latest whole record in a file, or `None` if there is none.
    ///
    /// # Errors
    /// Those of reading, and [`io::ErrorKind::InvalidData`] for a file that holds something else.
    pub(crate) fn read(file: &mut (impl Read + Seek)) -> io::Result<Option<Self>> {
        let mut latest: Option<Self> = None;
        for slot in [0, 1] {
            let mut head = Vec::new();
            file.seek(SeekFrom::Start(slot * SLOT))?;
            file.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
            let known = head.len().min(MAGIC.len());
            if slot == 0 && head[..known] != MAGIC[..known] {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let Some(length) = word(&head, 2).filter(|words| *words <= SLOT / 8) else {
                continue;
            };
            let mut body = Vec::new();
            file.by_ref().take(length * 8).read_to_end(&mut body)?;
            let is_whole = head.starts_with(MAGIC) && word(&head, 0) == Some(check(&head, &body));
            let record = word(&head, 1).and_then(|number| Words(&body).record(number));
            let record = record.filter(|_| is_whole);
            if record.as_ref().map(|record| record.number) >= latest.as_ref().map(|l| l.number) {
                latest = record.or(latest);
            }
        }
        Ok(latest)
    }

    /// Where this record goes in the file, and its bytes. `None` if it is too large for a file.
    pub(crate) fn encode(&self) -> Option<(u64, Vec<u8>)> {
        let mut words = vec![
            self.boot,
            self.file,
            self.written,
            self.ledger.incarnation,
            self.ledger.seen,
            self.ledger.paused_until,
        ];
        for axis in &self.ledger.axes {
            words.extend([axis.next, axis.free.len() as u64]);
            words.extend(axis.free.iter().flat_map(|span| [span.from, span.to]));
        }
        for (id, holder) in &self.ledger.holders {
            words.extend([*id, holder.live_until, holder.busy_until]);
            for limit in holder.configured.into_iter().chain(holder.announced) {
                let Limit {
                    units,
                    period,
                    burst,
                } = limit.unwrap_or_default();
                words.extend([units, period, burst]);
            }
        }
        let bytes = |words: &[u64]| words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let body: Vec<u8> = bytes(&words);
        let mut head = [
            MAGIC.as_slice(),
            &bytes(&[0, self.number, words.len() as u64]),
        ]
        .concat();
        let check = check(&head, &body);
        head[32..40].copy_from_slice(&check.to_le_bytes());
        let fits = head.len() + body.len() <= usize::try_from(SLOT).ok()?;
        fits.then(|| ((1 - self.number % 2) * SLOT, [head, body].concat()))
    }
}

/// The check value of a record, from its number on.
fn check(head: &[u8], body: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(head.get(40..).unwrap_or_default());
    hasher.write(body);
    hasher.finish()
}

/// One of the words behind the magic.
fn word(head: &[u8], at: usize) -> Option<u64> {
    Words(head.get(MAGIC.len() + at * 8..)?).word()
}

/// What is left of a record's words.
struct Words<'a>(&'a [u8]);

impl Words<'_> {
    fn word(&mut self) -> Option<u64> {
        let (word, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*word))
    }

    fn limits(&mut self) -> Option<[Option<Limit>; 2]> {
        let mut limits = [None; 2];
        for limit in &mut limits {
            let (units, period, burst) = (self.word()?, self.word()?, self.word()?);
            *limit = (units > 0).then_some(Limit {
                units,
                period,
                burst,
            });
        }
        Some(limits)
    }

    fn axis(&mut self) -> Option<Axis> {
        let (next, parts) = (self.word()?, self.word()?);
        let part = |_| {
            Some(Span {
                from: self.word()?,
                to: self.word()?,
            })
        };
        Some(Axis {
            next,
            free: (0..parts).map(part).collect::<Option<_>>()?,
        })
    }

    fn record(mut self, number: u64) -> Option<Record> {
        let (boot, file, written) = (self.word()?, self.word()?, self.word()?);
        let (incarnation, seen, paused_until) = (self.word()?, self.word()?, self.word()?);
        let axes = [self.axis()?, self.axis()?];
        let mut holders = BTreeMap::new();
        while !self.0.is_empty() {
            let id = self.word()?;
            let (live_until, busy_until) = (self.word()?, self.word()?);
            let configured = self.limits()?;
            let announced = self.limits()?;
            holders.insert(
                id,
                Holder {
                    configured,
                    announced,
                    live_until,
                    busy_until,
                },
            );
        }
        let ledger = Ledger {
            incarnation,
            seen,
            paused_until,
            axes,
            holders,
        };
        Some(Record {
            number,
            boot,
            file,
            written,
            ledger,
        })
    }
}
