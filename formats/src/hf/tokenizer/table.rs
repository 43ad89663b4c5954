//! The vocabulary as a table by id.

use std::collections::HashMap;

use super::fault::TokenizerFault;
use super::file::{AddedToken, Merge};
use super::vocabulary::TokenType;

/// How many ids without a token a vocabulary may have. Real models pad theirs by up to a few thousand.
const MAX_UNKNOWN: usize = 1 << 20;

/// A token of the table.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub token: String,
    pub ty: TokenType,
    pub score: f32,
}

/// Tokens by id; the ids up to the model's vocabulary size that have none are `None`.
pub(super) struct Table {
    pub entries: Vec<Option<Entry>>,
    pub ids: HashMap<String, u32>,
}

impl Table {
    /// The tokens of the model itself, all of type `Normal`.
    pub fn new(
        base: Vec<(String, u32)>,
        added: &[AddedToken],
        vocab_size: Option<usize>,
    ) -> Result<Table, TokenizerFault> {
        let top = |ids: &mut dyn Iterator<Item = u32>| ids.max().map_or(0, |id| id as usize + 1);
        let needed = top(&mut base.iter().map(|(_, id)| *id)).max(match vocab_size {
            // Added tokens beyond the model's vocabulary are left out: see `add`.
            Some(_) => 0,
            None => top(&mut added.iter().map(|a| a.id)),
        });
        let size = vocab_size.unwrap_or(needed);
        let tokens = base.len() + added.len();
        if tokens == 0 {
            return Err(TokenizerFault::Empty);
        }
        if size.saturating_sub(tokens) > MAX_UNKNOWN {
            return Err(TokenizerFault::MostlyUnknown { vocab_size: size, tokens });
        }
        let mut table = Table { entries: vec![None; size], ids: HashMap::with_capacity(tokens) };
        for (token, id) in base {
            let Some(slot) = table.entries.get_mut(id as usize) else {
                return Err(TokenizerFault::BeyondVocabulary { token, id, vocab_size: size });
            };
            if let Some(first) = slot {
                return Err(TokenizerFault::IdTwice { id, first: first.token.clone(), second: token });
            }
            if let Some(first) = table.ids.insert(token.clone(), id) {
                return Err(TokenizerFault::TokenTwice { token, first, second: id });
            }
            *slot = Some(Entry { token, ty: TokenType::Normal, score: 0.0 });
        }
        Ok(table)
    }

    /// Puts the added tokens over those of the model: special ones become control tokens, others user-defined.
    ///
    /// A token whose id has no row in the embedding is left out, as llama.cpp does: many fine-tunes name a padding
    /// token which the model never got.
    pub fn add(&mut self, added: &[AddedToken], score: f32) -> Result<(), TokenizerFault> {
        for AddedToken { id, content, special, .. } in added {
            let (id, token) = (*id, content.clone());
            let Some(slot) = self.entries.get_mut(id as usize) else { continue };
            let known = self.ids.get(content).copied();
            match known {
                Some(first) if first != id => return Err(TokenizerFault::TokenTwice { token, first, second: id }),
                Some(_) => {}
                None => {
                    if let Some(first) = slot {
                        return Err(TokenizerFault::IdTwice { id, first: first.token.clone(), second: token });
                    }
                    self.ids.insert(token.clone(), id);
                }
            }
            let ty = if *special { TokenType::Control } else { TokenType::UserDefined };
            // Readers look for user-defined tokens in the text as the user wrote it, before spaces become ▁; but what
            // merges make of spaces must keep its spelling.
            let token = if *special || known.is_some() { token } else { token.replace('▁', " ") };
            *slot = Some(Entry { token, ty, score });
        }
        Ok(())
    }

    /// Checks that every merge joins two tokens to a token; calls `each` with the number of the merge and the id of
    /// what it makes.
    pub fn check_merges(&self, merges: &[Merge], mut each: impl FnMut(usize, u32)) -> Result<(), TokenizerFault> {
        let mut joined = String::new();
        for (number, merge) in merges.iter().enumerate() {
            let Some((left, right)) = merge.parts() else {
                return Err(TokenizerFault::MergeForm { number, merge: merge.text.clone() });
            };
            joined.clear();
            joined.push_str(left);
            joined.push_str(right);
            for token in [left, right] {
                if !self.ids.contains_key(token) {
                    return Err(TokenizerFault::MergeUnknown { number, token: token.into() });
                }
            }
            match self.ids.get(joined.as_str()) {
                Some(&id) => each(number, id),
                None => return Err(TokenizerFault::MergeUnknown { number, token: joined }),
            }
        }
        Ok(())
    }

    /// Tokens, types and scores by id, ids without a token filled as llama.cpp fills them.
    pub fn finish(self) -> (Vec<String>, Vec<TokenType>, Vec<f32>) {
        let (mut tokens, mut types, mut scores) = (Vec::new(), Vec::new(), Vec::new());
        for (id, entry) in self.entries.into_iter().enumerate() {
            let unused = || Entry { token: format!("[PAD{id}]"), ty: TokenType::Unused, score: -10_000.0 };
            let Entry { token, ty, score } = entry.unwrap_or_else(unused);
            tokens.push(token);
            types.push(ty);
            scores.push(score);
        }
        (tokens, types, scores)
    }
}
