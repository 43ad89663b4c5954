//! What a model thought before it answered.

/// Marks around thoughts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marks {
    pub(crate) open: &'static str,
    pub(crate) close: &'static str,
}

/// Those of R1, Qwen3, SmolLM3, and those of Mistral.
pub(crate) const MARKS: [Marks; 2] =
    [Marks { open: "<think>", close: "</think>" }, Marks { open: "[THINK]", close: "[/THINK]" }];

/// The marks that a prompt has opened at its end, if it has.
pub(crate) fn opened_by(prompt: &str) -> Option<Marks> {
    MARKS.into_iter().find(|marks| prompt.trim_end().ends_with(marks.open))
}

/// What closes the thoughts that a prompt has opened at its end, if it has.
pub fn thoughts_opened_by(prompt: &str) -> Option<&'static str> {
    opened_by(prompt).map(|marks| marks.close)
}

/// Bytes at the beginning of `text` that are thoughts for certain: not the white space before a mark that closes them,
/// nor what may be one.
pub(super) fn certain(text: &str, close: &str) -> usize {
    text[..text.len() - begun(text, close)].trim_end().len()
}

/// Bytes at the end of `text` that may be the beginning of `close`.
pub(super) fn begun(text: &str, close: &str) -> usize {
    (1..close.len()).rev().find(|&n| text.ends_with(&close[..n])).unwrap_or(0)
}
