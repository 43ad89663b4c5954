//! Programs that carry a model: one file that is both.
//!
//! ```text
//! the program, as it is but for its place    (an ELF, a PE; Mach-O is refused)
//! notes: JSON, see `Notes`                   what the program does by itself, what the model is called, its licence
//! zeros up to a multiple of 64 KiB           the largest page in use, so that the model can be mapped where it lies
//! the model: a packed GGUF                   to the end of the file
//! ```
//!
//! The *place* (`place`) is 64 bytes in the program's data that say where notes and model are; in a program without a
//! model they say so. It is found by its mark, and filled when a bundle is written. So a program knows what it carries
//! without reading itself, notices when its end is missing, and may be signed after it was written.
//!
//! What lies behind a program changes nothing of it: a loader maps what the segments of an ELF or the sections of a PE
//! name, and nothing behind them. But programs that write programs anew, such as `strip`, leave it out. What is behind
//! the last segment of a Mach-O breaks its signature, without which no Mac with Apple's processors runs it.
//!
//! ```no_run
//! use quipu_formats::bundle::{Bundle, Lead, Notes};
//!
//! // To be written before a packed model.
//! let lead = Lead::new("quipu".as_ref(), &Notes { name: "tales".into(), ..Notes::default() })?;
//! println!("the model begins at {}", lead.bytes().len());
//! // And in the program that was made of it:
//! if let Some(bundle) = Bundle::here()? {
//!     println!("{}", bundle.notes.name);
//! }
//! # Ok::<(), quipu_formats::bundle::BundleError>(())
//! ```

mod error;
mod here;
mod lead;
mod notes;
mod place;

pub use error::BundleError;
pub use here::Bundle;
pub use lead::Lead;
pub use notes::Notes;
