//! SentencePiece-style BPE: pieces with scores.

use serde_json::Value;

use super::fault::TokenizerFault;
use super::file::{AddedToken, TokenizerJson};
use super::pre;
use super::sentencepiece::SentencePieceModel;
use super::table::{Entry, Table};
use super::vocabulary::{TokenType, Vocabulary};

/// The score that llama.cpp gives to added tokens.
const ADDED_SCORE: f32 = -1000.0;

/// The vocabulary of a tokenizer.json, with the scores of the tokenizer.model beside it when that has the same pieces.
///
/// Without one, the score of a token is minus the number of the first merge that makes it. Merging the pair with the
/// highest score first is then the same as merging the pair with the first merge, which is what Hugging Face does:
/// tokenizer.json was written by listing, in the order of their scores, all pairs that make a piece.
pub(super) fn from_json(
    json: &mut TokenizerJson,
    model: Option<SentencePieceModel>,
    vocab_size: Option<usize>,
) -> Result<Vocabulary, TokenizerFault> {
    let space = pre::space_prefix(json);
    let exact_pre = (!space.says_all).then(|| pre::exact(json));
    let base = std::mem::take(&mut json.model.vocab.0);
    let mut table = Table::new(base, &json.added_tokens, vocab_size)?;
    let merges = &json.model.merges;
    let mut rank = vec![None; table.entries.len()];
    table.check_merges(merges, |number, id| {
        rank[id as usize].get_or_insert(number);
    })?;
    match model.filter(|m| same_pieces(m, &table)) {
        Some(model) => {
            for (entry, piece) in table.entries.iter_mut().zip(model.pieces) {
                *entry = Some(piece);
            }
        }
        None => {
            for (entry, rank) in table.entries.iter_mut().zip(rank) {
                let Some(entry) = entry else { continue };
                entry.ty = plain_type(&entry.token, json.model.unk_token.as_deref());
                entry.score = match rank {
                    Some(rank) => -(rank as f32),
                    None if entry.ty != TokenType::Normal || entry.token.chars().nth(1).is_none() => 0.0,
                    // No merge makes it; this keeps it from coming before one that does.
                    None => -((merges.len() + 1) as f32),
                };
            }
        }
    }
    add(&mut table, &json.added_tokens)?;
    let (tokens, types, scores) = table.finish();
    Ok(vocabulary(tokens, types, scores, space.add, exact_pre))
}

/// The vocabulary of a tokenizer.model that stands alone, with the tokens that were added to it.
pub(super) fn from_model(
    model: SentencePieceModel,
    added: Vec<AddedToken>,
    vocab_size: Option<usize>,
) -> Result<Vocabulary, TokenizerFault> {
    model.check_alone()?;
    let add_space_prefix = model.add_dummy_prefix;
    // Pieces beyond u32 would need a file of gigabytes; the reader stops long before.
    let base = model.pieces.iter().zip(0u32..).map(|(piece, id)| (piece.token.clone(), id)).collect();
    let mut table = Table::new(base, &added, vocab_size)?;
    for (entry, piece) in table.entries.iter_mut().zip(model.pieces) {
        *entry = Some(piece);
    }
    add(&mut table, &added)?;
    let (tokens, types, scores) = table.finish();
    Ok(vocabulary(tokens, types, scores, add_space_prefix, None))
}

fn vocabulary(
    tokens: Vec<String>,
    types: Vec<TokenType>,
    scores: Vec<f32>,
    add_space_prefix: bool,
    exact_pre: Option<Value>,
) -> Vocabulary {
    let (scores, add_space_prefix) = (Some(scores), Some(add_space_prefix));
    Vocabulary { model: "llama", pre: "default", tokens, types, scores, merges: None, add_space_prefix, exact_pre }
}

/// [`Table::add`], but what SentencePiece knows as unknown or byte stays that, and what it has scored keeps its score.
fn add(table: &mut Table, added: &[AddedToken]) -> Result<(), TokenizerFault> {
    let before: Vec<Option<Entry>> = added.iter().map(|a| table.entries.get(a.id as usize)?.clone()).collect();
    table.add(added, ADDED_SCORE)?;
    for (token, before) in added.iter().zip(before) {
        if let (Some(before), Some(Some(entry))) = (before, table.entries.get_mut(token.id as usize)) {
            entry.score = before.score;
            if matches!(before.ty, TokenType::Unknown | TokenType::Byte) {
                entry.ty = before.ty;
            }
        }
    }
    Ok(())
}

fn same_pieces(model: &SentencePieceModel, table: &Table) -> bool {
    let same = |(entry, piece): (&Option<Entry>, &Entry)| entry.as_ref().is_some_and(|e| e.token == piece.token);
    model.pieces.len() <= table.entries.len() && table.entries.iter().zip(&model.pieces).all(same)
}

/// The type of a token of which only the text is known.
fn plain_type(token: &str, unknown: Option<&str>) -> TokenType {
    let hex = token.strip_prefix("<0x").and_then(|t| t.strip_suffix('>'));
    if hex.is_some_and(|h| h.len() == 2 && h.bytes().all(|b| b.is_ascii_hexdigit())) {
        TokenType::Byte
    } else if unknown == Some(token) {
        TokenType::Unknown
    } else {
        TokenType::Normal
    }
}
