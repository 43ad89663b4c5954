//! `quipu chat`: a conversation.

use std::io::{BufRead, IsTerminal};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use quipu_formats::output::{self, Inputs};
use quipu_runtime::Engine;
use quipu_runtime::chat::{ChatTemplate, Conversation, Message};
use quipu_runtime::generate::{Event, GenerateOptions, Scheduler, SchedulerOptions, StopReason};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use crate::args::{ContextArgs, DraftArgs, Limit, ModelArgs, SamplingArgs, token_limit};
use crate::commands::run::speeds;
use crate::{hints, interrupt, model, out, talk};

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
    /// Let special tokens spelled out in what is said (<|eot_id|>) be those tokens, as llama.cpp does
    #[arg(long)]
    parse_special: bool,
    /// Tokens of an answer at most; -1: until the answer or the context ends
    #[arg(short, long, value_name = "N", default_value = "-1", allow_hyphen_values = true, value_parser = token_limit)]
    number: Limit,
    #[command(flatten)]
    context: ContextArgs,
    #[command(flatten)]
    draft: DraftArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

pub fn run(args: Args) -> Result<()> {
    let (engine, load_time) = model::load(&args.model, args.context.context)?;
    let mut conversation = conversation(&engine, args.template.as_deref())?.parse_special(args.parse_special);
    if let Some(text) = args.system {
        conversation.push(Message::new("system", text));
    }
    let options = GenerateOptions::new(args.sampling.options())
        .stops(args.sampling.stop.clone())
        .stop_tokens(args.sampling.stop_token.clone())
        .ignore_end(args.sampling.ignore_eos)
        .max_tokens(args.number);
    let scheduling = SchedulerOptions::default().draft(args.draft.draft);
    let mut chat = Chat { scheduler: Scheduler::with_options(engine, scheduling), conversation, options };
    let mut input = Input::new()?;
    talk::note(&format!("loaded in {:.2} s; /help for help", load_time.as_secs_f64()));
    while let Some(line) = input.next_turn()? {
        match line.trim() {
            "" => {}
            "/exit" | "/quit" => break,
            "/help" => talk::note(HELP),
            "/clear" => {
                chat.conversation.clear();
                talk::note("a new conversation");
            }
            command if command.starts_with('/') && input.is_terminal() => {
                talk::note(&format!("{command} is no command; /help shows all"));
            }
            _ => chat.turn(line, input.is_terminal())?,
        }
    }
    let mut inputs = Inputs::of(chat.scheduler.engine().source().files());
    inputs.extend(&Inputs::of(args.template.as_deref()));
    input.save(&inputs);
    Ok(())
}

fn conversation(engine: &Engine, template: Option<&Path>) -> Result<Conversation> {
    let Some(path) = template else { return Ok(Conversation::in_own_template(engine)?) };
    out::apart_from(&Inputs::of([path]), path)?;
    let source = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Conversation::new(engine, ChatTemplate::for_tokenizer(&source, engine.tokenizer())?))
}

struct Chat {
    scheduler: Scheduler,
    conversation: Conversation,
    options: GenerateOptions,
}

impl Chat {
    /// Answers `text`. What one turn does wrong (a template that refuses, a text too long) does not end a conversation
    /// on a terminal.
    fn turn(&mut self, text: String, forgiving: bool) -> Result<()> {
        match self.answer(text) {
            Err(error) if forgiving && !error.is::<out::Closed>() => talk::error(&hints::message(&error)),
            answered => answered?,
        }
        // Another answer, another draw; still the same conversation for the same seed.
        self.options.sampler.seed = self.options.sampler.seed.wrapping_add(1);
        Ok(())
    }

    fn answer(&mut self, text: String) -> Result<()> {
        let turn = self.conversation.ask(text, self.options.clone())?;
        if turn.forgotten > 0 {
            talk::warning(&format!("the context is full: the oldest {} messages are forgotten", turn.forgotten));
        }
        let interrupt = interrupt::listen_to_ctrl_c();
        let (mut answer, mut shown) = (String::new(), Ok(()));
        let end = self.scheduler.stream(turn.request.cancel(interrupt.cancel().clone()), |event| {
            if let Event::Token(token) = event
                && shown.is_ok()
            {
                answer.push_str(&token.text);
                shown = out::print(&token.text);
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
        answer.push_str(&end.text);
        out::line(&end.text)?;
        talk::note(&speeds(self.scheduler.engine(), &end));
        if end.stop == StopReason::ContextFull {
            talk::warning("the context is full; /clear starts a new conversation, -c N makes more room");
        }
        self.conversation.answer(answer, end.sequence);
        Ok(())
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

    /// Keeps the turns for the next conversation, in a file that is none of `inputs`.
    fn save(self, inputs: &Inputs) {
        if let Input::Terminal { mut editor, history: Some(path) } = self
            && let Err(error) = save_history(&mut editor, &path, inputs)
        {
            talk::warning(&format!("cannot save the history: {error:#}"));
        }
    }
}

fn save_history(editor: &mut DefaultEditor, path: &Path, inputs: &Inputs) -> Result<()> {
    let shown = || path.display().to_string();
    path.parent().map_or(Ok(()), std::fs::create_dir_all).with_context(shown)?;
    output::check(path, inputs)?;
    editor.save_history(path).with_context(shown)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever leads from the history's name to the model.
    #[cfg(unix)]
    #[test]
    fn the_history_is_not_written_onto_the_model() {
        let dir = tempfile::tempdir().unwrap();
        let (model, state) = (dir.path().join("model.gguf"), dir.path().join("quipu"));
        std::fs::write(&model, "weights").unwrap();
        std::fs::create_dir(&state).unwrap();
        let mut editor = DefaultEditor::new().unwrap();
        editor.add_history_entry("a turn").unwrap();
        let inputs = Inputs::of([&model]);
        let history = state.join("history");
        for hard in [false, true] {
            match hard {
                true => std::fs::hard_link(&model, &history).unwrap(),
                false => std::os::unix::fs::symlink(&model, &history).unwrap(),
            }
            let error = save_history(&mut editor, &history, &inputs).unwrap_err().to_string();
            assert!(error.contains("history"), "{error}");
            assert_eq!(std::fs::read(&model).unwrap(), b"weights");
            std::fs::remove_file(&history).unwrap();
        }
        save_history(&mut editor, &history, &inputs).unwrap();
        assert!(std::fs::read_to_string(&history).unwrap().contains("a turn"));
        assert_eq!(std::fs::read_dir(&state).unwrap().count(), 1, "nothing else is there");
    }
}
