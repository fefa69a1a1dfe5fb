//! Buffers borrowed only while bytes move.
//!
//! A blocked exchange waits for most of its life, and thousands of them wait at once. ureq keeps an
//! input and an output buffer on every connection for as long as it lives; here they come from one
//! small pool when bytes are about to move and go back as soon as they have.

use std::fmt;
use std::mem;
use std::sync::Arc;

use ureq::unversioned::transport::Buffers;

use crate::sync::Mutex;

/// A whole TLS record fits, with what it adds to 16 KiB of contents; so does a response head in most
/// cases, and a small request.
const SIZE: usize = 16 * 1024 + 512;
/// A head is read whole before it is parsed, and ureq refuses one above 64 KiB: twice that is
/// never filled.
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

/// One connection's buffers, empty while it waits.
pub(super) struct PooledBuffers {
    pool: Arc<BufferPool>,
    /// Empty, or a buffer whose first `held` bytes wait to be sent.
    output: Vec<u8>,
    held: usize,
    /// Empty, or a buffer whose bytes `start..end` wait to be consumed.
    input: Vec<u8>,
    start: usize,
    end: usize,
    progress: bool,
}

impl PooledBuffers {
    pub(super) fn new(pool: Arc<BufferPool>) -> Self {
        Self {
            pool,
            output: Vec::new(),
            held: 0,
            input: Vec::new(),
            start: 0,
            end: 0,
            progress: false,
        }
    }

    /// Counts `amount` bytes of [`Buffers::output`] as waiting to be sent; says whether they should
    /// go now, because what is left could be too little for one more header line.
    pub(super) fn hold(&mut self, amount: usize) -> bool {
        self.held = (self.held + amount).min(self.output.len());
        self.held > SIZE / 2
    }

    /// The bytes waiting to be sent.
    pub(super) fn held(&self) -> &[u8] {
        &self.output[..self.held]
    }

    /// Forgets the bytes waiting to be sent.
    pub(super) fn sent(&mut self) {
        self.held = 0;
    }

    /// Gives the output buffer back if nothing is waiting in it.
    pub(super) fn release_output(&mut self) {
        if self.held == 0 && !self.output.is_empty() {
            self.pool.give(mem::take(&mut self.output));
        }
    }

    /// Whether the input buffer is in use, so that waiting for more costs no memory.
    pub(super) fn has_input(&self) -> bool {
        self.end > self.start
    }

    /// Gives the input buffer back if nothing is in it.
    pub(super) fn release_input(&mut self) {
        if !self.has_input() && !self.input.is_empty() {
            self.pool.give(mem::take(&mut self.input));
            (self.start, self.end) = (0, 0);
        }
    }
}

/// For TLS, which opens records where they stand and moves bytes from buffer to buffer.
#[cfg(feature = "rustls")]
impl PooledBuffers {
    /// As [`Buffers::output`], with room for at least `room` bytes.
    pub(super) fn output_of(&mut self, room: usize) -> &mut [u8] {
        if self.output().len() < room {
            self.output.resize(self.held + room, 0);
        }
        self.output()
    }

    /// The bytes waiting to be consumed, to be changed where they stand.
    pub(super) fn input_mut(&mut self) -> &mut [u8] {
        &mut self.input[self.start..self.end]
    }

    /// Adds `bytes` to the input; `false` if there is no room for them.
    #[must_use]
    pub(super) fn append_input(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let room = self.input_append_buf();
            let amount = room.len().min(bytes.len());
            if amount == 0 {
                return false;
            }
            let (now, later) = bytes.split_at(amount);
            room[..amount].copy_from_slice(now);
            self.input_appended(amount);
            // What has come while nobody waited for it is there to be used.
            self.progress = true;
            bytes = later;
        }
        true
    }

    /// Whether no buffer is borrowed.
    #[cfg(test)]
    pub(super) fn is_bare(&self) -> bool {
        self.output.is_empty() && self.input.is_empty()
    }
}

impl Buffers for PooledBuffers {
    fn output(&mut self) -> &mut [u8] {
        if self.output.is_empty() {
            self.output = self.pool.take();
        }
        &mut self.output[self.held..]
    }

    fn input(&self) -> &[u8] {
        &self.input[self.start..self.end]
    }

    fn input_append_buf(&mut self) -> &mut [u8] {
        if self.input.is_empty() {
            self.input = self.pool.take();
        } else if self.end == self.input.len() {
            if self.start > 0 {
                self.input.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            } else {
                let larger = (self.input.len() * 2).min(LARGEST);
                self.input.resize(larger, 0);
            }
        }
        &mut self.input[self.end..]
    }

    fn input_appended(&mut self, amount: usize) {
        self.end = (self.end + amount).min(self.input.len());
    }

    fn input_consume(&mut self, amount: usize) {
        self.progress = amount > 0;
        self.start = (self.start + amount).min(self.end);
        self.release_input();
    }

    fn tmp_and_output(&mut self) -> (&mut [u8], &mut [u8]) {
        // The scratch space is for chunked uploads, which are never made: a body's length is known.
        (&mut [], self.output())
    }

    fn can_use_input(&self) -> bool {
        self.progress && self.has_input()
    }
}

impl Drop for PooledBuffers {
    fn drop(&mut self) {
        self.pool.give(mem::take(&mut self.output));
        self.pool.give(mem::take(&mut self.input));
    }
}

impl fmt::Debug for PooledBuffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Counts only: requests hold keys.
        f.debug_struct("PooledBuffers")
            .field("held", &self.held)
            .field("unread", &(self.end - self.start))
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn buffers() -> (Arc<BufferPool>, PooledBuffers) {
        let pool = Arc::new(BufferPool::default());
        (Arc::clone(&pool), PooledBuffers::new(pool))
    }

    #[test]
    fn a_waiting_connection_holds_no_buffer() {
        let (pool, mut buffers) = buffers();
        buffers.output()[..4].copy_from_slice(b"head");
        assert!(!buffers.hold(4));
        buffers.output()[..4].copy_from_slice(b"body");
        assert!(!buffers.hold(4));
        assert_eq!(buffers.held(), b"headbody");
        buffers.sent();
        buffers.release_output();
        assert_eq!(pool.0.lock().len(), 1);

        buffers.input_append_buf()[..2].copy_from_slice(b"ok");
        buffers.input_appended(2);
        assert!(!buffers.can_use_input(), "no progress has been made yet");
        buffers.input_consume(1);
        assert!(buffers.can_use_input());
        assert_eq!(buffers.input(), b"k");
        assert_eq!(pool.0.lock().len(), 0);
        buffers.input_consume(1);
        assert_eq!(pool.0.lock().len(), 1);
    }

    #[test]
    fn input_grows_for_a_long_head_and_is_not_kept() {
        let (pool, mut buffers) = buffers();
        let mut total = 0;
        while total < 3 * SIZE {
            let room = buffers.input_append_buf().len();
            buffers.input_appended(room);
            total += room;
            buffers.input_consume(0);
        }
        assert_eq!(buffers.input().len(), total);
        buffers.input_consume(total);
        assert_eq!(
            pool.0.lock().len(),
            0,
            "only buffers of the one size are kept"
        );
    }

    #[test]
    fn a_full_buffer_makes_room_at_its_front() {
        let (_, mut buffers) = buffers();
        let room = buffers.input_append_buf().len();
        buffers.input_appended(room);
        buffers.input_consume(10);
        assert_eq!(buffers.input_append_buf().len(), 10);
        assert_eq!(buffers.input().len(), room - 10);
    }
}
