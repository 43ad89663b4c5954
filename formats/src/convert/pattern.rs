//! Types for tensors by name: `--tensor PATTERN=TYPE`.

use quipu_quant::TensorType;

/// A type for all tensors whose names match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorRule {
    /// A part of the name; `*` stands for any characters, also none.
    pub pattern: String,
    /// The type.
    pub ty: TensorType,
}

impl TensorRule {
    /// Whether the rule is for the tensor called `name`.
    pub fn matches(&self, name: &str) -> bool {
        // Each piece as early as possible: if the pieces fit anywhere in this order, they fit there.
        let mut rest = name;
        self.pattern.split('*').all(|piece| match rest.find(piece) {
            Some(at) => {
                rest = &rest[at + piece.len()..];
                true
            }
            None => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let matches = |pattern: &str, name| TensorRule { pattern: pattern.into(), ty: TensorType::F16 }.matches(name);
        assert!(matches("ffn_down", "blk.3.ffn_down.weight"));
        assert!(matches("blk.3.*down", "blk.3.ffn_down.weight"));
        assert!(matches("*", "output.weight") && matches("", "output.weight"));
        assert!(!matches("blk.3.*up", "blk.3.ffn_down.weight"));
        assert!(!matches("down*blk", "blk.3.ffn_down.weight"));
        assert!(!matches("blk.1.", "blk.11.ffn_down.weight"));
    }
}
