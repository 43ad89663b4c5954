//! The vocabulary: pieces, what kind each is, and the bytes that it stands for.

use std::collections::HashMap;

use quipu_formats::gguf::{Metadata, Required};

use super::bytes;
use super::error::TokenizerError;
use super::strings::{Index, Strings};

/// What a token is for: `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// Text.
    Normal,
    /// Stands for text that has no token.
    Unknown,
    /// A mark for the model, never text: `<|eot_id|>`.
    Control,
    /// Text that is one token wherever it occurs.
    UserDefined,
    /// A place that training left empty.
    Unused,
    /// One byte.
    Byte,
}

/// How pieces are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// In GPT-2's alphabet of bytes.
    ByteLevel,
    /// As text, with `▁` for the space and `<0x0A>` for bytes.
    SentencePiece,
}

/// SentencePiece's space, U+2581.
pub(super) const SPACE: char = '▁';

const TOKENS: &str = "tokenizer.ggml.tokens";
const TOKEN_TYPE: &str = "tokenizer.ggml.token_type";

#[derive(Debug)]
pub(super) struct Vocab {
    pieces: Strings,
    by_piece: Index,
    kinds: Vec<TokenKind>,
    /// Of which tokens the file says, whatever their kind, whether they come out of merging.
    said_mergeable: HashMap<u32, bool>,
    /// What each token puts into the text, marks spelled out.
    texts: Strings,
    /// Whether the file says of which kind its tokens are.
    pub(super) has_kinds: bool,
}

impl Vocab {
    pub(super) fn read(metadata: &Metadata, spelling: Spelling) -> Result<Vocab, TokenizerError> {
        let tokens = metadata.strings_opt(TOKENS).required(TOKENS)?;
        if tokens.is_empty() {
            return Err(TokenizerError::EmptyVocabulary);
        }
        let types = metadata.i32s_opt(TOKEN_TYPE)?;
        if let Some(types) = types {
            check_length(TOKEN_TYPE, tokens.len(), types.len())?;
        }
        let kind = |id: usize| match types.map(|types| types[id]) {
            Some(2) => TokenKind::Unknown,
            Some(3) => TokenKind::Control,
            Some(4) => TokenKind::UserDefined,
            Some(5) => TokenKind::Unused,
            Some(6) => TokenKind::Byte,
            None if spelling == Spelling::SentencePiece && bytes::byte_piece(&tokens[id]).is_some() => TokenKind::Byte,
            _ => TokenKind::Normal,
        };
        let kinds: Vec<_> = (0..tokens.len()).map(kind).collect();
        let (mut pieces, mut texts) = (Strings::default(), Strings::default());
        for (token, kind) in tokens.iter().zip(&kinds) {
            pieces.push(token.as_bytes());
            texts.push(&text_of(token, *kind, spelling));
        }
        let by_piece = Index::new(&pieces, ids(tokens.len()));
        Ok(Vocab { pieces, by_piece, kinds, said_mergeable: HashMap::new(), texts, has_kinds: types.is_some() })
    }

    pub(super) fn len(&self) -> usize {
        self.kinds.len()
    }

    /// All ids.
    pub(super) fn ids(&self) -> impl Iterator<Item = u32> + use<> {
        ids(self.len())
    }

    /// The vocabulary's entry, empty beyond its end.
    pub(super) fn piece(&self, id: u32) -> &str {
        str::from_utf8(self.pieces.get(id)).expect("pieces are pushed as strings")
    }

    pub(super) fn id(&self, piece: &[u8]) -> Option<u32> {
        self.by_piece.get(&self.pieces, piece)
    }

    /// What kind token `id` is; beyond the end nothing was trained.
    pub(super) fn kind(&self, id: u32) -> TokenKind {
        self.kinds.get(id as usize).copied().unwrap_or(TokenKind::Unused)
    }

    pub(super) fn set_kind(&mut self, id: u32, kind: TokenKind) {
        self.kinds[id as usize] = kind;
    }

    /// The bytes that the token puts into the text, marks spelled out.
    pub(super) fn text(&self, id: u32) -> &[u8] {
        self.texts.get(id)
    }

    /// What can come out of merging, or stand for a word: text, and not a mark that text must not be able to forge.
    pub(super) fn is_mergeable(&self, id: u32) -> bool {
        if !self.said_mergeable.is_empty()
            && let Some(said) = self.said_mergeable.get(&id)
        {
            return *said;
        }
        matches!(self.kind(id), TokenKind::Normal | TokenKind::UserDefined | TokenKind::Unused)
    }

    /// Sets what [`Vocab::is_mergeable`] says.
    pub(super) fn set_mergeable(&mut self, id: u32, is: bool) {
        self.said_mergeable.insert(id, is);
    }

    /// As [`Vocab::id`], if that token can come out of merging.
    pub(super) fn mergeable(&self, piece: &[u8]) -> Option<u32> {
        self.id(piece).filter(|id| self.is_mergeable(*id))
    }

    /// An index of the tokens that byte-level BPE may take for a whole word, by the bytes of the word.
    pub(super) fn index_texts(&self) -> TextIndex {
        let plain = |id: &u32| {
            matches!(self.kind(*id), TokenKind::Normal | TokenKind::Unused)
                && self.piece(*id).chars().all(|c| bytes::char_to_byte(c).is_some())
        };
        TextIndex(Index::new(&self.texts, self.ids().filter(plain)))
    }
}

/// Finds byte-level tokens by the bytes that they stand for.
#[derive(Debug)]
pub(super) struct TextIndex(Index);

impl TextIndex {
    pub(super) fn get(&self, vocab: &Vocab, text: &[u8]) -> Option<u32> {
        self.0.get(&vocab.texts, text)
    }
}

/// The numbers below `count`; more tokens than u32 has numbers do not fit into memory.
fn ids(count: usize) -> impl Iterator<Item = u32> {
    0..u32::try_from(count).unwrap_or(u32::MAX)
}

fn text_of(piece: &str, kind: TokenKind, spelling: Spelling) -> Vec<u8> {
    let as_written = || piece.as_bytes().to_vec();
    match (kind, spelling) {
        (TokenKind::Control | TokenKind::Unknown, _) | (TokenKind::UserDefined, Spelling::ByteLevel) => as_written(),
        (TokenKind::Byte, _) => bytes::byte_piece(piece).map_or_else(as_written, |byte| vec![byte]),
        // A piece with other characters was added to the vocabulary as plain text.
        (_, Spelling::ByteLevel) => bytes::from_alphabet(piece).unwrap_or_else(as_written),
        (_, Spelling::SentencePiece) => piece.replace(SPACE, " ").into_bytes(),
    }
}

/// The error for an array that does not have one entry for each token.
pub(super) fn check_length(key: &'static str, tokens: usize, found: usize) -> Result<(), TokenizerError> {
    if tokens == found { Ok(()) } else { Err(TokenizerError::LengthMismatch { key, tokens, found }) }
}
