//! `quipu guard`: whether a text or a conversation is safe, as a Llama Guard model sees it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use quipu_runtime::chat::Message;
use quipu_runtime::generate::{Event, Request, Scheduler, StopReason, Token};
use quipu_server::model::Model;
use quipu_server::moderation::moderator::{Moderator, turns};
use serde_json::{Value as Json, json};

use crate::args::{self, ContextArgs, ModelArgs};
use crate::policy::PolicyArgs;
use crate::{model, out};

/// Say whether a text or a conversation is safe, with a Llama Guard model
///
/// Prints `safe` or `unsafe`, the probability of `unsafe`, and the categories that are violated. The exit code is 0 for
/// safe, 3 for unsafe, 1 for an error.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  quipu guard llama-guard-3-1b.gguf \"How do I pick a lock?\"
  quipu guard llama-guard-3-1b.gguf --chat -f conversation.json --json
  quipu guard llama-guard-3-8b.gguf -f post.txt --categories house-rules.txt
  echo '[{\"role\":\"user\",\"content\":\"Hi\"},{\"role\":\"assistant\",\"content\":\"Hello!\"}]' | quipu guard guard.gguf --chat")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The text; without it, what is piped in
    text: Option<String>,
    /// Read the text from a file
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The text is a conversation in JSON, a list of {"role", "content"}; what was said last is judged
    #[arg(long)]
    chat: bool,
    /// Who has said the text, or whose last message is judged
    #[arg(long, value_enum)]
    role: Option<Role>,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    context: ContextArgs,
    /// One JSON object: flagged, unsafe (a probability), categories (code, name)
    #[arg(long)]
    json: bool,
    /// Show the prompt that the guard is asked with, and ask nothing
    #[arg(long, conflicts_with = "json")]
    show_prompt: bool,
}

/// Who has said something.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Role {
    /// Whoever asks
    User,
    /// The model that answers
    Assistant,
}

/// What was judged is not safe: no failure, but an exit code of its own.
#[derive(Debug)]
pub struct Unsafe;

impl Unsafe {
    /// The exit code.
    pub const CODE: u8 = 3;
}

impl fmt::Display for Unsafe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unsafe")
    }
}

impl std::error::Error for Unsafe {}

pub fn run(args: Args) -> Result<()> {
    let options = args.policy.options()?;
    let what = if args.chat { "conversation" } else { "text" };
    let text = match args.text {
        text @ Some(_) => args::text(text, args.file.as_deref(), what)?,
        None => args::prompt(None, args.file.as_deref())?,
    };
    let messages = if args.chat { conversation(&text)? } else { vec![Message::new(name(args.role), text)] };
    let last_is_answer = messages.last().is_some_and(|last| last.role == "assistant");
    let turns = turns(&messages, args.role.map_or(last_is_answer, |role| role == Role::Assistant))?;

    let (engine, _) = model::load(&args.model, args.context.context)?;
    let model = Arc::new(Model::of(&engine, vec![args.model.model.display().to_string()]));
    let moderator = Moderator::new(model, &options)?;
    if args.show_prompt {
        return out::line(moderator.text(&turns)?);
    }
    let question = moderator.question(&turns)?;
    let mut scheduler = Scheduler::new(engine);
    let (decision, _) = written(&mut scheduler, moderator.decision(&question)?)?;
    let probability = moderator.probability(&decision)?;
    let mut named = Vec::new();
    if moderator.flags(probability) {
        let (tokens, stop) = written(&mut scheduler, moderator.categories(&question)?)?;
        ensure!(stop == StopReason::End, "the guard has named categories without an end ({})", stop.name());
        named = moderator.named(&tokens.iter().map(|token| token.text.as_str()).collect::<String>());
    }
    let verdict = moderator.verdict(probability, named);
    if args.json {
        let mut told = verdict.to_json();
        told["prompt_tokens"] = json!(question.0.len());
        out::json(&told)?;
    } else {
        let word = if verdict.flagged { "unsafe" } else { "safe" };
        let named: Vec<String> =
            verdict.violated().map(|category| format!("{} {}", category.code, category.name())).collect();
        out::line(format_args!("{word} {probability:.4}  {}", named.join(", ")).to_string().trim_end())?;
    }
    if verdict.flagged { Err(Unsafe.into()) } else { Ok(()) }
}

fn name(role: Option<Role>) -> &'static str {
    if role == Some(Role::Assistant) { "assistant" } else { "user" }
}

/// A conversation: a list of messages, or an object with such a list.
fn conversation(text: &str) -> Result<Vec<Message>> {
    const EXPECTED: &str = "--chat: expected a conversation, such as [{\"role\": \"user\", \"content\": \"Hi\"}]";
    let json: Json = serde_json::from_str(text).context(EXPECTED)?;
    let list = if json.is_array() { json } else { json["messages"].clone() };
    let messages: Vec<Message> = serde_json::from_value(list).context(EXPECTED)?;
    ensure!(!messages.is_empty(), "{EXPECTED}; it is empty");
    Ok(messages)
}

/// What the model writes, and how it ends; the last token has what was held back.
fn written(scheduler: &mut Scheduler, request: Request) -> Result<(Vec<Token>, StopReason)> {
    let mut tokens = Vec::new();
    let end = scheduler.stream(request, |event| {
        if let Event::Token(token) = event {
            tokens.push(token.clone());
        }
    })?;
    if let Some(last) = tokens.last_mut() {
        last.text.push_str(&end.text);
    }
    Ok((tokens, end.stop))
}
