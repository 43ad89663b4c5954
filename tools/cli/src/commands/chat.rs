//! `quipu chat`: a conversation.

use std::io::{BufRead, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use quipu_runtime::chat::{ChatError, ChatTemplate, Message, RenderOptions};
use quipu_runtime::generate::{GenerateOptions, Generation, StopReason, prompt_tokens};
use quipu_runtime::tokenizer::Tokenizer;
use quipu_runtime::{Engine, Sequence};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use crate::args::{ContextArgs, ModelArgs, SamplingArgs, token_limit};
use crate::commands::run::speeds;
use crate::{interrupt, model, out, talk};

const HELP: &str = "\
/clear   start a new conversation
/help    show this
/exit    leave; Ctrl-D does, too
A line that ends with \\ goes on in the next. Ctrl-C stops an answer.";

/// Talk with a model
///
/// On a terminal with line editing and a history. When the input is a pipe, each line of it is one turn, and only the
/// answers are printed.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  quipu chat llama-3.2-1b-instruct.gguf --system \"Answer in rhymes.\"
  printf 'What is a quipu?\\nWho made them?\\n' | quipu chat llama.gguf --temp 0")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// What the model is told before the conversation
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// A chat template (Jinja) instead of the model's own
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
    /// Tokens of an answer at most; -1: until the answer or the context ends
    #[arg(short, long, value_name = "N", default_value = "-1", allow_hyphen_values = true, value_parser = token_limit)]
    number: Limit,
    #[command(flatten)]
    context: ContextArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// `None` for no limit. (An alias, or clap would take the option itself for optional.)
type Limit = std::option::Option<usize>;

pub fn run(args: Args) -> Result<()> {
    let (engine, load_time) = model::load(&args.model, args.context.context)?;
    let template = template(&engine, args.template.as_deref())?;
    let system = args.system.map(|text| Message::new("system", text));
    let options = GenerateOptions {
        sampler: args.sampling.options(),
        stops: args.sampling.stop.clone(),
        stop_tokens: args.sampling.stop_token.clone(),
        max_tokens: args.number,
        logprobs: false,
    };
    let mut chat = Chat {
        sequence: engine.new_sequence(),
        tokenizer: engine.tokenizer().clone(),
        engine,
        template,
        options,
        messages: system.iter().cloned().collect(),
        read: Vec::new(),
    };
    let mut input = Input::new()?;
    talk::note(&format!("loaded in {:.2} s; /help for help", load_time.as_secs_f64()));
    while let Some(line) = input.next_turn()? {
        match line.trim() {
            "" => {}
            "/exit" | "/quit" => break,
            "/help" => talk::note(HELP),
            "/clear" => {
                chat.messages = system.iter().cloned().collect();
                talk::note("a new conversation");
            }
            command if command.starts_with('/') && input.is_terminal() => {
                talk::note(&format!("{command} is no command; /help shows all"));
            }
            _ => chat.turn(line, input.is_terminal())?,
        }
    }
    input.save();
    Ok(())
}

fn template(engine: &Engine, file: Option<&Path>) -> Result<ChatTemplate> {
    let source = match file {
        Some(path) => std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?,
        None => engine.chat_template().ok_or(ChatError::NoTemplate)?.to_string(),
    };
    let tokenizer = engine.tokenizer().clone();
    let piece = |id: Option<u32>| id.map(|id| tokenizer.piece(id));
    Ok(ChatTemplate::new(&source, piece(tokenizer.bos()), piece(tokenizer.eos()))?)
}

struct Chat {
    engine: Engine,
    tokenizer: Arc<Tokenizer>,
    template: ChatTemplate,
    options: GenerateOptions,
    messages: Vec<Message>,
    sequence: Sequence,
    /// The tokens that `sequence` holds.
    read: Vec<u32>,
}

impl Chat {
    /// Answers `text`. What one turn does wrong (a template that refuses, a text too long) does not end a conversation
    /// on a terminal.
    fn turn(&mut self, text: String, forgiving: bool) -> Result<()> {
        let before = self.messages.len();
        self.messages.push(Message::new("user", text));
        match self.answer() {
            Ok(answer) => self.messages.push(Message::new("assistant", answer)),
            Err(error) if forgiving && !error.is::<out::Closed>() => {
                self.messages.truncate(before);
                talk::error(&format!("{error:#}"));
            }
            Err(error) => return Err(error),
        }
        // Another answer, another draw; still the same conversation for the same seed.
        self.options.sampler.seed = self.options.sampler.seed.wrapping_add(1);
        Ok(())
    }

    fn answer(&mut self) -> Result<String> {
        let tokens = self.prompt()?;
        let shared = self.read.iter().zip(&tokens).take_while(|(a, b)| a == b).count();
        self.sequence.truncate(shared);
        self.read.clone_from(&tokens);

        let interrupt = interrupt::listen_to_ctrl_c();
        let keep_going = |_, _| !interrupt.requested();
        let (engine, sequence) = (&mut self.engine, &mut self.sequence);
        let mut generation = Generation::start(engine, &self.tokenizer, sequence, &tokens, &self.options, keep_going)?;
        let mut answer = String::new();
        while !interrupt.requested()
            && let Some(token) = generation.next()?
        {
            out::print(&token.text)?;
            answer.push_str(&token.text);
            self.read.push(token.id);
        }
        let (prefill, decode) = (generation.prefill(), generation.decode());
        let (rest, stop) = generation.finish();
        answer.push_str(&rest);
        out::line(&rest)?;
        self.read.truncate(self.sequence.len());
        talk::note(&speeds(&self.engine, prefill, decode));
        if stop == StopReason::ContextFull {
            talk::warning("the context is full; /clear starts a new conversation, -c N makes more room");
        }
        Ok(answer)
    }

    /// The tokens of the conversation up to the answer. When they leave too little room for one, the oldest turns are
    /// forgotten.
    fn prompt(&mut self) -> Result<Vec<u32>> {
        let context = self.engine.context_length();
        let room = context - (context / 4).min(512);
        let mut forgotten = 0;
        loop {
            let options = RenderOptions { add_generation_prompt: true, ..RenderOptions::default() };
            let text = self.template.render(&self.messages, &options)?;
            let tokens = prompt_tokens(&self.tokenizer, &text, true);
            if tokens.len() <= room {
                if forgotten > 0 {
                    talk::warning(&format!("the context is full: the oldest {forgotten} messages are forgotten"));
                }
                return Ok(tokens);
            }
            let first = self.messages.iter().take_while(|m| m.role == "system").count();
            let oldest = self.messages.len().min(first + 2);
            if oldest >= self.messages.len() {
                bail!(
                    "this turn has {} tokens, too many for a context of {context}; -c N makes more room",
                    tokens.len()
                );
            }
            forgotten += oldest - first;
            self.messages.drain(first..oldest);
        }
    }
}

/// Where turns come from.
enum Input {
    Terminal { editor: Box<DefaultEditor>, history: Option<PathBuf> },
    Pipe,
}

impl Input {
    fn new() -> Result<Input> {
        if !std::io::stdin().is_terminal() {
            return Ok(Input::Pipe);
        }
        let mut editor = DefaultEditor::new().context("cannot set up line editing")?;
        let history = history_file();
        if let Some(path) = &history {
            // No history yet is no error.
            let _ = editor.load_history(path);
        }
        Ok(Input::Terminal { editor: Box::new(editor), history })
    }

    fn is_terminal(&self) -> bool {
        matches!(self, Input::Terminal { .. })
    }

    /// The next turn, or nothing at the end.
    fn next_turn(&mut self) -> Result<Option<String>> {
        let Input::Terminal { editor, .. } = self else {
            let mut line = String::new();
            let n = std::io::stdin().lock().read_line(&mut line).context("cannot read stdin")?;
            return Ok((n > 0).then(|| line.trim_end_matches(['\n', '\r']).to_string()));
        };
        let mut turn = String::new();
        loop {
            match editor.readline(if turn.is_empty() { "> " } else { ". " }) {
                Ok(line) => match line.strip_suffix('\\') {
                    Some(line) => turn = turn + line + "\n",
                    None => {
                        turn.push_str(&line);
                        if !turn.trim().is_empty() {
                            let _ = editor.add_history_entry(turn.as_str());
                        }
                        return Ok(Some(turn));
                    }
                },
                Err(ReadlineError::Interrupted) => {
                    turn.clear();
                    talk::note("Ctrl-D or /exit leaves");
                }
                Err(ReadlineError::Eof) => return Ok(None),
                Err(error) => return Err(error).context("cannot read a line"),
            }
        }
    }

    fn save(self) {
        if let Input::Terminal { mut editor, history: Some(path) } = self {
            let saved = path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(ReadlineError::from);
            if let Err(error) = saved.and_then(|()| editor.save_history(&path)) {
                talk::warning(&format!("{}: cannot save the history: {error}", path.display()));
            }
        }
    }
}

/// `$XDG_STATE_HOME/quipu/history`, by default in ~/.local/state; on Windows in %LOCALAPPDATA%.
fn history_file() -> Option<PathBuf> {
    let dir = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let state = if cfg!(windows) {
        dir("LOCALAPPDATA")?
    } else {
        dir("XDG_STATE_HOME").or_else(|| Some(dir("HOME")?.join(".local/state")))?
    };
    Some(state.join("quipu").join("history"))
}
