//! The loop at the heart of byte pair encoding: merge the best pair of neighbours, the leftmost of equally good ones,
//! until no pair can be merged.
//!
//! Which pairs merge, and how good they are, is the caller's: byte-level BPE looks at pairs of ids, SentencePiece at
//! the text that they cover.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A piece of a word that has not been merged further yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Symbol {
    /// Where it begins in the word, in bytes.
    pub(super) start: usize,
    /// Where it ends.
    pub(super) end: usize,
    /// The token that stands for it, or [`NO_TOKEN`].
    pub(super) id: u32,
}

/// The id of a symbol that no token stands for.
pub(super) const NO_TOKEN: u32 = u32::MAX;

/// A pair that merges: how early it does (lower is better) and into which token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Merge {
    pub(super) rank: u32,
    pub(super) id: u32,
}

/// Above this number of symbols a heap is faster than looking at all pairs again for each merge.
const SCAN_LIMIT: usize = 40;

/// Merges `symbols` in place; `merge_of` says what two neighbours give.
pub(super) fn merge_all(symbols: &mut Vec<Symbol>, merge_of: impl Fn(&Symbol, &Symbol) -> Option<Merge>) {
    if symbols.len() <= SCAN_LIMIT {
        merge_by_scan(symbols, merge_of);
    } else {
        merge_by_heap(symbols, merge_of);
    }
}

fn merge_by_scan(symbols: &mut Vec<Symbol>, merge_of: impl Fn(&Symbol, &Symbol) -> Option<Merge>) {
    let mut pairs: Vec<Option<Merge>> = symbols.windows(2).map(|w| merge_of(&w[0], &w[1])).collect();
    loop {
        let best = pairs.iter().enumerate().filter_map(|(at, pair)| pair.map(|merge| (merge.rank, at, merge.id))).min();
        let Some((_, at, id)) = best else { return };
        symbols[at] = Symbol { start: symbols[at].start, end: symbols[at + 1].end, id };
        symbols.remove(at + 1);
        pairs.remove(at);
        if at > 0 {
            pairs[at - 1] = merge_of(&symbols[at - 1], &symbols[at]);
        }
        if at < pairs.len() {
            pairs[at] = merge_of(&symbols[at], &symbols[at + 1]);
        }
    }
}

/// No neighbour.
const NONE: usize = usize::MAX;

fn merge_by_heap(symbols: &mut Vec<Symbol>, merge_of: impl Fn(&Symbol, &Symbol) -> Option<Merge>) {
    let count = symbols.len();
    let mut next: Vec<usize> = (1..count).chain([NONE]).collect();
    let mut previous: Vec<usize> = [NONE].into_iter().chain(0..count - 1).collect();
    let mut alive = vec![true; count];

    // (rank, left, right, where the right one ended, id): symbols only grow, and only to the right, so an entry is out
    // of date exactly if one of the two is gone or the right one ends elsewhere now.
    let candidate = |symbols: &[Symbol], left: usize, right: usize| {
        let merge = merge_of(&symbols[left], &symbols[right])?;
        Some(Reverse((merge.rank, left, right, symbols[right].end, merge.id)))
    };
    let mut heap: BinaryHeap<_> = (1..count).filter_map(|right| candidate(symbols, right - 1, right)).collect();
    while let Some(Reverse((_, left, right, end, id))) = heap.pop() {
        if !alive[left] || next[left] != right || symbols[right].end != end {
            continue;
        }
        symbols[left] = Symbol { start: symbols[left].start, end, id };
        alive[right] = false;
        next[left] = next[right];
        if next[left] != NONE {
            previous[next[left]] = left;
            heap.extend(candidate(symbols, left, next[left]));
        }
        if previous[left] != NONE {
            heap.extend(candidate(symbols, previous[left], left));
        }
    }
    let mut alive = alive.iter();
    symbols.retain(|_| alive.next() == Some(&true));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Joins two symbols if their lengths, taken together, have a rank; many ranks are equal, so that ties are met
    /// often.
    fn by_length(ranks: &[Option<u32>]) -> impl Fn(&Symbol, &Symbol) -> Option<Merge> {
        move |left, right| {
            let length = right.end - left.start;
            let rank = ranks.get(length).copied().flatten()?;
            Some(Merge { rank, id: length as u32 })
        }
    }

    proptest! {
        #[test]
        fn scan_and_heap_agree(
            lengths in prop::collection::vec(1usize..4, 1..80),
            ranks in prop::collection::vec(prop::option::of(0u32..6), 40),
        ) {
            let mut at = 0;
            let symbols: Vec<_> = lengths
                .iter()
                .map(|&length| {
                    at += length;
                    Symbol { start: at - length, end: at, id: NO_TOKEN }
                })
                .collect();
            let (mut scanned, mut heaped) = (symbols.clone(), symbols);
            merge_by_scan(&mut scanned, by_length(&ranks));
            merge_by_heap(&mut heaped, by_length(&ranks));
            prop_assert_eq!(scanned, heaped);
        }
    }
}
