//! Whether two models mean the same by a token.

use std::path::PathBuf;

use crate::engine::Engine;

/// Vocabularies of one family are filled up to different lengths; beyond so many tokens more they are not of one.
const FILLING: usize = 256;

/// Why a model can't guess for another one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DraftModelError {
    /// A token that is another one there.
    #[error(
        "{draft} cannot guess for {model}: token {token} is {theirs:?} in the first and {ours:?} in the second; a draft \
         model must have the same vocabulary"
    )]
    Token {
        /// The file of the model that was to guess.
        draft: PathBuf,
        /// The file of the other one.
        model: PathBuf,
        /// The first token that differs.
        token: u32,
        /// Its text in the draft model.
        theirs: String,
        /// Its text in the other one.
        ours: String,
    },
    /// One has many more tokens.
    #[error(
        "{draft} cannot guess for {model}: from token {token} on only one of them has any (they have {theirs} and \
         {ours}); a draft model must have the same vocabulary"
    )]
    Length {
        /// The file of the model that was to guess.
        draft: PathBuf,
        /// The file of the other one.
        model: PathBuf,
        /// The first token that only one of them has.
        token: u32,
        /// Tokens of the draft model.
        theirs: usize,
        /// Tokens of the other one.
        ours: usize,
    },
}

/// Whether `draft` means the same by each token as `model`. One of them may have some more that nobody uses.
///
/// # Errors
/// [`DraftModelError`]: names the first token that differs.
pub(crate) fn check(draft: &Engine, model: &Engine) -> Result<(), DraftModelError> {
    let paths = || (draft.source().path().to_path_buf(), model.source().path().to_path_buf());
    let (theirs, ours) = (draft.tokenizer(), model.tokenizer());
    let (n, m) = (theirs.vocab_size(), ours.vocab_size());
    // Control tokens have a text of their own only where it is asked for.
    let text = |tokenizer: &crate::tokenizer::Tokenizer, token| {
        String::from_utf8_lossy(tokenizer.token_bytes(token, true)).into_owned()
    };
    let both = u32::try_from(n.min(m)).unwrap_or(u32::MAX);
    let differs = |&token: &u32| theirs.token_bytes(token, true) != ours.token_bytes(token, true);
    if let Some(token) = (0..both).find(differs) {
        let (draft, model) = paths();
        let (theirs, ours) = (text(theirs, token), text(ours, token));
        return Err(DraftModelError::Token { draft, model, token, theirs, ours });
    }
    if n.abs_diff(m) > FILLING {
        let (draft, model) = paths();
        return Err(DraftModelError::Length { draft, model, token: both, theirs: n, ours: m });
    }
    Ok(())
}
