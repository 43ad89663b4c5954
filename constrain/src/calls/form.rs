//! How models write calls.

/// How a model writes calls: as its template has them, which is what it has learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CallForm {
    /// `{"name": …, "parameters": {…}}`: Llama 3's, and that of models whose template knows no tools.
    Plain,
    /// `<tool_call>{"name": …, "arguments": {…}}</tool_call>`: that of Hermes, Qwen and SmolLM3.
    Tags,
    /// `<function=name>{…}</function>`: Llama 3.1's other one.
    Functions,
    /// `[TOOL_CALLS][{"name": …, "arguments": {…}}, …]`: Mistral's.
    List,
    /// `[TOOL_CALLS]name[ARGS]{…}`: Mistral's since 2025.
    Named,
}

impl CallForm {
    /// The form that a chat template has.
    pub fn of_template(source: &str) -> CallForm {
        let has = |mark| source.contains(mark);
        match () {
            () if has("<tool_call>") => CallForm::Tags,
            () if has("[TOOL_CALLS]") && has("[ARGS]") => CallForm::Named,
            () if has("[TOOL_CALLS]") => CallForm::List,
            () if has("<function=") => CallForm::Functions,
            () => CallForm::Plain,
        }
    }

    /// The marks that nobody writes who does not call.
    pub(super) fn marks(self) -> &'static [&'static str] {
        match self {
            CallForm::Plain => &["<|python_tag|>"],
            CallForm::Tags => &["<tool_call>"],
            CallForm::Functions => &["<function="],
            CallForm::List | CallForm::Named => &["[TOOL_CALLS]"],
        }
    }
}
