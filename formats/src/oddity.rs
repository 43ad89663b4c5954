//! What is odd about the files of a model and changes nothing that it computes.
//!
//! Where transformers or llama.cpp cope with a file, Quipu does too; but whoever made the file, or uses it elsewhere,
//! should hear of it. What would change numbers is an error instead.

use std::fmt;

/// Something odd. As text it is one line for a user, without the file's name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Oddity {
    /// The id of a special token is that of no token.
    SpecialId {
        /// The key that has it.
        key: String,
        /// The id, as the file has it.
        id: String,
        /// How many tokens there are.
        tokens: usize,
    },
    /// A special token is to be put around each text, but the file does not say which.
    NoSpecial {
        /// The key of the wish.
        flag: String,
        /// The key of the missing id.
        key: String,
    },
    /// A token that ends texts is typed as text.
    TypedAsText {
        /// Its piece.
        token: String,
    },
    /// An added token has another id than its file says.
    AddedId {
        /// Its text.
        token: String,
        /// What the file says.
        said: u32,
        /// What it has.
        id: u32,
    },
    /// A text of the metadata is no UTF-8, and was read with replacement characters.
    NotUtf8 {
        /// The text's key, or what it is.
        place: String,
    },
    /// Tensors that the model does not have.
    UnusedTensors {
        /// The first of them, by name.
        first: String,
        /// How many there are.
        count: usize,
        /// What says that the model does not have them.
        because: String,
    },
    /// config.json says that there are biases, and some are not there.
    MissingBiases {
        /// The first of them, by name.
        first: String,
        /// How many there are.
        count: usize,
    },
    /// The output matrix is said to be the embedding, but is there by itself with other values.
    OwnOutput {
        /// The output matrix's name.
        output: String,
    },
    /// The output matrix is said to be the embedding, and only the output matrix is there.
    OnlyOutput {
        /// The output matrix's name.
        output: String,
    },
    /// Names lack what they should begin with.
    NoPrefix {
        /// What is lacking.
        prefix: &'static str,
    },
    /// The weights are in several files, and no index says what is in which.
    NoIndex {
        /// How many files there are.
        files: usize,
    },
    /// Two chat templates have names of which GGUF makes one key.
    TemplateName {
        /// The one that is left out.
        name: String,
        /// The one that has the key.
        other: String,
    },
    /// ollama has more for a model than its GGUF, which is not used.
    OllamaLayers {
        /// The kinds of what there is.
        unused: Vec<&'static str>,
    },
    /// Of a model that sees images only what concerns text is read.
    TextHalf {
        /// How many tensors are left out.
        tensors: usize,
        /// How many layers look at images.
        layers: usize,
    },
    /// The matrices of experts are tensors of their own, as GGUFs had them until March 2024.
    ExpertsApart {
        /// How many there are.
        tensors: usize,
    },
    /// The class that wrote the checkpoint is not the one that writes texts.
    Class {
        /// Its name.
        found: String,
    },
}

/// `first`, and how many more there are.
struct AndMore<'a>(&'a str, usize);

impl fmt::Display for AndMore<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            0 | 1 => write!(f, "{:?}", self.0),
            n => write!(f, "{:?} and {} more", self.0, n - 1),
        }
    }
}

impl fmt::Display for Oddity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Oddity::SpecialId { key, id, tokens } => {
                write!(f, "`{key}` is {id}, but there are only {tokens} tokens: it is ignored")
            }
            Oddity::NoSpecial { flag, key } => write!(f, "`{flag}` is true, but `{key}` is missing: it is ignored"),
            Oddity::TypedAsText { token } => {
                write!(f, "the token {token:?} is typed as text: it is taken for a control token, as llama.cpp does")
            }
            Oddity::AddedId { token, said, id } => {
                write!(f, "the added token {token:?} has the id {id} and not {said}, as in Hugging Face's tokenizers")
            }
            Oddity::NotUtf8 { place } => write!(f, "{place} is no UTF-8: what cannot be read is shown as \u{FFFD}"),
            Oddity::UnusedTensors { first, count, because } => {
                write!(f, "not used, since {because}: {}", AndMore(first, *count))
            }
            Oddity::MissingBiases { first, count } => {
                write!(f, "missing and taken as zero, as transformers does: {}", AndMore(first, *count))
            }
            Oddity::OwnOutput { output } => write!(
                f,
                "`tie_word_embeddings` is true, but {output:?} is not the embedding: it is used, as transformers does"
            ),
            Oddity::OnlyOutput { output } => {
                write!(f, "the embedding is missing: {output:?} stands for it, as `tie_word_embeddings` is true")
            }
            Oddity::NoPrefix { prefix } => write!(f, "the tensors' names lack {prefix:?} at their beginning"),
            Oddity::NoIndex { files } => {
                write!(f, "there is no index: the weights are taken from all {files} files that their names count")
            }
            Oddity::TemplateName { name, other } => {
                write!(f, "the chat template {name:?} is left out: {other:?} has the same key in a GGUF")
            }
            Oddity::OllamaLayers { unused } => write!(
                f,
                "what ollama has for this model besides ({}) is not used: the chat template is the GGUF's own",
                unused.join(", ")
            ),
            Oddity::TextHalf { tensors, layers } => write!(
                f,
                "only the text half is read: {tensors} tensors are left out, those for images and those of {layers} layers that look at \
                 images and do nothing where there is none"
            ),
            Oddity::ExpertsApart { tensors } => write!(
                f,
                "the experts' matrices are {tensors} tensors, as in files from before March 2024: they are joined as they are read, \
                 which takes memory; llama.cpp refuses such a file, but reads what it is converted into"
            ),
            Oddity::Class { found } => {
                write!(f, "`architectures` says {found}: only what writes texts is read, as transformers does")
            }
        }
    }
}
