//! The promise across machines: what the demo model makes of a fixed text is one number, on every architecture and
//! instruction set; what a small model of each family makes of its reference's tokens, too.
//!
//! The constants guard the promise and say nothing about quality. They change only with the arithmetic that the design
//! fixes, or with the model; then all machines have to agree on the new ones.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use quipu_formats::convert::{ConvertOptions, TypeRule, write_gguf};
use quipu_quant::TensorType;
use quipu_runtime::generate::{Event, GenerateOptions, Request, Scheduler};
use quipu_runtime::sampler::SamplerOptions;
use quipu_runtime::{Engine, Isa, KvType, LoadOptions};
use quipu_tests::{Reference, load, open};

/// Of the bits of all logits after each token of [`TEXT`].
const LOGITS: u64 = 0x654b_e65a_e02e_da7b;
/// What follows the text with seed 7.
const TOKENS: [u32; 16] = [352, 40, 594, 508, 277, 537, 584, 277, 1655, 259, 861, 11, 458, 277, 654, 258];

/// The same of each checkpoint in `tests/data`: its weights as they are over keys and values in f16, and its weights in
/// Q8_0 over keys in 8 bits and values in 4.
const FAMILIES: &[(&str, [u64; 2])] = &[
    ("tiny-codellama-bf16", [0x53dc_401f_b0ff_2797, 0xe57f_b774_1d29_90a3]),
    ("tiny-dynamic-beyond-bf16", [0xfd80_3222_4e81_8072, 0x006a_2a50_59fe_259d]),
    ("tiny-dynamic-within-bf16", [0x5d16_bd2b_4ebf_1b18, 0x56e0_a1e1_75f3_2e99]),
    ("tiny-galactica-bare-bf16", [0x04d7_9a50_a6bb_fd83, 0xfc60_e64c_a92b_1158]),
    ("tiny-galactica-bf16", [0xf736_efe1_1f34_bffc, 0xe454_5a58_d72f_f5f7]),
    ("tiny-gemma2-bf16", [0x98df_06d7_0058_dd53, 0xe88b_cd23_e4be_9b64]),
    ("tiny-gemma3-bf16", [0xa547_ca06_38f7_d364, 0x6c9c_781e_bdad_aefa]),
    ("tiny-granite4-bf16", [0xe071_2c6c_450b_4bd4, 0x06cd_4031_00fc_b01d]),
    ("tiny-granite-bf16", [0xff9f_2ce2_2325_62f2, 0xea62_9c8b_cd6b_dde4]),
    ("tiny-llama2-f16", [0xeff2_38c8_880a_4a5f, 0xead2_3fd9_edf8_ae3e]),
    ("tiny-llama3-bf16", [0xbb12_0cb6_7fdf_0aa5, 0x1c91_d06b_e9bf_39c7]),
    ("tiny-llama4-bf16", [0x4bd5_698c_2e53_73ba, 0x73dc_81c3_e58b_5d4e]),
    ("tiny-llama4-dense-bf16", [0x4ac1_89ad_010a_6de4, 0x381d_5fba_1878_d3f9]),
    ("tiny-longrope-beyond-bf16", [0xd272_6233_3213_23cd, 0xcdc9_a1ee_4d2f_6072]),
    ("tiny-longrope-within-bf16", [0x132c_b824_f403_527d, 0x2c65_f0d5_8480_1b70]),
    ("tiny-mistral-bf16", [0x507c_665f_310b_e28c, 0xe21a_52e4_b843_db6a]),
    ("tiny-mixtral-bf16", [0x1f60_c275_8a04_5a0e, 0x20ec_265a_83e1_352a]),
    ("tiny-mllama-bf16", [0x822c_b769_78aa_d08d, 0xe46e_df22_95cb_1d31]),
    ("tiny-olmo2-bf16", [0x5df9_9304_2d08_7c2a, 0x2f5e_7560_5c60_355a]),
    ("tiny-olmo3-bf16", [0x18e2_9387_a6b4_d399, 0xa58b_7971_c969_2c9f]),
    ("tiny-opt-after-bf16", [0x6a3d_5104_b185_d448, 0xee31_54ac_028c_661d]),
    ("tiny-opt-bf16", [0x3e19_23cc_d75e_9924, 0xf8ab_5f2e_5b5c_e0a5]),
    ("tiny-phi3-bf16", [0x7510_25ee_0240_ec67, 0x2c3f_0f3d_b4a6_7d49]),
    ("tiny-qwen2-bf16", [0xc81d_e5ea_5312_4c43, 0x8e2a_5b53_db1f_ed18]),
    ("tiny-qwen3-bf16", [0xca93_69e7_f7cc_199c, 0x7b34_ee8b_eab6_76de]),
    ("tiny-qwen3moe-bf16", [0x7f52_db43_9265_6704, 0x9129_2e2f_13fc_bd7c]),
    ("tiny-smollm3-bf16", [0xf30f_d614_a779_56bc, 0x39f4_af50_a87d_f894]),
    ("tiny-yarn-betas-bf16", [0xc458_2d8d_0510_56be, 0x69fb_0773_85e6_393f]),
    ("tiny-yarn-bf16", [0xf275_584a_f982_a90f, 0xbae8_9200_9497_efa4]),
];

/// More than one segment of attention.
const TEXT: &str = "\
    Once upon a time there was a poor woodcutter who lived with his wife and his two children at the edge of a great forest. \
    One evening the youngest said: \"Father, why does the old mill turn when there is no wind?\" The father put down his axe, looked \
    long into the fire, and began to tell them what his own grandmother had told him. There had been a miller in those days, 37 years \
    old and as stubborn as a mule, who would grind no corn for a stranger. Then, on a winter's night, somebody knocked three times. \
    \"Who is there?\" he called, but nobody answered, and the snow fell on.";

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tales.gguf")
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo).
fn hash(rows: &[Vec<f32>]) -> u64 {
    let bytes = rows.iter().flatten().flat_map(|x| x.to_bits().to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn tokens(engine: &Engine) -> Vec<u32> {
    engine.tokenizer().encode(TEXT, true, false)
}

/// The greater part as a prompt, the rest token by token: both kinds of kernels.
fn number(engine: &mut Engine, tokens: &[u32]) -> u64 {
    let (prompt, rest) = tokens.split_at(tokens.len() - 6);
    let mut sequence = engine.new_sequence();
    let mut rows = Vec::new();
    engine.score(&mut sequence, prompt, |_, row| rows.push(row.to_vec())).expect("the prompt fits");
    for &token in rest {
        rows.push(engine.decode(&mut sequence, token).expect("the text fits").to_vec());
    }
    hash(&rows)
}

#[test]
fn the_demo_models_logits_are_one_number() {
    for isa in Isa::available() {
        let mut engine = load(&demo(), &LoadOptions::default().isa(Some(isa)));
        let tokens = tokens(&engine);
        let number = number(&mut engine, &tokens);
        assert_eq!(number, LOGITS, "{number:#x} on {isa}");
        println!("ok: {number:#x} on {isa}");
    }
}

/// That the portable kernels make the same number shows `same_bits`, in less time than an emulator takes.
#[test]
fn every_family_is_one_number() {
    let scratch = tempfile::tempdir().expect("scratch directory");
    let mut wrong = String::new();
    for reference in Reference::fixtures() {
        let name = reference.name();
        // Beyond a segment, and where the family has windows, beyond a window.
        let tokens = &reference.tokens[..reference.tokens.len().min(150)];
        let rounded = scratch.path().join(format!("{name}.gguf"));
        let to = ConvertOptions::new(TypeRule::To(TensorType::Q8_0));
        write_gguf(open(&reference.directory).as_ref(), &to, &rounded, &AtomicBool::new(false), &|_| {})
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let ways = [(reference.directory.clone(), KvType::F16), (rounded, KvType::Q8Q4)];
        let expected = FAMILIES.iter().find(|(family, _)| *family == name).map(|(_, numbers)| numbers);
        for isa in Isa::available().into_iter().filter(|&isa| isa != Isa::Portable || isa == Isa::best()) {
            let found = ways.each_ref().map(|(path, kv_type)| {
                number(&mut load(path, &reference.options().kv_type(*kv_type).isa(Some(isa))), tokens)
            });
            if expected != Some(&found) {
                wrong += &format!("\n    (\"{name}\", [{:#018x}, {:#018x}]), // {isa}", found[0], found[1]);
            }
        }
    }
    assert!(wrong.is_empty(), "these are not in the table:{wrong}");
}

/// Whoever looks at the logits side by side sees what one who looks at them in order sees, in whatever batches the
/// tokens are read.
#[test]
fn logits_side_by_side_are_those_in_order() {
    let mut engine = load(&demo(), &LoadOptions::default().batch(16));
    let (tokens, mut sequence, mut rows) = (tokens(&engine), engine.new_sequence(), Vec::new());
    engine.score(&mut sequence, &tokens, |i, row| rows.push((i, row.to_vec()))).expect("the text fits");
    for first in [0, 17, tokens.len() - 1, tokens.len()] {
        let mut sequence = engine.new_sequence();
        let found =
            engine.score_each(&mut sequence, &tokens, first, |i, row| (i, row.to_vec())).expect("the text fits");
        assert!(found == rows[first..], "from token {first} on");
    }
}

#[test]
fn the_demo_models_tale_is_one_tale() {
    let engine = load(&demo(), &LoadOptions::default());
    let tokens = tokens(&engine);
    let read = tokens.len();
    let sampler = SamplerOptions::default().seed(7);
    let request = Request::new(tokens, GenerateOptions::new(sampler).max_tokens(TOKENS.len()));
    let mut written = Vec::new();
    let end = Scheduler::new(engine).stream(request, |event| {
        if let Event::Token(token) = event {
            written.push(token.id);
        }
    });
    end.expect("it fits");
    assert_eq!(written, TOKENS, "after {read} tokens");
}

/// `QUIPU_EXPECT_ISA` is the answer that whoever chose the (emulated) CPU knows.
#[test]
fn the_best_instruction_set_is_found() {
    let found = Isa::best();
    let engine = load(&demo(), &LoadOptions::default());
    assert_eq!(engine.isa(), found);
    match std::env::var("QUIPU_EXPECT_ISA") {
        Ok(expected) => assert_eq!(found.name(), expected),
        Err(_) => {
            quipu_tests::skipped("QUIPU_EXPECT_ISA is not set, so the choice of the instruction set is not checked")
        }
    }
}
