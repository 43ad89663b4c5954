//! How many positions a page has, and in which numbers.

use std::fmt;
use std::str::FromStr;

use quipu_kernels::SEGMENT;
use quipu_quant::TensorType;

/// Positions of a page: one segment of attention.
pub const PAGE: usize = SEGMENT;

/// The number type of keys and values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KvType {
    /// IEEE binary16.
    #[default]
    F16,
    /// IEEE binary32: twice the memory, no rounding.
    F32,
    /// 8 bits and a binary16 scale for every 32 elements of a head at a position ([`quipu_quant::cache`]); queries are
    /// rounded to 8 bits as well. Half the memory of f16.
    Q8,
    /// 4 bits, likewise. A quarter of the memory of f16, and a rounding that can be noticed.
    Q4,
    /// Keys in 8 bits, values in 4: keys tell more of rounding.
    Q8Q4,
}

impl KvType {
    /// All of them.
    pub const ALL: [KvType; 5] = [KvType::F16, KvType::F32, KvType::Q8, KvType::Q8Q4, KvType::Q4];

    /// Its name, as for an option.
    pub fn name(self) -> &'static str {
        match self {
            KvType::F16 => "f16",
            KvType::F32 => "f32",
            KvType::Q8 => "q8",
            KvType::Q4 => "q4",
            KvType::Q8Q4 => "q8q4",
        }
    }

    /// The types of the blocks that keys and values come in, if they do.
    pub(super) fn blocks(self) -> Option<[TensorType; 2]> {
        match self {
            KvType::F16 | KvType::F32 => None,
            KvType::Q8 => Some([TensorType::Q8_0; 2]),
            KvType::Q4 => Some([TensorType::Q4_0; 2]),
            KvType::Q8Q4 => Some([TensorType::Q8_0, TensorType::Q4_0]),
        }
    }

    /// The least magnitude that is too large for it.
    pub(crate) fn limit(self) -> f32 {
        match self {
            // From here on f16 rounds to infinity.
            KvType::F16 => 65520.0,
            KvType::F32 => f32::INFINITY,
            // So that the scale is no infinity.
            KvType::Q8 => 127.0 * 65504.0,
            KvType::Q4 | KvType::Q8Q4 => 7.0 * 65504.0,
        }
    }
}

impl fmt::Display for KvType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for KvType {
    type Err = UnknownKvType;

    /// Also by llama.cpp's names `q8_0` and `q4_0`.
    fn from_str(name: &str) -> Result<KvType, UnknownKvType> {
        let own = name.strip_suffix("_0").filter(|own| own.starts_with('q')).unwrap_or(name);
        KvType::ALL.into_iter().find(|ty| ty.name() == own).ok_or_else(|| UnknownKvType { name: name.into() })
    }
}

/// No type of keys and values has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown type of keys and values `{name}`; known are {}", KvType::ALL.map(KvType::name).join(", "))]
pub struct UnknownKvType {
    name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read() {
        for ty in KvType::ALL {
            assert_eq!(ty.name().parse(), Ok(ty));
        }
        assert_eq!(["q8_0", "q4_0"].map(str::parse), [Ok(KvType::Q8), Ok(KvType::Q4)]);
        for name in ["", "q8_1", "f16_0", "Q8", "q5_0", "_0"] {
            let error = name.parse::<KvType>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{name}`; known are f16, f32, q8, q8q4, q4")), "{error}");
        }
    }
}
