//! `quipu chat`: a conversation.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use quipu_constrain::{CallForm, Shape};
use quipu_formats::output::Inputs;
use quipu_runtime::Engine;
use quipu_runtime::chat::answer::{Delta, control_tokens};
use quipu_runtime::chat::{ChatTemplate, Conversation, Message, Turn};
use quipu_runtime::generate::{Event, GenerateOptions, Scheduler, SchedulerOptions, StopReason};
use quipu_server::said::{Call, Change, Said};
use serde_json::{Value as Json, json};

use crate::adapters::LoraArgs;
use crate::args::{AnswerArgs, ContextArgs, ModelArgs};
use crate::commands::run::speeds;
use crate::draft::DraftArgs;
use crate::input::Input;
use crate::keeper::Keeper;
use crate::sampling::SamplingArgs;
use crate::session::SessionArgs;
use crate::shape::{self, ShapeArgs};
use crate::tools::{ToolArgs, Toolbox};
use crate::visible::visible;
use crate::{hints, interrupt, model, out, talk};

mod kept;

const HELP: &str = "\
/clear   start a new conversation
/help    show this
/exit    leave; Ctrl-D does, too
A line that ends with \\ goes on in the next. Ctrl-C stops an answer.";

/// Talk with a model
///
/// With --tools the model may call functions, and --tool-command says what runs then; --mcp brings the tools of an MCP
/// server. Each call is shown, and nothing runs without your consent.
///
/// With --session the conversation goes on in the next run: what was said, and without a --seed the random numbers.
///
/// On a terminal with line editing and a history. When the input is a pipe, each line of it is one turn, and only the
/// answers are printed.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  quipu chat llama-3.2-1b-instruct.gguf --system \"Answer in rhymes.\"
  quipu chat llama.gguf --tools tools.json --tool-command 'get_weather = ./weather.py --json'
  quipu chat llama.gguf --mcp 'uvx mcp-server-time' --allow-tool get_current_time
  printf 'What is a quipu?\\nWho made them?\\n' | quipu chat llama.gguf --temp 0
  echo 'Is a llama a bird?' | quipu chat llama.gguf --schema '{\"type\": \"boolean\"}'")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    lora: LoraArgs,
    /// What the model is told before the conversation
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// A chat template (Jinja) instead of the model's own
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
    /// Let special tokens spelled out in what is said (<|eot_id|>) be those tokens, as llama.cpp does
    #[arg(long)]
    parse_special: bool,
    #[command(flatten)]
    answer: AnswerArgs,
    #[command(flatten)]
    tools: ToolArgs,
    #[command(flatten)]
    context: ContextArgs,
    #[command(flatten)]
    session: SessionArgs,
    #[command(flatten)]
    draft: DraftArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    shape: ShapeArgs,
}

pub fn run(args: Args) -> Result<()> {
    let toolbox = args.tools.open()?;
    let shape = args.shape.read()?;
    let (mut engine, load_time) = model::load(&args.model, args.context.context)?;
    let adapters = args.lora.load(&mut engine)?;
    let mut inputs = Inputs::of(engine.source().files());
    inputs.extend(&Inputs::of(args.template.as_deref()));
    inputs.extend(&Inputs::of(args.tools.file()));
    inputs.extend(&Inputs::of(args.lora.inputs()));
    let (conversation, form) = conversation(&engine, args.template.as_deref())?;
    let conversation = conversation.parse_special(args.parse_special).tools(toolbox.list.clone());
    let mut conversation = conversation.adapters(adapters.clone());
    let kept = args.session.open(&engine, &adapters, &inputs)?;
    let kept = kept.map(|session| kept::begin(&mut conversation, session)).transpose()?;
    if let Some(text) = args.system {
        conversation.set_system(text);
    }
    let mut options = args
        .sampling
        .options()
        .spelled(if toolbox.list.is_empty() { Vec::new() } else { control_tokens(engine.tokenizer()) })
        .max_tokens(args.answer.get(&args.model.model))
        // What keeps calls to tools has the thoughts in it.
        .after_thoughts(toolbox.list.is_empty());
    if options.thinking_budget == Some(0) {
        // Templates that can have the model not think do so.
        conversation = conversation.variables([("enable_thinking".to_string(), false.into())].into_iter().collect());
    }
    if let (None, Some(seed)) = (args.sampling.seed(), kept) {
        options.sampler.seed = seed;
    }
    let keeper = Keeper::new(engine.tokenizer(), toolbox.list.clone(), form, shape.clone());
    // What cannot be enforced is said before anything is.
    keeper.grammar(&[])?;
    let scheduler = args.draft.scheduler(engine, SchedulerOptions::default(), &args.model.machine)?;
    let mut chat = Chat { scheduler, conversation, options, toolbox, shape, keeper };
    let mut input = Input::new()?;
    talk::note(&format!("loaded in {:.2} s; /help for help", load_time.as_secs_f64()));
    let talked = chat.talk(&mut input);
    if chat.conversation.sequence().is_some() {
        let seed = chat.options.sampler.seed;
        args.session.save(chat.scheduler.engine(), &inputs, || kept::session(&chat.conversation, seed))?;
    }
    talked?;
    input.save(&inputs);
    Ok(())
}

/// A conversation that has not begun, and how calls are written in it.
fn conversation(engine: &Engine, template: Option<&Path>) -> Result<(Conversation, CallForm)> {
    let Some(path) = template else {
        let form = CallForm::of_template(engine.chat_template().unwrap_or_default());
        return Ok((Conversation::in_own_template(engine)?, form));
    };
    out::apart_from(&Inputs::of([path]), path)?;
    let source = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let conversation = Conversation::new(engine, ChatTemplate::for_tokenizer(&source, engine.tokenizer())?);
    Ok((conversation, CallForm::of_template(&source)))
}

struct Chat {
    scheduler: Scheduler,
    conversation: Conversation,
    options: GenerateOptions,
    toolbox: Toolbox,
    shape: Option<Shape>,
    keeper: Keeper,
}

/// Calls and their results before somebody has a say again: a small model may go round in circles.
const MOST_ROUNDS: usize = 16;

impl Chat {
    /// Takes turn after turn until nobody says any more.
    fn talk(&mut self, input: &mut Input) -> Result<()> {
        while let Some(line) = input.next_turn()? {
            match line.trim() {
                "" => {}
                "/exit" | "/quit" => break,
                "/help" => talk::note(HELP),
                "/clear" => {
                    self.conversation.clear();
                    talk::note("a new conversation");
                }
                command if command.starts_with('/') && input.is_terminal() => {
                    talk::note(&format!("{command} is no command; /help shows all"));
                }
                _ => self.turn(line, input)?,
            }
        }
        Ok(())
    }

    /// Answers `text`. What one turn does wrong (a template that refuses, a text too long) does not end a conversation
    /// on a terminal.
    fn turn(&mut self, text: String, input: &mut Input) -> Result<()> {
        match self.answer(text, input) {
            Err(error) if input.is_terminal() && !error.is::<out::Closed>() => talk::error(&hints::message(&error)),
            answered => answered?,
        }
        // Another answer, another draw; still the same conversation for the same seed.
        self.options.sampler.seed = self.options.sampler.seed.wrapping_add(1);
        Ok(())
    }

    fn answer(&mut self, text: String, input: &mut Input) -> Result<()> {
        let mut turn = self.conversation.ask(text, self.options.clone())?;
        for _ in 0..MOST_ROUNDS {
            let mut results = Vec::new();
            for call in self.write(turn)? {
                if let Some(result) = self.result(&call, input) {
                    let mut message = Message::new("tool", result);
                    message.extra.insert("name".into(), call.name.into());
                    message.extra.insert("tool_call_id".into(), call.id.into());
                    results.push(message);
                }
            }
            if results.is_empty() {
                return Ok(());
            }
            results.into_iter().for_each(|result| self.conversation.push(result));
            turn = self.conversation.go_on(self.options.clone())?;
        }
        talk::warning("the model calls and calls; say something to go on");
        Ok(())
    }

    /// What comes of a call, for the model to know; nothing if there is nothing to run for it.
    fn result(&mut self, call: &Call, input: &mut Input) -> Option<String> {
        talk::note(&format!("calls {}({})", call.name, visible(&call.arguments)));
        if !self.toolbox.has_runner(&call.name) {
            talk::note(&format!("nothing runs for it; --tool-command {}=… says what is to", call.name));
            return None;
        }
        if !self.toolbox.is_allowed(&call.name) {
            match input.ask("run it? [y]es, [n]o, [a]lways: ").as_deref() {
                Some("y" | "yes") => {}
                Some("a" | "always") => self.toolbox.allow(&call.name),
                _ => {
                    talk::note(&format!("it did not run; --allow-tool {} lets it run without asking", call.name));
                    return Some("The user did not allow this call.".into());
                }
            }
        }
        // Ctrl-C ends the command, not the conversation.
        let _interrupt = interrupt::listen_to_ctrl_c();
        Some(self.toolbox.run(&call.name, &call.arguments).unwrap_or_else(|error| {
            let message = format!("{error:#}");
            talk::warning(&message);
            format!("error: {message}")
        }))
    }

    /// Writes an answer; returns what it calls.
    fn write(&mut self, mut turn: Turn) -> Result<Vec<Call>> {
        turn.request.options.grammar = self.keeper.grammar(&turn.request.tokens)?;
        if turn.forgotten > 0 {
            talk::warning(&format!("the context is full: the oldest {} messages are forgotten", turn.forgotten));
        }
        let interrupt = interrupt::listen_to_ctrl_c();
        let (mut said, mut shown) = (Said::new(self.keeper.reader(&turn.request.tokens)), Ok(()));
        let mut written = String::new();
        let end = self.scheduler.stream(turn.request.cancel(interrupt.cancel().clone()), |event| {
            if let Event::Token(token) = event
                && shown.is_ok()
            {
                written.push_str(&token.text);
                shown = out::print(&text_of(said.hear(&token.text)));
                if shown.is_err() {
                    // Nobody reads the rest.
                    interrupt.cancel().cancel();
                }
            }
        });
        let end = match end {
            Ok(end) => end,
            Err(failed) => {
                self.conversation.take_back(failed.sequence);
                return Err(failed.error.into());
            }
        };
        shown?;
        written.push_str(&end.text);
        let mut last = said.hear(&end.text);
        last.extend(said.end(end.stop));
        let last = text_of(last);
        let (calls, broken): (Vec<Call>, Vec<Call>) = said.calls().cloned().partition(|call| call.complete);
        let text = said.text();
        // A call alone is no line.
        if calls.is_empty() || !text.is_empty() {
            out::print(&(last + "\n"))?;
        }
        talk::note(&speeds(self.scheduler.engine(), &end));
        shape::warn_unfinished(self.shape.as_ref(), &end);
        if end.stop == StopReason::ContextFull {
            talk::warning("the context is full; /clear starts a new conversation, -c N makes more room");
        }
        for call in broken {
            talk::warning(&format!("the call of {} is not complete ({}): it does not run", call.name, end.stop.name()));
        }
        if calls.is_empty() {
            self.conversation.answer(written, end.sequence);
        } else {
            let mut message = Message::new("assistant", text);
            message.extra.insert("tool_calls".into(), calls.iter().map(as_told).collect());
            self.conversation.called(message, end.sequence);
        }
        Ok(calls)
    }
}

/// The text that is new.
fn text_of(changes: Vec<Change>) -> String {
    let text = |change| if let Change { delta: Delta::Content(text), .. } = change { Some(text) } else { None };
    changes.into_iter().filter_map(text).collect()
}

/// A call as templates have it.
fn as_told(call: &Call) -> Json {
    let arguments: Json = serde_json::from_str(&call.arguments).unwrap_or_default();
    json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}})
}
