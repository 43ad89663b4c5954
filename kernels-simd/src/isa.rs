//! The instruction sets, in one table.
//!
//! A new one is a file that implements the traits `Simd`, `Gemm` and `Roofline` for its token, named in the `mod.rs`
//! beside it, and a row here. If it needs a feature that no row has named yet, `cpu` learns to find that.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use crate::cpu;
use crate::tuning::Tuning;

/// Calls a macro with the table: a row for each instruction set, the preferred one last.
///
/// A row states
/// - the documentation and the name of the variant of [`Isa`], and the name on the command line;
/// - in brackets, the targets that can have it;
/// - in braces, the features that it needs, by the names of `cpu`, each followed by what the compiler calls it
///   (features without such a name are used in assembly only);
/// - the token, the type that stands for all of these, and after it how kernels are tuned unless something else was
///   measured.
macro_rules! instruction_sets {
    ($callback:ident) => {
        $callback! {
            /// Plain Rust.
            Portable portable [all()] {} crate::portable::Portable => Tuning::PORTABLE;

            /// AVX2, FMA and F16C.
            Avx2 avx2 [target_arch = "x86_64"] {
                AVX2 "avx2", FMA "fma", F16C "f16c"
            } crate::x86_64::avx2::Avx2 => Tuning::AVX2;

            /// AVX2, FMA, F16C and AVX-VNNI.
            AvxVnni avxvnni [target_arch = "x86_64"] {
                AVX2 "avx2", FMA "fma", F16C "f16c", AVX_VNNI "avxvnni"
            } crate::x86_64::avxvnni::AvxVnni => Tuning::VNNI;

            /// AVX-512 F, BW, DQ, VL and VNNI.
            Avx512Vnni avx512vnni [target_arch = "x86_64"] {
                AVX2 "avx2", FMA "fma", F16C "f16c",
                AVX512F "avx512f", AVX512DQ "avx512dq", AVX512BW "avx512bw", AVX512VL "avx512vl",
                AVX512_VNNI "avx512vnni"
            } crate::x86_64::avx512::Avx512Vnni => Tuning::VNNI;

            /// AVX-512 as [`Isa::Avx512Vnni`], and AMX's int8 tiles.
            Amx amx [target_arch = "x86_64"] {
                AVX2 "avx2", FMA "fma", F16C "f16c",
                AVX512F "avx512f", AVX512DQ "avx512dq", AVX512BW "avx512bw", AVX512VL "avx512vl",
                AVX512_VNNI "avx512vnni",
                AMX_TILE, AMX_INT8, XTILEDATA_PERM
            } crate::x86_64::amx::Amx => Tuning::AMX;

            /// NEON of ARMv8.0.
            Neon neon [target_arch = "aarch64"] {
                NEON "neon"
            } crate::aarch64::neon::Neon => Tuning::ARM;

            /// NEON with the dot product instructions of ARMv8.2.
            DotProd dotprod [target_arch = "aarch64"] {
                NEON "neon", DotProd "dotprod"
            } crate::aarch64::dotprod::DotProd => Tuning::ARM;

            /// NEON with the int8 matrix instructions of ARMv8.6.
            I8mm i8mm [target_arch = "aarch64"] {
                NEON "neon", DotProd "dotprod", I8MM "i8mm"
            } crate::aarch64::i8mm::I8mm => Tuning::ARM;
        }
    };
}
pub(crate) use instruction_sets;

macro_rules! define_isa {
    ($($(#[$doc:meta])* $isa:ident $name:ident [$($target:tt)*] {
        $($feature:ident $($enable:literal)?),*
    } $token:path => $tuning:expr;)*) => {
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

            /// Whether this build has kernels for it: it belongs to this architecture.
            pub fn is_native(self) -> bool {
                match self {
                    $(Isa::$isa => cfg!($($target)*),)*
                }
            }

            /// How its kernels are tuned unless something else was measured.
            pub fn tuning(self) -> Tuning {
                match self {
                    $(Isa::$isa => $tuning,)*
                }
            }

            /// The features that it needs, by the names of [`cpu`](crate::cpu()).
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
    /// Those that run here, the preferred one last; [`Isa::Portable`] always does.
    pub fn available() -> Vec<Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.is_available()).collect()
    }

    /// The preferred one of those that run here.
    pub fn best() -> Isa {
        Isa::ALL.into_iter().rev().find(|isa| isa.is_available()).unwrap_or(Isa::Portable)
    }

    /// Whether it runs here: this build has kernels for it, this CPU its features. The CPU is asked once.
    pub fn is_available(self) -> bool {
        static AVAILABLE: OnceLock<[bool; Isa::ALL.len()]> = OnceLock::new();
        AVAILABLE.get_or_init(|| Isa::ALL.map(|isa| isa.is_native() && isa.missing().is_empty()))[self as usize]
    }

    /// The features that it needs and that cannot be used here, by the names of the manufacturer's manual: this CPU
    /// lacks them, or the system does not save their registers.
    pub fn missing(self) -> Vec<&'static str> {
        self.needs().iter().copied().filter(|&name| !cpu::features().contains(&(name, true))).collect()
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Isa {
    type Err = UnknownIsa;

    fn from_str(name: &str) -> Result<Isa, UnknownIsa> {
        Isa::ALL.into_iter().find(|isa| isa.name() == name).ok_or_else(|| UnknownIsa(name.to_string()))
    }
}

/// No instruction set has this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownIsa(String);

impl fmt::Display for UnknownIsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown instruction set `{}`; known are {}", self.0, Isa::ALL.map(Isa::name).join(", "))
    }
}

impl std::error::Error for UnknownIsa {}
