//! Byte-level BPE, as GPT-2 introduced it and Llama 3 uses it.
//!
//! A word begins as its bytes, one token each; pairs are merged in the order in which training found them.

use std::collections::HashMap;

use quipu_formats::gguf::{Metadata, Required};
use rayon::prelude::*;

use super::bytes::byte_to_char;
use super::error::TokenizerError;
use super::hash::Seed;
use super::merge::{Merge, NO_TOKEN, Symbol, merge_all};
use super::pre::Pretokenizer;
use super::vocab::{TextIndex, Vocab};

const MERGES: &str = "tokenizer.ggml.merges";

#[derive(Debug)]
pub(super) struct Bpe {
    pretokenizer: Pretokenizer,
    /// The token of each byte.
    bytes: [u32; 256],
    /// Merges by [`pair`].
    merges: HashMap<u64, Merge, Seed>,
    /// The tokens by their bytes, if words that are in the vocabulary skip the merges.
    words: Option<TextIndex>,
}

fn pair(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

impl Bpe {
    pub(super) fn read(
        metadata: &Metadata,
        vocab: &Vocab,
        pretokenizer: Pretokenizer,
        ignore_merges: bool,
    ) -> Result<Bpe, TokenizerError> {
        let find = |piece: &[u8]| vocab.id(piece).filter(|id| vocab.is_mergeable(*id));

        // Real vocabularies lack bytes: those that UTF-8 never uses, or that their training text never had. A vocabulary without
        // any is not byte-level.
        let bytes: [u32; 256] = std::array::from_fn(|byte| {
            let mut buffer = [0; 4];
            let piece = byte_to_char(byte as u8).encode_utf8(&mut buffer);
            find(piece.as_bytes()).unwrap_or(NO_TOKEN)
        });
        if bytes.iter().all(|id| *id == NO_TOKEN) {
            return Err(TokenizerError::NotByteLevel);
        }

        let lines = metadata.strings_opt(MERGES).required(MERGES)?;
        let merge = |joined: &mut Vec<u8>, rank: usize| {
            // The separator is the first space after the first character; a line without one, or whose pieces are not in the
            // vocabulary, can never merge anything (llama.cpp lets such lines pass too).
            let line = lines[rank].as_bytes();
            let space = 1 + line.iter().skip(1).position(|b| *b == b' ')?;
            let (left, right) = (&line[..space], &line[space + 1..]);
            joined.clear();
            joined.extend_from_slice(left);
            joined.extend_from_slice(right);
            let id = find(joined)?;
            Some((pair(find(left)?, find(right)?), Merge { rank: u32::try_from(rank).ok()?, id }))
        };
        // Nearly all of the time goes into waiting for memory that three lookups a line are scattered over.
        let (found, words) = rayon::join(
            || (0..lines.len()).into_par_iter().map_init(Vec::new, merge).flatten().collect::<Vec<_>>(),
            || ignore_merges.then(|| vocab.index_texts()),
        );
        let mut merges = HashMap::with_capacity_and_hasher(found.len(), Seed::default());
        for (pair, merge) in found {
            // The first of equal lines counts.
            merges.entry(pair).or_insert(merge);
        }
        Ok(Bpe { pretokenizer, bytes, merges, words })
    }

    /// Appends the tokens of `text` to `ids`; `first` says whether the whole text begins with it.
    pub(super) fn encode(&self, vocab: &Vocab, text: &str, first: bool, ids: &mut Vec<u32>) {
        let text = self.pretokenizer.edit(text, first);
        // Words repeat: where the tokens of a word already stand in `ids`.
        let mut seen: HashMap<&str, (usize, usize), Seed> = HashMap::default();
        let mut symbols = Vec::new();
        self.pretokenizer.split(&text, &mut |word| {
            if let Some(index) = &self.words
                && let Some(id) = index.get(vocab, word.as_bytes())
            {
                ids.push(id);
            } else if let Some(&(start, end)) = seen.get(word) {
                ids.extend_from_within(start..end);
            } else {
                let start = ids.len();
                self.encode_word(word.as_bytes(), &mut symbols, ids);
                seen.insert(word, (start, ids.len()));
            }
        });
    }

    fn encode_word(&self, word: &[u8], symbols: &mut Vec<Symbol>, ids: &mut Vec<u32>) {
        symbols.clear();
        symbols.extend(word.iter().enumerate().map(|(at, byte)| Symbol {
            start: at,
            end: at + 1,
            id: self.bytes[usize::from(*byte)],
        }));
        merge_all(symbols, |left, right| self.merges.get(&pair(left.id, right.id)).copied());
        // A byte that the vocabulary lacks vanishes, as in Hugging Face's tokenizers and in llama.cpp.
        ids.extend(symbols.iter().map(|symbol| symbol.id).filter(|id| *id != NO_TOKEN));
    }
}
