//! How large a regular expression is.

use regex_syntax::hir::{Hir, HirKind};

use crate::limits;

/// Refuses a regular expression that would be too large with all repetitions written out, or is none.
///
/// # Errors
/// A sentence.
pub fn check(regex: &str) -> Result<(), String> {
    let hir = regex_syntax::parse(regex).map_err(|error| {
        let text = error.to_string();
        format!("is no regular expression: {}", text.lines().last().unwrap_or(&text).trim_start_matches("error: "))
    })?;
    match size(&hir) {
        size if size > limits::REPETITIONS => Err("has too many repetitions of repetitions".into()),
        _ => Ok(()),
    }
}

fn size(hir: &Hir) -> u64 {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) | HirKind::Class(_) => 1,
        HirKind::Literal(literal) => literal.0.len() as u64,
        HirKind::Capture(capture) => size(&capture.sub),
        HirKind::Repetition(repetition) => {
            let times = repetition.max.unwrap_or(repetition.min).max(1);
            size(&repetition.sub).saturating_mul(u64::from(times))
        }
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().fold(1, |sum, part| size(part).saturating_add(sum))
        }
    }
}
