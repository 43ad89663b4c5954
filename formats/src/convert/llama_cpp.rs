//! Where llama.cpp will compute something else from a file, so that the user can be told.

use super::outcome::Warning;
use crate::families::names::{Role, TensorName};
use crate::families::{AttentionScale, Family, Router, Windows, keys};
use crate::gguf::{Metadata, Value};
use crate::source::TensorInfo;

/// The architecture that llama.cpp does not have.
const OPT: &str = "opt";

/// What llama.cpp makes of RoPE's scaling in a plain file with this header, where that differs from what stands there.
pub(super) fn rope_differences(metadata: &Metadata, tensors: &[TensorInfo]) -> Vec<Warning> {
    let Some(family) = Family::of_metadata(metadata) else { return Vec::new() };
    let mut differences = Vec::new();
    if metadata.get(keys::DYNAMIC_FACTOR).is_some() {
        let context = metadata.usize_opt(&family.key(keys::CONTEXT)).ok().flatten().unwrap_or(0);
        differences.push(format!("it knows no dynamic RoPE scaling, so beyond {context} tokens of context it differs"));
    }
    let of_yarn = [keys::YARN_BLEND, keys::YARN_ATTENTION, keys::YARN_LOG_MULTIPLIER];
    let of_yarn = of_yarn.iter().chain(&[keys::YARN_BETA_FAST, keys::YARN_BETA_SLOW]).map(|key| family.key(key));
    let unread: Vec<String> =
        of_yarn.chain([keys::YARN_TRUNCATE.into()]).filter(|key| metadata.get(key).is_some()).collect();
    let kind = family.key(keys::ROPE_SCALING);
    if !unread.is_empty() && metadata.get(&kind) == Some(&Value::String("yarn".into())) {
        differences.push(format!("it takes values of its own for {} in this architecture", unread.join(", ")));
    }
    // Tensors of factors, and whether the architecture has them there.
    let is_refused = |t: &&TensorInfo| match (TensorName::parse(&t.name).map(|name| name.role), family.architecture) {
        (Some(Role::RopeFactors), architecture) => !["llama", "granite", "llama4"].contains(&architecture),
        (Some(Role::RopeFactorsLong | Role::RopeFactorsShort), architecture) => {
            !["llama", "granite", "phi3"].contains(&architecture)
        }
        _ => false,
    };
    if let Some(tensor) = tensors.iter().find(is_refused) {
        differences.push(format!(
            "it has no {} in the architecture {} and refuses the file",
            tensor.name, family.architecture
        ));
    }
    differences.into_iter().map(|difference| Warning::LlamaCpp { difference }).collect()
}

/// What llama.cpp passes over of a plain file's windows, layers without RoPE and factors.
pub(super) fn block_differences(metadata: &Metadata) -> Vec<Warning> {
    let Some(family) = Family::of_metadata(metadata) else { return Vec::new() };
    if family.architecture == OPT {
        return vec![Warning::LlamaCpp { difference: "it does not have the architecture opt".into() }];
    }
    let size = |key| metadata.usize_opt(&family.key(key)).ok().flatten();
    let mut differences = Vec::new();
    // It knows Phi's key, and switches windows off.
    let has_windows = matches!(family.block.windows, Windows::AllBut(_));
    if let Some(window @ 1..) = size(keys::WINDOW)
        && !has_windows
        && size(keys::CONTEXT).is_none_or(|context| context > window)
    {
        differences.push(format!("it has no windows in this architecture, so beyond {window} tokens it differs"));
    }
    if metadata.get(keys::ROPED).is_some() {
        differences.push("it has a rule of its own for layers without RoPE".into());
    }
    if metadata.get(&family.key(keys::EXPERTS_NORMALISED)) == Some(&Value::Bool(false)) {
        differences.push("it makes the weights of a token's experts sum to 1".into());
    }
    if metadata.get(keys::EXPERT_LAYERS).is_some() {
        differences.push("it expects experts in every layer and refuses the file".into());
    }
    if family.block.router == Some(Router::SigmoidOfInput) {
        let own =
            [keys::CHUNK, keys::TEMPERATURE_FLOOR, keys::TEMPERATURE_SCALE, keys::BARE_QK_NORM, keys::WINDOW_PATTERN];
        let own: Vec<String> =
            own.map(|key| family.key(key)).into_iter().filter(|key| metadata.get(key).is_some()).collect();
        if size(keys::EXPERTS).unwrap_or(0) == 0 {
            differences.push("it refuses a model of this architecture without experts".into());
        } else if !own.is_empty() {
            differences.push(format!("it takes values of its own for {}", own.join(", ")));
        }
    }
    let scale = family.key(keys::ATTENTION_SCALE);
    if metadata.get(&scale).is_some() && !matches!(family.block.scales.attention, AttentionScale::Key(_)) {
        differences.push(format!("it does not read {scale} in this architecture"));
    }
    differences.into_iter().map(|difference| Warning::LlamaCpp { difference }).collect()
}

/// Whether llama.cpp may cut texts into other tokens than what stands in the file says.
pub(super) fn tokenizer_difference(metadata: &Metadata) -> Option<Warning> {
    let keys = ["quipu.tokenizer.pre", "quipu.tokenizer.added_tokens"];
    let ours: Vec<&str> = keys.into_iter().filter(|key| metadata.get(key).is_some()).collect();
    let difference = format!("it may cut some texts into other tokens, since it does not read {}", ours.join(" and "));
    (!ours.is_empty()).then_some(Warning::LlamaCpp { difference })
}
