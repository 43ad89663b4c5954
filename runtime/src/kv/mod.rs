//! The KV cache: pages of a fixed number of positions, shared by reference.
//!
//! [`page`] lays out the keys and values of one group of layers for [`PAGE`] positions, `layout` says which layers form
//! a group, [`sequence`] holds a text's pages and its tokens. `cache` keeps pages of earlier texts, `store` on disk as
//! well, in the format of `file`.

mod cache;
mod file;
mod layout;
mod memory;
pub mod page;
mod quantised;
mod saved;
pub mod sequence;
mod store;
mod types;

pub use cache::NearMiss;
pub(crate) use cache::{Found, PrefixCache};
pub(crate) use file::{Fault, Head, checksum};
pub(crate) use layout::KvLayout;
pub use layout::bytes_per_position;
pub(crate) use page::AnySegment;
pub use sequence::Sequence;
pub use store::CacheDirError;
pub(crate) use store::Store;
pub use types::{KvType, PAGE, UnknownKvType};
