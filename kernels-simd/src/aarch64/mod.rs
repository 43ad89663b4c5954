//! The AArch64 instruction sets: one vocabulary of vectors (`vectors`) and three ways to multiply bytes.
//!
//! | name | cores | product |
//! | --- | --- | --- |
//! | `neon` | every ARMv8: Cortex-A53, A72 (Raspberry Pi 4) | `smlal` into i16 |
//! | `dotprod` | from ARMv8.2: Cortex-A76 (Raspberry Pi 5) | `sdot` |
//! | `i8mm` | from ARMv8.6: Cortex-A710, X2 | `smmla`, `sdot` |

pub(crate) mod dotprod;
pub(crate) mod i8mm;
pub(crate) mod neon;
mod tile;
mod vectors;
