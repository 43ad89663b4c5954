//! The prompt for what stands between two texts, for models that were trained to write that (Bavarian et al. 2022).

use std::str::FromStr;

use crate::tokenizer::Tokenizer;

/// The tokens for what comes before, what comes after, and what is to be written, as families spell them.
const NAMES: &[[&str; 3]] = &[
    // Code Llama's.
    ["▁<PRE>", "▁<SUF>", "▁<MID>"],
    // Qwen2.5-Coder, CodeGemma, Llama 4, Granite 4.
    ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"],
    // StarCoder, Granite's code models.
    ["<fim_prefix>", "<fim_suffix>", "<fim_middle>"],
    // SantaCoder.
    ["<fim-prefix>", "<fim-suffix>", "<fim-middle>"],
    // DeepSeek-Coder.
    ["<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"],
];

/// What merges with no letter in any vocabulary; Meta's code has it, too.
const LEAD: char = '☺';

/// The tokens that say which text is which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InfillTokens {
    /// What stands before the gap begins here.
    pub prefix: u32,
    /// What stands behind it.
    pub suffix: u32,
    /// What is to be written.
    pub middle: u32,
}

/// Which text is told first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InfillOrder {
    /// Prefix, suffix, middle: `PRE before SUF after MID`.
    #[default]
    PrefixFirst,
    /// Suffix, prefix, middle: `PRE SUF after MID before`, as Code Llama, StarCoder and CodeGemma were trained, too.
    SuffixFirst,
}

/// Why tokens for infilling cannot be those that somebody names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InfillError {
    /// There are not three names.
    #[error("expected three tokens, PREFIX,SUFFIX,MIDDLE, found {found}")]
    Count {
        /// How many there are.
        found: usize,
    },
    /// The vocabulary lacks one.
    #[error("the model's vocabulary has no token {name:?}")]
    Unknown {
        /// Its name.
        name: String,
    },
}

/// The names of the tokens for what comes before, what comes after, and what is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InfillNames([String; 3]);

impl FromStr for InfillNames {
    type Err = InfillError;

    /// Reads three names with commas between them.
    fn from_str(text: &str) -> Result<InfillNames, InfillError> {
        let names: Vec<String> = text.split(',').map(|name| name.trim().to_string()).collect();
        names.try_into().map(InfillNames).map_err(|names: Vec<String>| InfillError::Count { found: names.len() })
    }
}

impl InfillTokens {
    /// Those that the model's file names, or that its vocabulary has under a name that is known; nothing for a model
    /// that has none.
    pub fn of(tokenizer: &Tokenizer) -> Option<InfillTokens> {
        let named = |[prefix, suffix, middle]: &[&str; 3]| {
            let id = |name: &str| tokenizer.id(name);
            Some(InfillTokens { prefix: id(prefix)?, suffix: id(suffix)?, middle: id(middle)? })
        };
        let of_file = tokenizer.infill_ids().map(|[prefix, suffix, middle]| InfillTokens { prefix, suffix, middle });
        of_file.or_else(|| NAMES.iter().find_map(named))
    }

    /// Those with these names.
    ///
    /// # Errors
    /// When the vocabulary lacks one.
    pub fn named(tokenizer: &Tokenizer, names: &InfillNames) -> Result<InfillTokens, InfillError> {
        let id = |name: &String| tokenizer.id(name).ok_or_else(|| InfillError::Unknown { name: name.clone() });
        let [prefix, suffix, middle] = &names.0;
        Ok(InfillTokens { prefix: id(prefix)?, suffix: id(suffix)?, middle: id(middle)? })
    }

    /// The prompt for what stands between `before` and `after`, in which names of control tokens are text. It begins
    /// with BOS if the model wants one.
    ///
    /// ```
    /// use quipu_runtime::generate::{InfillOrder, InfillTokens};
    /// # use quipu_runtime::tokenizer::Tokenizer;
    /// # fn f(tokenizer: &Tokenizer) -> Option<Vec<u32>> {
    /// let marks = InfillTokens::of(tokenizer)?;
    /// let prompt = marks.prompt(tokenizer, "fn add(a: i32, b: i32) -> i32 {\n", "\n}\n", InfillOrder::PrefixFirst);
    /// # Some(prompt)
    /// # }
    /// ```
    pub fn prompt(self, tokenizer: &Tokenizer, before: &str, after: &str, order: InfillOrder) -> Vec<u32> {
        let InfillTokens { prefix, suffix, middle } = self;
        let (before, after) = (tokenizer.encode(before, false, false), continuation(tokenizer, after));
        let parts: [&[u32]; 5] = match order {
            InfillOrder::PrefixFirst => [&[prefix], &before, &[suffix], &after, &[middle]],
            InfillOrder::SuffixFirst => [&[prefix, suffix], &after, &[middle], &before, &[]],
        };
        let bos = tokenizer.bos().filter(|_| tokenizer.add_bos());
        bos.into_iter().chain(parts.concat()).collect()
    }
}

/// The tokens of a text in the middle of a line: without the space that some tokenizers put before every text.
fn continuation(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let encode = |text: &str| tokenizer.encode(text, false, false);
    if !tokenizer.adds_space_prefix() {
        return encode(text);
    }
    let tokens = encode(&format!("{LEAD}{text}"));
    tokens.strip_prefix(encode(&LEAD.to_string()).as_slice()).map_or_else(|| encode(text), <[u32]>::to_vec)
}
