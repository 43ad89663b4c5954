//! Sessions: a text with its keys and values.
//!
//! A file with anything changed has a wrong checksum, and that is all one would see. So the checksums can be mended, by
//! what `docs/file-format.md` says of them, and the name of the model can be put in, which is another one for each
//! version.

use std::cell::RefCell;

use quipu_formats::gguf::GgufFile;
use quipu_formats::output::Inputs;
use quipu_quant::TensorType;
use quipu_runtime::generate::{GenerateOptions, Request, Scheduler};
use quipu_runtime::sampler::SamplerState;
use quipu_runtime::session::Session;
use quipu_runtime::{Engine, KvType, LoadOptions, TuningChoice};

use crate::outcome::outcome;
use crate::place::{file, written};
use crate::tiny;

/// Bytes before the name of the model, of which the last eight are the checksum of what stands before the pages.
const FIXED: usize = 56;

/// A text.
const SHORT: [u32; 4] = [1, 3, 4, 5];

pub(crate) const WORDS: &[&str] = &[
    "QUIPU-KV",
    "\"random\":",
    "\"learnt\":",
    "{\"s\":[0,0,0,0]}",
    "18446744073709551615",
    "null",
    "\u{0}|",
    "\u{2}\0\0\0",
];

thread_local! {
    /// The model, with each type of keys and values, and a session of it.
    static MODELS: RefCell<Vec<(Scheduler, Vec<u8>)>> = RefCell::new(KvType::ALL.map(model_and_session).into());
}

fn model(kv: KvType) -> Scheduler {
    let source = GgufFile::from_bytes("model", tiny::gguf("llama", false, TensorType::Q8_0)).expect("a valid model");
    let options = LoadOptions::default().threads(1).context(300).tuning(TuningChoice::Defaults).kv_type(kv);
    Scheduler::new(Engine::load(Box::new(source), &options, &|_, _| {}).expect("a valid model"))
}

fn model_and_session(kv: KvType) -> (Scheduler, Vec<u8>) {
    let mut model = model(kv);
    let session = text(&mut model, SHORT.into());
    (model, session)
}

/// A session: a byte that says for which type of keys and values and whether it is mended, and the file.
pub(crate) fn session(bytes: &[u8]) -> String {
    let Some((flags, bytes)) = bytes.split_first() else { return String::new() };
    MODELS.with_borrow_mut(|models| {
        let which = *flags as usize / 4 % models.len();
        let (scheduler, valid) = &mut models[which];
        let mut bytes = bytes.to_vec();
        if flags & 1 == 0 {
            name(&mut bytes, valid);
        }
        if flags & 2 == 0 {
            mend(&mut bytes);
        }
        let said = go_on(scheduler, &bytes);
        // What it has read is of no use to the next one.
        scheduler.forget();
        said
    })
}

/// Opens a session, and writes some more of its text.
fn go_on(scheduler: &mut Scheduler, bytes: &[u8]) -> String {
    let Session { tokens, sequence, state } = match Session::open(scheduler.engine(), &file("session", bytes)) {
        Err(error) => return outcome(error),
        Ok(session) => session,
    };
    assert!(sequence.len() <= tokens.len(), "more was read than there is");
    let resume = serde_json::from_value::<SamplerState>(state).ok();
    let said = format!("{} {} ", tokens.len().ilog2(), resume.is_some());
    let options = GenerateOptions::default().max_tokens(2).resume(resume);
    match scheduler.complete(Request::new(tokens, options).sequence(sequence)) {
        Err(error) => said + &outcome(error.error),
        Ok((_, end)) => said + end.stop.name(),
    }
}

/// The session of a text that begins with these tokens.
fn text(scheduler: &mut Scheduler, tokens: Vec<u32>) -> Vec<u8> {
    let options = GenerateOptions::default().max_tokens(3);
    let (_, end) = scheduler.complete(Request::new(tokens, options)).expect("a text");
    let state = serde_json::to_value(&end.sampler).expect("a state is JSON");
    let session = Session { tokens: end.tokens, sequence: end.sequence, state };
    written(|path| session.save(scheduler.engine(), path, &Inputs::new()).expect("room for a temporary file"))
}

/// The number of 32 bits at `at`.
fn number(bytes: &[u8], at: usize) -> usize {
    bytes[at..at + 4].iter().rev().fold(0, |n, &byte| n << 8 | usize::from(byte))
}

/// Gives the file the name of the model that another has.
fn name(bytes: &mut [u8], other: &[u8]) {
    let theirs = &other[FIXED..FIXED + number(other, 12)];
    if bytes.len() >= FIXED && bytes[FIXED..].len() >= number(bytes, 12) {
        let end = FIXED + number(bytes, 12);
        if end - FIXED != theirs.len() {
            // Else what follows would move.
            return;
        }
        bytes[FIXED..end].copy_from_slice(theirs);
    }
}

fn mix(h: u64, word: u64) -> u64 {
    (h ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.as_chunks().0.iter().map(|&word| u64::from_le_bytes(word))
}

/// The sum from `start`, of words, the length, and the rest.
fn sum(start: u64, bytes: &[u8]) -> u64 {
    let h = mix(words(bytes).fold(start, mix), bytes.len() as u64);
    bytes.as_chunks::<8>().1.iter().fold(h, |h, &byte| mix(h, u64::from(byte)))
}

/// The checksum of a page of one group.
fn page_sum(page: &[u8]) -> u64 {
    let (whole, rest) = page.split_at(page.len() / 32 * 32);
    let fourth = |lane: usize| words(whole).skip(lane).step_by(4).fold(lane as u64, mix);
    mix(0, sum((0..4).map(fourth).fold(page.len() as u64, mix), rest))
}

/// Puts the right checksums in, where a file has the parts that it says it has.
fn mend(bytes: &mut [u8]) {
    if bytes.len() < FIXED {
        return;
    }
    let [identity, state, text, pages] = [12, 16, 20, 32].map(|at| number(bytes, at));
    let sums = FIXED + identity + state + 4 * text;
    let head = (sums + 8 * pages).next_multiple_of(64);
    let page = number(bytes, 40);
    if bytes.len() < head {
        return;
    }
    for index in 0..pages {
        let at = head + index * page;
        let Some(page) = bytes.get(at..at + page) else { break };
        let found = page_sum(page).to_le_bytes();
        bytes[sums + 8 * index..][..8].copy_from_slice(&found);
    }
    bytes[FIXED - 8..FIXED].fill(0);
    let found = sum(0, &bytes[..head]).to_le_bytes();
    bytes[FIXED - 8..FIXED].copy_from_slice(&found);
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let of = |index: usize, kv: KvType| {
        let (mut model, short) = model_and_session(kv);
        // The second one has two pages.
        let short = [vec![4 * index as u8], short].concat();
        let long = [vec![4 * index as u8], text(&mut model, [1, 4].repeat(66))].concat();
        [short, long]
    };
    KvType::ALL.into_iter().enumerate().flat_map(|(index, kv)| of(index, kv)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mended_is_what_was_written() {
        for seed in seeds() {
            let mut bytes = seed[1..].to_vec();
            // Checksums are mended to what they were, and so is what they cover.
            mend(&mut bytes);
            assert_eq!(bytes, seed[1..]);
            *bytes.last_mut().expect("a page") ^= 1;
            mend(&mut bytes);
            assert_ne!(bytes, seed[1..]);
            assert!(session(&seed).starts_with(['2', '7']), "{}", session(&seed));
        }
    }
}
