//! The rules of the house that neither the compiler nor clippy checks.
//!
//! `tests/house.rs` holds the whole workspace against them: no import circle between the files of a crate, crate arrows
//! that point down, `unsafe` only where the design allows it, files that can be read in one sitting, comments that keep
//! to 120 columns. This library reads the sources: [`lexer`] makes tokens of a file, [`modules`] finds the files of a
//! crate and what each imports from which other, [`circles`] finds the circles, [`workspace`] knows the crates.
//!
//! It has no dependencies, so that it compiles and runs in seconds while the rest of the workspace is being changed.
#![forbid(unsafe_code)]

pub mod circles;
pub mod imports;
pub mod lexer;
pub mod modules;
pub mod workspace;
