//! The instruction sets, in one table.
//!
//! A new one is a file that implements [`Simd`](crate::simd::Simd), [`Gemm`](crate::gemm::Gemm) and
//! [`Roofline`](crate::ops::roofline::Roofline) for its token, and a row here. If it asks for a feature that no row has
//! asked for yet, `cpu` learns to look for that.

use std::str::FromStr;
use std::sync::OnceLock;

use crate::cpu;

/// Gives a macro the table: a row for each instruction set, the preferred one last.
///
/// A row has the documentation and the name of the variant of [`Isa`], the name on the command line, the target that
/// has it, the CPU's features that it takes, by the names that `cpu` gives them, with the names by which the compiler
/// enables them (those without one are used in assembly only), and the token that stands for all of that.
macro_rules! instruction_sets {
    ($callback:ident) => {
        $callback! {
            /// Plain Rust.
            Portable portable [all()] {} crate::portable::Portable;

            /// AVX2, FMA and F16C.
            Avx2 avx2 [target_arch = "x86_64"] {
                AVX2 "avx2", FMA "fma", F16C "f16c"
            } crate::x86_64::avx2::Avx2;

            /// AVX2, FMA, F16C and AVX-VNNI.
            AvxVnni avxvnni [target_arch = "x86_64"] {
                AVX2 "avx2", FMA "fma", F16C "f16c", AVX_VNNI "avxvnni"
            } crate::x86_64::avxvnni::AvxVnni;

            /// AVX-512 F, BW, DQ, VL and VNNI.
            Avx512Vnni avx512vnni [target_arch = "x86_64"] {
                AVX2 "avx2", FMA "fma", F16C "f16c",
                AVX512F "avx512f", AVX512DQ "avx512dq", AVX512BW "avx512bw", AVX512VL "avx512vl",
                AVX512_VNNI "avx512vnni"
            } crate::x86_64::avx512::Avx512Vnni;

            /// AVX-512 as [`Isa::Avx512Vnni`], and AMX's int8 tiles.
            Amx amx [target_arch = "x86_64"] {
                AVX2 "avx2", FMA "fma", F16C "f16c",
                AVX512F "avx512f", AVX512DQ "avx512dq", AVX512BW "avx512bw", AVX512VL "avx512vl",
                AVX512_VNNI "avx512vnni",
                AMX_TILE, AMX_INT8, XTILEDATA_PERM
            } crate::x86_64::amx::Amx;

            /// NEON of ARMv8.0.
            Neon neon [target_arch = "aarch64"] {
                NEON "neon"
            } crate::aarch64::neon::Neon;

            /// NEON with the dot product instructions of ARMv8.2.
            DotProd dotprod [target_arch = "aarch64"] {
                NEON "neon", DotProd "dotprod"
            } crate::aarch64::dotprod::DotProd;

            /// NEON with the int8 matrix instructions of ARMv8.6.
            I8mm i8mm [target_arch = "aarch64"] {
                NEON "neon", DotProd "dotprod", I8MM "i8mm"
            } crate::aarch64::i8mm::I8mm;
        }
    };
}
pub(crate) use instruction_sets;

macro_rules! define_isa {
    ($($(#[$doc:meta])* $isa:ident $name:ident [$($target:tt)*] {
        $($feature:ident $($enable:literal)?),*
    } $token:path;)*) => {
        /// An instruction set that kernels exist for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Isa {
            $($(#[$doc])* $isa,)*
        }

        impl Isa {
            /// Every instruction set, the preferred one last.
            pub const ALL: [Isa; [$(stringify!($isa)),*].len()] = [$(Isa::$isa),*];

            /// The name on the command line.
            pub fn name(self) -> &'static str {
                match self {
                    $(Isa::$isa => stringify!($name),)*
                }
            }

            /// Whether kernels for it are in this build: it belongs to the architecture.
            pub fn is_native(self) -> bool {
                match self {
                    $(Isa::$isa => cfg!($($target)*),)*
                }
            }

            /// The features that it takes, by the names of [`cpu`](crate::cpu()).
            fn needs(self) -> &'static [&'static str] {
                match self {
                    $(Isa::$isa => &[$(stringify!($feature)),*],)*
                }
            }
        }
    };
}
instruction_sets!(define_isa);

impl Isa {
    /// Those that this CPU has, the preferred one last; never empty.
    pub fn available() -> Vec<Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.is_available()).collect()
    }

    /// The preferred one of this CPU.
    pub fn best() -> Isa {
        Isa::ALL.into_iter().rev().find(|isa| isa.is_available()).unwrap_or(Isa::Portable)
    }

    /// Whether this build and this CPU can run its kernels; asked once.
    pub fn is_available(self) -> bool {
        static AVAILABLE: OnceLock<[bool; Isa::ALL.len()]> = OnceLock::new();
        AVAILABLE.get_or_init(|| Isa::ALL.map(|isa| isa.is_native() && isa.missing().is_empty()))[self as usize]
    }

    /// The features that it takes and that cannot be used here: this CPU lacks them, or the system does not save their
    /// registers.
    pub fn missing(self) -> Vec<&'static str> {
        self.needs().iter().copied().filter(|&name| !cpu::features().contains(&(name, true))).collect()
    }
}

impl std::fmt::Display for Isa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Isa {
    type Err = String;

    fn from_str(name: &str) -> Result<Isa, String> {
        Isa::ALL.into_iter().find(|isa| isa.name() == name).ok_or_else(|| {
            let known: Vec<_> = Isa::ALL.iter().map(|isa| isa.name()).collect();
            format!("unknown instruction set `{name}`; known are {}", known.join(", "))
        })
    }
}
