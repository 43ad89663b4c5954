//! Where a directory is not quite as it should be and transformers copes, so does Quipu, and says so.

use quipu_formats::families::names::Role;
use quipu_formats::hf::HfDirectory;
use quipu_formats::oddity::Oddity;
use quipu_formats::source::{Encoding, Source};
use quipu_quant::TensorType;
use serde_json::json;

use crate::build::*;

const EMBEDDING: &str = "model.embed_tokens.weight";

fn values(hf: &HfDirectory, name: &str) -> Vec<f32> {
    let index = hf.find(name).unwrap_or_else(|| panic!("no {name}"));
    hf.values(index, 0..hf.tensors()[index].rows())
}

fn original(name: &str, len: usize) -> Vec<f32> {
    (0..len).map(|i| value(name, i)).collect()
}

/// The same tensors, with the same values, but for what is named.
fn assert_same(hf: &HfDirectory, other: &HfDirectory, but: &[&str]) {
    assert_eq!(hf.tensors().len(), other.tensors().len());
    for (i, info) in hf.tensors().iter().enumerate().filter(|(_, info)| !but.contains(&info.name.as_str())) {
        assert_eq!(hf.values(i, 0..info.rows()), values(other, &info.name), "{}", info.name);
    }
}

#[test]
fn an_output_matrix_of_its_own_is_used_whatever_tie_word_embeddings_says() {
    let (hf, _dir) = Llama::new().set("tie_word_embeddings", json!(true)).open().unwrap();
    assert!(!hf.config().tied && !hf.is_tied());
    let (untied, _dir) = Llama::new().open().unwrap();
    assert_same(&hf, &untied, &[]);
    assert_eq!(hf.oddities(), [Oddity::OwnOutput { output: "lm_head.weight".into() }]);
    assert!(untied.oddities().is_empty());
}

/// A copy of the embedding, which some training code saves, is no matrix of its own.
#[test]
fn a_copy_of_the_embedding_is_passed_over() {
    let llama = Llama::new().set("tie_word_embeddings", json!(true));
    let dir = tempfile::tempdir().unwrap();
    llama.write_small_files(dir.path());
    let mut tensors = llama.payload();
    let embedding = tensors.iter().find(|t| t.0 == EMBEDDING).unwrap().3.clone();
    tensors.iter_mut().find(|t| t.0 == "lm_head.weight").unwrap().3 = embedding;
    std::fs::write(dir.path().join("model.safetensors"), safetensors(&tensors)).unwrap();
    let hf = HfDirectory::open(dir.path()).unwrap();
    assert!(hf.is_tied() && hf.oddities().is_empty());
    assert_eq!(hf.output_matrix(), Role::TokenEmbedding.weight());
}

#[test]
fn a_tied_model_with_nothing_but_the_output_matrix_takes_that() {
    let tied = Llama::new().set("tie_word_embeddings", json!(true)).drop_tensor(EMBEDDING);
    let (hf, _dir) = tied.open().unwrap();
    assert!(hf.is_tied());
    assert_eq!(values(&hf, "token_embd.weight"), original("lm_head.weight", VOCAB * HIDDEN));
    assert_eq!(hf.oddities(), [Oddity::OnlyOutput { output: "lm_head.weight".into() }]);
}

#[test]
fn names_without_the_prefix_are_those_of_the_layers_alone() {
    let mut llama = Llama::new().set("architectures", json!(["LlamaModel"]));
    llama.tensors.iter_mut().for_each(|(name, _)| *name = name.trim_start_matches("model.").into());
    let (hf, _dir) = llama.open().unwrap();
    assert_eq!(values(&hf, "token_embd.weight"), original("embed_tokens.weight", VOCAB * HIDDEN));
    assert_eq!(values(&hf, "blk.1.ffn_up.weight"), original("layers.1.mlp.up_proj.weight", FFN * HIDDEN));
    let expected = [Oddity::Class { found: "LlamaModel".into() }, Oddity::NoPrefix { prefix: "model." }];
    assert_eq!(hf.oddities(), expected);
}

#[test]
fn missing_biases_are_zeros() {
    let llama = Llama::new().set("attention_bias", json!(true));
    let q = "model.layers.0.self_attn.q_proj.bias";
    let (hf, _dir) = llama.tensor(q, &[HEADS * HEAD_DIM]).open().unwrap();
    assert!(values(&hf, "blk.0.attn_q.bias").iter().any(|&b| b != 0.0));
    for name in ["blk.1.attn_q.bias", "blk.0.attn_k.bias", "blk.1.attn_v.bias", "blk.0.attn_output.bias"] {
        let bias = values(&hf, name);
        assert!(!bias.is_empty() && bias.iter().all(|&b| b == 0.0), "{name}");
    }
    let first = "model.layers.0.self_attn.k_proj.bias".to_string();
    assert_eq!(hf.oddities(), [Oddity::MissingBiases { first, count: 4 * LAYERS - 1 }]);
}

#[test]
fn f64_becomes_f32_in_every_order_of_rows() {
    let llama = Llama::new().set("attention_bias", json!(true)).tensor("model.layers.0.self_attn.k_proj.bias", &[8]);
    let open = |dtype| {
        let mut tensors = llama.payload();
        for (name, ty, shape, bytes) in &mut tensors {
            *ty = dtype;
            *bytes = (0..shape.iter().product()).flat_map(|i| encode(dtype, value(name, i))).collect();
        }
        let dir = tempfile::tempdir().unwrap();
        llama.write_small_files(dir.path());
        std::fs::write(dir.path().join("model.safetensors"), safetensors(&tensors)).unwrap();
        (HfDirectory::open(dir.path()).unwrap(), dir)
    };
    let ((wide, _a), (single, _b)) = (open("F64"), open("F32"));
    assert_same(&wide, &single, &[]);
    for (index, info) in wide.tensors().iter().enumerate() {
        assert_eq!(info.encoding, Encoding::Plain(TensorType::F32), "{}", info.name);
        let all = wide.rows(index, 0..info.rows()).into_owned();
        for start in 0..=info.rows() {
            let (part, row) = (wide.rows(index, start..info.rows()), 4 * info.cols());
            assert_eq!(*part, all[start * row..], "{} from row {start}", info.name);
        }
    }
}

#[test]
fn swish_is_silu() {
    assert!(Llama::new().set("hidden_act", json!("swish")).open().is_ok());
}

#[test]
fn tensors_beside_the_model_are_told_of() {
    let extra = ["visual.x", "v_head.summary.weight", "model.layers.2.mlp.up_proj.weight", "model.layers.17.a.b"];
    let llama = extra.iter().fold(Llama::new(), |llama, name| llama.tensor(name, &[16]));
    let (hf, _dir) = llama.open().unwrap();
    assert_same(&hf, &Llama::new().open().unwrap().0, &[]);
    let told: Vec<String> = hf.oddities().iter().map(ToString::to_string).collect();
    assert!(
        told.len() == 2 && told[0].contains("`num_hidden_layers` is 2") && told[0].contains("layers.17"),
        "{told:?}"
    );
    assert!(told[1].contains("v_head.summary.weight\" and 1 more"), "{told:?}");
}

#[test]
fn shards_without_an_index_are_one_model_if_none_is_missing() {
    let llama = Llama::new();
    let tensors = llama.payload();
    let thirds: Vec<_> = tensors.chunks(tensors.len().div_ceil(3)).collect();
    let dir = tempfile::tempdir().unwrap();
    llama.write_small_files(dir.path());
    let path = |i: usize| dir.path().join(format!("model-{i:05}-of-00003.safetensors"));
    thirds.iter().zip(1..).for_each(|(part, i)| std::fs::write(path(i), safetensors(part)).unwrap());
    let hf = HfDirectory::open(dir.path()).unwrap();
    assert_same(&hf, &llama.open().unwrap().0, &[]);
    assert_eq!(hf.oddities(), [Oddity::NoIndex { files: 3 }]);
    for missing in 1..=3 {
        let bytes = std::fs::read(path(missing)).unwrap();
        std::fs::remove_file(path(missing)).unwrap();
        let error = HfDirectory::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("no index"), "{error}");
        std::fs::write(path(missing), bytes).unwrap();
    }
}

#[test]
fn special_ids_beyond_the_vocabulary_are_left_out() {
    let eos = |ids: &str| Llama::new().file("generation_config.json", format!(r#"{{"eos_token_id":{ids}}}"#));
    for (ids, odd) in [("[17,20]", vec!["20"]), ("[17,-1]", vec![]), ("[-7, 4294967296]", vec!["-7", "4294967296"])] {
        let (hf, _dir) = eos(ids).open().unwrap();
        assert_eq!(hf.metadata().u32_opt("tokenizer.ggml.eos_token_id").unwrap(), Some(17), "{ids}");
        assert!(hf.metadata().get("quipu.tokenizer.eos_token_ids").is_none(), "{ids}");
        let key = "generation_config.json: eos_token_id";
        let odd: Vec<_> =
            odd.iter().map(|id| Oddity::SpecialId { key: key.into(), id: id.to_string(), tokens: 20 }).collect();
        assert_eq!(hf.oddities(), odd, "{ids}");
    }
}

/// transformers adds what stands only in tokenizer_config.json or added_tokens.json, and takes no id of an added token
/// from a file.
#[test]
fn added_tokens_of_all_files_have_the_ids_of_tokenizers() {
    let tokens = |llama: Llama| {
        let (hf, _dir) = llama.open().unwrap();
        let tokens = hf.metadata().strings_opt("tokenizer.ggml.tokens").unwrap().unwrap();
        let types = hf.metadata().i32s_opt("tokenizer.ggml.token_type").unwrap().unwrap();
        let last: Vec<(String, i32)> = (16..20).map(|id| (tokens[id].to_string(), types[id])).collect();
        (last, hf.oddities().to_vec())
    };
    let named = |names: [(&str, i32); 4]| names.map(|(name, ty)| (name.to_string(), ty)).to_vec();
    let decoder = json!({"18": {"content": "<|a|>", "special": true}, "19": {"content": "<|b|>"}});
    let (found, odd) = tokens(Llama::new().tokenizer_config(json!({"added_tokens_decoder": decoder})));
    assert_eq!(found, named([("<|begin|>", 3), ("<|end|>", 3), ("<|a|>", 3), ("<|b|>", 4)]));
    assert!(odd.is_empty(), "{odd:?}");
    let (found, odd) = tokens(Llama::new().file("added_tokens.json", r#"{"<|b|>":19,"<|a|>":18}"#));
    assert_eq!(found, named([("<|begin|>", 3), ("<|end|>", 3), ("<|a|>", 4), ("<|b|>", 4)]));
    assert!(odd.is_empty(), "{odd:?}");
    // What tokenizer.json calls special stays that.
    let (found, odd) = tokens(Llama::new().file("added_tokens.json", r#"{"<|end|>":17,"<|a|>":18,"<|b|>":19}"#));
    assert_eq!(found, named([("<|begin|>", 3), ("<|end|>", 3), ("<|a|>", 4), ("<|b|>", 4)]));
    assert!(odd.is_empty(), "{odd:?}");
    let wrong = Llama::new().tokenizer(|t| {
        let added = t["added_tokens"].as_array_mut().unwrap();
        added.push(json!({"id": 40, "content": "<|a|>", "special": true}));
        added.push(json!({"id": 19, "content": "ab", "special": false}));
    });
    let (found, odd) = tokens(wrong);
    assert_eq!(found[2], ("<|a|>".to_string(), 3));
    let moved = |token: &str, said, id| Oddity::AddedId { token: token.into(), said, id };
    assert_eq!(odd, [moved("<|a|>", 40, 18), moved("ab", 19, 13)]);
}
