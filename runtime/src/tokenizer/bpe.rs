//! Byte-level BPE, as GPT-2 introduced it and Llama 3 uses it.
//!
//! A word begins as its bytes, one token each; pairs are merged in the order in which training found them.

use std::collections::HashMap;
use std::num::NonZero;
use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::{Mutex, OnceLock, PoisonError};

use quipu_formats::gguf::{Metadata, Required, Strings};

use super::bytes::byte_to_char;
use super::error::TokenizerError;
use super::hash::Seed;
use super::merge::{Merge, NO_TOKEN, Symbol, merge_all};
use super::pre::Pretokenizer;
use super::vocab::{TextIndex, Vocab};
use crate::host::threads;

const MERGES: &str = "tokenizer.ggml.merges";

/// Merges by [`pair`].
type Merges = HashMap<u64, Merge, Seed>;

#[derive(Debug)]
pub(super) struct Bpe {
    pretokenizer: Pretokenizer,
    /// The token of each byte.
    bytes: [u32; 256],
    /// The lines of the file that [`Bpe::merges`] come from, until they do: where words of the vocabulary skip the
    /// merges, a prompt may need none at all, and to read Llama 3's takes as long as the rest of the tokenizer.
    lines: Mutex<Strings>,
    merges: OnceLock<Merges>,
    /// The tokens by their bytes, if words that are in the vocabulary skip the merges.
    words: Option<TextIndex>,
}

fn pair(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

/// Lines that are worth a thread.
const LINES_PER_THREAD: usize = 1 << 14;

fn read_merges(lines: &Strings, vocab: &Vocab) -> Merges {
    let merge = |rank: usize, joined: &mut Vec<u8>| {
        // The separator is the first space after the first character; a line without one, or whose pieces are not in
        // the vocabulary, can never merge anything (llama.cpp lets such lines pass too).
        let line = lines[rank].as_bytes();
        let space = 1 + line.iter().skip(1).position(|b| *b == b' ')?;
        let (left, right) = (&line[..space], &line[space + 1..]);
        joined.clear();
        joined.extend_from_slice(left);
        joined.extend_from_slice(right);
        let id = vocab.mergeable(joined)?;
        let pair = pair(vocab.mergeable(left)?, vocab.mergeable(right)?);
        Some((pair, Merge { rank: u32::try_from(rank).ok()?, id }))
    };
    // Nearly all of the time goes into waiting for memory: each line takes three lookups at scattered places. These are
    // threads, not jobs of rayon's: a rayon worker that waits for a job may begin another that needs these merges.
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let part = lines.len().div_ceil(threads).max(LINES_PER_THREAD);
    let mut merges = Merges::with_capacity_and_hasher(lines.len(), Seed::default());
    std::thread::scope(|scope| {
        let find = |ranks: Range<usize>| {
            let mut joined = Vec::new();
            ranks.filter_map(|rank| merge(rank, &mut joined)).collect::<Vec<_>>()
        };
        let parts = (0..lines.len()).step_by(part).map(|start| start..(start + part).min(lines.len()));
        // A thread that the system refuses is done without.
        let begin = |ranks: Range<usize>| {
            let spawned = threads::builder("quipu-merges").and_then(|builder| {
                let ranks = ranks.clone();
                builder.spawn_scoped(scope, move || find(ranks))
            });
            spawned.map_err(|_| ranks)
        };
        let parts: Vec<_> = parts.map(begin).collect();
        for part in parts {
            let found = match part {
                Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
                Err(ranks) => find(ranks),
            };
            for (pair, merge) in found {
                // The first of equal lines counts.
                merges.entry(pair).or_insert(merge);
            }
        }
    });
    merges
}

impl Bpe {
    pub(super) fn read(
        metadata: &Metadata,
        vocab: &Vocab,
        pretokenizer: Pretokenizer,
        ignore_merges: bool,
    ) -> Result<Bpe, TokenizerError> {
        // Real vocabularies lack bytes: those that UTF-8 never uses, or that their training text never had. A
        // vocabulary without any is not byte-level.
        let bytes: [u32; 256] = std::array::from_fn(|byte| {
            let mut buffer = [0; 4];
            let piece = byte_to_char(byte as u8).encode_utf8(&mut buffer);
            vocab.mergeable(piece.as_bytes()).unwrap_or(NO_TOKEN)
        });
        if bytes.iter().all(|id| *id == NO_TOKEN) {
            return Err(TokenizerError::NotByteLevel);
        }

        let lines = Mutex::new(metadata.strings_opt(MERGES).required(MERGES)?.clone());
        let words = ignore_merges.then(|| vocab.index_texts());
        let bpe = Bpe { pretokenizer, bytes, lines, merges: OnceLock::new(), words };
        if bpe.words.is_none() {
            bpe.merges(vocab);
        }
        Ok(bpe)
    }

    fn merges(&self, vocab: &Vocab) -> &Merges {
        self.merges.get_or_init(|| {
            // They are let go only when there are merges.
            let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            let merges = read_merges(&lines, vocab);
            *lines = Strings::default();
            merges
        })
    }

    pub(super) fn pretokenizer(&self) -> &Pretokenizer {
        &self.pretokenizer
    }

    /// Appends the tokens of the normalised `text` to `ids`; its first `begins` bytes come of the first character of
    /// everything.
    pub(super) fn encode(&self, vocab: &Vocab, text: &str, begins: usize, ids: &mut Vec<u32>) {
        let pieces = self.pretokenizer.pieces(text, begins);
        // Words repeat: where the tokens of a word already stand in `ids`.
        let mut seen: HashMap<&str, (usize, usize), Seed> = HashMap::default();
        let mut symbols = Vec::new();
        for piece in &pieces {
            self.pretokenizer.split(piece, &mut |word| {
                if let Some(index) = &self.words
                    && let Some(id) = index.get(vocab, word.as_bytes())
                {
                    ids.push(id);
                } else if let Some(&(start, end)) = seen.get(word) {
                    ids.extend_from_within(start..end);
                } else {
                    let start = ids.len();
                    self.encode_word(vocab, word.as_bytes(), &mut symbols, ids);
                    seen.insert(word, (start, ids.len()));
                }
            });
        }
    }

    fn encode_word(&self, vocab: &Vocab, word: &[u8], symbols: &mut Vec<Symbol>, ids: &mut Vec<u32>) {
        symbols.clear();
        symbols.extend(word.iter().enumerate().map(|(at, byte)| Symbol {
            start: at,
            end: at + 1,
            id: self.bytes[usize::from(*byte)],
        }));
        let merges = self.merges(vocab);
        merge_all(symbols, |left, right| merges.get(&pair(left.id, right.id)).copied());
        // A byte that the vocabulary lacks vanishes, as in Hugging Face's tokenizers and in llama.cpp.
        ids.extend(symbols.iter().map(|symbol| symbol.id).filter(|id| *id != NO_TOKEN));
    }
}
