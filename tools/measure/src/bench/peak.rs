//! The most memory that a benchmark had.

use quipu_runtime::host::memory;

/// The most memory that the process had resident, but for work that does not count.
pub(super) struct Peak(Option<u64>);

impl Peak {
    /// From now on; where the system can't forget what was before, nothing is known.
    pub(super) fn start() -> Peak {
        Peak(memory::reset_peak().then_some(0))
    }

    /// Does `work`, whose memory does not count.
    pub(super) fn without<T>(&mut self, work: impl FnOnce() -> T) -> T {
        self.0 = self.most();
        let done = work();
        self.0 = self.0.filter(|_| memory::reset_peak());
        done
    }

    /// Bytes.
    pub(super) fn most(&self) -> Option<u64> {
        self.0.zip(memory::peak()).map(|(before, now)| before.max(now))
    }
}
