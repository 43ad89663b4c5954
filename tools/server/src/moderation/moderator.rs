//! A guard model with its policy: from a conversation to a question, and from what the model writes to a verdict.
//!
//! A question is the prompt of the model's own template. If that has a list of categories and no others are wanted, it
//! is rendered as it is; others are given to a template that takes them (`categories`), and for the rest there is the
//! [form](super::form) of its generation.
//!
//! The model answers `safe`, or `unsafe` and on the next line codes with commas; Llama 3's puts an empty line before
//! it, Llama 2's a space. Two texts are asked for, each the likeliest within its grammar:
//!
//! - The *decision* is one of the two words. The probability of `unsafe` is the softmax of two logits, those of the
//!   first tokens of `safe` and of `unsafe`, in the place where the word begins, whatever else was likely there.
//! - The *categories* are the answer after the word `unsafe`, which is given: so they are known where the threshold is
//!   lower than one half, too.

use std::sync::Arc;

use quipu_constrain::Shape;
use quipu_runtime::chat::{ChatTemplate, Message, RenderOptions};
use quipu_runtime::generate::{GenerateOptions, Request, Token};
use quipu_runtime::sampler::SamplerOptions;
use quipu_runtime::tokenizer::Tokenizer;
use serde_json::{Map, Value as Json, json};

use super::error::ModerationError;
use super::form::Form;
use super::policy::{Category, Policy};
use super::verdict::Verdict;
use crate::model::Model;

/// A text that a template must print if it shows the guard anything.
const PROBE: &str = "quipu-probe";
/// What may stand before the word.
const LEAD: &str = "( |\n|\n\n)?";
/// Tokens of the decision at most: what stands before the word, and the word in pieces.
const DECISION: usize = 6;
/// Tokens of a category at most, its comma included: letters and digits one by one.
const PER_CATEGORY: usize = 13;

/// How a model is to guard.
#[derive(Clone, Debug)]
pub struct ModeratorOptions {
    /// The generation, if the model's files should not say it.
    pub form: Option<Form>,
    /// Other categories than the model was trained with.
    pub policy: Option<Policy>,
    /// Categories that are left out.
    pub excluded: Vec<String>,
    /// The probability of `unsafe` from which on something is flagged.
    pub threshold: f64,
}

impl Default for ModeratorOptions {
    fn default() -> ModeratorOptions {
        ModeratorOptions { form: None, policy: None, excluded: Vec::new(), threshold: 0.5 }
    }
}

/// A model that guards.
#[derive(Debug)]
pub struct Moderator {
    model: Arc<Model>,
    /// The form, where the model's own template does not do.
    form: Option<ChatTemplate>,
    variables: Map<String, Json>,
    /// Whether the template wants contents as lists of parts.
    parts: bool,
    policy: Policy,
    words: Vec<Words>,
    threshold: f64,
}

/// The first tokens of the two words where they are written after `before`.
#[derive(Clone, Copy, Debug)]
struct Words {
    before: &'static str,
    safe: u32,
    unsafe_: u32,
}

/// What a model is asked: the tokens of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question(pub Vec<u32>);

impl Moderator {
    /// Has `model` guard.
    ///
    /// # Errors
    /// When it is no guard, or cannot guard like that.
    pub fn new(model: Arc<Model>, options: &ModeratorOptions) -> Result<Moderator, ModerationError> {
        let words = words(&model.tokenizer);
        if words.is_empty() {
            return Err(ModerationError::Vocabulary { model: model.id().into() });
        }
        let changed = options.policy.is_some() || !options.excluded.is_empty();
        let own = if options.form.is_none() { own(&model, &Map::new()) } else { None };
        let wanted = |policy: Policy| options.policy.clone().unwrap_or(policy).without(&options.excluded);
        let threshold = options.threshold;
        let of = |form, variables, parts, policy| Moderator {
            model: model.clone(),
            form,
            variables,
            parts,
            policy,
            words,
            threshold,
        };
        let (form, policy) = match (own, options.form) {
            (Some((policy, parts)), _) if !changed => return Ok(of(None, Map::new(), parts, policy)),
            (Some((policy, _)), _) => {
                let (form, policy) = (Form::of_policy(&policy), wanted(policy)?);
                let variables = variables(&policy);
                match self::own(&model, &variables) {
                    Some((taken, parts)) if taken == policy => return Ok(of(None, variables, parts, policy)),
                    _ => (form, policy),
                }
            }
            (None, form) => {
                let has_headers = model.tokenizer.id("<|start_header_id|>").is_some();
                let mut names = model.names.iter().chain([&model.card.path]);
                let form = form.or_else(|| names.find_map(|name| Form::of_name(name, has_headers)));
                let form = form.ok_or_else(|| ModerationError::NoGuard { model: model.id().into() })?;
                (form, wanted(form.policy())?)
            }
        };
        let template = ChatTemplate::for_tokenizer(&form.template(), &model.tokenizer)?;
        Ok(of(Some(template), variables(&policy), false, policy))
    }

    /// The categories.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The question whether what was said last is safe; `turns` are those of [`turns`].
    ///
    /// # Errors
    /// When it does not fit, or the template refuses it.
    pub fn question(&self, turns: &[Message]) -> Result<Question, ModerationError> {
        let bytes: usize = turns.iter().map(|turn| turn.content.as_str().map_or(0, str::len)).sum();
        let context = self.model.context.saturating_sub(self.room());
        // Nobody need count the tokens of a text that cannot fit.
        if let Err(error) = self.model.check_bytes(bytes) {
            let tokens = error.exceeds.map_or(usize::MAX, |exceeds| exceeds.0);
            return Err(ModerationError::TooLong { tokens, context });
        }
        let turns: Vec<Message> = turns.iter().map(|turn| in_parts(turn, self.parts)).collect();
        let template = self.template()?;
        let mut tokens = template.prompt(&self.model.tokenizer, &turns, &render(&self.variables), false)?;
        tokens.extend(opening(&self.model.tokenizer, &tokens));
        match tokens.len() {
            tokens if tokens > context => Err(ModerationError::TooLong { tokens, context }),
            _ => Ok(Question(tokens)),
        }
    }

    /// The same; where the whole conversation does not fit, its oldest turns are left out, two by two: what was said
    /// last is what is judged.
    ///
    /// # Errors
    /// When not even the end of it fits.
    pub fn question_that_fits(&self, turns: &[Message]) -> Result<Question, ModerationError> {
        let mut turns = turns;
        loop {
            match self.question(turns) {
                Err(ModerationError::TooLong { .. }) if turns.len() > 2 => turns = &turns[2..],
                done => return done,
            }
        }
    }

    /// The prompt as text.
    ///
    /// # Errors
    /// When the template refuses it.
    pub fn text(&self, turns: &[Message]) -> Result<String, ModerationError> {
        let turns: Vec<Message> = turns.iter().map(|turn| in_parts(turn, self.parts)).collect();
        Ok(self.template()?.render(&turns, &render(&self.variables))?)
    }

    fn template(&self) -> Result<&ChatTemplate, ModerationError> {
        match &self.form {
            Some(form) => Ok(form),
            None => self.model.template().map_err(|_| ModerationError::LeftOut),
        }
    }

    /// Tokens of an answer at most.
    fn room(&self) -> usize {
        DECISION + PER_CATEGORY * self.policy.categories().len()
    }

    /// Asks for the decision.
    ///
    /// # Errors
    /// When there is no grammar for it.
    pub fn decision(&self, question: &Question) -> Result<Request, ModerationError> {
        let watched: Vec<u32> = self.words.iter().flat_map(|words| [words.safe, words.unsafe_]).collect();
        self.request(question, &format!("{LEAD}(safe|unsafe)"), DECISION, watched)
    }

    /// The probability of `unsafe`, from the tokens of the decision.
    ///
    /// # Errors
    /// When they are none.
    pub fn probability(&self, decision: &[Token]) -> Result<f64, ModerationError> {
        let bytes = |token: &Token| self.model.tokenizer.token_bytes(token.id, false);
        let words = decision.iter().find_map(|token| {
            let word = bytes(token).trim_ascii_start();
            let before = &bytes(token)[..bytes(token).len() - word.len()];
            let words = self.words.iter().find(|words| words.before.as_bytes() == before)?;
            (!word.is_empty()).then_some((words, token))
        });
        let told = |token: &Token, id| token.top_logprobs.iter().find(|&&(told, _)| told == id).map(|&(_, log)| log);
        let odds = words.and_then(|(words, token)| Some((told(token, words.safe)?, told(token, words.unsafe_)?)));
        let Some((safe, unsafe_)) = odds else {
            let said: String = decision.iter().map(|token| String::from_utf8_lossy(bytes(token))).collect();
            return Err(ModerationError::NoAnswer(said));
        };
        Ok(1.0 / (1.0 + libm::exp(safe - unsafe_)))
    }

    /// Asks for the categories that are violated, given that it is unsafe.
    ///
    /// # Errors
    /// When there is no grammar for it.
    pub fn categories(&self, question: &Question) -> Result<Request, ModerationError> {
        let codes: Vec<&str> = self.policy.categories().iter().map(|category| category.code.as_str()).collect();
        let (any, more) = (codes.join("|"), codes.len() - 1);
        self.request(question, &format!("{LEAD}unsafe\n({any})(,({any})){{0,{more}}}"), self.room(), Vec::new())
    }

    /// What an answer to [`Moderator::categories`] names, each category once, in the policy's order.
    pub fn named(&self, answer: &str) -> Vec<Category> {
        let named: Vec<&str> = answer.trim_start().lines().nth(1).unwrap_or_default().split(',').collect();
        let is_named = |category: &&Category| named.contains(&category.code.as_str());
        self.policy.categories().iter().filter(is_named).cloned().collect()
    }

    /// Whether something of this probability is flagged.
    pub fn flags(&self, probability: f64) -> bool {
        probability >= self.threshold
    }

    /// What the guard has found.
    pub fn verdict(&self, probability: f64, named: Vec<Category>) -> Verdict {
        Verdict { probability, flagged: self.flags(probability), named }
    }

    fn request(
        &self,
        question: &Question,
        regex: &str,
        most: usize,
        watched: Vec<u32>,
    ) -> Result<Request, ModerationError> {
        let grammar = self.model.grammars.compile(&Shape::Regex(regex.into()))?;
        let options = GenerateOptions::new(SamplerOptions::greedy()).max_tokens(most).watched(watched).grammar(grammar);
        Ok(Request::new(question.0.clone(), options))
    }
}

/// A conversation as a guard is shown it: turns of the user and of the assistant, the user's first. What neither has
/// said (the system, results of tools) is what the model is told, as the user's words are; calls are part of what the
/// assistant says. `by_assistant`: whose words are judged. They are the last; what follows them is left out.
///
/// # Errors
/// When there is nothing to be judged.
pub fn turns(messages: &[Message], by_assistant: bool) -> Result<Vec<Message>, ModerationError> {
    let of_assistant = |message: &Message| message.role == "assistant";
    let Some(last) = messages.iter().rposition(|message| of_assistant(message) == by_assistant) else {
        return Err(ModerationError::Nothing { side: if by_assistant { "assistant" } else { "user" } });
    };
    let mut turns: Vec<Message> = Vec::new();
    for message in &messages[..=last] {
        let (role, text) = (if of_assistant(message) { "assistant" } else { "user" }, text(message));
        match turns.last_mut() {
            Some(Message { role: before, content: Json::String(said), .. }) if before == role => {
                if !said.is_empty() && !text.is_empty() {
                    said.push_str("\n\n");
                }
                said.push_str(&text);
            }
            None if role == "assistant" => turns.extend([Message::new("user", ""), Message::new(role, text)]),
            _ => turns.push(Message::new(role, text)),
        }
    }
    Ok(turns)
}

/// All that a message says.
fn text(message: &Message) -> String {
    let part = |part: &Json| part["text"].as_str().unwrap_or_default().to_string();
    let mut texts = match &message.content {
        Json::String(text) => vec![text.clone()],
        Json::Array(parts) => parts.iter().map(part).collect(),
        _ => Vec::new(),
    };
    let calls = message.extra.get("tool_calls").and_then(Json::as_array);
    texts.extend(calls.into_iter().flatten().map(|call| call["function"].to_string()));
    texts.retain(|text| !text.is_empty());
    texts.join("\n")
}

/// A turn as a template wants it.
fn in_parts(turn: &Message, parts: bool) -> Message {
    let mut turn = turn.clone();
    if parts {
        turn.content = json!([{"type": "text", "text": turn.content}]);
    }
    turn
}

fn variables(policy: &Policy) -> Map<String, Json> {
    [("categories".to_string(), policy.variable())].into_iter().collect()
}

fn render(variables: &Map<String, Json>) -> RenderOptions {
    RenderOptions::default().add_generation_prompt(true).variables(variables.clone())
}

/// The categories of a model's own template, and whether it wants contents as lists of parts; none if it has none, or
/// does not show what is said.
fn own(model: &Model, variables: &Map<String, Json>) -> Option<(Policy, bool)> {
    let template = model.template().ok()?;
    [false, true].into_iter().find_map(|parts| {
        let turns = [in_parts(&Message::new("user", PROBE), parts)];
        let text = template.render(&turns, &render(variables)).ok()?;
        Some((Policy::of_prompt(&text).filter(|_| text.contains(PROBE))?, parts))
    })
}

/// What Llama 3 has between a header and what is said; templates leave it to the model.
fn opening(tokenizer: &Tokenizer, prompt: &[u32]) -> Vec<u32> {
    match (prompt.last(), tokenizer.id("<|end_header_id|>")) {
        (Some(last), Some(mark)) if *last == mark => tokenizer.encode("\n\n", false, false),
        _ => Vec::new(),
    }
}

/// The first tokens of the two words, each after nothing and after a space, where they are two different ones.
fn words(tokenizer: &Tokenizer) -> Vec<Words> {
    let both = |before| {
        let (safe, unsafe_) = (first(tokenizer, before, "safe")?, first(tokenizer, before, "unsafe")?);
        (safe != unsafe_).then_some(Words { before, safe, unsafe_ })
    };
    ["", " "].into_iter().filter_map(both).collect()
}

/// The token with which a word begins that stands after `before` at the beginning of a line.
fn first(tokenizer: &Tokenizer, before: &str, word: &str) -> Option<u32> {
    let tokens = tokenizer.encode(&format!("\n{before}{word}"), false, false);
    // Up to the line's end, with the space that some tokenizers put in front of it.
    let end = tokens.iter().position(|&id| tokenizer.token_bytes(id, false).ends_with(b"\n"))?;
    let first = *tokens.get(end + 1)?;
    let bytes = tokenizer.token_bytes(first, false);
    let word = word.as_bytes();
    let rest = bytes.strip_prefix(before.as_bytes())?;
    (!rest.is_empty() && word.starts_with(rest)).then_some(first)
}
