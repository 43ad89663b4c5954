//! What to write: the types, the layout, the rounding.

use std::fmt;
use std::sync::Arc;

use quipu_quant::TensorType;

use super::mix::Mix;
use super::pattern::TensorRule;
use crate::bundle::Lead;
use crate::gguf::GgufFile;
use crate::imatrix::Imatrix;
use crate::output::Inputs;

/// Which types the tensors of the output have; see the [module's table](super).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TypeRule {
    /// Those of the source.
    #[default]
    Keep,
    /// This one, with the exceptions of the table.
    To(TensorType),
    /// A mix.
    Mix(Mix),
}

/// How values become codes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rounding {
    /// By search for the least error (`quipu_quant::search`).
    #[default]
    Search,
    /// By ggml's rule, to the byte. There is none for the K-quants and IQ4.
    Plain,
}

/// What a written model has to pass before it gets its name: an error says why it cannot be used. A model that goes
/// into a pipe is not checked.
#[derive(Clone)]
pub struct Check(pub Arc<dyn Fn(GgufFile) -> Result<(), String> + Send + Sync>);

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Check")
    }
}

/// What to write.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ConvertOptions {
    /// The types.
    pub types: TypeRule,
    /// Types for single tensors, whatever `types` says; of several that match the first counts. For `*.weight` of two
    /// dimensions or more.
    pub tensors: Vec<TensorRule>,
    /// Matrices in the R16·K4 layout, for Quipu alone; else plain, for every reader of GGUF.
    pub packed: bool,
    /// How values become codes.
    pub rounding: Rounding,
    /// The statistics of activations that rounding by search uses.
    pub imatrix: Option<Arc<Imatrix>>,
    /// The types are those that llama.cpp takes when it has an importance matrix ([`mix`](super::mix)), so that the
    /// sizes are the same.
    pub imatrix_types: bool,
    /// The most bytes of a file: the model is written in parts, or in one that is named like a part. No tensor is cut,
    /// so one that is larger has a larger part of its own.
    pub part_bytes: Option<u64>,
    /// What stands in the file before the model, if it is not written in parts.
    pub lead: Option<Arc<Lead>>,
    /// What the written model has to pass before it gets its name.
    pub check: Option<Check>,
    /// What else is read for the output, such as the text of a calibration: the output must not replace it.
    pub reads: Inputs,
}

impl ConvertOptions {
    /// Tensors of these types, plain, rounded by search.
    pub fn new(types: TypeRule) -> ConvertOptions {
        ConvertOptions { types, ..ConvertOptions::default() }
    }

    /// These options with other [`ConvertOptions::tensors`].
    pub fn tensors(self, tensors: Vec<TensorRule>) -> ConvertOptions {
        ConvertOptions { tensors, ..self }
    }

    /// These options with another [`ConvertOptions::packed`].
    pub fn packed(self, packed: bool) -> ConvertOptions {
        ConvertOptions { packed, ..self }
    }

    /// These options with another [`ConvertOptions::rounding`].
    pub fn rounding(self, rounding: Rounding) -> ConvertOptions {
        ConvertOptions { rounding, ..self }
    }

    /// These options with another [`ConvertOptions::imatrix`].
    pub fn imatrix(self, imatrix: Option<Arc<Imatrix>>) -> ConvertOptions {
        ConvertOptions { imatrix, ..self }
    }

    /// These options with another [`ConvertOptions::imatrix_types`].
    pub fn imatrix_types(self, imatrix_types: bool) -> ConvertOptions {
        ConvertOptions { imatrix_types, ..self }
    }

    /// These options with another [`ConvertOptions::part_bytes`].
    pub fn part_bytes(self, part_bytes: Option<u64>) -> ConvertOptions {
        ConvertOptions { part_bytes, ..self }
    }

    /// These options with another [`ConvertOptions::lead`].
    pub fn lead(self, lead: Option<Arc<Lead>>) -> ConvertOptions {
        ConvertOptions { lead, ..self }
    }

    /// These options with another [`ConvertOptions::check`].
    pub fn check(self, check: Option<Check>) -> ConvertOptions {
        ConvertOptions { check, ..self }
    }

    /// These options with other [`ConvertOptions::reads`].
    pub fn reads(self, reads: Inputs) -> ConvertOptions {
        ConvertOptions { reads, ..self }
    }
}
