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
            let [check, number, length] = match numbers(&head[known..]).collect::<Vec<_>>()[..] {
                [check, number, length] if length <= SLOT / 8 => [check, number, length],
                _ => continue,
            };
            let mut body = Vec::new();
            file.by_ref().take(length * 8).read_to_end(&mut body)?;
            let is_whole = head.starts_with(MAGIC) && check == check_value(&head, &body);
            let record = Self::decode(number, &mut numbers(&body));
            let record = record.filter(|_| is_whole);
            if record.as_ref().map(|record| record.number) >= latest.as_ref().map(|l| l.number) {
                latest = record.or(latest);
            }
        }
        Ok(latest)
    }

    /// Where this record goes in the file, and its bytes. `None` if it is too large for a file.
    pub(crate) fn encode(&self) -> Option<(u64, Vec<u8>)> {
        let ledger = &self.ledger;
        let mut body = vec![self.boot, self.file, self.written];
        body.extend([ledger.incarnation, ledger.seen, ledger.paused_until]);
        for axis in &ledger.axes {
            body.push(axis.next);
            body.extend(Span::numbers(&axis.free));
        }
        for (id, holder) in &ledger.holders {
            body.extend([*id, holder.live_until, holder.busy_until]);
            for limit in holder.configured.into_iter().chain(holder.announced) {
                body.extend(Limit::numbers(limit));
            }
        }
        let bytes = |numbers: &[u64]| -> Vec<u8> {
            let numbers = numbers.iter();
            numbers.flat_map(|number| number.to_le_bytes()).collect()
        };
        let head = bytes(&[0, self.number, body.len() as u64]);
        let (mut head, body) = ([MAGIC.as_slice(), &head].concat(), bytes(&body));
        let check = check_value(&head, &body);
        head[MAGIC.len()..][..8].copy_from_slice(&check.to_le_bytes());
        let fits = head.len() + body.len() <= usize::try_from(SLOT).ok()?;
        fits.then(|| ((1 - self.number % 2) * SLOT, [head, body].concat()))
    }

    fn decode(number: u64, body: &mut impl Iterator<Item = u64>) -> Option<Self> {
        let mut next = || body.next();
        let (boot, file, written) = (next()?, next()?, next()?);
        let (incarnation, seen, paused_until) = (next()?, next()?, next()?);
        let mut read = || {
            let next = body.next()?;
            let free = Span::read(body)?;
            Some(Axis { next, free })
        };
        let axes = [read()?, read()?];
        let mut holders = BTreeMap::new();
        while let Some(id) = body.next() {
            let (live_until, busy_until) = (body.next()?, body.next()?);
            let mut limits = || Some([Limit::read(body)?, Limit::read(body)?]);
            let holder = Holder {
                configured: limits()?,
                announced: limits()?,
                live_until,
                busy_until,
            };
            holders.insert(id, holder);
        }
        let ledger = Ledger {
            incarnation,
            seen,
            paused_until,
            axes,
            holders,
        };
        Some(Self {
            number,
            boot,
            file,
            written,
            ledger,
        })
    }
}

/// The check value of a record, from its number on.
fn check_value(head: &[u8], body: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(head.get(MAGIC.len() + 8..).unwrap_or_default());
    hasher.write(body);
    hasher.finish()
}

/// The whole numbers among these bytes.
fn numbers(bytes: &[u8]) -> impl Iterator<Item = u64> {
    let (numbers, _rest) = bytes.as_chunks();
    numbers.iter().map(|number| u64::from_le_bytes(*number))
}
