//! How long a model may think: the fields of all dialects.

use quipu_runtime::generate::GenerateOptions;

use crate::conversation::Conversation;
use crate::error::ApiError;
use crate::fields::Fields;

/// What a body asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thinking<'b> {
    /// It says nothing.
    Any,
    /// Thoughts, or none.
    Whether(bool),
    /// So many tokens of thought.
    Tokens(usize),
    /// As much as a word says.
    Effort(&'b str),
}

/// Tokens of thought for each effort, as Google's service in OpenAI's dialect has them. Another word is no limit.
const EFFORTS: [(&str, usize); 5] = [("none", 0), ("minimal", 512), ("low", 1024), ("medium", 8192), ("high", 24_576)];

/// What a body says in tokens: −1 is no limit.
///
/// # Errors
/// 400 with the name of the field.
pub fn tokens(fields: &Fields<'_>) -> Result<Option<i64>, ApiError> {
    for name in ["reasoning_budget", "thinking_budget_tokens", "thinking_budget"] {
        if let Some(n) = fields.integer(name, -1..=i64::from(u32::MAX))? {
            return Ok(Some(n));
        }
    }
    Ok(None)
}

impl<'b> Thinking<'b> {
    /// What a body of OpenAI's asks for: in tokens, or by the word beside them.
    ///
    /// # Errors
    /// 400 with the name of the field.
    pub fn read(fields: &Fields<'b>, effort: Option<&'b str>) -> Result<Thinking<'b>, ApiError> {
        Ok(match (tokens(fields)?, effort) {
            (Some(n), _) => usize::try_from(n).map_or(Thinking::Whether(true), Thinking::Tokens),
            (None, Some(word)) => Thinking::Effort(word),
            (None, None) => Thinking::Any,
        })
    }

    /// Has it done. Where a template can have the model not think, it is told so; where not, thoughts end at once.
    pub fn apply(self, conversation: &mut Conversation, options: &mut GenerateOptions) {
        let budget = &mut options.thinking_budget;
        *budget = match self {
            Thinking::Any => *budget,
            Thinking::Whether(false) => Some(0),
            Thinking::Whether(true) => budget.filter(|&tokens| tokens > 0),
            Thinking::Tokens(tokens) => Some(tokens),
            Thinking::Effort(word) => EFFORTS.iter().find(|(known, _)| *known == word).map(|&(_, tokens)| tokens),
        };
        if self != Thinking::Any || *budget == Some(0) {
            conversation.think(*budget != Some(0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Thinking::{Any, Effort, Tokens, Whether};

    #[test]
    fn what_is_asked_for_goes_before_what_the_server_was_given() {
        for (given, asked, budget, told) in [
            (None, Any, None, None),
            (Some(9), Any, Some(9), None),
            (Some(0), Any, Some(0), Some(false)),
            (None, Whether(false), Some(0), Some(false)),
            (Some(9), Whether(true), Some(9), Some(true)),
            (Some(0), Whether(true), None, Some(true)),
            (Some(9), Tokens(70), Some(70), Some(true)),
            (None, Tokens(0), Some(0), Some(false)),
            (Some(9), Effort("low"), Some(1024), Some(true)),
            (Some(9), Effort("none"), Some(0), Some(false)),
            (Some(9), Effort("utmost"), None, Some(true)),
        ] {
            let mut conversation = Conversation::new(Vec::new());
            let mut options = GenerateOptions::default().thinking_budget(given);
            asked.apply(&mut conversation, &mut options);
            assert_eq!(options.thinking_budget, budget, "{given:?} {asked:?}");
            let switch = conversation.render.variables.get("enable_thinking");
            assert_eq!(switch.and_then(serde_json::Value::as_bool), told, "{given:?} {asked:?}");
        }
    }

    #[test]
    fn tokens_go_before_words() {
        let read = |body: &serde_json::Value, effort| {
            let fields = Fields::of_body(body).expect("an object");
            Thinking::read(&fields, effort).map(|asked| format!("{asked:?}")).map_err(|error| error.param)
        };
        let body = |tokens: i64| serde_json::json!({ "reasoning_budget": tokens });
        assert_eq!(read(&body(5), Some("low")), Ok("Tokens(5)".to_string()));
        assert_eq!(read(&body(-1), Some("low")), Ok("Whether(true)".to_string()));
        assert_eq!(read(&serde_json::json!({}), Some("low")), Ok("Effort(\"low\")".to_string()));
        assert_eq!(read(&body(-2), None), Err(Some("reasoning_budget".to_string())));
    }
}
