//! The tokenizer itself: what a model file says about its vocabulary, and text to ids.

use std::collections::BTreeSet;
use std::ops::Range;

use quipu_formats::gguf::{Metadata, Required, Value};
use quipu_formats::oddity::Oddity;

use super::added::{self, AddedTokens};
use super::bpe::Bpe;
use super::error::TokenizerError;
use super::pre::{Pretokenizer, Trusted, hugging_face, presets};
use super::special::Span;
use super::spm::Spm;
use super::vocab::{Spelling, TokenKind, Vocab};

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const BOS: &str = "tokenizer.ggml.bos_token_id";
const EOS: &str = "tokenizer.ggml.eos_token_id";
const UNKNOWN: &str = "tokenizer.ggml.unknown_token_id";
const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
const ADD_EOS: &str = "tokenizer.ggml.add_eos_token";
const ADD_SPACE_PREFIX: &str = "tokenizer.ggml.add_space_prefix";

/// Quipu's own key: all ids that end a generation, where the model names more of them than GGUF's keys can.
const END_IDS: &str = "quipu.tokenizer.eos_token_ids";

/// Further ids that end a generation.
const END_KEYS: &[&str] = &[
    "tokenizer.ggml.eot_token_id",
    "tokenizer.ggml.eom_token_id",
    "tokenizer.ggml.fim_pad_token_id",
    "tokenizer.ggml.fim_rep_token_id",
    "tokenizer.ggml.fim_sep_token_id",
];

/// The tokens for what comes before a gap, what comes after it, and what is to be written, by their present keys and by
/// those of older files.
const INFILL_KEYS: [[&str; 3]; 2] = [
    ["tokenizer.ggml.fim_pre_token_id", "tokenizer.ggml.fim_suf_token_id", "tokenizer.ggml.fim_mid_token_id"],
    ["tokenizer.ggml.prefix_token_id", "tokenizer.ggml.suffix_token_id", "tokenizer.ggml.middle_token_id"],
];

/// Pieces that end a generation, whatever the file calls them (llama.cpp's list in src/llama-vocab.cpp, less
/// what only other architectures have).
const END_PIECES: &[&str] = &[
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|end|>",
    "<|eot|>",
    "<|eom|>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<EOT>",
    "_<EOT>",
    // Code Llama's, behind what stands between two texts.
    "▁<EOT>",
    "[EOT]",
    "[EOS]",
    "</s>",
    "<eos>",
    "<｜end▁of▁sentence｜>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
];

/// A model's vocabulary and the way text becomes tokens of it.
#[derive(Debug)]
pub struct Tokenizer {
    vocab: Vocab,
    algorithm: Algorithm,
    added: AddedTokens,
    bos: Option<u32>,
    eos: Option<u32>,
    add_bos: bool,
    add_eos: bool,
    ends: BTreeSet<u32>,
    infill: Option<[u32; 3]>,
    oddities: Vec<Oddity>,
}

/// A part of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'t> {
    /// Text in which the pieces of control tokens (`<|eot_id|>`) stand for these tokens.
    Template(&'t str),
    /// Text in which they are text.
    Data(&'t str),
    /// Tokens.
    Tokens(&'t [u32]),
}

#[derive(Debug)]
enum Algorithm {
    Bpe(Bpe),
    Spm(Spm),
}

impl Algorithm {
    fn pretokenizer(&self) -> &Pretokenizer {
        match self {
            Algorithm::Bpe(bpe) => bpe.pretokenizer(),
            Algorithm::Spm(spm) => spm.pretokenizer(),
        }
    }
}

impl Tokenizer {
    /// Reads the vocabulary and its rules from the keys `tokenizer.ggml.*`, or, for the pre-tokenizer, from
    /// `quipu.tokenizer.pre` where that exists.
    pub fn from_metadata(metadata: &Metadata) -> Result<Tokenizer, TokenizerError> {
        let name = metadata.str_opt(MODEL).required(MODEL)?;
        let spelling = match name {
            "gpt2" => Spelling::ByteLevel,
            "llama" => Spelling::SentencePiece,
            _ => return Err(TokenizerError::UnknownModel { model: name.into() }),
        };
        let mut vocab = Vocab::read(metadata, spelling)?;

        // SentencePiece's own defaults, which Llama 2 has.
        let implied = |id| (spelling == Spelling::SentencePiece && id < vocab.len() as u32).then_some(id);
        let mut oddities = Vec::new();
        let bos = special_id(metadata, &vocab, BOS, &mut oddities)?.or(implied(1));
        let eos = special_id(metadata, &vocab, EOS, &mut oddities)?.or(implied(2));
        let unknown = special_id(metadata, &vocab, UNKNOWN, &mut oddities)?
            .or(implied(0).filter(|id| !vocab.has_kinds || vocab.kind(*id) == TokenKind::Unknown));
        let ends = find_ends(metadata, &mut vocab, bos, eos, &mut oddities)?;
        let infill = find_infill(metadata, &vocab, &mut oddities)?;
        let listed = added::read_list(metadata, &mut vocab, &ends)?;

        let exact = metadata.str_opt(hugging_face::KEY)?;
        let chosen = match (exact, spelling) {
            (Some(json), _) => hugging_face::read(json, spelling)?,
            (None, Spelling::ByteLevel) => presets::find(metadata.str_opt(PRE)?.unwrap_or(presets::DEFAULT))?,
            (None, Spelling::SentencePiece) => {
                presets::sentence_piece(metadata.bool_opt(ADD_SPACE_PREFIX)?.unwrap_or(true))
            }
        };
        let algorithm = match spelling {
            Spelling::ByteLevel => {
                Algorithm::Bpe(Bpe::read(metadata, &vocab, chosen.pretokenizer, chosen.ignore_merges)?)
            }
            Spelling::SentencePiece => Algorithm::Spm(Spm::read(metadata, &vocab, chosen.pretokenizer, unknown)?),
        };

        let mut wish = |flag: &str, key: &str, id: Option<u32>, default: bool| {
            let wish = metadata.bool_opt(flag)?;
            if wish == Some(true) && id.is_none() {
                oddities.push(Oddity::NoSpecial { flag: flag.into(), key: key.into() });
            }
            Ok::<_, TokenizerError>(wish.unwrap_or(default) && id.is_some())
        };
        let add_bos = wish(ADD_BOS, BOS, bos, chosen.add_bos)?;
        let add_eos = wish(ADD_EOS, EOS, eos, false)?;

        let added = AddedTokens::new(listed, &vocab, algorithm.pretokenizer())?;
        Ok(Tokenizer { vocab, algorithm, added, bos, eos, add_bos, add_eos, ends, infill, oddities })
    }

    /// What is odd about the keys; a user should be told.
    pub fn oddities(&self) -> &[Oddity] {
        &self.oddities
    }

    /// The number of tokens. A model's logits may be more: the rest was never trained.
    pub fn vocab_size(&self) -> usize {
        self.vocab.len()
    }

    /// The tokens of `text`.
    ///
    /// `add_special` puts BOS before them and EOS after them, as far as the model wants these, and never a second time.
    /// `parse_special` lets control tokens stand in the text as their pieces (`<|eot_id|>`), which is right for
    /// rendered templates and wrong for what others wrote; without it they are plain text.
    pub fn encode(&self, text: &str, add_special: bool, parse_special: bool) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 4 + 2);
        let AddedTokens { verbatim, normalized } = &self.added;
        let mut first = true;
        verbatim.partition(text, parse_special, |span| {
            match span {
                Span::Text(part) => {
                    let (text, begins) = self.algorithm.pretokenizer().normalize_beginning(&text[part], first);
                    normalized.partition(&text, parse_special, |span| self.encode_span(&text, begins, span, &mut ids));
                }
                Span::Token(id) => ids.push(id),
            }
            first = false;
        });
        if let Some(bos) = self.bos
            && add_special
            && self.add_bos
            && ids.first() != Some(&bos)
        {
            ids.insert(0, bos);
        }
        if let Some(eos) = self.eos
            && add_special
            && self.add_eos
            && ids.last() != Some(&eos)
        {
            ids.push(eos);
        }
        ids
    }

    /// The tokens of all parts together, nothing put before or after them. Neighbouring texts are cut into words as one
    /// text; a control token is found only where all of it stands in [`Part::Template`], user-defined tokens anywhere.
    pub fn encode_parts(&self, parts: &[Part<'_>]) -> Vec<u32> {
        let mut ids = Vec::new();
        let mut first = true;
        let (mut text, mut trusted) = (String::new(), Vec::<Range<usize>>::new());
        for (i, part) in parts.iter().enumerate() {
            match *part {
                Part::Template(more) => {
                    let end = text.len() + more.len();
                    match trusted.last_mut() {
                        Some(last) if last.end == text.len() => last.end = end,
                        _ => trusted.push(text.len()..end),
                    }
                    text.push_str(more);
                }
                Part::Data(more) => text.push_str(more),
                Part::Tokens(tokens) => {
                    first &= tokens.is_empty();
                    ids.extend_from_slice(tokens);
                }
            }
            if i + 1 == parts.len() || matches!(parts[i + 1], Part::Tokens(_)) {
                self.encode_trusted(&text, &trusted, &mut first, &mut ids);
                text.clear();
                trusted.clear();
            }
        }
        ids
    }

    /// Appends the tokens of `text`, whose `trusted` parts may have control tokens in them.
    fn encode_trusted(&self, text: &str, trusted: &[Range<usize>], first: &mut bool, ids: &mut Vec<u32>) {
        let AddedTokens { verbatim, normalized } = &self.added;
        verbatim.partition_trusted(text, trusted, |span| {
            match span {
                // Nearly all models have no control tokens in normalised text.
                Span::Text(part) if !normalized.has_special() => {
                    let (text, begins) = self.algorithm.pretokenizer().normalize_beginning(&text[part], *first);
                    normalized.partition(&text, false, |span| self.encode_span(&text, begins, span, ids));
                }
                Span::Text(part) => {
                    let within = Trusted::within(text, part, trusted);
                    let (within, begins) = self.algorithm.pretokenizer().normalize_trusted(within, *first);
                    let Trusted { text, parts } = within;
                    normalized.partition_trusted(&text, &parts, |span| self.encode_span(&text, begins, span, ids));
                }
                Span::Token(id) => ids.push(id),
            }
            *first = false;
        });
    }

    /// Appends the tokens of `span` of the normalised `text`, whose first `begins` bytes come of the first character of
    /// everything.
    fn encode_span(&self, text: &str, begins: usize, span: Span, ids: &mut Vec<u32>) {
        let part = match span {
            Span::Token(id) => return ids.push(id),
            Span::Text(part) => part,
        };
        let (text, begins) = (&text[part.clone()], begins.saturating_sub(part.start).min(part.len()));
        match &self.algorithm {
            Algorithm::Bpe(bpe) => bpe.encode(&self.vocab, text, begins, ids),
            Algorithm::Spm(spm) => spm.encode(&self.vocab, text, begins, ids),
        }
    }

    /// Whether `text` begins with the piece of a control or user-defined token.
    pub(crate) fn begins_with_mark(&self, text: &str) -> bool {
        let AddedTokens { verbatim, normalized } = &self.added;
        verbatim.begins(text) || normalized.begins(&self.algorithm.pretokenizer().normalize(text))
    }

    /// The bytes that token `id` puts into a text, which need not be whole characters. Nothing for control and unknown
    /// tokens unless `special`, and nothing beyond the vocabulary.
    pub fn token_bytes(&self, id: u32, special: bool) -> &[u8] {
        match self.kind(id) {
            TokenKind::Control | TokenKind::Unknown if !special => &[],
            _ => self.vocab.text(id),
        }
    }

    /// The vocabulary's entry, as the file spells it; empty beyond the vocabulary.
    pub fn piece(&self, id: u32) -> &str {
        self.vocab.piece(id)
    }

    /// The token whose vocabulary entry is `piece`.
    pub fn id(&self, piece: &str) -> Option<u32> {
        self.vocab.id(piece.as_bytes())
    }

    /// What kind of token `id` is.
    pub fn kind(&self, id: u32) -> TokenKind {
        self.vocab.kind(id)
    }

    /// Whether `id` is a mark for the model and no text.
    pub fn is_control(&self, id: u32) -> bool {
        self.kind(id) == TokenKind::Control
    }

    /// The token that begins a sequence.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token that ends a sequence.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// Whether sequences begin with BOS.
    pub fn add_bos(&self) -> bool {
        self.add_bos
    }

    /// Whether sequences end with EOS.
    pub fn add_eos(&self) -> bool {
        self.add_eos
    }

    /// The tokens for what comes before a gap, what comes after it, and what is to be written, if the file names them.
    pub(crate) fn infill_ids(&self) -> Option<[u32; 3]> {
        self.infill
    }

    /// Whether a text gets a space in front, which decoding takes away again.
    pub fn adds_space_prefix(&self) -> bool {
        matches!(&self.algorithm, Algorithm::Spm(spm) if spm.adds_space_prefix())
    }

    /// Whether a model that writes `id` has finished: EOS, the end of a turn or of a message.
    pub fn is_end_of_generation(&self, id: u32) -> bool {
        self.ends.contains(&id)
    }

    /// The tokens that [`Tokenizer::is_end_of_generation`] is true for.
    pub fn ends(&self) -> impl Iterator<Item = u32> + '_ {
        self.ends.iter().copied()
    }
}

/// The token that `key` names. Some writers put −1 for none, others ids beyond the vocabulary.
fn special_id(
    metadata: &Metadata,
    vocab: &Vocab,
    key: &str,
    oddities: &mut Vec<Oddity>,
) -> Result<Option<u32>, TokenizerError> {
    match metadata.get(key) {
        None | Some(Value::I32(-1) | Value::I64(-1) | Value::U32(u32::MAX)) => Ok(None),
        Some(Value::I32(id @ ..0)) => Ok(checked(vocab, key, i64::from(*id), oddities)),
        Some(Value::I64(id)) => Ok(checked(vocab, key, *id, oddities)),
        Some(_) => Ok(metadata.u32_opt(key)?.and_then(|id| checked(vocab, key, i64::from(id), oddities))),
    }
}

/// `id`, if it is that of a token.
fn checked(vocab: &Vocab, key: &str, id: i64, oddities: &mut Vec<Oddity>) -> Option<u32> {
    let tokens = vocab.len();
    let token = u32::try_from(id).ok().filter(|&id| (id as usize) < tokens);
    if token.is_none() {
        oddities.push(Oddity::SpecialId { key: key.into(), id: id.to_string(), tokens });
    }
    token
}

/// The first of [`INFILL_KEYS`] that are all there.
fn find_infill(
    metadata: &Metadata,
    vocab: &Vocab,
    oddities: &mut Vec<Oddity>,
) -> Result<Option<[u32; 3]>, TokenizerError> {
    for keys in INFILL_KEYS {
        let mut ids = [None; 3];
        for (id, key) in ids.iter_mut().zip(keys) {
            *id = special_id(metadata, vocab, key, oddities)?;
        }
        if let [Some(prefix), Some(suffix), Some(middle)] = ids {
            return Ok(Some([prefix, suffix, middle]));
        }
    }
    Ok(None)
}

/// The tokens that end a generation. Where the file leaves their kind open, or takes them for text, this makes them
/// control tokens, so that they are not printed and text cannot forge them.
fn find_ends(
    metadata: &Metadata,
    vocab: &mut Vocab,
    bos: Option<u32>,
    eos: Option<u32>,
    oddities: &mut Vec<Oddity>,
) -> Result<BTreeSet<u32>, TokenizerError> {
    let mut ends: BTreeSet<u32> = eos.into_iter().collect();
    for key in END_KEYS {
        ends.extend(special_id(metadata, vocab, key, oddities)?);
    }
    for id in metadata.i32s_opt(END_IDS)?.unwrap_or_default() {
        ends.extend(checked(vocab, END_IDS, i64::from(*id), oddities));
    }
    // As in llama.cpp, a token that looks like an end is one, even if it is typed as text.
    let looks_so = |id: &u32| {
        let kinds = [TokenKind::Control, TokenKind::UserDefined, TokenKind::Normal];
        !vocab.has_kinds || kinds.contains(&vocab.kind(*id))
    };
    ends.extend(END_PIECES.iter().filter_map(|piece| vocab.id(piece.as_bytes())).filter(looks_so));
    for id in ends.iter().copied().chain(bos) {
        let typed_as_text =
            vocab.has_kinds && vocab.kind(id) == TokenKind::Normal && END_PIECES.contains(&vocab.piece(id));
        if typed_as_text {
            oddities.push(Oddity::TypedAsText { token: vocab.piece(id).into() });
        }
        if !vocab.has_kinds || vocab.kind(id) == TokenKind::UserDefined || typed_as_text {
            vocab.set_kind(id, TokenKind::Control);
        }
    }
    Ok(ends)
}
