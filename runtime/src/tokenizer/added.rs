//! Added tokens as a Hugging Face `tokenizer.json` has them, for models whose tokens do what GGUF's keys cannot say.
//!
//! The key [`KEY`] holds the JSON of that file's `added_tokens`. What they mean is defined by the crate `tokenizers`,
//! `AddedVocabulary`: those that are not `normalized` are looked for in the text as it is, the others, after the text
//! between the first has been normalised, in what came of it, and their own texts are normalised too.

use std::collections::BTreeSet;

use quipu_formats::gguf::Metadata;
use serde::Deserialize;

use super::error::TokenizerError;
use super::pre::Pretokenizer;
use super::special::{Mark, SpecialTokens};
use super::vocab::{TokenKind, Vocab};

/// Where GGUF files carry the list.
const KEY: &str = "quipu.tokenizer.added_tokens";

#[derive(Deserialize)]
pub(super) struct Added {
    id: u32,
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    normalized: bool,
    #[serde(default)]
    special: bool,
    /// The vocabulary has it, too, and merging makes it.
    #[serde(default)]
    in_text: bool,
}

/// The list in `metadata`, if there is one. Of `vocab`, it says which tokens come out of merging; those in `ends` end
/// texts, and no text may forge them.
pub(super) fn read_list(
    metadata: &Metadata,
    vocab: &mut Vocab,
    ends: &BTreeSet<u32>,
) -> Result<Option<Vec<Added>>, TokenizerError> {
    let Some(json) = metadata.str_opt(KEY)? else { return Ok(None) };
    let malformed = |source| TokenizerError::Json { key: KEY, source };
    let mut tokens: Vec<Added> = serde_json::from_str(json).map_err(malformed)?;
    tokens.retain(|token| (token.id as usize) < vocab.len());
    for token in &tokens {
        vocab.set_mergeable(token.id, token.in_text && !ends.contains(&token.id));
    }
    Ok(Some(tokens))
}

/// The tokens that are found in a text before it is cut into words.
#[derive(Debug)]
pub(super) struct AddedTokens {
    /// Those that are looked for in the text as it is.
    pub(super) verbatim: SpecialTokens,
    /// Those that are looked for in normalised text.
    pub(super) normalized: SpecialTokens,
}

impl AddedTokens {
    /// Those `listed`, or else, by their kinds, those of `vocab`.
    pub(super) fn new(
        listed: Option<Vec<Added>>,
        vocab: &Vocab,
        pretokenizer: &Pretokenizer,
    ) -> Result<AddedTokens, TokenizerError> {
        let Some(tokens) = listed else {
            return Ok(AddedTokens { verbatim: SpecialTokens::new(vocab)?, normalized: SpecialTokens::none() });
        };
        if let Some(empty) = tokens.iter().find(|t| t.normalized && pretokenizer.normalize(&t.content).is_empty()) {
            let component = format!("the token {:?}, of which the normalizer leaves nothing,", empty.content);
            return Err(TokenizerError::Unsupported { key: KEY, component });
        }
        let of = |normalized: bool| {
            SpecialTokens::of(tokens.iter().filter(|t| t.normalized == normalized).map(|t| {
                let Added { id, single_word, lstrip, rstrip, .. } = *t;
                let text = if normalized { pretokenizer.normalize(&t.content).into_owned() } else { t.content.clone() };
                // A token that ends texts is a control token, whatever the list says.
                let special = t.special || vocab.kind(id) == TokenKind::Control;
                (text, Mark { id, special, single_word, lstrip, rstrip })
            }))
        };
        Ok(AddedTokens { verbatim: of(false)?, normalized: of(true)? })
    }
}
