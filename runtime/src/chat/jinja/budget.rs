//! What one rendering may take: steps, and bytes of memory at one time.
//!
//! Templates come from outside. Every string and every list that grows asks here first, so no operator, filter or
//! method can take more than all of them together may. The account belongs to the thread, since each rendering has one
//! of its own (`stack.rs`).

use std::cell::Cell;

use super::error::{Error, Result};

/// Steps of a rendering; one is about a name looked up or an operator, some 50 ns. Real templates need thousands.
const STEPS: u64 = 8_000_000;
/// Bytes of strings and lists at one time, besides what the input needs.
const BYTES: u64 = 64 << 20;
/// Copies of the input that a template may hold at one time.
const COPIES: u64 = 8;
/// Bytes that are copied or looked at in the time of one step.
const BYTES_A_STEP: u64 = 64;

thread_local! {
    static STEPS_LEFT: Cell<u64> = const { Cell::new(0) };
    static BYTES_LEFT: Cell<u64> = const { Cell::new(0) };
}

/// Fills this thread's account for an input of so many bytes.
pub(super) fn open(input: usize) {
    STEPS_LEFT.set(STEPS + input as u64 / 2);
    BYTES_LEFT.set(BYTES + COPIES * input as u64);
}

/// Takes `n` steps.
pub(super) fn step(n: u64) -> Result<()> {
    let left = STEPS_LEFT.get();
    STEPS_LEFT.set(left.saturating_sub(n));
    if left <= n { Err(Error::new("it takes too long, it may be in an endless loop")) } else { Ok(()) }
}

/// Takes the steps for looking at so many bytes.
pub(super) fn scan(bytes: usize) -> Result<()> {
    step(1 + bytes as u64 / BYTES_A_STEP)
}

/// Bytes that a value has taken; they come back when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Bytes(u64);

impl Bytes {
    /// Takes `n` more.
    pub(super) fn grow(&mut self, n: usize) -> Result<()> {
        scan(n)?;
        let (n, left) = (n as u64, BYTES_LEFT.get());
        if n > left {
            return Err(Error::new("its texts and lists take too much memory"));
        }
        BYTES_LEFT.set(left - n);
        self.0 += n;
        Ok(())
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        // The thread's account may be gone already when the thread ends.
        let _ = BYTES_LEFT.try_with(|left| left.set(left.get() + self.0));
    }
}
