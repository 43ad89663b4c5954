//! A model's tokens as llguidance wants to see them.

use std::collections::HashSet;
use std::sync::Arc;

use llguidance::toktrie::{INVALID_TOKEN, TokRxInfo, TokTrie, TokenId, TokenizerEnv};
use quipu_runtime::tokenizer::{Part, TokenKind, Tokenizer};

/// A vocabulary as a tree of bytes, and the way texts become tokens of it.
pub struct Environment {
    tokenizer: Arc<Tokenizer>,
    tree: TokTrie,
}

impl Environment {
    /// A tenth of a second for 128,000 tokens.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Environment {
        let words: Vec<Vec<u8>> = words(&tokenizer);
        // Which token ends a text is the runtime's business; here it only must not be a token of text.
        let end = tokenizer.ends().next().unwrap_or(INVALID_TOKEN);
        let tree = TokTrie::from(&TokRxInfo::new(words.len() as u32, end), &words);
        Environment { tokenizer, tree }
    }

    /// The tokens of text in the middle of a text: as many bytes as are whole characters.
    fn encode(&self, text: &str) -> Vec<TokenId> {
        // A token before it keeps the tokenizer from putting a space in front.
        let mut tokens = self.tokenizer.encode_parts(&[Part::Tokens(&[0]), Part::Data(text)]);
        tokens.remove(0);
        // A tokenizer may change what it reads (NFC, lower case); then these are tokens of another text.
        if self.tree.decode_raw(&tokens) == text.as_bytes() {
            tokens
        } else {
            self.tree.greedy_tokenize(text.as_bytes())
        }
    }
}

/// The bytes that each token stands for. Tokens that are no text are names behind a byte that no text has.
fn words(tokenizer: &Tokenizer) -> Vec<Vec<u8>> {
    const MARK: u8 = TokTrie::SPECIAL_TOKEN_MARKER;
    let ids = || 0..tokenizer.vocab_size() as u32;
    let pieces: HashSet<&[u8]> = ids()
        .filter(|&id| matches!(tokenizer.kind(id), TokenKind::Normal | TokenKind::UserDefined))
        .map(|id| tokenizer.token_bytes(id, true))
        .collect();
    let word = |id: u32| {
        let bytes = tokenizer.token_bytes(id, true);
        match tokenizer.kind(id) {
            // What is no text may end up with an empty name; then no grammar can ask for it.
            TokenKind::Control | TokenKind::Unknown if bytes.is_empty() => Vec::new(),
            TokenKind::Control | TokenKind::Unknown => [&[MARK], bytes].concat(),
            // Nobody has learnt them.
            TokenKind::Unused => Vec::new(),
            // SentencePiece has letters twice; a text has them as letters.
            TokenKind::Byte if pieces.contains(bytes) => Vec::new(),
            _ if bytes.first() == Some(&MARK) => Vec::new(),
            _ => bytes.to_vec(),
        }
    };
    ids().map(word).collect()
}

impl TokenizerEnv for Environment {
    fn tok_trie(&self) -> &TokTrie {
        &self.tree
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        let whole = match str::from_utf8(bytes) {
            Ok(text) => return self.encode(text),
            Err(error) => error.valid_up_to(),
        };
        let (text, rest) = bytes.split_at(whole);
        let mut tokens = self.encode(str::from_utf8(text).unwrap_or_default());
        tokens.extend(self.tree.greedy_tokenize(rest));
        tokens
    }
}
