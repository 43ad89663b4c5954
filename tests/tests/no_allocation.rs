//! A token allocates nothing: what decoding needs is there after the first one, but for a page of the KV cache every
//! 128 positions.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use quipu_runtime::sampler::{Sampler, SamplerOptions};
use quipu_runtime::{Isa, LoadOptions};
use quipu_tests::load;

/// The system's allocator, counting.
struct Counting;

static CALLS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all calls go to `System`, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        CALLS.fetch_add(1, Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations while the demo model writes 100 tokens.
fn allocations(isa: Isa, threads: Option<usize>) -> usize {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tales.gguf");
    let mut engine = load(&demo, &LoadOptions::default().isa(Some(isa)).threads(threads));
    let mut sequence = engine.new_sequence();
    let mut sampler = Sampler::new(SamplerOptions::default()).expect("sensible options");
    let prompt = engine.tokenizer().encode("Once upon a time", true, false);
    let mut next = |logits: &[f32]| sampler.sample(logits).expect("finite logits");
    let mut token = next(engine.prefill(&mut sequence, &prompt).expect("it fits"));
    // Buffers for a single row, and for one page and two segments, are made by the first tokens that need them.
    while sequence.len() < 140 {
        token = next(engine.decode(&mut sequence, token).expect("it fits"));
    }
    let before = CALLS.load(Relaxed);
    while sequence.len() < 240 {
        token = next(engine.decode(&mut sequence, token).expect("it fits"));
    }
    CALLS.load(Relaxed) - before
}

#[test]
fn decoding_allocates_nothing() {
    for isa in Isa::available() {
        for threads in [Some(1), None] {
            assert_eq!(allocations(isa, threads), 0, "allocations in 100 tokens on {isa}, threads: {threads:?}");
        }
        println!("ok: 100 tokens on {isa} without an allocation");
    }
}
