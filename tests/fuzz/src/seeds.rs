//! Valid inputs of the targets, small ones, so that what is changed at random is something that counts.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use quipu_formats::convert::{ConvertOptions, TypeRule, write_gguf};
use quipu_formats::gguf::GgufFile;
use quipu_formats::imatrix::Imatrix;
use quipu_formats::output::Inputs;
use quipu_quant::TensorType;

use crate::models::{BASES, FILES};
use crate::place::{DATA, written};
use crate::texts::SEPARATOR;
use crate::tiny;

#[path = "../../../formats/tests/torch/build.rs"]
pub(crate) mod torch_build;
use torch_build::{checkpoint as torch_checkpoint, view};

pub(crate) const GGUF_WORDS: &[&str] = &[
    "llama",
    "qwen2",
    "qwen3",
    "gemma2",
    "gemma3",
    "phi3",
    "olmo2",
    "granite",
    "smollm3",
    "opt",
    "llama4",
    "qwen3moe",
    "gpt2",
    ".expert_count",
    ".expert_used_count",
    ".interleave_moe_layer_step",
    ".attention.chunk_size",
    "quipu.expert.layers",
    "blk.0.ffn_gate_exps.weight",
    "blk.0.ffn_up.0.weight",
    "position_embd.weight",
    ".norm_after",
    ".final_norm",
    ".activation",
    ".token_embedding_length",
    "general.architecture",
    "general.alignment",
    "split.count",
    "split.no",
    "quipu.layout",
    "r16k4",
    ".rope.scaling.type",
    "linear",
    "yarn",
    "longrope",
    ".attention.sliding_window",
    ".attention.sliding_window_pattern",
    ".attn_logit_softcapping",
    ".final_logit_softcapping",
    ".attention.scale",
    ".rope.freq_base_swa",
    "quipu.rope.layers",
    "rope_factors_long.weight",
    "tokenizer.ggml.pre",
    "tokenizer.ggml.added_tokens",
    "rope_freqs.weight",
    "blk.0.attn_q.bias",
    "output.weight",
    "imatrix",
    ".in_sum2",
    ".in_products",
    ".counts",
    "PQ",
];
pub(crate) const SAFETENSORS_WORDS: &[&str] =
    &["\"__metadata__\"", "\"data_offsets\"", "\"shape\"", "\"dtype\"", "\"F4\"", "\"C64\"", "\"BF16\"", "[0,0]", "{}"];
pub(crate) const TORCH_WORDS: &[&str] = &[
    "ctorch._utils\n_rebuild_tensor_v2\n",
    "ctorch._utils\n_rebuild_parameter\n",
    "ccollections\nOrderedDict\n",
    "ctorch\nBFloat16Storage\n",
    "cos\nsystem\n",
    "PK\x01\x02",
    "PK\x05\x06",
    "PK\x06\x06",
    "PK\x06\x07",
    "storage",
    "0",
    "2",
    "}",
    "]",
    "(",
    "t",
    "R",
    "u",
    "s",
    "b",
    "h\0",
    "q\0",
    "\u{8}",
];
pub(crate) const JSON_WORDS: &[&str] = &[
    "\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4.0},",
    "\"rope_parameters\"",
    "\"quantization_config\":{\"quant_method\":\"fp8\",\"weight_block_size\":[128,128]},",
    "\"compressed-tensors\"",
    "\"tie_word_embeddings\":true,",
    "\"architectures\":[\"Qwen3ForCausalLM\"],",
    "\"model_type\":\"qwen2\",",
    "\"layer_types\":[\"sliding_attention\",\"full_attention\"],",
    "\"sliding_window\":2,",
    "\"sliding_window_pattern\":2,",
    "\"use_sliding_window\":true,",
    "\"no_rope_layers\":[1,0],",
    "\"partial_rotary_factor\":0.5,",
    "\"attn_logit_softcapping\":50.0,",
    "\"query_pre_attn_scalar\":8,",
    "\"embedding_multiplier\":12.0,",
    "\"logits_scaling\":8.0,",
    "\"text_config\":{",
    "\"num_local_experts\":3,",
    "\"num_experts_per_tok\":1,",
    "\"interleave_moe_layer_step\":1,",
    "\"moe_layers\":[0],",
    "\"attention_chunk_size\":4,",
    "\"mlp_only_layers\":[0],",
    "\"word_embed_proj_dim\":16,",
    "\"do_layer_norm_before\":false,",
    "\"enable_bias\":false,",
    "\"added_tokens_decoder\"",
    "\"ByteLevel\"",
    "\"Metaspace\"",
    "\"Sequence\"",
    "\"Split\"",
    "\"Regex\"",
    "\"byte_fallback\":true,",
    "\"Replace\"",
    "\"Prepend\"",
    "\"NFC\"",
    "null",
    "true",
    "[]",
    "{}",
    "-1",
    "1e999",
    "\\ud800",
];
pub(crate) const TOKENIZER_WORDS: &[&str] = &[
    "\"normalizer\":",
    "\"pre_tokenizer\":",
    "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\p{L}+|\\\\s+(?!\\\\S)\"},\"behavior\":\"Isolated\",\"invert\":false}",
    "\"behavior\":\"MergedWithNext\"",
    "\"invert\":true",
    "{\"type\":\"Digits\",\"individual_digits\":true}",
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true,\"use_regex\":true}",
    "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"bb\"}",
    "(?i:",
    "(?=",
    "(?!",
    "(?<=",
    "(?>",
    "\\\\p{Han}",
    "[^\\\\s]",
    "{1,3}",
    "{0,1000}",
    "*?",
    "++",
    "▁",
    "Ġ",
    "\u{301}",
    "\u{200d}",
    "\n",
    "\r\n",
    "  ",
];
pub(crate) const TEMPLATE_WORDS: &[&str] = &[
    "{% for m in messages %}",
    "{% endfor %}",
    "{% if ",
    "{% elif ",
    "{% else %}",
    "{% endif %}",
    "{% set x = ",
    "{% set ns = namespace(a=1) %}",
    "{% set ns.a = ns.a + 1 %}",
    "{% macro f(a, b=2) %}",
    "{% endmacro %}",
    "{% call f(1) %}{% endcall %}",
    "{% filter upper %}{% endfilter %}",
    "{% generation %}{% endgeneration %}",
    "{{ ",
    " }}",
    "{%- ",
    " -%}",
    "m.content",
    "messages[0]['content']",
    "|tojson(indent=2)",
    "|join(',')",
    "|selectattr('role', 'equalto', 'user')|list",
    "|map(attribute='role')",
    "|sort(reverse=true)",
    "|groupby('role')",
    "|batch(2)",
    "|slice(2)",
    ".split(' ')",
    ".replace('a', 'b', 1)",
    ".format(1, x=2)",
    "'%s %5d' % ('a', 3)",
    "[::-1]",
    "[1:]",
    "range(10)",
    "**",
    "//",
    " is defined",
    " is not none",
    " in ",
    " not ",
    "loop.index0",
    "loop.cycle('a', 'b')",
    "raise_exception('no')",
    "strftime_now('%d %b %Y')",
    "9999999999999999999",
    "~",
];

pub(crate) fn gguf() -> Vec<Vec<u8>> {
    let types = [TensorType::Q4_0, TensorType::F32, TensorType::Q8_0, TensorType::IQ4_NL];
    let dense = ["llama", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "olmo2", "granite", "smollm3", "opt"];
    let models =
        dense.map(|name| (name, false)).into_iter().chain(["llama", "llama4", "qwen3moe"].map(|name| (name, true)));
    models.zip(types.into_iter().cycle()).map(|((name, experts), ty)| tiny::gguf(name, experts, ty)).collect()
}

pub(crate) fn packed() -> Vec<Vec<u8>> {
    let pack = |bytes: Vec<u8>| {
        let model = GgufFile::from_bytes("seed", bytes).expect("a seed is valid");
        let options = ConvertOptions::new(TypeRule::Keep).packed(true);
        written(|path| {
            drop(write_gguf(&model, &options, path, &AtomicBool::new(false), &|_| {}).expect("a valid model"))
        })
    };
    gguf().into_iter().map(pack).collect()
}

pub(crate) fn imatrix() -> Vec<Vec<u8>> {
    let mut imatrix = Imatrix::new(vec!["a text".into()], 1, 8);
    imatrix.entry("blk.0.ffn_down.weight", 8).add(&[0.5; 16], 2, 8);
    let plain = written(|path| assert!(imatrix.write(path, &Inputs::default()).expect("a temporary file") > 0));
    vec![plain]
}

pub(crate) fn safetensors() -> Vec<Vec<u8>> {
    let with = |header: &str, data: usize| {
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![7; data]].concat()
    };
    vec![
        with(
            r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]},"b":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[12,16]},"c":{"dtype":"I64","shape":[],"data_offsets":[16,24]},"d":{"dtype":"F32","shape":[0,7],"data_offsets":[24,24]}}"#,
            24,
        ),
        with("{}", 0),
    ]
}

pub(crate) fn torch() -> Vec<Vec<u8>> {
    let file = |name: &str| fs::read(Path::new(DATA).join("torch").join(name)).expect("a fixture");
    let tensors = [
        ("a.weight".to_string(), "HalfStorage", 2, vec![2, 3], vec![1; 12]),
        ("b".to_string(), "FloatStorage", 4, vec![4], vec![2; 16]),
    ];
    let mut pickle = b"\x80\x02}(".to_vec();
    pickle.extend(b"X\x01\0\0\0w");
    pickle.extend(view("FloatStorage", "0", 16, 2, &[2, 3], &[1, 4]));
    pickle.extend(b"u.");
    vec![torch_checkpoint(&tensors), pickle, file("state_dict.pt"), file("views.pt"), file("protocol4.pt")]
}

pub(crate) fn checkpoint() -> Vec<Vec<u8>> {
    let file = |base: usize, which: usize| {
        let path = Path::new(DATA).join(BASES[base]).join(FILES[which]);
        [vec![(base * FILES.len() + which) as u8], fs::read(path).expect("a fixture")].concat()
    };
    let mut seeds: Vec<_> = (0..4).map(|which| file(0, which)).collect();
    seeds.extend((1..BASES.len()).map(|base| file(base, 0)));
    let text = |which: u8, text: &str| [&[which], text.as_bytes()].concat();
    seeds.push(text(
        4,
        r#"{"metadata":{"total_size":52000},"weight_map":{"model.norm.weight":"model-00001-of-00001.safetensors"}}"#,
    ));
    seeds.push(text(5, r#"{"bos_token":{"content":"<s>","lstrip":false,"normalized":false},"unk_token":"<unk>"}"#));
    seeds.push(text(6, r#"{"<pad>":300,"<tool>":301}"#));
    seeds.push(text(7, r#"{"chat_template":"{{ messages }}"}"#));
    seeds
}

pub(crate) fn pieces() -> Vec<Vec<u8>> {
    let model = fs::read(Path::new(DATA).join("sentencepiece/tokenizer.model")).expect("a fixture");
    // The first 1,000 bytes end within a piece; the rest of the fixture is more of the same.
    let few = [&[0], &model[..1000]].concat();
    // Bytes 0 to 2 in base64, and a word of two.
    let ranks = b"\x00AA== 0\nAQ== 1\nAg== 2\nb24= 3\n".to_vec();
    let tekken = br#"{"config":{"pattern":"[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}|\\s+(?!\\S)|\\s+","num_vocab_tokens":4,"default_vocab_size":7,"default_num_special_tokens":3,"version":"v3"},"vocab":[{"rank":0,"token_bytes":"AA==","token_str":null},{"rank":1,"token_bytes":"b24=","token_str":"on"}],"special_tokens":[{"rank":0,"token_str":"<unk>","is_control":true}]}"#;
    vec![[&[0], model.as_slice()].concat(), few, ranks, [&[1], &tekken[..]].concat()]
}

pub(crate) fn tokenizer() -> Vec<Vec<u8>> {
    let input = |flags: u8, parts: [&str; 4]| {
        let mut bytes = vec![flags];
        for part in parts {
            bytes.push(SEPARATOR);
            bytes.extend(part.as_bytes());
        }
        bytes
    };
    let (tokens, merges) = ("1ab\n1bc\n1Ġa\n1abc\n3<s>\n4<tool>\n2<unk>", "a b\nb c\nĠ a\nab c");
    let text = "abc  abc\n\n1234 été's <s> <tool>\t";
    let own = r#"{"normalizer":{"type":"Sequence","normalizers":[{"type":"NFC"}]},"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"(?i:'s|'t)|\\p{L}+| ?\\p{N}{1,3}|\\s+(?!\\S)|\\s+"},"behavior":"Isolated","invert":false},{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false}]},"ignore_merges":true}"#;
    let spaces = r#"{"normalizer":{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},{"type":"Replace","pattern":{"String":" "},"content":"▁"}]},"pre_tokenizer":null,"ignore_merges":false}"#;
    let mut seeds: Vec<_> = (0..12).map(|pre| input(2 | pre << 2, ["", "1ab\n1bc\n1Ġa\n1abc", merges, text])).collect();
    seeds.push(input(2, [own, tokens, merges, text]));
    seeds.push(input(3, ["", "2<unk>\n3<s>\n1▁a\n1ab\n1▁", "", text]));
    seeds.push(input(3, [spaces, "2<unk>\n3<s>\n1▁a\n1ab\n1▁", "", text]));
    seeds
}

pub(crate) fn template() -> Vec<Vec<u8>> {
    let file = |name: &str| fs::read(Path::new(DATA).join("templates").join(name)).expect("a fixture");
    let short = "{% for m in messages %}{{ '<' ~ m.role ~ '>' + (m.content or '')|trim }}{% endfor %}";
    vec![file("chatml.jinja"), file("features.jinja"), file("tools.jinja"), short.into()]
}
