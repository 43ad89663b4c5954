//! Attention over keys and values in 8 and 4 bits: the same bits on every instruction set, and what its definition
//! says.

use std::ops::Range;

use half::f16;
use quipu_kernels::{Kernels, QuantQueries, QuantScratch, QuantSegment, SEGMENT, Tile, Weights, state_len};
use quipu_quant::cache::{BLOCK, quantize4, quantize8};
use quipu_quant::pack::{PackedLayout, pack};
use quipu_quant::{TensorType, activations};
use quipu_test_random::Random;

/// Keys and values of one head and segment, and what they stand for: (position, element).
struct Cache {
    layout: PackedLayout,
    value_bits: usize,
    keys: Vec<u8>,
    values: Vec<u8>,
    scales: Vec<u16>,
    k: Vec<Vec<f64>>,
    v: Vec<Vec<f64>>,
}

/// The codes of a block as a row of weights has them, and what they stand for.
fn block(ty: TensorType, x: &[f32; BLOCK]) -> (f16, Vec<u8>, Vec<f64>) {
    if ty == TensorType::Q8_0 {
        let (codes, d) = quantize8(x);
        let exact = codes.map(|code| f64::from(d.to_f32()) * f64::from(code)).to_vec();
        return (d, codes.map(|code| code as u8).to_vec(), exact);
    }
    let (codes, d) = quantize4(x);
    let bytes = (0..BLOCK / 2).map(|i| codes[i] | codes[i + BLOCK / 2] << 4).collect();
    (d, bytes, codes.map(|code| f64::from(d.to_f32()) * (f64::from(code) - 8.0)).to_vec())
}

/// Random numbers; from `filled` on what no query may see: any codes, scales that are NaN.
fn cache(random: &mut Random, [ty, values_in]: [TensorType; 2], head_dim: usize, filled: usize) -> Cache {
    let padded = head_dim.next_multiple_of(BLOCK);
    let blocks = padded / BLOCK;
    let layout = PackedLayout::new(ty, SEGMENT, padded).unwrap();
    let (mut rows, mut values, mut scales) = (Vec::new(), Vec::new(), vec![0; SEGMENT * blocks]);
    let (mut k, mut v) = (Vec::new(), Vec::new());
    for p in 0..SEGMENT {
        let mut numbers = || {
            let mut x = random.numbers(head_dim);
            x.resize(padded, 0.0);
            x
        };
        let (key, value) = (numbers(), numbers());
        let (mut exact_key, mut exact_value) = (Vec::new(), Vec::new());
        for b in 0..blocks {
            let (mut d, codes, exact) = block(ty, &key.as_chunks().0[b]);
            d = if p < filled { d } else { f16::NAN };
            rows.extend(d.to_le_bytes());
            rows.extend(codes);
            exact_key.extend(exact);
            let (d, codes, exact) = block(values_in, &value.as_chunks().0[b]);
            scales[b * SEGMENT + p] = if p < filled { d.to_bits() } else { f16::NAN.to_bits() };
            values.extend(codes);
            exact_value.extend(exact);
        }
        k.push(exact_key);
        v.push(exact_value);
    }
    let value_bits = if values_in == TensorType::Q8_0 { 8 } else { 4 };
    Cache { layout, value_bits, keys: pack(&layout, &rows), values, scales, k, v }
}

fn tiles(kernels: &Kernels, q: &[f32], rows: usize, head_dim: usize) -> Vec<Tile> {
    let padded = head_dim.next_multiple_of(BLOCK);
    let mut x = vec![0.0; rows * padded];
    for (x, q) in x.chunks_mut(padded).zip(q.chunks(head_dim)) {
        x[..head_dim].copy_from_slice(q);
    }
    kernels.tiles(&x, rows, padded)
}

#[test]
fn it_is_the_same_everywhere_and_right() {
    let mut random = Random::new(21);
    let shapes = [
        (64usize, 4usize, 300usize),
        (64, 1, 128),
        (128, 3, 1),
        (64, 9, 129),
        (8, 2, 200),
        (48, 2, 400),
        (64, 22, 150),
        (80, 13, 140),
        (96, 16, 20),
        (128, 64, 290),
        (256, 5, 260),
        (112, 8, 131),
    ];
    let (q8, q4) = (TensorType::Q8_0, TensorType::Q4_0);
    for types in [[q8, q8], [q4, q4], [q8, q4]] {
        for (head_dim, rows, positions) in shapes {
            let what = format!("{types:?}, heads of {head_dim}, {rows} rows, {positions} positions");
            let segments = positions.div_ceil(SEGMENT);
            let caches: Vec<Cache> = (0..segments)
                .map(|s| cache(&mut random, types, head_dim, (positions - s * SEGMENT).min(SEGMENT)))
                .collect();
            let q = random.numbers(rows * head_dim);
            // The last rows see later positions, as in a prompt; with a window, none of the first ones.
            let window = if rows % 2 == 1 { positions } else { 100 };
            let end = |r: usize| positions.saturating_sub(rows - 1 - r).max(1);
            let visible: Vec<Range<usize>> = (0..rows).map(|r| end(r).saturating_sub(window)..end(r)).collect();
            let soft_cap = (head_dim == 64).then_some(2.0f32);
            let run = |kernels: &Kernels, rows: Range<usize>| {
                let visible = &visible[rows.clone()];
                let tiles = tiles(kernels, &q[rows.start * head_dim..rows.end * head_dim], visible.len(), head_dim);
                let mut scratch = QuantScratch::default();
                let len = state_len(head_dim);
                let mut state = vec![f32::NAN; visible.len() * len];
                for (s, cache) in caches.iter().enumerate() {
                    let (start, end) = (s * SEGMENT, (s + 1) * SEGMENT);
                    let segment = QuantSegment {
                        keys: Weights::new(cache.layout, &cache.keys),
                        values: &cache.values,
                        value_bits: cache.value_bits,
                        scales: &cache.scales,
                        next: &cache.keys,
                    };
                    // Row by row or, where it is the same for all, together: whether it is a row's first segment.
                    let sees = |v: &Range<usize>| v.start < end && v.end > start;
                    let first = |v: &Range<usize>| v.start >= start;
                    let mut from = 0;
                    while from < visible.len() {
                        let same =
                            |v: &Range<usize>| sees(v) == sees(&visible[from]) && first(v) == first(&visible[from]);
                        let to = from + visible[from..].iter().take_while(|v| same(v)).count();
                        if sees(&visible[from]) {
                            let seen = |v: &Range<usize>| v.start.max(start) - start..v.end.min(end) - start;
                            let seen: Vec<_> = visible[from..to].iter().map(seen).collect();
                            let queries =
                                QuantQueries { tiles: &tiles, rows: from..to, visible: &seen, head_dim, soft_cap };
                            let state = &mut state[from * len..to * len];
                            kernels.attend_quant(queries, segment, first(&visible[from]), &mut scratch, state);
                        }
                        from = to;
                    }
                }
                let mut out = vec![0.0; visible.len() * head_dim];
                for (state, out) in state.chunks(state_len(head_dim)).zip(out.chunks_mut(head_dim)) {
                    kernels.finish(state, out);
                }
                out
            };
            let bits = |x: Vec<f32>| x.into_iter().map(f32::to_bits).collect::<Vec<_>>();
            let portable = run(quipu_kernels::Isa::Portable.kernels().unwrap(), 0..rows);
            for kernels in Kernels::available() {
                assert_eq!(bits(run(kernels, 0..rows)), bits(portable.clone()), "{what} on {}", kernels.isa());
                // A row alone, and the last ones without the first.
                for r in [0, rows - 1] {
                    let alone = run(kernels, r..r + 1);
                    assert_eq!(bits(alone), bits(portable[r * head_dim..][..head_dim].to_vec()), "{what}, row {r}");
                }
                let some = run(kernels, rows / 2..rows);
                assert_eq!(bits(some), bits(portable[rows / 2 * head_dim..].to_vec()), "{what}, the last rows");
            }
            for (r, out) in portable.chunks(head_dim).enumerate() {
                let padded = head_dim.next_multiple_of(BLOCK);
                let mut x = q[r * head_dim..][..head_dim].to_vec();
                x.resize(padded, 0.0);
                let (mut codes, mut d, mut sum) = (vec![0; padded], vec![0.0; padded / BLOCK], vec![0; padded / BLOCK]);
                activations::quantize(&x, &mut codes, &mut d, &mut sum);
                let query = |i: usize| f64::from(d[i / BLOCK]) * f64::from(codes[i]);
                let of = |p: usize| (&caches[p / SEGMENT], p % SEGMENT);
                let product = |p: usize| (0..head_dim).map(|i| query(i) * of(p).0.k[of(p).1][i]).sum::<f64>();
                let score = |p: usize| match soft_cap {
                    Some(cap) => f64::from(cap) * (product(p) / f64::from(cap)).tanh(),
                    None => product(p),
                };
                let weights: Vec<f64> = visible[r].clone().map(|p| score(p).exp()).collect();
                let sum: f64 = weights.iter().sum();
                for i in 0..head_dim {
                    let value = |p: usize| of(p).0.v[of(p).1][i];
                    let exact = visible[r].clone().zip(&weights).map(|(p, w)| w * value(p)).sum::<f64>() / sum;
                    assert!((f64::from(out[i]) - exact).abs() < 1e-5, "{what}, row {r}, element {i}");
                }
            }
        }
    }
}

/// Turned twice, a head is what it was; and products of turned heads are those of the heads.
#[test]
fn hadamard_keeps_products() {
    let mut random = Random::new(22);
    for head_dim in [1, 8, 20, 64, 80, 96, 128, 256] {
        let (a, b) = (random.numbers(3 * head_dim), random.numbers(3 * head_dim));
        for kernels in Kernels::available() {
            let turned = |x: &[f32]| {
                let mut x = x.to_vec();
                kernels.hadamard(&mut x, head_dim);
                x
            };
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
            for ((a, b), (x, y)) in a
                .chunks(head_dim)
                .zip(b.chunks(head_dim))
                .zip(turned(&a).chunks(head_dim).zip(turned(&b).chunks(head_dim)))
            {
                assert!((dot(a, b) - dot(x, y)).abs() < 1e-4, "{head_dim} on {}", kernels.isa());
            }
            let back = turned(&turned(&a));
            assert!(a.iter().zip(&back).all(|(a, b)| (a - b).abs() < 1e-5), "{head_dim} on {}", kernels.isa());
            let portable = {
                let mut x = a.clone();
                quipu_kernels::Isa::Portable.kernels().unwrap().hadamard(&mut x, head_dim);
                x
            };
            assert_eq!(turned(&a), portable, "{}", kernels.isa());
        }
    }
}
