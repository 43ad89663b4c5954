//! Every kernel on every instruction set of this CPU, on one thread.
//!
//! What walks through memory is shown in GB/s, what computes in elements per second: for products and attention an
//! element is one multiplication (Gelem/s = GMAC/s). Beside them, under `roofline`, what the core can do at best.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quipu_bench::{Activations, Matrix};
use quipu_kernels::{
    AttentionScratch, Int8Loop, Isa, Kernels, MatMut, Queries, Reading, SEGMENT, Scratch, Segment, Tile, state_len,
};
use quipu_quant::TensorType;
use quipu_test_random::Random;

/// Columns of all matrices: the width of a 1B model.
const COLS: usize = 2048;

/// Row groups of a matrix that stays in the second-level cache: 128 rows, 280 KB with 8-bit weights.
const CACHED: usize = 8;

/// Bytes of a matrix that no cache holds.
const LARGE: usize = 256 << 20;

fn name(ty: TensorType) -> String {
    ty.name().to_ascii_lowercase()
}

fn roofline(c: &mut Criterion) {
    let mut group = c.benchmark_group("roofline");
    let memory = Matrix::new(TensorType::Q8_0, LARGE / (16 * COLS), COLS).expect("memory");
    let bytes = vec![1u8; 64 << 10];
    for kernels in Kernels::available() {
        for bits in [4, 8] {
            for how in Int8Loop::ALL {
                const ROUNDS: usize = 1000;
                group.throughput(Throughput::Elements(kernels.int8_loop(bits, how, ROUNDS)));
                let id = BenchmarkId::new(format!("int8_{bits}bit_{how:?}"), kernels.isa());
                group.bench_function(id, |b| b.iter(|| kernels.int8_loop(bits, how, ROUNDS)));
            }
        }
        group.throughput(Throughput::Elements(kernels.f32_loop(1000)));
        group.bench_function(BenchmarkId::new("f32", kernels.isa()), |b| b.iter(|| kernels.f32_loop(1000)));
        group.throughput(Throughput::BytesDecimal(bytes.len() as u64));
        let plain = Reading { four_places: false, ahead: 0 };
        group.bench_function(BenchmarkId::new("read_L2", kernels.isa()), |b| {
            b.iter(|| kernels.read(black_box(&bytes), plain))
        });
        group.throughput(Throughput::BytesDecimal(memory.bytes().len() as u64));
        let all = memory.bytes();
        for how in Reading::ALL {
            let places = if how.four_places { 4 } else { 1 };
            let id = BenchmarkId::new(format!("read_memory_{places}_places_{}_ahead", how.ahead), kernels.isa());
            group.bench_function(id, |b| b.iter(|| kernels.read(black_box(all), how)));
        }
    }
}

/// The product of a whole matrix with `rows` rows of activations.
fn product(
    kernels: &Kernels,
    matrix: &Matrix,
    acts: &Activations,
    rows: usize,
    out: &mut [f32],
    scratch: &mut Scratch,
) {
    let weights = matrix.weights();
    let (groups, width) = (0..weights.groups(), weights.groups() * 16);
    let mut out = MatMut::new(out, rows, width, width);
    if weights.ty().is_float() {
        kernels.matmul_float(&weights, groups, &acts.x, COLS, &mut out);
    } else {
        kernels.matmul_quant(&weights, groups, &acts.tiles, scratch, &mut out);
    }
}

fn matmul(c: &mut Criterion) {
    let mut group = c.benchmark_group("matmul");
    for ty in TensorType::ALL {
        let cached = Matrix::new(ty, CACHED, COLS).expect("memory");
        let group_bytes = cached.bytes().len() / CACHED;
        for kernels in Kernels::available() {
            for rows in [1, 2, 4, 8, 64] {
                let macs = rows * CACHED * 16 * COLS;
                // One row is decode, where the weights pass by once; more rows are arithmetic.
                group.throughput(match rows {
                    1 => Throughput::BytesDecimal(cached.bytes().len() as u64),
                    _ => Throughput::Elements(macs as u64),
                });
                let acts = Activations::new(kernels, rows, COLS);
                let (mut out, mut scratch) = (vec![0.0; rows * CACHED * 16], Scratch::default());
                let id = BenchmarkId::new(format!("{}/{}/cached", name(ty), kernels.isa()), rows);
                group.bench_function(id, |b| b.iter(|| product(kernels, &cached, &acts, rows, &mut out, &mut scratch)));
            }
        }
        let large = Matrix::new(ty, LARGE / group_bytes, COLS).expect("memory");
        // The portable kernels are too slow for memory to matter.
        for kernels in Kernels::available().filter(|k| k.isa() != Isa::Portable) {
            for rows in [1, 2, 4, 8] {
                group.throughput(Throughput::BytesDecimal(large.bytes().len() as u64));
                let acts = Activations::new(kernels, rows, COLS);
                let (mut out, mut scratch) = (vec![0.0; rows * large.weights().groups() * 16], Scratch::default());
                let id = BenchmarkId::new(format!("{}/{}/memory", name(ty), kernels.isa()), rows);
                group.bench_function(id, |b| b.iter(|| product(kernels, &large, &acts, rows, &mut out, &mut scratch)));
            }
        }
    }
}

fn elementwise(c: &mut Criterion) {
    let mut group = c.benchmark_group("elementwise");
    let mut random = Random::new(1);
    let (wide, narrow, weight) = (random.numbers(8 * COLS), random.numbers(COLS), random.numbers(COLS));
    let angles: Vec<[f32; 2]> = (0..32).map(|i| [(i as f32).cos(), (i as f32).sin()]).collect();
    for kernels in Kernels::available() {
        let isa = kernels.isa();
        for rows in [1, 8] {
            let mut tile = Tile::default();
            group.throughput(Throughput::Elements((rows * COLS) as u64));
            group.bench_function(BenchmarkId::new(format!("quantize_{rows}"), isa), |b| {
                b.iter(|| kernels.quantize(&wide, rows, COLS, COLS, &mut tile));
            });
        }
        let mut out = vec![0.0; COLS];
        group.throughput(Throughput::Elements(COLS as u64));
        group.bench_function(BenchmarkId::new("rms_norm", isa), |b| {
            b.iter(|| kernels.rms_norm(&narrow, &weight, 1e-5, COLS, &mut out));
        });
        group.bench_function(BenchmarkId::new("add", isa), |b| b.iter(|| kernels.add(&mut out, &narrow)));
        let mut gate = narrow.clone();
        group.bench_function(BenchmarkId::new("silu_mul", isa), |b| {
            // From the start each time: the function applied to its own result would end in denormal numbers.
            b.iter(|| {
                gate.copy_from_slice(&narrow);
                kernels.silu_mul(&mut gate, &weight);
            });
        });
        let mut x = narrow.clone();
        group.bench_function(BenchmarkId::new("rope", isa), |b| b.iter(|| kernels.rope(&mut x, 64, &angles, 1.0)));
    }
}

/// One segment of one head: 4 queries are a decode step of a model with four query heads to a kv head, 64 are 16 tokens
/// of its prompt.
fn attention(c: &mut Criterion) {
    let mut group = c.benchmark_group("attend");
    let mut random = Random::new(1);
    for head_dim in [64, 128] {
        let numbers = random.numbers(SEGMENT * head_dim);
        // Random mantissas and signs around a sixteenth.
        let halves: Vec<u16> = numbers.iter().map(|x| 0x2c00 | ((x.to_bits() >> 13) as u16 & 0x83ff)).collect();
        for kernels in Kernels::available() {
            for rows in [4, 64] {
                let q = random.numbers(rows * head_dim);
                let visible = vec![0..SEGMENT; rows];
                let queries = Queries { q: &q, visible: &visible, head_dim, soft_cap: None };
                let mut state = vec![0.0; rows * state_len(head_dim)];
                let mut scratch = AttentionScratch::default();
                group.throughput(Throughput::Elements((2 * rows * SEGMENT * head_dim) as u64));
                let id = |ty: &str| BenchmarkId::new(format!("{ty}/{head_dim}/{}", kernels.isa()), rows);
                group.bench_function(id("f16"), |b| {
                    let segment = Segment { keys: &halves, values: &halves, next: &[] };
                    b.iter(|| kernels.attend_f16(queries, segment, true, &mut scratch, &mut state));
                });
                group.bench_function(id("f32"), |b| {
                    let segment = Segment { keys: &numbers, values: &numbers, next: &[] };
                    b.iter(|| kernels.attend_f32(queries, segment, true, &mut scratch, &mut state));
                });
            }
            let (mut into, from) = (vec![0.5; state_len(head_dim)], vec![0.5; state_len(head_dim)]);
            let mut out = vec![0.0; head_dim];
            group.throughput(Throughput::Elements(head_dim as u64));
            let id = |what: &str| BenchmarkId::new(format!("{what}/{head_dim}"), kernels.isa());
            group.bench_function(id("merge"), |b| b.iter(|| kernels.merge(&mut into, &from)));
            group.bench_function(id("finish"), |b| b.iter(|| kernels.finish(&from, &mut out)));
        }
    }
}

/// There are hundreds of them: a second for each.
fn config() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(150))
        .measurement_time(Duration::from_millis(600))
        .configure_from_args()
}

criterion_group! {
    name = kernels;
    config = config();
    targets = roofline, matmul, elementwise, attention
}
criterion_main!(kernels);
