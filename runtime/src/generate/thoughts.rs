//! Thoughts before an answer: how long they may be, and that a grammar is for the answer alone.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use super::options::GenerateOptions;
use crate::chat::answer::{MARKS, Marks, opened_by};
use crate::constraint::{Constraint, ConstraintError, Grammar, TokenMask};
use crate::tokenizer::{Part, Tokenizer};

/// Tokens at the end of a prompt in which a template may have opened the thoughts.
const LAST_TOKENS: usize = 8;
/// How many tokens more there may be to end a character.
const SPARE: usize = 3;

/// What a text with thoughts may be: so many tokens of thought at most, what closes them, and then the answer.
#[derive(Clone, Debug)]
pub(super) struct Thoughts(Arc<Rules>);

#[derive(Debug)]
struct Rules {
    tokenizer: Arc<Tokenizer>,
    budget: usize,
    /// The marks that the prompt has opened.
    opened: Option<Marks>,
    grammar: Option<Arc<dyn Grammar>>,
    /// Whether the grammar is for the answer alone, and not for thoughts as well.
    after_thoughts: bool,
    /// Tokens in which an answer begins behind the whole mark that closes thoughts.
    overhanging: OnceLock<Vec<u32>>,
}

/// The grammar of a text that goes on from `prompt`, if it needs one.
pub(super) fn around(
    options: &GenerateOptions,
    tokenizer: &Arc<Tokenizer>,
    prompt: &[u32],
) -> Option<Arc<dyn Grammar>> {
    let GenerateOptions { grammar, thinking_budget: budget, after_thoughts, .. } = options;
    let last = &prompt[prompt.len().saturating_sub(LAST_TOKENS)..];
    let opened = opened_by(&tokenizer.decode(last, true));
    let after_thoughts = *after_thoughts && grammar.is_some();
    if after_thoughts && opened.is_none() || !after_thoughts && budget.is_none() {
        return grammar.clone();
    }
    let rules = Rules {
        tokenizer: tokenizer.clone(),
        budget: budget.unwrap_or(usize::MAX),
        opened,
        grammar: grammar.clone(),
        after_thoughts,
        overhanging: OnceLock::new(),
    };
    Some(Arc::new(Thoughts(Arc::new(rules))))
}

impl Grammar for Thoughts {
    fn begin(&self) -> Result<Box<dyn Constraint>, ConstraintError> {
        let inner = self.0.grammar.as_ref().map(|grammar| grammar.begin()).transpose()?;
        let stage = match self.0.opened {
            Some(marks) => self.0.think(marks, 0, Vec::new()),
            None => Stage::Before(Vec::new()),
        };
        Ok(Box::new(Place { rules: self.0.clone(), stage, inner }))
    }
}

/// How far a text has come.
#[derive(Debug)]
struct Place {
    rules: Arc<Rules>,
    stage: Stage,
    /// The place in the grammar.
    inner: Option<Box<dyn Constraint>>,
}

#[derive(Clone, Debug)]
enum Stage {
    /// There is this, which may be the beginning of a mark that opens thoughts.
    Before(Vec<u8>),
    /// So many tokens of thought, and the last bytes of them.
    Thinking {
        marks: Marks,
        tokens: usize,
        last: Vec<u8>,
    },
    /// These tokens come next.
    Closing(VecDeque<u32>),
    Answer,
}

impl Rules {
    /// What a token puts into the text that a reader looks for marks in.
    fn text(&self, token: u32) -> &[u8] {
        let name = self.tokenizer.token_bytes(token, true);
        let is_mark = MARKS.iter().any(|marks| [marks.open, marks.close].map(str::as_bytes).contains(&name));
        self.tokenizer.token_bytes(token, is_mark)
    }

    /// Thoughts of so many tokens that end in `last`: they go on, or are closed.
    fn think(&self, marks: Marks, tokens: usize, mut last: Vec<u8>) -> Stage {
        let close = marks.close;
        last.drain(..last.len().saturating_sub(close.len().max(SPARE)));
        let may_end = tokens >= self.budget.saturating_add(SPARE) || !ends_within_character(&last);
        if tokens < self.budget || !may_end {
            return Stage::Thinking { marks, tokens, last };
        }
        let begun = begun(&last, close).last().unwrap_or(0);
        let closing = match self.tokenizer.id(close) {
            Some(id) if begun == 0 => vec![id],
            _ => {
                // A token before it keeps the tokenizer from putting a space in front.
                let mut tokens = self.tokenizer.encode_parts(&[Part::Tokens(&[0]), Part::Data(&close[begun..])]);
                tokens.remove(0);
                tokens
            }
        };
        if closing.is_empty() { Stage::Answer } else { Stage::Closing(closing.into()) }
    }

    /// The stage after `token`.
    fn after(&self, stage: &Stage, token: u32) -> Stage {
        match stage {
            Stage::Before(text) => {
                let text = [text, self.text(token)].concat();
                let text = text.trim_ascii_start();
                let marks = MARKS.into_iter().find(|marks| text.starts_with(marks.open.as_bytes()));
                if let Some(marks) = marks {
                    return self.think(marks, 0, text[marks.open.len()..].to_vec());
                }
                let may_open = MARKS.iter().any(|marks| marks.open.as_bytes().starts_with(text));
                if may_open { Stage::Before(text.to_vec()) } else { Stage::Answer }
            }
            Stage::Thinking { marks, tokens, last } => {
                let text = [last, self.text(token)].concat();
                let closed = text.windows(marks.close.len()).any(|part| part == marks.close.as_bytes());
                if closed { Stage::Answer } else { self.think(*marks, tokens + 1, text) }
            }
            // A grammar for all of the text may have wanted another one; then it has its way.
            Stage::Closing(tokens) if tokens.len() > 1 && tokens[0] == token => {
                Stage::Closing(tokens.iter().skip(1).copied().collect())
            }
            Stage::Closing(_) | Stage::Answer => Stage::Answer,
        }
    }

    /// The tokens in which an answer would begin right behind what closes the thoughts: no grammar could see that
    /// beginning. White space is none.
    fn overhanging(&self, close: &str, last: &[u8]) -> Vec<u32> {
        let ids = || 0..self.tokenizer.vocab_size() as u32;
        let answers = |rest: Option<&[u8]>| rest.is_some_and(|rest| !rest.trim_ascii().is_empty());
        let whole = self.overhanging.get_or_init(|| {
            let behind = |text: &[u8]| {
                let at = text.windows(close.len()).position(|part| part == close.as_bytes())?;
                Some(at + close.len())
            };
            let is = |&id: &u32| answers(behind(self.text(id)).map(|at| &self.text(id)[at..]));
            ids().filter(is).collect()
        });
        let begun: Vec<usize> = begun(last, close).collect();
        if begun.is_empty() {
            return whole.clone();
        }
        let completes = |&id: &u32| {
            let text = self.text(id);
            begun.iter().any(|&n| answers(text.strip_prefix(&close.as_bytes()[n..])))
        };
        whole.iter().copied().chain(ids().filter(completes)).collect()
    }
}

impl Constraint for Place {
    fn allow(&mut self, next: &mut TokenMask) -> Result<bool, ConstraintError> {
        let grammar = match &mut self.inner {
            Some(inner) if !self.rules.after_thoughts || matches!(self.stage, Stage::Answer) => Some(inner),
            _ => None,
        };
        let may_end = match grammar {
            Some(grammar) => grammar.allow(next)?,
            None => {
                *next = TokenMask::full(next.vocabulary());
                self.inner.is_none()
            }
        };
        match &self.stage {
            Stage::Closing(tokens) if let Some(&token) = tokens.front().filter(|&&token| next.contains(token)) => {
                next.clear();
                next.insert(token);
                Ok(false)
            }
            Stage::Thinking { marks, last, .. } if self.rules.after_thoughts => {
                self.rules.overhanging(marks.close, last).into_iter().for_each(|token| next.remove(token));
                Ok(false)
            }
            _ => Ok(may_end),
        }
    }

    fn advance(&mut self, token: u32) -> Result<(), ConstraintError> {
        let in_answer = matches!(self.stage, Stage::Answer);
        if !in_answer {
            self.stage = self.rules.after(&self.stage, token);
        }
        match &mut self.inner {
            Some(inner) if in_answer || !self.rules.after_thoughts => inner.advance(token),
            _ => Ok(()),
        }
    }

    fn copy(&self) -> Box<dyn Constraint> {
        let inner = self.inner.as_ref().map(|inner| inner.copy());
        Box::new(Place { rules: self.rules.clone(), stage: self.stage.clone(), inner })
    }
}

/// How many bytes of `mark`, not all, `text` ends in: every length that fits, the shortest first.
fn begun<'t>(text: &'t [u8], mark: &'t str) -> impl Iterator<Item = usize> + 't {
    (1..mark.len()).filter(|&n| text.ends_with(&mark.as_bytes()[..n]))
}

/// Whether the last character of `text` lacks bytes.
fn ends_within_character(text: &[u8]) -> bool {
    let Some(back) = text.iter().rev().take(SPARE).position(|byte| byte & 0xC0 != 0x80) else { return false };
    let length = match text[text.len() - 1 - back] {
        0xF0.. => 4,
        0xE0.. => 3,
        0xC0.. => 2,
        _ => 1,
    };
    length > back + 1
}

#[cfg(all(test, feature = "demo"))]
mod tests {
    use super::*;

    fn tokenizer() -> Arc<Tokenizer> {
        let model = crate::open("demo").expect("the demo opens");
        crate::Engine::load(model, &crate::LoadOptions::default(), &|_, _| {}).expect("it loads").tokenizer().clone()
    }

    /// What has to come after `text`, within thoughts of `budget` tokens that the prompt has opened or not.
    fn after(tokenizer: &Arc<Tokenizer>, budget: usize, opened: bool, text: &str) -> (String, bool) {
        let prompt = tokenizer.encode(if opened { "Well?\n<think>\n" } else { "Well?" }, true, false);
        let options = GenerateOptions::default().thinking_budget(budget);
        let grammar = around(&options, tokenizer, &prompt).expect("there is a budget");
        let mut place = grammar.begin().expect("it begins");
        let mut tokens = tokenizer.encode_parts(&[Part::Tokens(&[0]), Part::Data(text)]);
        tokens.remove(0);
        for token in tokens {
            place.advance(token).expect("all of it is allowed");
        }
        let mut forced = Vec::new();
        loop {
            let mut mask = TokenMask::new(tokenizer.vocab_size());
            let may_end = place.allow(&mut mask).expect("a mask");
            let Some(token) = mask.only() else {
                assert!(mask.is_full());
                return (tokenizer.decode(&forced, true).trim_start().to_string(), may_end);
            };
            forced.push(token);
            place.advance(token).expect("it is allowed");
        }
    }

    #[test]
    fn thoughts_are_closed_when_their_tokens_are_spent() {
        let tokenizer = tokenizer();
        let forced = |budget, opened, text: &str| after(&tokenizer, budget, opened, text).0;
        let count = |text: &str| tokenizer.encode_parts(&[Part::Tokens(&[0]), Part::Data(text)]).len() - 1;
        let thought = "there was a king and a";
        assert_eq!(forced(0, true, ""), "</think>");
        assert_eq!(forced(count(thought), true, thought), "</think>");
        assert_eq!(forced(count(thought) + 1, true, thought), "");
        // A mark that is begun is completed.
        assert_eq!(forced(count("a king</th"), true, "a king</th"), "ink>");
        // Thoughts that are closed already, and a text without any, have no budget.
        assert_eq!(forced(count(thought), true, "a</think> there was a king and a queen"), "");
        assert_eq!(forced(2, false, thought), "");
        // Those that the text opens itself have it from there on.
        assert_eq!(forced(0, false, "\n <think>"), "</think>");
        assert_eq!(forced(0, false, "[THINK]"), "[/THINK]");
        assert_eq!(forced(0, false, "So: <think>"), "");
    }

    #[test]
    fn characters_are_whole() {
        let text = "aé€😀".as_bytes();
        let whole = [1, 3, 6, 10];
        for n in 1..=text.len() {
            assert_eq!(ends_within_character(&text[..n]), !whole.contains(&n), "{n}");
        }
        assert!(!ends_within_character(b"") && !ends_within_character(&[0x80; 5]));
    }
}
