//! In which numbers keys and values are kept.

use anyhow::Result;
use quipu_runtime::KvType;

use crate::usage::Usage;

/// In which numbers keys and values are kept.
#[derive(Clone, clap::Args)]
pub struct KvArgs {
    /// Numbers of the KV cache: f16, f32, q8 (half the memory of f16, and faster after long texts), q4 (a quarter, with
    /// a rounding that can be noticed) or q8q4 (keys q8, values q4) [default: f16]
    #[arg(long, value_name = "TYPE")]
    kv: Option<KvType>,
    /// llama.cpp's name for the numbers of keys
    #[arg(long, value_name = "TYPE", hide = true, conflicts_with = "kv")]
    cache_type_k: Option<KvType>,
    /// Its name for those of values
    #[arg(long, value_name = "TYPE", hide = true, conflicts_with = "kv")]
    cache_type_v: Option<KvType>,
}

impl From<KvType> for KvArgs {
    fn from(both: KvType) -> KvArgs {
        KvArgs { kv: Some(both), cache_type_k: None, cache_type_v: None }
    }
}

impl KvArgs {
    /// For the engine.
    ///
    /// # Errors
    /// A sentence about usage when keys and values were to have different types.
    pub fn get(&self) -> Result<KvType> {
        match (self.kv, self.cache_type_k, self.cache_type_v) {
            (Some(both), ..) => Ok(both),
            (None, None, None) => Ok(KvType::default()),
            (None, Some(KvType::Q8), Some(KvType::Q4)) => Ok(KvType::Q8Q4),
            (None, keys, values) if keys == values => Ok(keys.unwrap_or_default()),
            (None, keys, values) => {
                let [keys, values] = [keys, values].map(Option::unwrap_or_default);
                let message =
                    format!("keys in {keys} and values in {values}: both are the same, or q8_0 and q4_0 (--kv q8q4)");
                Err(Usage::new(message).into())
            }
        }
    }
}

/// The words of a command line, with llama.cpp's `-ctk` and `-ctv`, which are no short options here, written out.
pub fn written_out(words: impl IntoIterator<Item = std::ffi::OsString>) -> impl Iterator<Item = std::ffi::OsString> {
    words.into_iter().map(|word| match word.to_str() {
        Some("-ctk") => "--cache-type-k".into(),
        Some("-ctv") => "--cache-type-v".into(),
        _ => word,
    })
}
