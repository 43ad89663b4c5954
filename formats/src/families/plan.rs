//! How the layers of a family compute: the switches of the runtime's one block.

use super::keys;

/// How a block computes, where all models of a family agree, and how models say where they differ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BlockPlan {
    /// Which elements of a head RoPE turns together.
    pub rope: RopePairs,
    /// RoPE may turn a part of each head only (`partial_rotary_factor`).
    pub partial_rope: bool,
    /// A norm of queries and keys before RoPE.
    pub qk_norm: Option<QkNorm>,
    /// What is normalised before (or behind) attention and feed-forward layer, and how.
    pub norm: NormKind,
    /// What the feed-forward layer does to its gate.
    pub activation: Activation,
    /// Where there is no gate: the function of the feed-forward layer, unless the file names another.
    pub ungated: Option<Ungated>,
    /// Which layers have a window, unless the file lists them.
    pub windows: Windows,
    /// The RoPE of layers with a window, where it is another one.
    pub local_rope: Option<LocalRope>,
    /// Every so many-th layer has no RoPE (NoPE: Kazemnejad et al. 2023), unless the file lists them.
    pub without_rope: Option<usize>,
    /// Heads of queries and keys are normed without a weight behind RoPE, in layers that have one, unless a model says
    /// no; such a block has no other norm of them.
    pub bare_qk_norm: bool,
    /// Queries of layers without RoPE grow with the position (Nakanishi 2025), unless a model says no.
    pub temperature: bool,
    /// How experts are chosen and weighed, in families that have them.
    pub router: Option<Router>,
    /// Factors and caps.
    pub scales: Scales,
}

impl BlockPlan {
    /// Llama's, of which others are variations.
    pub const LLAMA: BlockPlan = BlockPlan {
        rope: RopePairs::Neighbours,
        partial_rope: false,
        qk_norm: None,
        norm: NormKind::Rms,
        activation: Activation::Silu,
        ungated: None,
        windows: Windows::None,
        local_rope: None,
        without_rope: None,
        bare_qk_norm: false,
        temperature: false,
        router: None,
        scales: Scales::NONE,
    };
}

/// The pairs of elements that RoPE turns (Su et al. 2021), of a part of `n` elements of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopePairs {
    /// (2i, 2i+1), as Meta's code has them; Hugging Face stores the rows of such a family in the order of halves.
    Neighbours,
    /// (i, i + n/2), as Hugging Face has them ("NEOX" in llama.cpp).
    Halves,
}

/// Which elements of queries and keys are normalised together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QkNorm {
    /// Each head by itself; all heads share the weight.
    Head,
    /// All heads of a token.
    Row,
}

/// A norm of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// RMSNorm (Zhang & Sennrich 2019): a weight.
    Rms,
    /// LayerNorm (Ba et al. 2016): a weight and a bias.
    Layer,
}

/// The function between the feed-forward layer's matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// SiLU (Ramachandran et al. 2017 call it swish).
    Silu,
    /// GELU, approximated by tanh (Hendrycks & Gimpel 2016).
    GeluTanh,
}

/// The function of a feed-forward layer without a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ungated {
    /// ReLU (Nair & Hinton 2010).
    Relu,
    /// GELU as it is defined, by the error function (Hendrycks & Gimpel 2016).
    Gelu,
}

impl Ungated {
    /// All of them.
    pub const ALL: [Ungated; 2] = [Ungated::Relu, Ungated::Gelu];

    /// What both config.json and a GGUF call it.
    pub fn name(self) -> &'static str {
        match self {
            Ungated::Relu => "relu",
            Ungated::Gelu => "gelu",
        }
    }
}

/// How a router weighs the experts with the highest scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Router {
    /// By the softmax of all scores: so much of an expert's output is taken (Shazeer et al. 2017).
    Softmax {
        /// The weights of those chosen are made to sum to 1, where a GGUF does not say it.
        normalised: bool,
    },
    /// By the sigmoid of each score: so much of its input is taken, and what comes out is added as it is.
    SigmoidOfInput,
}

/// Which layers have a window: a position sees itself and those before it, so many in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Windows {
    /// None.
    None,
    /// All.
    All,
    /// All but every so many-th.
    AllBut(usize),
    /// All with RoPE. They are cut into chunks: a position sees those before it in its own chunk.
    Chunks,
    /// In config.json: all, if `use_sliding_window` is true.
    AllIfUsed,
    /// In config.json: those from `max_window_layers` on, if `use_sliding_window` is true.
    Last,
}

/// The RoPE of layers with a window. Nothing stretches it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LocalRope {
    /// Its base where a file has none; `None` for the other layers' base.
    pub base: Option<f64>,
}

/// Where the factors and caps of a model stand in its config.json.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scales {
    /// Of embeddings.
    pub embedding: Scale,
    /// Of queries, for the products with keys.
    pub attention: AttentionScale,
    /// Of what attention and feed-forward layer add to the residual stream.
    pub residual: Scale,
    /// What logits are divided by.
    pub logits: Scale,
    /// The soft cap of attention's scores: `cap · tanh(score / cap)`.
    pub attention_cap: Cap,
    /// The soft cap of logits.
    pub logit_cap: Cap,
}

impl Scales {
    /// Scores are divided by the root of a head's length, and that is all.
    pub const NONE: Scales = Scales {
        embedding: Scale::One,
        attention: AttentionScale::HeadLength,
        residual: Scale::One,
        logits: Scale::One,
        attention_cap: Cap::None,
        logit_cap: Cap::None,
    };
}

/// A factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// There is none.
    One,
    /// The root of the hidden size.
    RootOfHidden,
    /// What this key of config.json says, 1 where it is absent.
    Key(&'static str),
}

/// The factor of attention's scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AttentionScale {
    /// One over the root of a head's length.
    HeadLength,
    /// What this key of config.json says, 1 where it is absent.
    Key(&'static str),
    /// One over the root of what a key of config.json says.
    InverseRoot {
        /// The key.
        key: &'static str,
        /// What it means if it is absent.
        default: f64,
        /// A GGUF does not say it. To llama.cpp, models of so many layers have `hidden size / heads`, all others the
        /// length of a head.
        layers_of_27b: usize,
    },
}

/// A soft cap.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cap {
    /// There is none.
    None,
    /// What this key of config.json says; if it is absent, the number.
    Key(&'static str, Option<f64>),
}

/// What is different in each model, or layer, of a family.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelPlan {
    /// The window of the layers that have one.
    pub window: Option<Window>,
    /// The layers with RoPE.
    pub roped: Layers,
    /// RoPE's base in layers with a window, if it is another RoPE there.
    pub local_base: Option<f64>,
    /// Norms stand behind what attention and feed-forward layer add to the residual stream, `x = norm(x + a)`, and not
    /// before it.
    pub norms_after: bool,
    /// A norm stands behind the last layer.
    pub final_norm: bool,
    /// The function of the feed-forward layer, where it has no gate.
    pub ungated: Option<Ungated>,
    /// Heads of queries and keys are normed behind RoPE ([`BlockPlan::bare_qk_norm`]).
    pub bare_qk_norm: bool,
    /// How queries of layers without RoPE grow.
    pub temperature: Option<Temperature>,
    /// The experts, if some layer has any.
    pub experts: Option<Experts>,
    /// The factor of embeddings.
    pub embedding_scale: f32,
    /// The factor of attention's scores.
    pub attention_scale: f32,
    /// The factor of what is added to the residual stream.
    pub residual_scale: f32,
    /// What logits are divided by.
    pub logit_divisor: f32,
    /// The soft cap of attention's scores.
    pub attention_cap: Option<f32>,
    /// The soft cap of logits.
    pub logit_cap: Option<f32>,
}

impl ModelPlan {
    /// What layer `i` does.
    pub fn layer(&self, i: usize) -> LayerPlan {
        let seen = self.window.as_ref().filter(|window| window.layers.contains(i));
        let window = seen.map(|window| window.length);
        let chunked = seen.is_some_and(|window| window.chunked);
        let rope = match (self.local_base, window) {
            (Some(_), Some(_)) => Rope::Local,
            _ => Rope::Global,
        };
        let experts = self.experts.as_ref().is_some_and(|experts| experts.layers.contains(i));
        let roped = self.roped.contains(i);
        LayerPlan {
            window,
            chunked,
            rope: roped.then_some(rope),
            bare_qk_norm: roped && self.bare_qk_norm,
            temperature: self.temperature.filter(|_| !roped),
            experts,
        }
    }
}

/// What one layer does in its own way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerPlan {
    /// Positions that each sees, itself among them; `None` for all before it.
    pub window: Option<usize>,
    /// The window does not slide: it begins anew after so many positions.
    pub chunked: bool,
    /// Which RoPE turns queries and keys.
    pub rope: Option<Rope>,
    /// Heads of queries and keys are normed behind it.
    pub bare_qk_norm: bool,
    /// How queries grow.
    pub temperature: Option<Temperature>,
    /// Experts stand for the feed-forward layer.
    pub experts: bool,
}

/// The factor by which queries grow: `1 + scale · ln(1 + ⌊(p + 1) / floor⌋)` at position `p`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Temperature {
    /// Positions after which it grows.
    pub floor: usize,
    /// How much.
    pub scale: f32,
}

impl Temperature {
    /// The factor at position `p`.
    pub fn at(self, p: usize) -> f32 {
        (1.0 + f64::from(self.scale) * libm::log1p(((p + 1) / self.floor) as f64)) as f32
    }
}

/// The experts of a model (Shazeer et al. 2017): feed-forward layers of which each token takes a few.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Experts {
    /// How many a layer has.
    pub count: usize,
    /// How many of them serve a token.
    pub used: usize,
    /// The width of each.
    pub feed_forward: usize,
    /// The weights of those chosen are made to sum to 1.
    pub normalised: bool,
    /// The layers that have them.
    pub layers: Layers,
}

/// One of a model's RoPEs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rope {
    /// The one that may be stretched.
    Global,
    /// That of layers with a window, where it is another one.
    Local,
}

/// A window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Positions that each sees, itself among them.
    pub length: usize,
    /// It does not slide: it begins anew after so many positions.
    pub chunked: bool,
    /// The layers that have it.
    pub layers: Layers,
}

/// Some of a model's layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layers {
    /// All.
    All,
    /// All but every so many-th: with 4, all but 3, 7, 11 and so on.
    AllBut(usize),
    /// Every so many-th alone.
    Every(usize),
    /// Those from this one on.
    From(usize),
    /// Those with a true.
    Listed(Vec<bool>),
}

impl Layers {
    /// Whether layer `i` is one of them.
    pub fn contains(&self, i: usize) -> bool {
        match self {
            Layers::All => true,
            Layers::AllBut(every) => (i + 1).checked_rem(*every) != Some(0),
            Layers::Every(every) => (i + 1).checked_rem(*every) == Some(0),
            Layers::From(first) => i >= *first,
            Layers::Listed(list) => list.get(i).copied().unwrap_or(false),
        }
    }
}

impl Layers {
    /// `usual`, if these are the same of a model's `layers`. A list has been held against the number of layers, which
    /// by itself may be any.
    pub fn or_usual(self, usual: Layers) -> Layers {
        match &self {
            Layers::Listed(list) if list.iter().enumerate().all(|(i, &has)| has == usual.contains(i)) => usual,
            _ => self,
        }
    }

    /// Whether they are any of `layers`.
    pub fn are_any_of(&self, layers: usize) -> bool {
        match self {
            Layers::Listed(list) => list.contains(&true),
            // Of two neighbours, one is there; unless none is.
            Layers::All | Layers::AllBut(_) => (0..layers.min(2)).any(|i| self.contains(i)),
            Layers::From(first) => *first < layers,
            Layers::Every(every) => (1..=layers).contains(every),
        }
    }
}

impl BlockPlan {
    /// Whether any layer has RoPE.
    pub fn has_rope(&self) -> bool {
        self.without_rope != Some(1)
    }

    /// The layers with RoPE, where nothing lists them.
    pub fn roped(&self) -> Layers {
        self.without_rope.map_or(Layers::All, Layers::AllBut)
    }
}

impl NormKind {
    /// The key of a GGUF that has its ε.
    pub fn epsilon_key(self) -> &'static str {
        match self {
            NormKind::Rms => keys::RMS_EPSILON,
            NormKind::Layer => keys::EPSILON,
        }
    }
}

impl Scale {
    /// What it is where a GGUF does not say it.
    pub fn of_gguf(self, hidden: usize) -> f32 {
        match self {
            Scale::One | Scale::Key(_) => 1.0,
            Scale::RootOfHidden => (hidden as f64).sqrt() as f32,
        }
    }
}

impl Cap {
    /// What it is where a GGUF does not say it.
    pub fn default(self) -> Option<f32> {
        match self {
            Cap::None => None,
            Cap::Key(_, default) => default.map(|cap| cap as f32),
        }
    }
}

impl Windows {
    /// The layers with a window, where nothing lists them.
    pub fn layers(self) -> Layers {
        match self {
            Windows::AllBut(every) => Layers::AllBut(every),
            // Whoever reads a model knows its layers with RoPE.
            Windows::None | Windows::Chunks | Windows::All | Windows::AllIfUsed | Windows::Last => Layers::All,
        }
    }
}

impl AttentionScale {
    /// What it is where a GGUF does not say it.
    pub fn of_gguf(self, hidden: usize, heads: usize, head_dim: usize, layers: usize) -> f32 {
        let length = match self {
            AttentionScale::InverseRoot { layers_of_27b, .. } if layers == layers_of_27b => (hidden / heads).max(1),
            _ => head_dim,
        };
        (1.0 / (length as f64).sqrt()) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_counted_from_zero() {
        let which = |layers: Layers| (0..6).filter(|&i| layers.contains(i)).collect::<Vec<_>>();
        assert_eq!(which(Layers::All), [0, 1, 2, 3, 4, 5]);
        // Gemma 2: the first has a window, the second sees all.
        assert_eq!(which(Layers::AllBut(2)), [0, 2, 4]);
        assert_eq!(which(Layers::AllBut(4)), [0, 1, 2, 4, 5]);
        // As llama.cpp takes these numbers.
        assert_eq!((which(Layers::AllBut(0)).len(), which(Layers::AllBut(1)).len()), (6, 0));
        assert_eq!(which(Layers::Every(2)), [1, 3, 5]);
        assert_eq!(which(Layers::Listed(vec![false, true])), [1]);
        assert_eq!(which(Layers::From(4)), [4, 5]);
        assert_eq!(Layers::Listed(vec![true, true, false, true]).or_usual(Layers::AllBut(3)), Layers::AllBut(3));
        let some = |layers: Layers| layers.are_any_of(2);
        assert!(some(Layers::All) && some(Layers::AllBut(2)) && !some(Layers::AllBut(1)) && !some(Layers::From(2)));
    }
}
