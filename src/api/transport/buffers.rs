//! Buffers borrowed only while bytes move.
//!
//! A blocked call waits for most of its life, and thousands of them wait at once. A buffer of their
//! own would cost each of them more than all else; here they come from one small pool when bytes
//! are about to move and go back as soon as they have. All transports of a process share the pool.

use std::mem;
use std::sync::LazyLock;

use ureq::unversioned::transport::Buffers;

use crate::opaque::opaque;
use crate::sync::Mutex;

/// The room there is at least for what is to be sent: a whole TLS record fits, with what it adds to
/// 16 KiB of contents.
pub(super) const TLS_RECORD: usize = 16 * 1024 + 512;
/// A record fits behind a small request, and so does an answer's head in most cases.
const BUFFER_SIZE: usize = TLS_RECORD + 4 * 1024;
/// A head is read whole before it is parsed, and one above 64 KiB is refused: twice that is never
/// filled.
const LARGEST_BUFFER: usize = 128 * 1024;
/// Enough for the threads that really move bytes at one time on any machine.
const MAX_POOLED: usize = 128;

/// The buffers nobody needs at the moment.
static POOL: LazyLock<Mutex<Vec<Vec<u8>>>> = LazyLock::new(Mutex::default);

/// Bytes in a borrowed buffer, or no bytes and no buffer.
#[derive(Default)]
pub(super) struct Lent {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

// What it holds may be secret.
opaque!(Lent, "Lent", |it| bytes: it.bytes().len());

impl Lent {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// How much room there is before the buffer must grow.
    pub(super) fn left(&self) -> usize {
        self.buffer.len() - self.end
    }

    /// Where more is written to, to be counted with [`Lent::fill`]: `least` bytes and more, or
    /// fewer if there are too many already.
    pub(super) fn room(&mut self, least: usize) -> &mut [u8] {
        if self.buffer.is_empty() {
            let kept = POOL.lock().pop();
            self.buffer = kept.unwrap_or_else(|| vec![0; BUFFER_SIZE]);
        }
        if self.left() < least {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.left() < least {
            self.buffer
                .resize(LARGEST_BUFFER.min(2 * self.buffer.len()), 0);
        }
        &mut self.buffer[self.end..]
    }

    /// Counts the first `amount` bytes of the room.
    pub(super) fn fill(&mut self, amount: usize) {
        self.end = (self.end + amount).min(self.buffer.len());
        self.consume(0);
    }

    /// Forgets the first `amount` bytes, and gives the buffer back when none is left.
    pub(super) fn consume(&mut self, amount: usize) {
        self.start = (self.start + amount).min(self.end);
        if self.is_empty() && !self.buffer.is_empty() {
            let buffer = mem::take(self).buffer;
            let mut kept = POOL.lock();
            if buffer.len() == BUFFER_SIZE && kept.len() < MAX_POOLED {
                kept.push(buffer);
            }
        }
    }
}

/// Both directions of a connection, as ureq wants them.
#[derive(Debug, Default)]
pub(super) struct LentBuffers {
    pub(super) output: Lent,
    pub(super) input: Lent,
    /// Whether ureq has made use of the input since it was last looked at.
    made_progress: bool,
}

impl Buffers for LentBuffers {
    fn output(&mut self) -> &mut [u8] {
        self.output.room(TLS_RECORD)
    }

    fn input(&self) -> &[u8] {
        self.input.bytes()
    }

    fn input_append_buf(&mut self) -> &mut [u8] {
        self.input.room(1)
    }

    fn input_appended(&mut self, amount: usize) {
        self.input.fill(amount);
    }

    fn input_consume(&mut self, amount: usize) {
        self.made_progress = amount > 0;
        self.input.consume(amount);
    }

    /// The first is for bodies without a length, which are never sent.
    fn tmp_and_output(&mut self) -> (&mut [u8], &mut [u8]) {
        (&mut [], self.output())
    }

    fn can_use_input(&self) -> bool {
        self.made_progress && !self.input.is_empty()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_lent_while_something_is_in_it() {
        let mut lent = Lent::default();
        for part in [b"head", b"body"] {
            lent.room(4)[..4].copy_from_slice(part);
            lent.fill(4);
        }
        lent.consume(4);
        assert_eq!(
            (lent.bytes(), lent.buffer.len()),
            (&b"body"[..], BUFFER_SIZE)
        );
        lent.consume(4);
        assert!(lent.buffer.is_empty());

        lent.room(1);
        lent.fill(0);
        assert!(lent.buffer.is_empty(), "the end of a stream brings nothing");
    }

    #[test]
    fn a_buffer_grows_for_a_long_head_and_is_not_kept() {
        let mut lent = Lent::default();
        while lent.bytes().len() < LARGEST_BUFFER {
            let room = lent.room(1).len();
            assert!(room > 0);
            lent.fill(room);
        }
        assert_eq!(lent.room(1).len(), 0, "not for ever");
        lent.consume(LARGEST_BUFFER);
        let is_of_size = |buffer: &Vec<u8>| buffer.len() == BUFFER_SIZE;
        assert!(POOL.lock().iter().all(is_of_size));
    }

    #[test]
    fn a_full_buffer_makes_room_at_its_front() {
        let mut lent = Lent::default();
        let room = lent.room(1).len();
        lent.fill(room);
        lent.consume(10);
        assert_eq!(lent.room(1).len(), 10);
        assert_eq!(lent.bytes().len(), room - 10);
    }
}
