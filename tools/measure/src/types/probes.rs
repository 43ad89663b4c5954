//! Probes: the matrices that are rounded alone, to measure what that loses.

use std::collections::BTreeMap;

use quipu_formats::convert::type_choices::MatrixTypes;
use quipu_formats::families::names::split_layer;

/// Up to so many matrices, each is probed by itself.
const MOST_PROBES: usize = 64;

/// Which matrices are measured together: each by itself, or in a deep model those of one kind in neighbouring layers.
/// The first layers and the last one differ most from the others.
pub(super) fn probes(matrices: &[MatrixTypes]) -> Vec<Vec<usize>> {
    if matrices.len() <= MOST_PROBES {
        return (0..matrices.len()).map(|i| vec![i]).collect();
    }
    let place = |m: &MatrixTypes| split_layer(&m.name).map(|(layer, kind)| (layer, kind.to_owned()));
    let last = matrices.iter().filter_map(|m| Some(place(m)?.0)).max().unwrap_or(0);
    let band = |layer: usize| match layer {
        0 | 1 => layer,
        _ if layer == last => 5,
        _ => 2 + 3 * (layer - 2) / (last - 2),
    };
    let mut probes: BTreeMap<(usize, String), Vec<usize>> = BTreeMap::new();
    for (i, matrix) in matrices.iter().enumerate() {
        let key = place(matrix).map_or((0, matrix.name.clone()), |(layer, kind)| (band(layer), kind));
        probes.entry(key).or_default().push(i);
    }
    probes.into_values().collect()
}

/// The number of the type that a matrix takes when the loss of rounding it is measured: not the one that loses nothing,
/// and else the nearest to `bits` for each weight. A much coarser one would be misleading, since large losses grow more
/// slowly than squared errors.
pub(super) fn probe_type(matrix: &MatrixTypes, bits: f64) -> usize {
    let distance = |i: &usize| (matrix.types[*i].ty.bits_per_weight() - bits).abs();
    let lossy = (0..matrix.types.len()).filter(|&i| Some(matrix.types[i].ty) != matrix.kept);
    lossy.min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use quipu_formats::source::{Encoding, TensorInfo};
    use quipu_quant::TensorType::*;

    use super::*;

    /// A type that loses nothing would say that nothing is ever lost.
    #[test]
    fn what_is_measured_is_a_loss() {
        for (ty, bits, expected) in [(F32, 3.5, Q3_K), (Q3_K, 3.3, Q2_K), (Q8_0, 9.0, Q6_K), (BF16, 2.0, Q2_K)] {
            let from = TensorInfo::new("a.weight", Encoding::Plain(ty), [256, 2]);
            let matrix = MatrixTypes::new(&from, 0, false);
            assert_eq!(matrix.types[probe_type(&matrix, bits)].ty, expected);
        }
    }

    #[test]
    fn deep_models_are_measured_by_few_probes() {
        let matrix = |name: String| MatrixTypes { index: 0, name, types: Vec::new(), kept: None };
        let model = |layers: usize| {
            let names = |layer| ["attn_q", "ffn_down"].map(|part| format!("blk.{layer}.{part}.weight"));
            let all = ["token_embd.weight".to_owned()].into_iter().chain((0..layers).flat_map(names));
            all.map(matrix).collect::<Vec<_>>()
        };
        assert_eq!(probes(&model(8)).len(), 17);
        for layers in [32, 33, 80, 1000] {
            let probes = probes(&model(layers));
            assert_eq!(probes.len(), 13, "{layers}");
            let mut all = probes.concat();
            all.sort_unstable();
            assert_eq!(all, (0..1 + 2 * layers).collect::<Vec<_>>());
            let widest = probes.iter().map(Vec::len).max();
            assert!(widest <= Some(layers / 3 + 1), "{layers}: {widest:?}");
        }
    }
}
