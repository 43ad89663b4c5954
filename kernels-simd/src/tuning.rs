//! What depends on the machine and not on the model: how far ahead weights are asked for, how much stays in a cache.
//!
//! The table of instruction sets (`isa`) has a safe value for each; what runs on top may measure better ones. None of
//! them changes a bit of any result, whatever it is: they only say what is read when, and by whom.

use std::fmt;

use quipu_quant::TensorType;

/// How far ahead of the arithmetic products with a few rows ask for weights, in bytes; 0 is not at all. Where a row
/// group ends the next one begins, so that nothing waits there, either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// In the plane of codes.
    pub codes: u32,
    /// In the plane of scales, which has an eighth of the codes' bytes or less.
    pub scales: u32,
}

/// The struct, and its parameters by name.
macro_rules! parameters {
    ($($(#[$doc:meta])* $name:ident = $any:expr;)*) => {
        /// The parameters of kernels, and of what calls them. Values that make no sense are taken for the nearest that
        /// do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Tuning {
            /// By type, in the order of [`TensorType::ALL`].
            ahead: [Ahead; TensorType::ALL.len()],
            $($(#[$doc])* pub $name: u32,)*
        }

        impl Tuning {
            /// For all instruction sets that do not say otherwise. Sizes are for a second-level cache of 1 MB.
            const ANY: Tuning =
                Tuning { ahead: [Ahead { codes: 0, scales: 0 }; TensorType::ALL.len()], $($name: $any,)* };

            /// The parameters that are not by type: names and values.
            pub fn parameters(&self) -> Vec<(&'static str, u32)> {
                vec![$((stringify!($name), self.$name)),*]
            }

            /// The parameter called `name`, if it is one that is not by type.
            fn parameter(&mut self, name: &str) -> Option<&mut u32> {
                match name {
                    $(stringify!($name) => Some(&mut self.$name),)*
                    _ => None,
                }
            }
        }
    };
}

parameters! {
    /// How far ahead of the arithmetic attention asks for keys and values, in bytes; 0 is not at all.
    kv_ahead = 0;
    /// Up to so many rows in full tiles, weights are widened on the way, as for a few rows, and not first. It counts
    /// only for instruction sets whose full tiles can be streamed.
    streamed_rows = 0;
    /// Bytes of widened codes that several row groups have together: they stay in the second-level cache while the
    /// activations pass by.
    widened = 560 << 10;
    /// Bytes of activations that are multiplied with all of these groups before the next activations are: they stay in
    /// the second-level cache, too. So activations of megabytes come from the third level or from memory once for all
    /// of these groups, and not once for each.
    passing = 256 << 10;
    /// The most bytes of activations that are read for one set of row groups before they are all read again for the
    /// next set. 512 rows of 8192 inputs can be twice 8 MB, more than a thread's share of many last-level caches: then
    /// they would come from memory each time.
    panel = 8 << 20;
    /// Chunks of a product for each thread: enough to balance the load, few enough that each reads a long run of
    /// memory.
    chunks_per_thread = 4;
    /// The most row groups of one chunk, so that a worker's scratch stays in its cache.
    chunk_groups = 8;
    /// Microseconds that a worker spins for the next step before it parks.
    spin_us = 50;
}

/// Text that describes no [`Tuning`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TuningError(String);

impl fmt::Display for TuningError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TuningError {}

impl Tuning {
    /// The portable kernels have no instruction to ask for memory with.
    pub(crate) const PORTABLE: Tuning = Tuning::ANY;

    /// Measured on one machine (Zen 5): on the way to 8 KiB every doubling gained, beyond it none did.
    pub(crate) const X86: Tuning =
        Tuning { kv_ahead: 8 << 10, ..Tuning::ANY.all_ahead(Ahead { codes: 8 << 10, scales: 1 << 10 }) };

    /// Measured on Zen 5 with Q4_0: streaming takes 1.2 times as long from 64 rows on, and with 32 as long as widening
    /// first.
    pub(crate) const AVX2: Tuning = Tuning { streamed_rows: 24, ..Tuning::X86 };

    /// For AVX-VNNI and AVX-512. Measured on Zen 5: 64 rows gain by streaming, 128 nothing, and 256 would lose.
    pub(crate) const VNNI: Tuning = Tuning { streamed_rows: 120, ..Tuning::X86 };

    /// By the manuals, measured nowhere yet. A core's own prefetcher follows streams (Cortex-A76 TRM, A6.5), but a
    /// Cortex-A72's not beyond a page of 4 KiB (its TRM, 7.4); so half a page is asked for ahead, which is also more
    /// than what arrives while a line is under way: 12 GB/s for 150 ns are 1.8 KB.
    pub(crate) const ARM: Tuning =
        Tuning { kv_ahead: 2 << 10, ..Tuning::ANY.all_ahead(Ahead { codes: 2 << 10, scales: 256 }) };

    /// Measured on Emerald Rapids, all 16 threads of 8 cores, Q4_0: streamed by AVX-512, a step of 16, 24 and 32 texts
    /// takes 0.71, 0.77 and 0.84 times what it takes by tiles, and a prompt of 64 tokens 1.05 times.
    pub(crate) const AMX: Tuning = Tuning { streamed_rows: 32, ..Tuning::X86 };

    const fn all_ahead(self, ahead: Ahead) -> Tuning {
        Tuning { ahead: [ahead; TensorType::ALL.len()], ..self }
    }

    /// How far weights of type `ty` are asked for ahead.
    pub fn ahead(&self, ty: TensorType) -> Ahead {
        self.ahead[ty as usize]
    }

    /// The same with another distance for weights of type `ty`.
    pub fn with_ahead(mut self, ty: TensorType, ahead: Ahead) -> Tuning {
        self.ahead[ty as usize] = ahead;
        self
    }

    /// The same with what `text` sets: `NAME=NUMBER`, several of them with commas between. Names are those of
    /// [`Tuning::parameters`], `codes_ahead` and `scales_ahead` for all types, and those of one type behind its name:
    /// `q4_0.codes_ahead`.
    ///
    /// # Errors
    /// [`TuningError`] names the part that is wrong.
    pub fn with(mut self, text: &str) -> Result<Tuning, TuningError> {
        for part in text.split(',').map(str::trim) {
            let wrong = |what: String| TuningError(format!("`{part}`: {what}"));
            let (name, value) =
                part.split_once('=').ok_or_else(|| wrong("expected a setting in the form name=number".to_string()))?;
            let (name, value) = (name.trim(), value.trim());
            let value: u32 =
                value.parse().map_err(|_| wrong(format!("`{value}` is no number from 0 to {}", u32::MAX)))?;
            if !self.set(name, value) {
                let names: Vec<_> = self.parameters().into_iter().map(|(name, _)| name).collect();
                return Err(wrong(format!(
                    "there is no such setting; there are codes_ahead, scales_ahead (or for one type q4_0.codes_ahead), {}",
                    names.join(", ")
                )));
            }
        }
        Ok(self)
    }

    /// Whether there is a parameter `name`, which is `value` now.
    fn set(&mut self, name: &str, value: u32) -> bool {
        if let Some(parameter) = self.parameter(name) {
            *parameter = value;
            return true;
        }
        let (types, plane) = match name.split_once('.') {
            Some((ty, plane)) => {
                (TensorType::ALL.into_iter().filter(|t| t.name().eq_ignore_ascii_case(ty)).collect(), plane)
            }
            None => (TensorType::ALL.to_vec(), name),
        };
        for &ty in &types {
            let ahead = &mut self.ahead[ty as usize];
            match plane {
                "codes_ahead" => ahead.codes = value,
                "scales_ahead" => ahead.scales = value,
                _ => return false,
            }
        }
        !types.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read() {
        let tuning = Tuning::VNNI.with("codes_ahead=4096, Q4_0.codes_ahead=0,q6_k.scales_ahead=64,panel=1").unwrap();
        let ahead = |codes, scales| Ahead { codes, scales };
        assert_eq!(tuning.ahead(TensorType::Q8_0), ahead(4096, 1024));
        assert_eq!(tuning.ahead(TensorType::Q4_0), ahead(0, 1024));
        assert_eq!(tuning.ahead(TensorType::Q6_K), ahead(4096, 64));
        assert_eq!((tuning.panel, tuning.streamed_rows), (1, 120));
        for (name, _) in Tuning::ANY.parameters() {
            let set = Tuning::ANY.with(&format!("{name}=77")).unwrap();
            assert_eq!(set.parameters().into_iter().filter(|&(n, v)| (n, v) == (name, 77)).count(), 1, "{name}");
        }
    }

    #[test]
    fn what_is_no_setting_is_refused_with_its_name() {
        for text in ["", "panel", "panel=", "panel=-1", "panel=1,panl=2", "q4_9.codes_ahead=1", "q4_0.panel=1", "=1"] {
            let error = Tuning::ANY.with(text).unwrap_err().to_string();
            assert!(error.contains(&format!("`{}`", text.split(',').next_back().unwrap())), "{error}");
        }
    }
}
