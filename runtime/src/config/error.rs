//! Why a file's metadata describes no model that runs.

use quipu_formats::families::known_architectures;
use quipu_formats::gguf::MetadataError;

/// Why a file's metadata does not describe a model that this runtime runs.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A key is missing or has the wrong type.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// Another architecture.
    #[error("this is a `{found}` model; Quipu runs {}", known_architectures())]
    Architecture {
        /// What the file says.
        found: String,
    },
    /// A mixture of experts, in a family that has none.
    #[error(
        "this is a mixture of {experts} experts (`{key}`), which Quipu does not run in models of this architecture"
    )]
    Experts {
        /// The key that says so.
        key: String,
        /// How many.
        experts: usize,
    },
    /// A number that can't be.
    #[error("metadata key `{key}` is {found}; expected {expected}")]
    Value {
        /// The key.
        key: String,
        /// What the file has.
        found: String,
        /// What makes sense.
        expected: String,
    },
    /// A way of stretching RoPE that is not implemented.
    #[error(
        "RoPE scaling `{found}` is not supported; known are none, linear, yarn, longrope and llama3 (rope_freqs.weight)"
    )]
    RopeScaling {
        /// What the file says.
        found: String,
    },
}
