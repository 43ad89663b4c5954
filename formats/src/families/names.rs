//! What a tensor is by its name in a GGUF.
//!
//! GGUF names tensors alike in all architectures: `blk.3.attn_q.weight` is the query projection of layer 3, whatever
//! model it is of. So these names are a table by themselves, and what is asked of a file of an unknown architecture can
//! be answered too.

use std::fmt;

/// What a tensor does, in the order in which a forward pass reads them. The embedding is last: it is needed first, but
/// only a row of it, and where it is the output matrix too, all of it is needed last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The divisors of RoPE's frequencies.
    RopeFactors,
    /// LongRoPE's divisors for contexts beyond the original one.
    RopeFactorsLong,
    /// LongRoPE's divisors for contexts within the original one.
    RopeFactorsShort,
    /// The norm before attention.
    AttentionNorm,
    /// The query projection.
    Query,
    /// The key projection.
    Key,
    /// The value projection.
    Value,
    /// The three of them in one matrix, one after the other.
    QueryKeyValue,
    /// The norm of each query head.
    QueryNorm,
    /// The norm of each key head.
    KeyNorm,
    /// The projection of attention's output.
    AttentionOutput,
    /// The norm of what attention adds to the residual stream.
    AttentionPostNorm,
    /// The norm before the feed-forward layer.
    FeedForwardNorm,
    /// The feed-forward layer's gate.
    Gate,
    /// The feed-forward layer's way up; in some families the gate and, after it, the way up.
    Up,
    /// The feed-forward layer's way down.
    Down,
    /// The router's scores of experts.
    Router,
    /// The experts' gates, one after the other.
    ExpertGate,
    /// The experts' ways up.
    ExpertUp,
    /// The experts' ways down.
    ExpertDown,
    /// The gate of the expert that serves all tokens.
    SharedGate,
    /// Its way up.
    SharedUp,
    /// Its way down.
    SharedDown,
    /// The norm of what the feed-forward layer adds to the residual stream.
    FeedForwardPostNorm,
    /// The embedding of positions.
    Positions,
    /// From the embedding's width to the hidden size.
    EmbeddingIn,
    /// The norm behind the last layer.
    OutputNorm,
    /// From the hidden size to the embedding's width.
    EmbeddingOut,
    /// The output matrix.
    Output,
    /// The embedding.
    TokenEmbedding,
}

/// The input of matrices, by where it stands in the forward pass: with the number of the layer, if it is a layer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Of the query, key and value projections.
    Attention(usize),
    /// Of the projection of attention's output.
    AttentionOutput(usize),
    /// Of the feed-forward layer's gate and way up.
    FeedForward(usize),
    /// Of its way down.
    FeedForwardDown(usize),
    /// Of the experts' gates and ways up: of each expert, the tokens that it was chosen for.
    Experts(usize),
    /// Of their ways down.
    ExpertsDown(usize),
    /// Of the way down of the expert that serves all tokens.
    SharedDown(usize),
    /// Of the matrix from the embedding's width to the hidden size.
    EmbeddingIn,
    /// Of the matrix from the hidden size to the embedding's width.
    EmbeddingOut,
    /// Of the output matrix, which may be the embedding.
    Head,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 30] = [
        Role::RopeFactors,
        Role::RopeFactorsLong,
        Role::RopeFactorsShort,
        Role::AttentionNorm,
        Role::Query,
        Role::Key,
        Role::Value,
        Role::QueryKeyValue,
        Role::QueryNorm,
        Role::KeyNorm,
        Role::AttentionOutput,
        Role::AttentionPostNorm,
        Role::FeedForwardNorm,
        Role::Gate,
        Role::Up,
        Role::Down,
        Role::Router,
        Role::ExpertGate,
        Role::ExpertUp,
        Role::ExpertDown,
        Role::SharedGate,
        Role::SharedUp,
        Role::SharedDown,
        Role::FeedForwardPostNorm,
        Role::Positions,
        Role::EmbeddingIn,
        Role::OutputNorm,
        Role::EmbeddingOut,
        Role::Output,
        Role::TokenEmbedding,
    ];

    /// GGUF's name, without the layer before it and without `.weight` after it.
    pub const fn gguf(self) -> &'static str {
        match self {
            Role::RopeFactors => "rope_freqs",
            Role::RopeFactorsLong => "rope_factors_long",
            Role::RopeFactorsShort => "rope_factors_short",
            Role::AttentionNorm => "attn_norm",
            Role::Query => "attn_q",
            Role::Key => "attn_k",
            Role::Value => "attn_v",
            Role::QueryKeyValue => "attn_qkv",
            Role::QueryNorm => "attn_q_norm",
            Role::KeyNorm => "attn_k_norm",
            Role::AttentionOutput => "attn_output",
            Role::AttentionPostNorm => "post_attention_norm",
            Role::FeedForwardNorm => "ffn_norm",
            Role::Gate => "ffn_gate",
            Role::Up => "ffn_up",
            Role::Down => "ffn_down",
            Role::Router => "ffn_gate_inp",
            Role::ExpertGate => "ffn_gate_exps",
            Role::ExpertUp => "ffn_up_exps",
            Role::ExpertDown => "ffn_down_exps",
            Role::SharedGate => "ffn_gate_shexp",
            Role::SharedUp => "ffn_up_shexp",
            Role::SharedDown => "ffn_down_shexp",
            Role::FeedForwardPostNorm => "post_ffw_norm",
            Role::Positions => "position_embd",
            Role::EmbeddingIn => "token_embd_in",
            Role::OutputNorm => "output_norm",
            Role::EmbeddingOut => "token_embd_out",
            Role::Output => "output",
            Role::TokenEmbedding => "token_embd",
        }
    }

    /// Whether every layer has one.
    pub const fn is_in_layer(self) -> bool {
        let of_head = matches!(self, Role::OutputNorm | Role::EmbeddingOut | Role::Output | Role::TokenEmbedding);
        !self.is_rope_factors() && !of_head && !matches!(self, Role::Positions | Role::EmbeddingIn)
    }

    /// Whether these are divisors of RoPE's frequencies.
    pub const fn is_rope_factors(self) -> bool {
        matches!(self, Role::RopeFactors | Role::RopeFactorsLong | Role::RopeFactorsShort)
    }

    /// Whether these are matrices of experts, one after the other in one tensor.
    pub const fn is_bank(self) -> bool {
        matches!(self, Role::ExpertGate | Role::ExpertUp | Role::ExpertDown)
    }

    /// The input of the matrix with this role, in layer `layer` if layers have one; `None` where it is no matrix of a
    /// product. The embedding counts as output matrix here.
    pub const fn input(self, layer: usize) -> Option<Input> {
        match self {
            Role::Query | Role::Key | Role::Value | Role::QueryKeyValue => Some(Input::Attention(layer)),
            Role::AttentionOutput => Some(Input::AttentionOutput(layer)),
            Role::Gate | Role::Up | Role::Router | Role::SharedGate | Role::SharedUp => Some(Input::FeedForward(layer)),
            Role::Down => Some(Input::FeedForwardDown(layer)),
            Role::ExpertGate | Role::ExpertUp => Some(Input::Experts(layer)),
            Role::ExpertDown => Some(Input::ExpertsDown(layer)),
            Role::SharedDown => Some(Input::SharedDown(layer)),
            Role::EmbeddingIn => Some(Input::EmbeddingIn),
            Role::EmbeddingOut => Some(Input::EmbeddingOut),
            Role::Output | Role::TokenEmbedding => Some(Input::Head),
            Role::RopeFactors
            | Role::RopeFactorsLong
            | Role::RopeFactorsShort
            | Role::AttentionNorm
            | Role::QueryNorm
            | Role::KeyNorm
            | Role::AttentionPostNorm
            | Role::FeedForwardNorm
            | Role::FeedForwardPostNorm
            | Role::Positions
            | Role::OutputNorm => None,
        }
    }

    /// The name of the weight of a tensor that belongs to no layer.
    pub fn weight(self) -> TensorName {
        TensorName { layer: None, role: self, parameter: Parameter::Weight }
    }

    /// The name of the weight of a tensor of layer `layer`.
    pub fn weight_of(self, layer: usize) -> TensorName {
        TensorName { layer: Some(layer), ..self.weight() }
    }
}

impl Input {
    /// The first matrix that it feeds in most families, under whose name its statistics are kept: `tied` says whether
    /// the embedding is the output matrix.
    pub fn first(self, tied: bool) -> TensorName {
        match self {
            Input::Attention(layer) => Role::Query.weight_of(layer),
            Input::AttentionOutput(layer) => Role::AttentionOutput.weight_of(layer),
            Input::FeedForward(layer) => Role::Gate.weight_of(layer),
            Input::FeedForwardDown(layer) => Role::Down.weight_of(layer),
            Input::Experts(layer) => Role::ExpertGate.weight_of(layer),
            Input::ExpertsDown(layer) => Role::ExpertDown.weight_of(layer),
            Input::SharedDown(layer) => Role::SharedDown.weight_of(layer),
            Input::EmbeddingIn => Role::EmbeddingIn.weight(),
            Input::EmbeddingOut => Role::EmbeddingOut.weight(),
            Input::Head if tied => Role::TokenEmbedding.weight(),
            Input::Head => Role::Output.weight(),
        }
    }

    /// All matrices that it feeds in some family, in order.
    pub fn matrices(self, tied: bool) -> impl Iterator<Item = TensorName> {
        let layer = self.first(tied).layer;
        let other = if tied { Role::Output } else { Role::TokenEmbedding };
        let fed = move |role: &Role| role.input(layer.unwrap_or(0)) == Some(self) && *role != other;
        Role::ALL.into_iter().filter(fed).map(move |role| TensorName { layer, ..role.weight() })
    }
}

/// Which numbers of a matrix a tensor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Parameter {
    /// The matrix itself.
    Weight,
    /// What is added to its outputs.
    Bias,
    /// What its outputs are multiplied by.
    Scale,
}

impl Parameter {
    const ALL: [Parameter; 3] = [Parameter::Weight, Parameter::Bias, Parameter::Scale];

    const fn gguf(self) -> &'static str {
        match self {
            Parameter::Weight => "weight",
            Parameter::Bias => "bias",
            Parameter::Scale => "scale",
        }
    }
}

/// A tensor's name, parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TensorName {
    /// The layer that it belongs to, if to any.
    pub layer: Option<usize>,
    /// What it does there.
    pub role: Role,
    /// Which of its numbers these are.
    pub parameter: Parameter,
}

impl TensorName {
    /// The same matrix's other numbers.
    pub fn with(self, parameter: Parameter) -> TensorName {
        TensorName { parameter, ..self }
    }

    /// Parses a name of a GGUF; `None` when it is of no [`Role`] and [`Parameter`] here.
    pub fn parse(name: &str) -> Option<TensorName> {
        let (layer, rest) = match split_layer(name) {
            Some((layer, rest)) => (Some(layer), rest),
            None => (None, name),
        };
        let (role, parameter) = rest.split_once('.')?;
        let role = Role::ALL.into_iter().find(|r| r.gguf() == role && r.is_in_layer() == layer.is_some())?;
        let parameter = Parameter::ALL.into_iter().find(|p| p.gguf() == parameter)?;
        Some(TensorName { layer, role, parameter })
    }

    /// The input of the matrix whose weight this is; see [`Role::input`].
    pub fn input(self) -> Option<Input> {
        self.role.input(self.layer.unwrap_or(0)).filter(|_| self.parameter == Parameter::Weight)
    }
}

impl fmt::Display for TensorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(layer) = self.layer {
            write!(f, "{LAYER}{layer}.")?;
        }
        write!(f, "{}.{}", self.role.gguf(), self.parameter.gguf())
    }
}

/// What the names of a layer's tensors begin with.
const LAYER: &str = "blk.";

/// The layer's number and `ffn_down.weight` of `blk.3.ffn_down.weight`; what follows the number may be anything.
pub fn split_layer(name: &str) -> Option<(usize, &str)> {
    let (number, rest) = name.strip_prefix(LAYER)?.split_once('.')?;
    let layer: usize = number.parse().ok()?;
    // `+3` and `03` are numbers, but no names.
    (layer.to_string() == number).then_some((layer, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back() {
        for role in Role::ALL {
            for parameter in Parameter::ALL {
                let layer = role.is_in_layer().then_some(12);
                let name = TensorName { layer, role, parameter };
                assert_eq!(TensorName::parse(&name.to_string()), Some(name), "{name}");
            }
        }
        assert_eq!(Role::Down.weight_of(3).to_string(), "blk.3.ffn_down.weight");
        for other in [
            "blk.0.output.weight",
            "attn_q.weight",
            "blk.x.attn_q.weight",
            "blk.+3.attn_q.weight",
            "blk.03.attn_q.weight",
            "blk.1.attn_q.odd",
            "output",
        ] {
            assert_eq!(TensorName::parse(other), None, "{other}");
        }
        assert_eq!(split_layer("blk.7.unheard.of"), Some((7, "unheard.of")));
    }

    #[test]
    fn inputs_and_matrices_belong_together() {
        let names = |input: Input, tied| {
            assert_eq!(input.matrices(tied).next(), Some(input.first(tied)));
            input.matrices(tied).map(|n| n.to_string()).collect::<Vec<_>>()
        };
        let attention = ["attn_q", "attn_k", "attn_v", "attn_qkv"].map(|name| format!("blk.2.{name}.weight"));
        assert_eq!(names(Input::Attention(2), true), attention);
        assert_eq!(names(Input::AttentionOutput(2), true), ["blk.2.attn_output.weight"]);
        let parts = ["ffn_gate", "ffn_up", "ffn_gate_inp", "ffn_gate_shexp", "ffn_up_shexp"];
        let feed_forward = parts.map(|name| format!("blk.2.{name}.weight"));
        assert_eq!(names(Input::FeedForward(2), false), feed_forward);
        assert_eq!(names(Input::FeedForwardDown(2), false), ["blk.2.ffn_down.weight"]);
        assert_eq!(names(Input::Experts(2), false), ["blk.2.ffn_gate_exps.weight", "blk.2.ffn_up_exps.weight"]);
        assert_eq!(names(Input::ExpertsDown(2), false), ["blk.2.ffn_down_exps.weight"]);
        assert_eq!(names(Input::EmbeddingIn, true), ["token_embd_in.weight"]);
        assert_eq!(names(Input::EmbeddingOut, true), ["token_embd_out.weight"]);
        assert_eq!(names(Input::Head, false), ["output.weight"]);
        assert_eq!(names(Input::Head, true), ["token_embd.weight"]);
    }
}
