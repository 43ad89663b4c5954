//! SentencePiece's BPE, as Llama 2 uses it.
//!
//! Text begins as its characters, spaces being `▁` by then; the pair whose joined text is the token with the best score
//! merges first. Characters that end up in no token are spelled in byte tokens. (The unigram model of SentencePiece is
//! another algorithm; GGUF calls it `t5`.)

use std::collections::HashMap;

use quipu_formats::gguf::{Metadata, Required};

use super::bytes::byte_piece;
use super::error::TokenizerError;
use super::hash::Seed;
use super::merge::{Merge, NO_TOKEN, Symbol, merge_all};
use super::pre::{Edit, Pretokenizer};
use super::vocab::{SPACE, TokenKind, Vocab, check_length};

const SCORES: &str = "tokenizer.ggml.scores";

/// Pieces of real vocabularies are far shorter. The bound keeps the work for one pair of a long text small.
const MAX_PIECE: usize = 1024;

#[derive(Debug)]
pub(super) struct Spm {
    pretokenizer: Pretokenizer,
    /// The order in which tokens are merged: 0 for the best score; equal for equal scores.
    ranks: Vec<u32>,
    /// The token for each byte, or what stands for all of them.
    bytes: [u32; 256],
    longest: usize,
    /// Whether no token reaches over the beginning of a word, so that words can be taken one by one.
    words_are_separate: bool,
}

impl Spm {
    pub(super) fn read(
        metadata: &Metadata,
        vocab: &Vocab,
        pretokenizer: Pretokenizer,
        unknown: Option<u32>,
    ) -> Result<Spm, TokenizerError> {
        let scores = metadata.f32s_opt(SCORES).required(SCORES)?;
        check_length(SCORES, vocab.len(), scores.len())?;

        let mut by_score: Vec<usize> = (0..scores.len()).collect();
        by_score.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        let mut ranks = vec![0; scores.len()];
        let mut rank = 0;
        for pair in by_score.windows(2) {
            rank += u32::from(scores[pair[0]] != scores[pair[1]]);
            ranks[pair[1]] = rank;
        }

        let mut bytes = [unknown.unwrap_or(NO_TOKEN); 256];
        let mut longest = 0;
        let mut words_are_separate = true;
        for id in vocab.ids() {
            let piece = vocab.piece(id);
            if vocab.kind(id) == TokenKind::Byte
                && let Some(byte) = byte_piece(piece)
            {
                bytes[usize::from(byte)] = id;
            } else if vocab.is_mergeable(id) {
                if piece.len() > MAX_PIECE {
                    return Err(TokenizerError::PieceTooLong { id, found: piece.len(), limit: MAX_PIECE });
                }
                longest = longest.max(piece.len());
                words_are_separate &= !piece.trim_start_matches(SPACE).contains(SPACE);
            }
        }
        if let Some(first) = bytes.iter().position(|id| *id == NO_TOKEN) {
            let count = bytes.iter().filter(|id| **id == NO_TOKEN).count();
            return Err(TokenizerError::MissingBytes { count, first: first as u8 });
        }
        Ok(Spm { pretokenizer, ranks, bytes, longest, words_are_separate })
    }

    /// Whether text gets a space in front, which decoding takes away again.
    pub(super) fn adds_space_prefix(&self) -> bool {
        self.pretokenizer.edits().any(Edit::adds_space)
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
            self.pretokenizer.split(piece, &mut |mut rest| {
                while !rest.is_empty() {
                    let (word, after) = rest.split_at(self.first_word(rest));
                    rest = after;
                    if let Some(&(start, end)) = seen.get(word) {
                        ids.extend_from_within(start..end);
                    } else {
                        let start = ids.len();
                        self.encode_word(vocab, word, &mut symbols, ids);
                        seen.insert(word, (start, ids.len()));
                    }
                }
            });
        }
    }

    /// The length of the first part of `text` that can be tokenised alone.
    fn first_word(&self, text: &str) -> usize {
        if !self.words_are_separate {
            return text.len();
        }
        let spaces = text.len() - text.trim_start_matches(SPACE).len();
        text[spaces..].find(SPACE).map_or(text.len(), |at| spaces + at)
    }

    fn encode_word(&self, vocab: &Vocab, word: &str, symbols: &mut Vec<Symbol>, ids: &mut Vec<u32>) {
        let token = |start: usize, end: usize| {
            let piece = word.as_bytes().get(start..end).filter(|piece| piece.len() <= self.longest)?;
            vocab.mergeable(piece)
        };
        symbols.clear();
        symbols.extend(word.char_indices().map(|(start, c)| {
            let end = start + c.len_utf8();
            Symbol { start, end, id: token(start, end).unwrap_or(NO_TOKEN) }
        }));
        merge_all(symbols, |left, right| {
            let id = token(left.start, right.end)?;
            Some(Merge { rank: self.ranks[id as usize], id })
        });
        for symbol in symbols.iter() {
            if symbol.id == NO_TOKEN {
                let spelled = &word.as_bytes()[symbol.start..symbol.end];
                ids.extend(spelled.iter().map(|byte| self.bytes[usize::from(*byte)]));
            } else {
                ids.push(symbol.id);
            }
        }
    }
}
