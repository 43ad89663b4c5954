//! Where turns of a conversation come from: a terminal with line editing and a history, or a pipe.

use std::io::{BufRead, IsTerminal};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use quipu_formats::output::{self, Inputs};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use crate::talk;

/// Where turns come from.
pub enum Input {
    Terminal { editor: Box<DefaultEditor>, history: Option<PathBuf> },
    Pipe,
}

impl Input {
    /// Whatever stdin is.
    pub fn new() -> Result<Input> {
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

    /// Whether somebody is there to be asked.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Input::Terminal { .. })
    }

    /// The next turn, or nothing at the end.
    pub fn next_turn(&mut self) -> Result<Option<String>> {
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

    /// Asks for a word; none where nobody can be asked, or who is asked does not answer.
    pub fn ask(&mut self, question: &str) -> Option<String> {
        let Input::Terminal { editor, .. } = self else { return None };
        editor.readline(question).ok().map(|answer| answer.trim().to_lowercase())
    }

    /// Keeps the turns for the next conversation, in a file that is none of `inputs`.
    pub fn save(self, inputs: &Inputs) {
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
