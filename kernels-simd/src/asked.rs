//! What is asked for ahead: in tests every prefetch is noted, since nothing else shows that there is one.

use std::cell::RefCell;
use std::collections::BTreeSet;

use crate::simd::LINE;

thread_local! {
    static NOTED: RefCell<Option<BTreeSet<usize>>> = const { RefCell::new(None) };
}

/// Notes the line of the cache that has the byte at `at`, if somebody listens.
pub(crate) fn note(at: *const u8) {
    NOTED.with_borrow_mut(|noted| noted.as_mut().map(|noted| noted.insert(at.addr() / LINE)));
}

/// The lines, by their numbers, that this thread asks for in `work`.
pub(crate) fn lines(work: impl FnOnce()) -> BTreeSet<usize> {
    NOTED.set(Some(BTreeSet::new()));
    work();
    NOTED.take().expect("lines are noted")
}
