//! How a text may go on, seen by another model.

use std::collections::HashMap;
use std::sync::Arc;

use super::writer::Writer;

/// A copy of what draws the tokens of a text, with its random numbers: from another model's logits it draws what the
/// text would go on with if they were its own. Where both models are of one mind it is the same token, sampled or not.
#[derive(Debug)]
pub(super) struct Foresight {
    writer: Writer,
    /// The tokens that end the text.
    ends: Arc<[u32]>,
}

impl Foresight {
    pub(super) fn new(writer: Writer, ends: Arc<[u32]>) -> Foresight {
        Foresight { writer, ends }
    }

    /// The next token, by these logits; `None` where the text would end, before it or with it: then there is nothing to
    /// be read ahead.
    pub(super) fn next(&mut self, logits: &[f32]) -> Option<u32> {
        let drawn = self.writer.draw(logits, &HashMap::new(), false).ok()?;
        let token = drawn.id.filter(|id| !self.ends.contains(id))?;
        self.writer.push(token).ok()?;
        self.writer.stop.is_none().then_some(token)
    }
}
