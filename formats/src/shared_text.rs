//! A text in a fixed place that a signal handler can read: it takes no lock and allocates nothing.

use std::sync::atomic::{AtomicU8, Ordering};

/// Up to `N - 1` bytes, none of them zero, with a zero behind them.
#[derive(Debug)]
pub struct SharedText<const N: usize>([AtomicU8; N]);

impl<const N: usize> SharedText<N> {
    pub(crate) const fn new() -> SharedText<N> {
        SharedText([const { AtomicU8::new(0) }; N])
    }

    /// Keeps `text` unless it is too long. Whoever reads meanwhile sees nothing or all of it.
    pub(crate) fn set(&self, text: &[u8]) {
        self.clear();
        if text.len() >= N {
            return;
        }
        let (Some((first, rest)), [_, behind @ ..]) = (text.split_first(), &self.0[..]) else { return };
        for (place, byte) in behind.iter().zip(rest.iter().chain([&0])) {
            place.store(*byte, Ordering::Relaxed);
        }
        self.0[0].store(*first, Ordering::Release);
    }

    pub(crate) fn clear(&self) {
        self.0[0].store(0, Ordering::Release);
    }

    /// Whether there is a text.
    pub fn is_set(&self) -> bool {
        self.0[0].load(Ordering::Acquire) != 0
    }

    /// The bytes with the zero behind them, as C takes them.
    pub fn as_c_string(&self) -> &[AtomicU8] {
        &self.0
    }

    /// A copy of the text.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.iter().map(|byte| byte.load(Ordering::Acquire)).take_while(|byte| *byte != 0).collect()
    }
}
