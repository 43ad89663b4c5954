//! What follows grammars over the tokens of a model: llguidance, or nothing where the crate was built without it.
//!
//! - `compiler`: from a schema, a regular expression or Lark to a grammar; `compiled`: that grammar as one of the
//!   runtime; `environment`: a model's tokens as llguidance wants to see them. `without`: what stands in their place.

#[cfg(feature = "llguidance")]
mod compiled;
#[cfg(feature = "llguidance")]
mod compiler;
#[cfg(feature = "llguidance")]
mod environment;
#[cfg(not(feature = "llguidance"))]
mod without;

#[cfg(feature = "llguidance")]
pub use self::{
    compiled::{Compiled, Place},
    compiler::Compiler,
};
#[cfg(not(feature = "llguidance"))]
pub use without::{Compiled, Compiler, Place};

/// Whether answers can be kept to anything: the feature `llguidance`.
pub const BUILT: bool = cfg!(feature = "llguidance");
