//! Where config.json and the tensors disagree, what transformers makes of it.

use super::config::HfConfig;
use super::shards::Shards;
use super::tensors::is_output;
use crate::families::names::Role;
use crate::oddity::Oddity;

/// What the names of a model's tensors begin with, but for the output matrix's.
const BASE: &str = "model.";

/// Brings names into their usual form, and finds out whether the output matrix is the embedding.
pub(super) fn reconcile(config: &mut HfConfig, shards: &mut Shards) -> Vec<Oddity> {
    let mut oddities = Vec::new();
    let weight = |role| config.family.tensor(role).map(|t| format!("{}.weight", t.hf));
    let (Some(embedding), Some(output)) = (weight(Role::TokenEmbedding), weight(Role::Output)) else { return oddities };
    add_prefix(config, &embedding, shards, &mut oddities);
    if config.tied {
        let (at, own) = (shards.index.get(&embedding).copied(), shards.index.get(&output).copied());
        match (at, own) {
            (Some(at), Some(own)) if !is_same(shards, at, own) => {
                config.tied = false;
                oddities.push(Oddity::OwnOutput { output });
            }
            (None, Some(own)) => {
                shards.index.insert(embedding, own);
                oddities.push(Oddity::OnlyOutput { output });
            }
            _ => {}
        }
    }
    oddities
}

/// A checkpoint of the layers alone, without a head, has names without what the head's model puts before them.
fn add_prefix(config: &HfConfig, embedding: &str, shards: &mut Shards, oddities: &mut Vec<Oddity>) {
    let bare = embedding.strip_prefix(BASE).unwrap_or(embedding);
    if shards.index.contains_key(embedding) || !shards.index.contains_key(bare) {
        return;
    }
    let named = std::mem::take(&mut shards.index);
    let whole = |name: String| if is_output(config, &name) { name } else { format!("{BASE}{name}") };
    shards.index = named.into_iter().map(|(name, at)| (whole(name), at)).collect();
    oddities.push(Oddity::NoPrefix { prefix: BASE });
}

/// Whether two tensors are the same, number by number.
fn is_same(shards: &Shards, (a, _): (usize, usize), (b, _): (usize, usize)) -> bool {
    let (x, y) = (&shards.weights[a], &shards.weights[b]);
    let rows = x.shape.first().copied().unwrap_or(0);
    (x.dtype, &x.shape) == (y.dtype, &y.shape)
        && (0..rows).all(|row| x.bytes(&shards.files, row..row + 1) == y.bytes(&shards.files, row..row + 1))
}
