//! Who asks: a token of the Hub's.

use std::path::{Path, PathBuf};

use super::error::PullError;

/// A token. It is never shown.
#[derive(Clone)]
pub(super) struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// From the variables and the file that the Hub's own programs know; `None` without any.
    ///
    /// # Errors
    /// [`PullError::Token`].
    pub fn here() -> Result<Option<Token>, PullError> {
        for variable in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
            if let Some(token) = std::env::var_os(variable) {
                return Token::of(&token.to_string_lossy(), variable);
            }
        }
        let Some(path) = file() else { return Ok(None) };
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        Token::of(&text, &path.display().to_string())
    }

    fn of(text: &str, origin: &str) -> Result<Option<Token>, PullError> {
        let text = text.trim();
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(PullError::Token { origin: origin.into() });
        }
        Ok((!text.is_empty()).then(|| Token(text.into())))
    }

    /// The header that says it.
    pub fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

/// Where `hf auth login` leaves it.
fn file() -> Option<PathBuf> {
    let path = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || path(if cfg!(windows) { "USERPROFILE" } else { "HOME" });
    let cache = || path("XDG_CACHE_HOME").or_else(|| Some(home()?.join(".cache")));
    let directory = || path("HF_HOME").or_else(|| Some(cache()?.join("huggingface")));
    path("HF_TOKEN_PATH").or_else(|| Some(Path::new(&directory()?).join("token")))
}
