//! Every instruction set gives the same bits: products equal `quipu_quant::dot`, the rest equals the portable table.

mod elementwise;
mod features;

use std::ops::Range;
use std::sync::Once;

use quipu_kernels::{
    Ahead, AttentionScratch, Isa, Kernels, MatMut, Queries, Reading, SEGMENT, Scratch, Segment, Tuning, Weights,
    state_len,
};
use quipu_quant::TensorType;
use quipu_quant::blocks::f16_scales;
use quipu_quant::dot::{QuantizedRow, dot, dot_f32};
use quipu_quant::pack::{PackedLayout, pack};
use quipu_test_random::Random;

/// Activations of widely varying size, with blocks of zeros, of numbers too small to have a scale, and of the
/// largest number alone, in either sign: no sums are larger.
fn activations(random: &mut Random, n: usize) -> Vec<f32> {
    let mut x: Vec<f32> = random.numbers(n);
    for block in x.chunks_mut(32) {
        let factor = match random.below(10) {
            0 => 0.0,
            1 => 1e-42,
            2 => 1e20,
            3 => 1e-20,
            sign @ (4 | 5) => {
                block.fill(if sign == 4 { 1.0 } else { -1.0 });
                3.0
            }
            _ => 3.0,
        };
        block.iter_mut().for_each(|x| *x *= factor);
    }
    x
}

/// A row of any bits but for the scales, which are finite and make no sums that are not; with extreme codes mixed in.
fn row(random: &mut Random, ty: TensorType, cols: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = random.bytes(ty.row_bytes(cols).unwrap());
    let extreme = [0x00, 0x80, 0xff, 0x7f][random.below(4)];
    for block in bytes.chunks_mut(ty.block_bytes()) {
        if random.below(4) == 0 {
            block.fill(extreme);
        }
        let f16s = match ty {
            TensorType::F32 => {
                block.copy_from_slice(&random.number().to_le_bytes());
                continue;
            }
            TensorType::MXFP4 => {
                // From the smallest ones, which are subnormal.
                block[0] = random.below(160) as u8;
                continue;
            }
            _ if ty.is_float() => &[0],
            _ => f16_scales(ty),
        };
        for &at in f16s {
            // Exponent below the one that means infinity; subnormal scales included.
            block[at + 1] = block[at + 1] & 0x83 | (random.below(16) as u8) << 2;
        }
    }
    bytes
}

/// The kernels of every instruction set that this CPU has; says once which it lacks.
fn all() -> impl Iterator<Item = &'static Kernels> {
    static SAY_ONCE: Once = Once::new();
    SAY_ONCE.call_once(|| {
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_native() && !isa.is_available()) {
            eprintln!("SKIPPED: {isa} is not on this CPU: no {}", isa.missing().join(", "));
        }
    });
    Kernels::available()
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn quantised_products_equal_the_reference() {
    let mut random = Random::new(1);
    for ty in TensorType::ALL.into_iter().filter(|t| !t.is_float()) {
        // So wide that neither all groups nor all tiles are in the cache together.
        // The second with so many rows that no instruction set streams them all.
        let wide = [(165, 8192 / 64, 33), (165, 8192 / 64, 133)].into_iter();
        let wide = wide.filter(|&(.., n)| ty == TensorType::Q8_0 || (ty == TensorType::Q4_0 && n < 100));
        for (rows, blocks, n) in [
            (16, 1, 1),
            (32, 3, 2),
            (21, 2, 7),
            (40, 5, 8),
            (16, 2, 9),
            (7, 1, 24),
            (64, 4, 37),
            (33, 1, 4),
            (24, 3, 50),
            (17, 1, 141),
        ]
        .into_iter()
        .chain(wide)
        // Every number of rows up to two full tiles and beyond; row groups in pairs and one more.
        .chain((1..=20).map(|n| (40, 2, n)))
        {
            let cols = blocks * ty.block_len().max(64);
            let plain: Vec<Vec<u8>> = (0..rows).map(|_| row(&mut random, ty, cols)).collect();
            let layout = PackedLayout::new(ty, rows, cols).unwrap();
            let packed = pack(&layout, &plain.concat());
            let weights = Weights::new(layout, &packed);
            let x = activations(&mut random, n * cols);
            let expected: Vec<f32> = x
                .chunks(cols)
                .map(QuantizedRow::new)
                .flat_map(|x| plain.iter().map(|row| dot(ty, row, &x)).collect::<Vec<_>>())
                .collect();
            for k in all() {
                let tiles = k.tiles(&x, n, cols);
                let width = weights.groups() * 16;
                let mut out = vec![f32::NAN; n * width];
                // The groups in two goes, to see that a range starts where it says.
                let split = weights.groups() / 2;
                let mut all = MatMut::new(&mut out, n, width, width);
                let mut scratch = Scratch::default();
                k.matmul_quant(&weights, 0..split, &tiles, &mut scratch, &mut all.part(0..n, 0..16 * split));
                k.matmul_quant(
                    &weights,
                    split..weights.groups(),
                    &tiles,
                    &mut scratch,
                    &mut all.part(0..n, 16 * split..width),
                );
                for (i, (out, expected)) in out.chunks(width).zip(expected.chunks(rows)).enumerate() {
                    assert_eq!(bits(&out[..rows]), bits(expected), "{} {ty} {rows}×{cols}, row {i} of {n}", k.isa());
                    assert!(out[rows..].iter().all(|&x| x == 0.0), "padding rows give zero");
                }
            }
        }
    }
}

/// Tunings with the least and the largest values that there are, and such with any.
fn tunings(random: &mut Random, isa: Isa) -> Vec<Tuning> {
    let mut numbers: Vec<Box<dyn FnMut() -> u32>> = vec![Box::new(|| 0), Box::new(|| 1), Box::new(|| u32::MAX)];
    for _ in 0..5 {
        let mut random = Random::new(random.below(1 << 20) as u64);
        numbers.push(Box::new(move || random.below(1 << 32) as u32 >> random.below(32)));
    }
    let tuning = |number: &mut Box<dyn FnMut() -> u32>| {
        let mut tuning = isa.tuning();
        for ty in TensorType::ALL {
            tuning = tuning.with_ahead(ty, Ahead { codes: number(), scales: number() });
        }
        for (name, _) in isa.tuning().parameters() {
            tuning = tuning.with(&format!("{name}={}", number())).unwrap();
        }
        tuning
    };
    numbers.iter_mut().map(tuning).collect()
}

#[test]
fn no_tuning_changes_a_bit() {
    let mut random = Random::new(6);
    for ty in TensorType::ALL.into_iter().filter(|t| !t.is_float()) {
        for (rows, blocks, n) in [(40, 3, 1), (33, 2, 7), (72, 9, 8), (24, 3, 29), (17, 1, 141)] {
            let cols = blocks * ty.block_len().max(64);
            let plain: Vec<u8> = (0..rows).flat_map(|_| row(&mut random, ty, cols)).collect();
            let layout = PackedLayout::new(ty, rows, cols).unwrap();
            let packed = pack(&layout, &plain);
            let weights = Weights::new(layout, &packed);
            let x = activations(&mut random, n * cols);
            for k in all() {
                let product = |k: &Kernels| {
                    let width = weights.groups() * 16;
                    let mut out = vec![f32::NAN; n * width];
                    let mut all = MatMut::new(&mut out, n, width, width);
                    let tiles = k.tiles(&x, n, cols);
                    k.matmul_quant(&weights, 0..weights.groups(), &tiles, &mut Scratch::default(), &mut all);
                    bits(&out)
                };
                let expected = product(k);
                for tuning in tunings(&mut random, k.isa()) {
                    assert_eq!(product(&k.tuned(tuning)), expected, "{} {ty} {n} rows, {tuning:?}", k.isa());
                }
            }
        }
    }
}

#[test]
fn float_products_equal_the_reference() {
    let mut random = Random::new(2);
    for ty in [TensorType::F32, TensorType::F16, TensorType::BF16] {
        for (rows, cols, n) in [(16, 1, 1), (64, 172, 5), (100, 33, 4), (129, 64, 9)] {
            let plain: Vec<Vec<u8>> = (0..rows).map(|_| row(&mut random, ty, cols)).collect();
            let layout = PackedLayout::new(ty, rows, cols).unwrap();
            let packed = pack(&layout, &plain.concat());
            let weights = Weights::new(layout, &packed);
            let stride = cols + 3;
            let x: Vec<f32> = random.numbers(n * stride);
            for k in all() {
                let width = weights.groups() * 16;
                let mut out = vec![f32::NAN; n * width];
                k.matmul_float(&weights, 0..weights.groups(), &x, stride, &mut MatMut::new(&mut out, n, width, width));
                for (out, x) in out.chunks(width).zip(x.chunks(stride)) {
                    let expected: Vec<f32> = plain.iter().map(|row| dot_f32(ty, row, &x[..cols])).collect();
                    assert_eq!(bits(&out[..rows]), bits(&expected), "{} {ty} {rows}×{cols}", k.isa());
                }
            }
        }
    }
}

/// Runs `f` with every table and checks that what it returns has the portable table's bits.
fn same_everywhere(what: &str, mut f: impl FnMut(&Kernels) -> Vec<f32>) {
    let portable = Isa::Portable.kernels().map(&mut f).unwrap();
    for k in all() {
        assert_eq!(bits(&f(k)), bits(&portable), "{what} on {}", k.isa());
    }
}

#[test]
fn sums_of_exponentials_are_the_same_everywhere() {
    let mut random = Random::new(5);
    for n in [1, 7, 8, 40, 1003, 128_256] {
        let mut logits = |scale: f32| (0..n).map(|_| scale * random.number()).collect::<Vec<f32>>();
        let (base, model) = (logits(20.0), logits(900.0));
        let sums = |k: &Kernels| {
            let [p, q, weighted] = k.divergence_sums(&base, &model, [20.0, 900.0]);
            [k.exp_sum(&model, 900.0), p, q, weighted].map(f64::to_bits)
        };
        let portable = sums(Isa::Portable.kernels().unwrap());
        for k in all() {
            assert_eq!(sums(k), portable, "{n} logits on {}", k.isa());
        }
    }
}

/// Attention over what a row sees, in segments that are merged; and in f64 from the definition.
#[test]
fn attention_is_the_same_everywhere_and_right() {
    let mut random = Random::new(4);
    let full = usize::MAX;
    for (head_dim, rows, positions, window, soft_cap) in [
        (64usize, 4usize, 300usize, full, None),
        (8, 1, 128, full, Some(2.0)),
        (128, 3, 1, full, None),
        (64, 9, 129, full, Some(50.0)),
        (48, 2, 500, full, None),
        (64, 22, 150, full, None),
        (80, 13, 140, full, None),
        (96, 16, 20, full, None),
        // The first positions of a row's window lie in one segment or in two.
        (64, 22, 300, 40, None),
        (64, 16, 140, 8, Some(5.0)),
        (256, 9, 400, 128, None),
        (32, 11, 137, 1, None),
        (20, 5, 290, 131, Some(20.0)),
    ] {
        let width = head_dim.next_multiple_of(16);
        let segments = positions.div_ceil(SEGMENT);
        let k: Vec<Vec<f32>> = (0..positions).map(|_| random.numbers(head_dim)).collect();
        let v: Vec<Vec<f32>> = (0..positions).map(|_| random.numbers(head_dim)).collect();
        let q: Vec<f32> = random.numbers(rows * head_dim);
        // The last rows see later positions, as in a prompt.
        let end = |r: usize| positions.saturating_sub(rows - 1 - r).max(1);
        let visible: Vec<Range<usize>> = (0..rows).map(|r| end(r).saturating_sub(window)..end(r)).collect();
        // What no row may see is NaN.
        let (seen, mut keys) = (visible[0].start..positions, vec![f32::NAN; segments * SEGMENT * head_dim]);
        let mut values = vec![f32::NAN; segments * SEGMENT * width];
        for p in seen {
            let (segment, p_in) = (p / SEGMENT, p % SEGMENT);
            for d in 0..head_dim {
                keys[segment * SEGMENT * head_dim + (p_in / 16 * head_dim + d) * 16 + p_in % 16] = k[p][d];
            }
            values[p * width..][..width].fill(0.0);
            values[p * width..][..head_dim].copy_from_slice(&v[p]);
        }
        let halves = |x: &[f32]| -> Vec<u16> { x.iter().map(|&x| half::f16::from_f32(x).to_bits()).collect() };
        let (keys16, values16) = (halves(&keys), halves(&values));
        // `together` rows at a time.
        let run = |kernels: &Kernels, f16: bool, together: usize| {
            let mut scratch = AttentionScratch::default();
            let len = state_len(head_dim);
            let mut state = vec![f32::NAN; rows * len];
            for s in 0..segments {
                let (start, end) = (s * SEGMENT, (s + 1) * SEGMENT);
                // Rows that see something of this segment, and those whose first one it is.
                let sees = |r: &usize| visible[*r].start < end && visible[*r].end > start;
                let first = |r: usize| visible[r].start / SEGMENT == s;
                let seeing: Vec<usize> = (0..rows).filter(sees).collect();
                for part in seeing.chunk_by(|&a, &b| a / together == b / together && first(a) == first(b)) {
                    let own: Vec<_> = part
                        .iter()
                        .map(|&r| visible[r].start.max(start) - start..visible[r].end.min(end) - start)
                        .collect();
                    let q = &q[part[0] * head_dim..][..part.len() * head_dim];
                    let queries = Queries { q, visible: &own, head_dim, soft_cap };
                    let state = &mut state[part[0] * len..][..part.len() * len];
                    let (ks, vs) = (s * SEGMENT * head_dim.., s * SEGMENT * width..);
                    if f16 {
                        let keys = &keys16[ks][..SEGMENT * head_dim];
                        let values = &values16[vs][..SEGMENT * width];
                        let segment = Segment { keys, values, next: values };
                        kernels.attend_f16(queries, segment, first(part[0]), &mut scratch, state);
                    } else {
                        let keys = &keys[ks][..SEGMENT * head_dim];
                        let values = &values[vs][..SEGMENT * width];
                        let segment = Segment { keys, values, next: values };
                        kernels.attend_f32(queries, segment, first(part[0]), &mut scratch, state);
                    }
                }
            }
            let mut out = vec![0.0; rows * head_dim];
            for (state, out) in state.chunks(len).zip(out.chunks_mut(head_dim)) {
                kernels.finish(state, out);
            }
            out
        };
        same_everywhere("attention over f16", |k| run(k, true, rows));
        same_everywhere("attention over f32", |k| run(k, false, rows));
        let best = run(Isa::best().kernels().unwrap(), false, rows);
        same_everywhere("attention row by row", |k| run(k, false, if k.isa() == Isa::best() { 1 } else { rows }));
        for (r, out) in best.chunks(head_dim).enumerate() {
            let q = &q[r * head_dim..][..head_dim];
            let dot =
                |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum() };
            let score = |p: usize| match soft_cap.map(f64::from) {
                Some(cap) => cap * (dot(q, &k[p]) / cap).tanh(),
                None => dot(q, &k[p]),
            };
            let weights: Vec<f64> = visible[r].clone().map(|p| score(p).exp()).collect();
            let sum: f64 = weights.iter().sum();
            for d in 0..head_dim {
                let values = weights.iter().zip(&v[visible[r].start..]);
                let exact = values.map(|(w, v)| w * f64::from(v[d])).sum::<f64>() / sum;
                let what = format!("head_dim {head_dim}, window {window}, row {r}, dimension {d}");
                assert!((f64::from(out[d]) - exact).abs() < 1e-5, "{what}: {} and {exact}", out[d]);
            }
        }
    }
}

/// A loop that leaves something out would make the machine look faster than it is.
#[test]
fn all_memory_is_read() {
    // Whole parts of one place, but not of four.
    let numbers: Vec<i32> = (0..4096 + 64 * 7).map(|i: i32| i.wrapping_mul(0x9e37_79b1_u32 as i32)).collect();
    let sum = numbers.iter().fold(0i32, |a, &b| a.wrapping_add(b));
    // SAFETY: an i32 is four bytes.
    let (_, bytes, _) = unsafe { numbers.align_to::<u8>() };
    for kernels in all() {
        for how in Reading::ALL {
            assert_eq!(kernels.read(bytes, how), sum, "{} {how:?}", kernels.isa());
        }
    }
}

/// Wherever the number stands, in whole vectors or behind them.
#[test]
fn what_is_not_within_a_limit_is_noticed_everywhere() {
    for kernels in Kernels::available() {
        for n in [0, 1, 15, 16, 17, 64, 100] {
            let mut x = vec![-1.5f32; n];
            assert!(kernels.within(&x, 1.6) && kernels.within(&x, f32::INFINITY), "{} {n}", kernels.isa());
            for i in 0..n {
                for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    x[i] = bad;
                    assert!(!kernels.within(&x, f32::INFINITY), "{} {n} {i} {bad}", kernels.isa());
                }
                x[i] = -2.0;
                assert!(!kernels.within(&x, 2.0) && kernels.within(&x, 2.1), "{} {n} {i}", kernels.isa());
                x[i] = 1.0;
            }
        }
    }
}
