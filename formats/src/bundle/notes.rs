//! What a bundle says of itself.

use serde::{Deserialize, Serialize};

/// What a program does by itself, and what there is to know of the model in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notes {
    /// What the model is called.
    pub name: String,
    /// The command line of a start without arguments, without the program's name; empty for the program's own choice.
    pub arguments: Vec<String>,
    /// The licence of the model, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
}
