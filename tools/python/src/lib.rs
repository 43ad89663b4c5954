//! Quipu as a module for Python: `quipu._quipu`, on which the package `quipu` (`python/quipu`) is built.
//!
//! What users see is Python with types and documentation; here is what that cannot do. Nothing is decided here either:
//! `quipu-runtime` writes texts, `quipu-server` reads conversations and tools in OpenAI's form and answers in parts,
//! `quipu-constrain` keeps answers to a shape, `quipu-measure` measures and quantises.
//!
//! - [`host`]: the thread that owns a model. Requests go in through a channel, what happens to them comes back through
//!   another, so texts of all Python threads are written side by side.
//! - [`model`]: a model as Python sees it. [`options`]: keyword arguments. [`prompt`]: texts, tokens and chats as
//!   requests. [`texts`]: texts that are being written.
//! - [`wait`]: how a Python thread waits: without the GIL, with an eye on Ctrl-C.
//! - [`mod@array`]: numbers that numpy takes without a copy. [`files`]: `quantize` and `convert`. [`failure`]: errors.

pub mod array;
pub mod failure;
pub mod files;
pub mod host;
pub mod model;
pub mod options;
pub mod prompt;
pub mod texts;
pub mod wait;

use pyo3::prelude::*;

/// The module.
#[pymodule]
mod _quipu {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::array::Array;
    #[pymodule_export]
    use crate::failure::Error;
    #[pymodule_export]
    use crate::files::write;
    #[pymodule_export]
    use crate::model::Model;
    #[pymodule_export]
    use crate::texts::Texts;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
