//! Mixes: files whose tensors have several types, under the names that people know from llama.cpp.
//!
//! Which tensor has which type is llama.cpp's choice (`llama_tensor_get_type_impl` in `llama-quant.cpp`, the same for
//! all families here; `attn_qkv` counts as `attn_v`), so that files of one name have one size. `n` is the number of
//! layers, `i` that of a tensor's layer; a layer is *favoured* if `i < n/8`, `i ≥ 7n/8` or `(i − n/8) mod 3 = 2`,
//! divisions being whole.
//!
//! | mix | most | `attn_v` | `ffn_down` | `attn_output` |
//! | --- | --- | --- | --- | --- |
//! | Q2_K | Q2_K | Q3_K; Q4_K with 4 queries to a key or more | Q3_K | Q3_K |
//! | Q3_K_S | Q3_K | | | |
//! | Q3_K_M | Q3_K | Q4_K; Q5_K in the first 2 layers | Q4_K; Q5_K where `i < n/16` | Q4_K |
//! | Q3_K_L | Q3_K | Q5_K | Q5_K | Q5_K |
//! | Q4_K_S | Q4_K | Q5_K in the first 4 layers | Q5_K where `i < n/8` | |
//! | Q4_K_M | Q4_K | Q6_K in favoured layers | Q6_K in favoured layers | |
//! | Q5_K_S | Q5_K | | | |
//! | Q5_K_M | Q5_K | Q6_K in favoured layers | Q6_K in favoured layers | |
//! | IQ4_NL, IQ4_XS | as named | Q5_K with 4 queries to a key or more | without an imatrix Q5_K where `i < n/8` | |
//! | Q4_0, Q5_0 with an imatrix | as named | | Q4_1, Q5_1 where `i < n/8` | |
//!
//! Experts' `ffn_down_exps` count as `ffn_down`; the router, `ffn_gate_inp`, stays as it is. With eight experts, beside
//! which attention is small, `attn_k` and `attn_v` are Q8_0 in files of any quantised type, and `attn_output` is Q5_K
//! in all mixes but Q3_K_L and Q5_K.
//!
//! The head is Q6_K in all of them: `output.weight`, or `token_embd.weight` where that is missing. An embedding that is
//! not the head is of the mix's most common type. Models of 80 layers with grouped queries have their small `attn_v` in
//! Q5_K where it would be Q3_K or Q4_K. Where the rows of a tensor are no multiple of 256, Q4_0 stands for Q2_K,
//! Q3_K and TQ2_0, Q5_0 for Q4_K, Q5_1 for Q5_K, Q8_0 for Q6_K, IQ4_NL for IQ4_XS.

use quipu_quant::TensorType::{self, *};

use crate::families::names::{Parameter, Role, TensorName};

/// The mixes: `NAME most of its tensors, llama.cpp's number` (`enum llama_ftype` in `llama.h`).
macro_rules! mixes {
    ($($name:ident $base:ident, $file_type:literal;)*) => {
        /// A mix of tensor types.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(non_camel_case_types, missing_docs)]
        pub enum Mix { $($name),* }

        impl Mix {
            /// All mixes.
            pub const ALL: &[Mix] = &[$(Mix::$name),*];

            /// The mix's name.
            pub const fn name(self) -> &'static str {
                match self { $(Mix::$name => stringify!($name)),* }
            }

            /// The type of most of its tensors.
            pub const fn base(self) -> TensorType {
                match self { $(Mix::$name => TensorType::$base),* }
            }

            /// llama.cpp's number for the file.
            pub(super) const fn file_type(self) -> u32 {
                match self { $(Mix::$name => $file_type),* }
            }
        }
    };
}

mixes! {
    Q2_K   Q2_K, 10;
    Q3_K_S Q3_K, 11;
    Q3_K_M Q3_K, 12;
    Q3_K_L Q3_K, 13;
    Q4_K_S Q4_K, 14;
    Q4_K_M Q4_K, 15;
    Q5_K_S Q5_K, 16;
    Q5_K_M Q5_K, 17;
    IQ4_NL IQ4_NL, 25;
    IQ4_XS IQ4_XS, 30;
}

impl Mix {
    /// The mix called `name`, in any case. Q3_K, Q4_K and Q5_K alone stand for the M mixes, as in llama.cpp.
    pub fn from_name(name: &str) -> Option<Mix> {
        match name.to_ascii_uppercase().as_str() {
            "Q3_K" => Some(Mix::Q3_K_M),
            "Q4_K" => Some(Mix::Q4_K_M),
            "Q5_K" => Some(Mix::Q5_K_M),
            name => Mix::ALL.iter().copied().find(|m| m.name() == name),
        }
    }
}

/// What the choice of types depends on besides a tensor's name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Model {
    pub layers: usize,
    /// Query heads that share a key and value head.
    pub queries_per_key: usize,
    /// Experts of a layer.
    pub experts: usize,
    /// Types as llama.cpp takes them with an importance matrix.
    pub imatrix: bool,
}

impl Model {
    fn favoured(self, layer: usize) -> bool {
        let n = self.layers;
        layer < n / 8 || layer >= n.saturating_mul(7) / 8 || (layer - n / 8) % 3 == 2
    }

    /// The type of a matrix that is not the head, by the table of this module.
    pub fn mixed(self, mix: Mix, name: &str) -> TensorType {
        let (Some((layer, role)), base) = (matrix_of_layer(name), mix.base()) else { return mix.base() };
        // Where queries, keys and values are one matrix, it counts as the values'.
        let role = if role == Role::QueryKeyValue { Role::Value } else { role };
        if let Some(ty) = self.beside_eight_experts(mix, role) {
            return ty;
        }
        let role = if role == Role::ExpertDown { Role::Down } else { role };
        let early = layer < self.layers / 8;
        let many_queries = self.queries_per_key >= 4;
        let ty = match (mix, role) {
            (Mix::Q2_K, Role::Value) => {
                if many_queries {
                    Q4_K
                } else {
                    Q3_K
                }
            }
            (Mix::Q2_K, Role::Down | Role::AttentionOutput) => Q3_K,
            (Mix::Q3_K_M, Role::Value) => {
                if layer < 2 {
                    Q5_K
                } else {
                    Q4_K
                }
            }
            (Mix::Q3_K_M, Role::Down) => {
                if layer < self.layers / 16 {
                    Q5_K
                } else {
                    Q4_K
                }
            }
            (Mix::Q3_K_M, Role::AttentionOutput) => Q4_K,
            (Mix::Q3_K_L, Role::Value | Role::Down | Role::AttentionOutput) => Q5_K,
            (Mix::IQ4_NL | Mix::IQ4_XS, Role::Value) if many_queries => Q5_K,
            (Mix::IQ4_NL | Mix::IQ4_XS, Role::Down) if early && !self.imatrix => Q5_K,
            (Mix::Q4_K_S, Role::Value) if layer < 4 => Q5_K,
            (Mix::Q4_K_S, Role::Down) if early => Q5_K,
            (Mix::Q4_K_M | Mix::Q5_K_M, Role::Value | Role::Down) if self.favoured(layer) => Q6_K,
            _ => base,
        };
        let small = role == Role::Value && self.layers == 80 && self.queries_per_key > 1;
        if small && matches!(ty, Q3_K | Q4_K) { Q5_K } else { ty }
    }

    /// The type of attention's matrices where they are next to nothing beside the experts, if it is one of its own.
    fn beside_eight_experts(self, mix: Mix, role: Role) -> Option<TensorType> {
        let more_bits = !matches!(mix, Mix::Q3_K_L | Mix::Q5_K_S | Mix::Q5_K_M);
        match role {
            _ if self.experts != 8 => None,
            Role::Value | Role::Key => Some(Q8_0),
            Role::AttentionOutput => Some(if more_bits { Q5_K } else { mix.base() }),
            _ => None,
        }
    }

    /// The same for a file of one type.
    pub fn uniform(self, ty: TensorType, name: &str) -> TensorType {
        match (ty, matrix_of_layer(name)) {
            (_, Some((_, Role::Value | Role::Key | Role::QueryKeyValue))) if self.experts == 8 && !ty.is_float() => {
                Q8_0
            }
            (Q4_0, Some((layer, Role::Down | Role::ExpertDown))) if self.imatrix && layer < self.layers / 8 => Q4_1,
            (Q5_0, Some((layer, Role::Down | Role::ExpertDown))) if self.imatrix && layer < self.layers / 8 => Q5_1,
            _ => ty,
        }
    }
}

/// The type of the head in a file that is mostly `ty`.
pub(super) fn head(ty: TensorType) -> TensorType {
    match ty {
        F32 | F16 | BF16 | Q8_0 => ty,
        Q4_0 | Q4_1 | Q5_0 | Q5_1 | Q2_K | Q3_K | Q4_K | Q5_K | Q6_K | IQ4_NL | IQ4_XS | TQ2_0 | MXFP4 => Q6_K,
    }
}

/// What stands for a type whose blocks do not divide the rows.
pub(super) fn fallback(ty: TensorType, cols: usize) -> TensorType {
    let smaller = match ty {
        Q2_K | Q3_K | TQ2_0 => Q4_0,
        IQ4_XS => IQ4_NL,
        Q4_K => Q5_0,
        Q5_K => Q5_1,
        Q6_K => Q8_0,
        _ => F16,
    };
    [ty, smaller].into_iter().find(|t| cols.is_multiple_of(t.block_len())).unwrap_or(F16)
}

/// The layer's number and the role of a matrix of a layer, by its name.
fn matrix_of_layer(name: &str) -> Option<(usize, Role)> {
    let name = TensorName::parse(name).filter(|name| name.parameter == Parameter::Weight)?;
    Some((name.layer?, name.role))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the formula of `llama-quant.cpp` for 8 and 30 layers.
    #[test]
    fn favoured_layers() {
        let favoured = |layers| {
            let model = Model { layers, queries_per_key: 1, experts: 0, imatrix: false };
            (0..layers).filter(|&i| model.favoured(i)).collect::<Vec<_>>()
        };
        assert_eq!(favoured(8), [0, 3, 6, 7]);
        // A name can claim any number of layers.
        let endless = Model { layers: usize::MAX, queries_per_key: 1, experts: 0, imatrix: false };
        assert!(endless.favoured(0) && endless.favoured(usize::MAX));
        assert_eq!(favoured(30), [0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 26, 27, 28, 29]);
    }

    #[test]
    fn names_lead_back() {
        for &mix in Mix::ALL {
            assert_eq!(Mix::from_name(&mix.name().to_lowercase()), Some(mix));
        }
        assert_eq!(Mix::from_name("q4_k"), Some(Mix::Q4_K_M));
        assert_eq!(Mix::from_name("q3_k"), Some(Mix::Q3_K_M));
        assert_eq!(Mix::from_name("q4_0"), None);
    }
}
