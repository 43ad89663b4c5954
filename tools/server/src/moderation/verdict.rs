//! What a guard has found.

use serde_json::{Value as Json, json};

use super::policy::Category;

/// What a guard has found.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The probability of `unsafe`, from 0 to 1.
    pub probability: f64,
    /// Whether that is as much as the threshold.
    pub flagged: bool,
    /// The categories that the model names, if it was asked for them: those that are violated, or, where nothing is
    /// flagged, those that it would name if it had to.
    pub named: Vec<Category>,
}

impl Verdict {
    /// As JSON: `{"flagged", "unsafe", "categories": [{"code", "name"}]}`; without categories where nothing is flagged.
    pub fn to_json(&self) -> Json {
        let one = |category: &Category| json!({"code": category.code, "name": category.name()});
        let named = self.violated().map(one).collect::<Json>();
        json!({"flagged": self.flagged, "unsafe": self.probability, "categories": named})
    }

    /// The categories that are violated.
    pub fn violated(&self) -> impl Iterator<Item = &Category> {
        self.named.iter().filter(|_| self.flagged)
    }

    /// The same for a person: `safe`, or `unsafe: S1 Violent Crimes, S10 Hate`.
    pub fn in_words(&self) -> String {
        let named: Vec<String> =
            self.violated().map(|category| format!("{} {}", category.code, category.name())).collect();
        match self.flagged {
            true => format!("unsafe: {}", named.join(", ")),
            false => "safe".into(),
        }
    }
}
