//! What a text may be: a [`Grammar`] says which tokens may come next, and whether the text may end.
//!
//! The sampler draws among these tokens alone. Nothing here knows how a grammar is written: JSON schemas, regular
//! expressions and the like are made into one by the crate `quipu-constrain`, or by whoever implements the two traits.
//!
//! ```
//! use quipu_runtime::constraint::{Constraint, ConstraintError, Grammar, TokenMask};
//!
//! /// Exactly these tokens.
//! #[derive(Clone, Debug)]
//! struct Exactly(Vec<u32>);
//!
//! impl Grammar for Exactly {
//!     fn begin(&self) -> Result<Box<dyn Constraint>, ConstraintError> {
//!         Ok(self.copy())
//!     }
//! }
//!
//! impl Constraint for Exactly {
//!     fn allow(&mut self, next: &mut TokenMask) -> Result<bool, ConstraintError> {
//!         self.0.first().into_iter().for_each(|&token| next.insert(token));
//!         Ok(self.0.is_empty())
//!     }
//!     fn advance(&mut self, token: u32) -> Result<(), ConstraintError> {
//!         (self.0.remove(0) == token).then_some(()).ok_or(ConstraintError::Refused { token })
//!     }
//!     fn copy(&self) -> Box<dyn Constraint> {
//!         Box::new(self.clone())
//!     }
//! }
//!
//! let mut constraint = Exactly(vec![3, 5]).begin()?;
//! constraint.advance(3)?;
//! let mut next = TokenMask::new(8);
//! assert!(!constraint.allow(&mut next)?);
//! assert_eq!(next.only(), Some(5));
//! # Ok::<(), ConstraintError>(())
//! ```
//!
//! - `grammar`: the two traits; `mask`: a set of tokens. `ahead`: what may come next in a text, worked out before it
//!   is asked for.

mod ahead;
mod error;
mod grammar;
mod mask;

pub(crate) use ahead::{Ahead, Next};
pub use error::ConstraintError;
pub use grammar::{Constraint, Grammar};
pub use mask::TokenMask;
