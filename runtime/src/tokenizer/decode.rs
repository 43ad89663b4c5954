//! Ids to text: those of a whole sequence, or one by one as they come.

use std::ops::Deref;
use std::sync::Arc;

use super::encode::Tokenizer;
use super::vocab::TokenKind;

/// Turns tokens into text one by one: a character appears as soon as its last byte is there.
///
/// All text that comes out, taken together, is what [`Tokenizer::decode`] makes of all tokens. The tokenizer is
/// borrowed or shared (`Arc`).
#[derive(Clone, Debug)]
pub struct TextStream<T> {
    tokenizer: T,
    special: bool,
    /// Control tokens that are spelled out although the others are not.
    spelled: Arc<[u32]>,
    /// Whether the next word begins the sequence: then the space that encoding put before it is not part of the text.
    at_start: bool,
    /// The beginning of a character: at most three bytes between two calls.
    pending: Vec<u8>,
}

impl<T: Deref<Target = Tokenizer>> TextStream<T> {
    /// A stream for tokens that begin a sequence; control tokens are spelled out if `special`.
    pub fn new(tokenizer: T, special: bool) -> TextStream<T> {
        let at_start = tokenizer.adds_space_prefix();
        TextStream { tokenizer, special, spelled: Arc::new([]), at_start, pending: Vec::new() }
    }

    /// A stream for tokens that go on from others, such as what a model writes after a prompt: a space before the first
    /// word stays.
    pub fn continuing(tokenizer: T, special: bool) -> TextStream<T> {
        TextStream { at_start: false, ..TextStream::new(tokenizer, special) }
    }

    /// The same, and these control tokens are spelled out in any case.
    pub fn spelling(self, tokens: impl Into<Arc<[u32]>>) -> TextStream<T> {
        TextStream { spelled: tokens.into(), ..self }
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The text that is complete with token `id`; often empty, for tokens may end within a character.
    pub fn push(&mut self, id: u32) -> String {
        let mut text = String::new();
        self.push_to(id, &mut text);
        text
    }

    /// Appends to `text` what [`TextStream::push`] would return.
    pub fn push_to(&mut self, id: u32, text: &mut String) {
        let mut bytes = self.tokenizer.token_bytes(id, self.special || self.spelled.contains(&id));
        if self.at_start && !matches!(self.tokenizer.kind(id), TokenKind::Control | TokenKind::Unknown) {
            bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
            self.at_start = false;
        }
        self.pending.extend_from_slice(bytes);
        let mut rest = self.pending.as_slice();
        let unfinished = loop {
            let error = match str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    break 0;
                }
                Err(error) => error,
            };
            let (valid, invalid) = rest.split_at(error.valid_up_to());
            text.push_str(&String::from_utf8_lossy(valid));
            let Some(length) = error.error_len() else { break invalid.len() };
            text.push(char::REPLACEMENT_CHARACTER);
            rest = &invalid[length..];
        };
        self.pending.drain(..self.pending.len() - unfinished);
    }

    /// What is left: a replacement character if the tokens end within a character.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
    }
}

impl Tokenizer {
    /// The text of a sequence, from its start. Bytes that are no UTF-8 become replacement characters.
    pub fn decode(&self, ids: &[u32], special: bool) -> String {
        let mut stream = TextStream::new(self, special);
        let mut text = String::new();
        for id in ids {
            stream.push_to(*id, &mut text);
        }
        text + &stream.finish()
    }
}
