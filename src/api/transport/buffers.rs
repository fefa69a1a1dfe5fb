//! Buffers borrowed only while bytes move.
//!
//! A blocked exchange waits for most of its life, and thousands of them wait at once. A buffer of
//! their own would cost each of them more than all else; here they come from one small pool when
//! bytes are about to move and go back as soon as they have.

use std::fmt;
use std::mem;
use std::sync::Arc;

use ureq::unversioned::transport::Buffers;

use crate::sync::Mutex;

/// A whole TLS record fits, with what it adds to 16 KiB of contents; so does a response head in most
/// cases, and a small request.
const SIZE: usize = 16 * 1024 + 512;
/// A head is read whole before it is parsed, and one above 64 KiB is refused: twice that is never
/// filled.
const LARGEST: usize = 128 * 1024;
/// Enough for the threads that really move bytes at one time on any machine.
const KEPT: usize = 64;

/// The buffers nobody needs at the moment.
#[derive(Default)]
pub(super) struct BufferPool(Mutex<Vec<Vec<u8>>>);

impl BufferPool {
    fn take(&self) -> Vec<u8> {
        let kept = self.0.lock().pop();
        kept.unwrap_or_else(|| vec![0; SIZE])
    }

    fn give(&self, buffer: Vec<u8>) {
        if buffer.len() != SIZE {
            return;
        }
        let mut kept = self.0.lock();
        if kept.len() < KEPT {
            kept.push(buffer);
        } else {
            drop(kept);
            drop(buffer);
        }
    }
}

impl fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the buffers: requests with keys have been in them.
        f.debug_struct("BufferPool").finish_non_exhaustive()
    }
}

/// What is to be sent: a buffer whose first bytes are filled, or none.
pub(super) struct Output {
    pool: Arc<BufferPool>,
    buffer: Vec<u8>,
    /// How much of what it holds has been sent.
    sent: usize,
    filled: usize,
}

impl Output {
    pub(super) fn new(pool: Arc<BufferPool>) -> Self {
        Self {
            pool,
            buffer: Vec::new(),
            sent: 0,
            filled: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sent == self.filled
    }

    /// The bytes that wait to be sent.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[self.sent..self.filled]
    }

    /// Where more is written, to be counted with [`Output::fill`].
    pub(super) fn room(&mut self) -> &mut [u8] {
        if self.buffer.is_empty() {
            self.buffer = self.pool.take();
        }
        &mut self.buffer[self.filled..]
    }

    /// As [`Output::room`], of at least `least` bytes.
    pub(super) fn room_of(&mut self, least: usize) -> &mut [u8] {
        if self.room().len() < least {
            self.buffer.resize(self.filled + least, 0);
        }
        self.room()
    }

    /// Counts the first `amount` bytes of the room as waiting to be sent.
    pub(super) fn fill(&mut self, amount: usize) {
        self.filled = (self.filled + amount).min(self.buffer.len());
    }

    /// Adds all of `bytes`.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.room_of(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        self.fill(bytes.len());
    }

    /// Counts `amount` bytes more as sent, and gives the buffer back when all are.
    pub(super) fn consume(&mut self, amount: usize) {
        self.sent = (self.sent + amount).min(self.filled);
        if self.sent == self.filled {
            self.clear();
        }
    }

    /// Forgets what it holds, and gives the buffer back.
    pub(super) fn clear(&mut self) {
        (self.sent, self.filled) = (0, 0);
        self.pool.give(mem::take(&mut self.buffer));
    }

    /// Whether no buffer is borrowed.
    #[cfg(all(test, feature = "rustls"))]
    pub(super) fn is_bare(&self) -> bool {
        self.buffer.is_empty()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.clear();
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Counts only: requests hold keys.
        f.debug_struct("Output")
            .field("filled", &self.filled)
            .finish_non_exhaustive()
    }
}

/// What has arrived: a buffer whose bytes `start..end` wait to be consumed, or none.
pub(super) struct Input {
    pool: Arc<BufferPool>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    pub(super) fn new(pool: Arc<BufferPool>) -> Self {
        Self {
            pool,
            buffer: Vec::new(),
            start: 0,
            end: 0,
        }
    }

    /// The bytes that wait to be consumed.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// The same, to be changed where they stand.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.end]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.end == self.start
    }

    /// Where more is read to, to be counted with [`Input::fill`]; empty if there is too much already.
    pub(super) fn room(&mut self) -> &mut [u8] {
        if self.buffer.is_empty() {
            self.buffer = self.pool.take();
        } else if self.end == self.buffer.len() {
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            } else {
                let larger = (self.buffer.len() * 2).min(LARGEST);
                self.buffer.resize(larger, 0);
            }
        }
        &mut self.buffer[self.end..]
    }

    /// Counts the first `amount` bytes of the room as arrived.
    pub(super) fn fill(&mut self, amount: usize) {
        self.end = (self.end + amount).min(self.buffer.len());
        self.release();
    }

    /// Adds `bytes`; `false` if there is no room for them.
    #[must_use]
    pub(super) fn append(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let room = self.room();
            let amount = room.len().min(bytes.len());
            if amount == 0 {
                return false;
            }
            let (now, later) = bytes.split_at(amount);
            room[..amount].copy_from_slice(now);
            self.fill(amount);
            bytes = later;
        }
        true
    }

    /// Forgets the first `amount` bytes, and gives the buffer back when none is left.
    pub(super) fn consume(&mut self, amount: usize) {
        self.start = (self.start + amount).min(self.end);
        self.release();
    }

    fn release(&mut self) {
        if self.is_empty() && !self.buffer.is_empty() {
            self.pool.give(mem::take(&mut self.buffer));
            (self.start, self.end) = (0, 0);
        }
    }

    /// Whether no buffer is borrowed.
    #[cfg(all(test, feature = "rustls"))]
    pub(super) fn is_bare(&self) -> bool {
        self.buffer.is_empty()
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.pool.give(mem::take(&mut self.buffer));
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A count only: answers are nobody else's business.
        f.debug_struct("Input")
            .field("unread", &(self.end - self.start))
            .finish_non_exhaustive()
    }
}

/// Room that ureq is given at least, whatever waits to be sent already.
const LEAST: usize = 1024;

/// Both directions of a connection, as ureq wants them.
#[derive(Debug)]
pub(super) struct LentBuffers {
    pub(super) output: Output,
    pub(super) input: Input,
    /// Whether ureq has not yet looked at all of the input.
    pub(super) is_fresh: bool,
}

impl LentBuffers {
    pub(super) fn new(pool: &Arc<BufferPool>) -> Self {
        Self {
            output: Output::new(Arc::clone(pool)),
            input: Input::new(Arc::clone(pool)),
            is_fresh: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.output.is_empty() && self.input.is_empty()
    }
}

impl Buffers for LentBuffers {
    fn output(&mut self) -> &mut [u8] {
        self.output.room_of(LEAST)
    }

    fn input(&self) -> &[u8] {
        self.input.bytes()
    }

    fn input_append_buf(&mut self) -> &mut [u8] {
        self.input.room()
    }

    fn input_appended(&mut self, amount: usize) {
        self.input.fill(amount);
    }

    fn input_consume(&mut self, amount: usize) {
        self.is_fresh = amount > 0;
        self.input.consume(amount);
    }

    /// The first is for bodies without a length, which are never sent.
    fn tmp_and_output(&mut self) -> (&mut [u8], &mut [u8]) {
        (&mut [], self.output.room_of(LEAST))
    }

    fn can_use_input(&self) -> bool {
        self.is_fresh && !self.input.is_empty()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn pool() -> Arc<BufferPool> {
        Arc::new(BufferPool::default())
    }

    #[test]
    fn a_buffer_is_lent_while_something_is_in_it() {
        let pool = pool();
        let mut output = Output::new(Arc::clone(&pool));
        output.push(b"head");
        output.push(b"body");
        assert_eq!(output.bytes(), b"headbody");
        output.clear();
        assert_eq!((output.bytes(), pool.0.lock().len()), (&b""[..], 1));

        let mut input = Input::new(Arc::clone(&pool));
        assert!(input.append(b"ok"));
        input.consume(1);
        assert_eq!((input.bytes(), pool.0.lock().len()), (&b"k"[..], 0));
        input.consume(1);
        assert_eq!(pool.0.lock().len(), 1);
        input.room();
        input.fill(0);
        assert_eq!(pool.0.lock().len(), 1, "the end of a stream brings nothing");
    }

    #[test]
    fn output_grows_for_a_long_head_and_leaves_room_behind_it() {
        let mut buffers = LentBuffers::new(&pool());
        buffers.output.push(&[1; SIZE]);
        assert!(buffers.output().len() >= LEAST);
        buffers.output.push(b"yes");
        assert_eq!(&buffers.output.bytes()[SIZE..], b"yes");
        buffers.output.consume(SIZE);
        assert_eq!(buffers.output.bytes(), b"yes");
    }

    #[test]
    fn input_grows_for_a_long_head_and_is_not_kept() {
        let pool = pool();
        let mut input = Input::new(Arc::clone(&pool));
        let mut total = 0;
        while total < 3 * SIZE {
            let room = input.room().len();
            input.fill(room);
            total += room;
        }
        assert_eq!(input.bytes().len(), total);
        input.consume(total);
        assert_eq!(
            pool.0.lock().len(),
            0,
            "only buffers of the one size are kept"
        );
        assert!(!input.append(&vec![0; LARGEST + 1]), "and not for ever");
    }

    #[test]
    fn a_full_buffer_makes_room_at_its_front() {
        let mut input = Input::new(pool());
        let room = input.room().len();
        input.fill(room);
        input.consume(10);
        assert_eq!(input.room().len(), 10);
        assert_eq!(input.bytes().len(), room - 10);
    }
}
