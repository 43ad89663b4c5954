//! The pre-tokenizers that GGUF files name.
//!
//! The names are llama.cpp's (`llama_vocab::impl::load` in src/llama-vocab.cpp); the patterns are those of the models'
//! own tokenizer.json, or llama.cpp's where it had to put several components into patterns. llama.cpp rewrites some for
//! std::regex with a loss (`\p{Lu}` becomes "no lower-case ASCII letter"); here they are as the models were trained
//! with them.

use super::edit::Edit;
use super::words::{GPT2, LLAMA3, QWEN2};
use super::{Chosen, Pretokenizer, Stage, Step};
use crate::tokenizer::error::TokenizerError;
use crate::tokenizer::vocab::SPACE;

/// Some names with one meaning.
struct Preset {
    names: &'static [&'static str],
    /// The patterns of the steps, in order; each match is a piece.
    patterns: &'static [&'static str],
    /// A word that is in the vocabulary is one token, whatever the merges say.
    ignore_merges: bool,
    /// Whether texts begin with BOS when the file does not say.
    add_bos: bool,
}

/// The name that stands for a missing one.
pub(in crate::tokenizer) const DEFAULT: &str = "default";

/// The names whose tokenizer.json normalises text to NFC (llama.cpp does not).
const NFC: &[&str] = &["qwen2", "deepseek-r1-qwen"];

const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;
/// Upper- and lower-case letters, as ranges of an older Unicode.
const DEEPSEEK_LETTERS: &str = "\
    \\s?[A-Za-z\u{B5}\u{C0}-\u{D6}\u{D8}-\u{F6}\u{F8}-\u{1BA}\u{1BC}-\u{1BF}\u{1C4}-\u{293}\u{295}-\
    \u{2AF}\u{370}-\u{373}\u{376}\u{377}\u{37B}-\u{37D}\u{37F}\u{386}\u{388}-\u{38A}\u{38C}\u{38E}-\
    \u{3A1}\u{3A3}-\u{3F5}\u{3F7}-\u{481}\u{48A}-\u{52F}\u{531}-\u{556}\u{10A0}-\u{10C5}\u{13A0}-\
    \u{13F5}\u{13F8}-\u{13FD}\u{1C90}-\u{1CBA}\u{1CBD}-\u{1CBF}\u{1D00}-\u{1D2B}\u{1D6B}-\u{1D77}\
    \u{1D79}-\u{1D9A}\u{1E00}-\u{1F15}\u{1F18}-\u{1F1D}\u{1F20}-\u{1F45}\u{1F48}-\u{1F4D}\u{1F50}-\
    \u{1F57}\u{1F59}\u{1F5B}\u{1F5D}\u{1F5F}-\u{1F7D}\u{1F80}-\u{1FB4}\u{1FB6}-\u{1FBC}\u{1FBE}\u{1FC2}-\
    \u{1FC4}\u{1FC6}-\u{1FCC}\u{1FD0}-\u{1FD3}\u{1FD6}-\u{1FDB}\u{1FE0}-\u{1FEC}\u{1FF2}-\u{1FF4}\
    \u{1FF6}-\u{1FFC}\u{2102}\u{2107}\u{210A}-\u{2113}\u{2115}\u{2119}-\u{211D}\u{2124}\u{2126}\u{2128}\
    \u{212A}-\u{212D}\u{212F}-\u{2134}\u{2139}\u{213C}-\u{213F}\u{2145}-\u{2149}\u{214E}\u{2183}\u{2184}\
    \u{2C00}-\u{2C7B}\u{2C7E}-\u{2CE4}\u{2CEB}-\u{2CEE}\u{2CF2}\u{2CF3}\u{A640}-\u{A66D}\u{A680}-\
    \u{A69B}\u{A722}-\u{A76F}\u{A771}-\u{A787}\u{A78B}-\u{A78E}\u{AB70}-\u{ABBF}\u{FB00}-\u{FB06}\
    \u{FB13}-\u{FB17}\u{FF21}-\u{FF3A}\u{FF41}-\u{FF5A}\u{10400}-\u{1044F}\u{104B0}-\u{104D3}\u{104D8}-\
    \u{104FB}\u{10C80}-\u{10CB2}\u{10CC0}-\u{10CF2}\u{118A0}-\u{118DF}\u{1E900}-\u{1E943}]+";
/// ASCII, full-width and general punctuation.
const DEEPSEEK_PUNCTUATION: &str = "\\s?[!-/:-~\u{FF01}-\u{FF0F}\u{FF1A}-\u{FF5E}\u{2018}-\u{201F}\u{3000}-\u{3002}]+";
const DEEPSEEK_CJK: &str = "[\u{4E00}-\u{9FA5}\u{800}-\u{4E00}\u{AC00}-\u{D7FF}]+";
const BLOOM: &str = " ?[^(\\s|.,!?\u{2026}\u{3002}\u{FF0C}\u{3001}\u{964}\u{6D4}\u{60C})]+";

const PRESETS: &[Preset] = &[
    Preset {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
        patterns: &[LLAMA3],
        ignore_merges: true,
        add_bos: true,
    },
    Preset { names: &["glm4"], patterns: &[LLAMA3], ignore_merges: true, add_bos: false },
    Preset { names: &["dbrx", "smaug-bpe", "chatglm-bpe"], patterns: &[LLAMA3], ignore_merges: false, add_bos: false },
    Preset {
        names: &[
            "gpt-2",
            "phi-2",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "exaone4",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
        ],
        patterns: &[GPT2],
        ignore_merges: false,
        add_bos: false,
    },
    Preset {
        names: &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"],
        patterns: &[r"\p{N}", GPT2],
        ignore_merges: false,
        add_bos: false,
    },
    Preset {
        names: &[
            "qwen2",
            "deepseek-r1-qwen",
            "stablelm2",
            "megrez",
            "hunyuan",
            "kormo",
            "f2llmv2",
            "solar-open",
            "grok-2",
        ],
        patterns: &[QWEN2],
        ignore_merges: false,
        add_bos: false,
    },
    Preset {
        names: &[DEFAULT],
        patterns: &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
        ignore_merges: false,
        add_bos: false,
    },
    Preset {
        names: &["falcon"],
        patterns: &[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"],
        ignore_merges: false,
        add_bos: false,
    },
    Preset {
        names: &["deepseek-llm"],
        patterns: &["[\r\n]", DEEPSEEK_LETTERS, DEEPSEEK_PUNCTUATION, r"\s+$", DEEPSEEK_CJK, r"\p{N}+"],
        ignore_merges: false,
        add_bos: false,
    },
    Preset {
        names: &["deepseek-coder"],
        patterns: &["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", DEEPSEEK_CJK, r"\p{N}"],
        ignore_merges: false,
        add_bos: false,
    },
    Preset {
        names: &["deepseek-v3", "hunyuan-dense", "joyai-llm"],
        patterns: &[r"\p{N}{1,3}", "[\u{4E00}-\u{9FA5}\u{3040}-\u{309F}\u{30A0}-\u{30FF}]+", DEEPSEEK3],
        ignore_merges: false,
        add_bos: false,
    },
    Preset { names: &["tekken"], patterns: &[TEKKEN], ignore_merges: true, add_bos: true },
    Preset { names: &["llama4", "gpt-4o", "kanana2"], patterns: &[GPT4O], ignore_merges: false, add_bos: false },
    Preset {
        names: &["chameleon"],
        patterns: &[
            "<sentinel:[0-9]+>",
            "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
            r"([\t\n]|    |  )",
            r"\p{N}",
            r"[\p{P}!-/:-@\[-`{-~]",
            GPT2,
        ],
        ignore_merges: false,
        add_bos: true,
    },
    Preset { names: &["bloom", "poro-chat", "gpt3-finnish"], patterns: &[BLOOM], ignore_merges: false, add_bos: false },
    Preset { names: &["viking"], patterns: &[BLOOM, r"\p{N}"], ignore_merges: false, add_bos: false },
    Preset {
        names: &["seed-coder"],
        patterns: &[
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+",
        ],
        ignore_merges: false,
        add_bos: false,
    },
    Preset {
        names: &["bailingmoe"],
        patterns: &[
            r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
        ],
        ignore_merges: false,
        add_bos: false,
    },
    Preset {
        names: &["superbpe"],
        patterns: &[r"\p{N}+", r"(?=(\d{3})+(?!\d))"],
        ignore_merges: false,
        add_bos: false,
    },
    Preset {
        names: &["minicpm5"],
        patterns: &[
            r"\p{N}{1,3}",
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ],
        ignore_merges: true,
        add_bos: false,
    },
];

/// The pre-tokenizer called `name`.
pub(in crate::tokenizer) fn find(name: &str) -> Result<Chosen, TokenizerError> {
    let Some(preset) = PRESETS.iter().find(|preset| preset.names.contains(&name)) else {
        let mut known: Vec<_> = PRESETS.iter().flat_map(|preset| preset.names).copied().collect();
        known.sort_unstable();
        return Err(TokenizerError::UnknownPre { name: name.into(), known: known.join(", ") });
    };
    let steps = preset.patterns.iter().map(|pattern| Step::isolate(pattern)).collect::<Result<_, _>>()?;
    let normalizers = if NFC.contains(&name) { vec![Edit::Nfc] } else { Vec::new() };
    let pretokenizer = Pretokenizer { normalizers, stages: vec![Stage { edits: Vec::new(), steps }] };
    Ok(Chosen { pretokenizer, ignore_merges: preset.ignore_merges, add_bos: preset.add_bos })
}

/// What SentencePiece does to text, for all models of its kind that do not say otherwise.
pub(in crate::tokenizer) fn sentence_piece(add_space_prefix: bool) -> Chosen {
    let prefix = add_space_prefix.then(|| Edit::Prepend(SPACE.into()));
    let normalizers = prefix.into_iter().chain([Edit::escape_spaces()]).collect();
    let pretokenizer = Pretokenizer { normalizers, stages: Vec::new() };
    Chosen { pretokenizer, ignore_merges: false, add_bos: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_compiles_and_loses_nothing() {
        let text = "  Hello, WORLD's 12345 años\r\n\n 中文字 <sentinel:7>\tİ'LL \u{3000}x… 👍🏽 ";
        for preset in PRESETS {
            for name in preset.names {
                let chosen = find(name).unwrap();
                let mut words = Vec::new();
                chosen.pretokenizer.split(text, &mut |word| words.push(word));
                assert_eq!(words.concat(), text, "{name}");
                assert!(words.len() > 3, "{name}: {words:?}");
            }
        }
    }

    #[test]
    fn an_unknown_name_is_an_error_that_lists_the_known_ones() {
        let message = find("llama-9").map(|_| ()).unwrap_err().to_string();
        assert!(
            message.contains("`llama-9`") && message.contains("llama-bpe") && message.contains("smollm"),
            "{message}"
        );
    }
}
