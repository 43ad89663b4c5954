//! A text being written, without the engine.

use std::collections::HashMap;
use std::sync::Arc;

use super::bans::{Bans, Verdict};
use super::error::GenerateError;
use super::foresight::Foresight;
use super::options::{GenerateOptions, StopReason};
use super::thoughts;
use super::token::{Token, likeliest};
use super::writer::{Drawn, Writer};
use crate::constraint::Ahead;
use crate::sampler::{Sampler, SamplerState, StopMatcher, log_probability};
use crate::tokenizer::{TextStream, Tokenizer};

/// A text being written: a state machine that knows no engine.
///
/// Until it has [ended](Generation::stop): read the tokens that it wants ([`Generation::unread`]) in as many pieces as
/// you like, tell how many were read ([`Generation::advance`]), and hand over the logits after the last of them
/// ([`Generation::take_logits`]).
///
/// Everything that writing changes can be kept and restored ([`Generation::checkpoint`]): the random numbers, what the
/// penalties have seen, the place in the grammar, held-back text, limits. So what is written after a rollback is what
/// would have been written if the tokens rolled back had never been drawn.
#[derive(Clone, Debug)]
pub struct Generation {
    /// The prompt, and what was written after it.
    tokens: Vec<u32>,
    /// How many of them have been read.
    read: usize,
    prompt: usize,
    context: usize,
    /// The tokens that end it.
    ends: Arc<[u32]>,
    logprobs: bool,
    top_logprobs: usize,
    watched: Arc<[u32]>,
    prompt_logprobs: bool,
    sampled_logprobs: bool,
    writer: Writer,
    /// Strings that must not be written, and tokens that are held back for them.
    bans: Option<Bans<Writer>>,
}

/// The state of a [`Generation`] at one moment.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// What was written.
    written: Vec<u32>,
    read: usize,
    writer: Writer,
    bans: Option<Bans<Writer>>,
}

impl Generation {
    /// Continues `prompt` in at most `context` positions.
    ///
    /// # Errors
    /// See [`GenerateError`].
    pub fn new(
        tokenizer: Arc<Tokenizer>,
        prompt: Vec<u32>,
        options: &GenerateOptions,
        context: usize,
    ) -> Result<Generation, GenerateError> {
        if prompt.len() > context {
            return Err(GenerateError::PromptTooLong { tokens: prompt.len(), context });
        }
        let mut sampler = options.sampler.clone();
        // Where a grammar has come to its end, nothing else is left.
        if options.ignore_end && options.grammar.is_none() {
            sampler.logit_bias.extend(tokenizer.ends().map(|id| (id, f32::NEG_INFINITY)));
        }
        let mut sampler = Sampler::for_tokenizer(sampler, &tokenizer)?;
        let stops = StopMatcher::new(options.stops.iter().cloned())?;
        if prompt.is_empty() {
            return Err(GenerateError::EmptyPrompt);
        }
        prompt.iter().for_each(|&token| sampler.accept(token));
        options.resume.iter().for_each(|state| sampler.restore(state));
        let ends: Arc<[u32]> = tokenizer.ends().chain(options.stop_tokens.iter().copied()).collect();
        let grammar = thoughts::around(options, &tokenizer, &prompt);
        let grammar = grammar.map(|grammar| Ahead::new(&*grammar, tokenizer.vocab_size(), ends.clone())).transpose()?;
        let bans = Bans::new(&options.bans, &tokenizer)?;
        let stream = TextStream::continuing(tokenizer, false).spelling(options.spelled.as_slice());
        Ok(Generation {
            read: 0,
            prompt: prompt.len(),
            tokens: prompt,
            context,
            ends,
            logprobs: options.logprobs,
            top_logprobs: options.top_logprobs,
            watched: options.watched.as_slice().into(),
            prompt_logprobs: options.prompt_logprobs,
            sampled_logprobs: options.sampled_logprobs,
            writer: Writer { sampler, grammar, stops, stream, left: options.max_tokens, stop: None },
            bans,
        })
    }

    /// The prompt, and what was written after it.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// How many of the tokens are the prompt.
    pub fn prompt_len(&self) -> usize {
        self.prompt
    }

    /// How many of the tokens have been read.
    pub fn read(&self) -> usize {
        self.read
    }

    /// Whether the prompt has not been read to its end yet.
    pub fn in_prompt(&self) -> bool {
        self.read < self.prompt
    }

    /// The tokens to be read next: what is left of the prompt, or the last token written. None when the text has ended.
    pub fn unread(&self) -> &[u32] {
        if self.writer.stop.is_some() { &[] } else { &self.tokens[self.read..] }
    }

    /// How many more tokens may be written, if there is a limit.
    pub(super) fn left(&self) -> Option<usize> {
        self.writer.left
    }

    /// Notes that all tokens have to be read again.
    pub(super) fn rewind(&mut self) {
        self.read = 0;
    }

    /// Whether the logits after the last unread token are wanted: not when no more tokens may be written.
    pub fn wants_logits(&self) -> bool {
        self.writer.stop.is_none() && self.writer.left != Some(0)
    }

    /// Notes that `n` more tokens have been read: those that [`Generation::unread`] named, or a beginning of the prompt
    /// that a reused sequence holds already. When all are read and no more may be written, the text has ended.
    pub fn advance(&mut self, n: usize) {
        self.read = (self.read + n).min(self.tokens.len());
        if self.read == self.tokens.len() && self.writer.left == Some(0) {
            self.writer.stop.get_or_insert(StopReason::Limit);
        }
    }

    /// The place in the grammar where the next token is drawn, if there is one and it is wanted.
    pub(super) fn grammar(&self) -> Option<&Ahead> {
        self.writer.grammar.as_ref().filter(|_| self.wants_logits())
    }

    /// The tokens that come next, up to so many, as far as the grammar is known to let no others.
    pub(super) fn certain(&self, most: usize) -> Vec<u32> {
        self.grammar().map_or_else(Vec::new, |grammar| grammar.all_forced(most))
    }

    /// Takes the logits after all tokens so far and writes the next one. `None` for a token that ends the text, such as
    /// `<|eot_id|>`, which is not part of it.
    ///
    /// Where a string that is not wanted may have begun ([`GenerateOptions::bans`]), tokens are held back, `None`, and
    /// come later, the first of them here and the others from [`Generation::take_forced`]. When it turns out that one
    /// had begun, the text goes back: then [`Generation::read`] is less than before, and the caller's sequence has to
    /// forget what comes after.
    ///
    /// # Errors
    /// [`GenerateError::Sampler`]: the logits are no good. [`GenerateError::Constraint`]: nothing can follow in the
    /// grammar. [`GenerateError::OnlyBanned`]: nothing but what would write a banned string.
    pub fn take_logits(&mut self, logits: &[f32]) -> Result<Option<Token>, GenerateError> {
        let tell = self.sampled_logprobs && (self.logprobs || self.top_logprobs > 0);
        let nothing = HashMap::new();
        loop {
            let excluded = self.bans.as_ref().map_or(&nothing, Bans::excluded);
            let Drawn { id, among } = self.writer.draw(logits, excluded, tell)?;
            let Some(id) = id.filter(|id| !self.ends.contains(id)) else {
                self.writer.stop = Some(StopReason::End);
                let Some(bans) = &mut self.bans else { return Ok(None) };
                bans.release();
                return Ok(bans.certain());
            };
            let before = match self.bans.as_mut().map_or(Verdict::Certain, |bans| bans.judge(id)) {
                Verdict::Certain => None,
                Verdict::Open => Some(self.writer.clone()),
                Verdict::Again => continue,
                Verdict::Back(tokens, before) => {
                    self.go_back(tokens, before);
                    return Ok(None);
                }
            };
            let mut token = self.write(id)?;
            if tell {
                let drawn = among.iter().find(|&&(other, _)| other == id).map_or(f64::NEG_INFINITY, |&(_, log)| log);
                token.logprob = self.logprobs.then_some(drawn);
                token.top_logprobs = among.into_iter().take(self.top_logprobs).collect();
            } else {
                token.logprob = self.logprobs.then(|| log_probability(logits, id));
                token.top_logprobs = likeliest(logits, self.top_logprobs);
            }
            for &watched in &*self.watched {
                if !token.top_logprobs.iter().any(|&(told, _)| told == watched) {
                    token.top_logprobs.push((watched, log_probability(logits, watched)));
                }
            }
            return Ok(self.hear(token, before));
        }
    }

    /// The next token that needs no logits: one that was held back and is certain now; or one is written, if the
    /// grammar lets no other come next and nobody wants to know how likely it is. That is the token that
    /// [`Generation::take_logits`] would have written, with the same random numbers.
    pub fn take_forced(&mut self) -> Option<Token> {
        if let Some(bans) = &mut self.bans {
            return bans.certain();
        }
        let wants_logits = self.logprobs || self.top_logprobs > 0 || !self.watched.is_empty();
        if wants_logits || self.writer.stop.is_some() {
            return None;
        }
        let id = self.writer.draw_forced()?;
        self.write(id).ok()
    }

    /// Adds a token to the text.
    fn write(&mut self, id: u32) -> Result<Token, GenerateError> {
        let text = self.writer.push(id)?;
        self.tokens.push(id);
        // To write another one, this token has to be read first, and a full context has no position for it.
        if self.tokens.len() > self.context {
            self.writer.stop.get_or_insert(StopReason::ContextFull);
        }
        Ok(Token::new(id, text))
    }

    /// Holds a token back if the state `before` it is kept, since it may have to go. Returns the next one to be told.
    fn hear(&mut self, token: Token, before: Option<Writer>) -> Option<Token> {
        let Some(bans) = &mut self.bans else { return Some(token) };
        bans.push(token, before);
        if self.writer.stop.is_some() {
            bans.release();
        }
        bans.certain()
    }

    /// Takes the last so many tokens back, to the state `before` them. The random numbers go on: the same one again
    /// would prefer the neighbours of the token that it has chosen.
    fn go_back(&mut self, tokens: usize, before: Writer) {
        let after = std::mem::replace(&mut self.writer, before);
        self.writer.sampler.go_on_with_random_of(&after.sampler);
        self.tokens.truncate(self.tokens.len() - tokens);
        self.read = self.tokens.len() - 1;
    }

    /// Whether strings are not wanted: then a text may go back, and it is no use to guess what comes.
    pub(super) fn has_bans(&self) -> bool {
        self.bans.is_some()
    }

    /// What another model can guess the next tokens with.
    pub(super) fn foresight(&self) -> Foresight {
        Foresight::new(self.writer.clone(), self.ends.clone())
    }

    /// Whether token number `i` is one of the prompt whose probability is wanted: that takes the logits after the token
    /// before it.
    pub(super) fn is_scored(&self, i: usize) -> bool {
        self.prompt_logprobs && i < self.prompt
    }

    /// Whether the probabilities of the prompt's tokens are wanted.
    pub(super) fn scores_prompt(&self) -> bool {
        self.prompt_logprobs
    }

    /// Token number `i`, and how many of the likeliest in its place are wanted.
    pub(super) fn scored(&self, i: usize) -> (u32, usize) {
        (self.tokens[i], self.top_logprobs)
    }

    /// Why the text has ended, if it has.
    pub fn stop(&self) -> Option<StopReason> {
        self.writer.stop
    }

    /// The stop string that ended the text, if one did. ([`Generation::finish`] may find one in the text that was held
    /// back.)
    pub fn stop_string(&self) -> Option<&str> {
        self.writer.stops.reached()
    }

    /// Where the sampler is.
    pub fn sampler_state(&self) -> SamplerState {
        self.writer.sampler.state()
    }

    /// Ends the text if it has not ended yet, [`StopReason::Cancelled`]. Returns the text that was still held back, and
    /// why the text ended.
    pub fn finish(self) -> (String, StopReason) {
        let mut text = self.bans.map_or_else(String::new, Bans::into_text);
        let Writer { mut stops, stream, stop, .. } = self.writer;
        let stop = stop.unwrap_or(StopReason::Cancelled);
        if stop == StopReason::StopString {
            return (text, stop);
        }
        let (rest, stopped) = stops.push(&stream.finish());
        text.push_str(&rest);
        if !stopped {
            text.push_str(&stops.finish());
        }
        (text, stop)
    }

    /// The state at this moment.
    pub fn checkpoint(&self) -> Checkpoint {
        let (writer, bans) = (self.writer.clone(), self.bans.clone());
        Checkpoint { written: self.tokens[self.prompt..].to_vec(), read: self.read, writer, bans }
    }

    /// Goes back to an earlier moment of this text. (What the caller's sequence has read beyond [`Generation::read`],
    /// it has to forget: [`Sequence::truncate`](crate::Sequence::truncate).)
    ///
    /// # Panics
    /// If the checkpoint is not an earlier moment of this text: one of another text, or of tokens that have been rolled
    /// back since. (Tokens that the text itself has gone back from are written again.)
    pub fn roll_back(&mut self, checkpoint: Checkpoint) {
        let (written, before) = (&self.tokens[self.prompt..], &checkpoint.written);
        let common = written.iter().zip(before).take_while(|(a, b)| a == b).count();
        let is_earlier = common == before.len() || self.bans.is_some();
        assert!(is_earlier, "the checkpoint is not an earlier moment of this text");
        self.tokens.truncate(self.prompt + common);
        self.read = checkpoint.read.min(self.tokens.len());
        self.tokens.extend_from_slice(&before[common..]);
        self.writer = checkpoint.writer;
        self.bans = checkpoint.bans;
    }
}
