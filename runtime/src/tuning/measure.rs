//! How fast weights are read with each candidate: products of real weights with one row, as decode has them.

use std::ops::Range;
use std::time::{Duration, Instant};

use quipu_kernels::{Ahead, Kernels, Tile};
use quipu_quant::TensorType;

use crate::model::{Matrix, ModelWeights, Team};

/// How far ahead weights may be asked for, in bytes of codes. Scales are an eighth of them or less.
const DISTANCES: [u32; 5] = [0, 2 << 10, 4 << 10, 8 << 10, 16 << 10];

/// Rounds in which each candidate is tried once.
const ROUNDS: u32 = 5;

/// Bytes that are read to see how fast that goes about.
const FIRST: usize = 2 << 20;

/// The least and the most bytes that a candidate reads at a time: long beside a step's start, short beside the time
/// that there is.
const SLICE: Range<usize> = 1 << 20..20 << 20;

/// Weights of a type have to be this much of what a token reads to be worth a look.
const SHARE: f64 = 0.1;

/// What weights of a type may be asked for ahead: the distances, and the default if it is another.
pub(super) fn candidates(default: Ahead) -> Vec<Ahead> {
    let mut candidates: Vec<Ahead> = DISTANCES.iter().map(|&codes| Ahead { codes, scales: codes / 8 }).collect();
    if !candidates.contains(&default) {
        candidates.push(default);
    }
    candidates
}

/// The types that are worth a look, those of most bytes first: quantised, and more than caches of so many bytes hold.
pub(super) fn types(weights: &ModelWeights, caches: u64) -> Vec<TensorType> {
    let bytes = |ty| weights.products().filter(|m| m.ty() == ty).map(|m| m.weights().bytes() as f64).sum::<f64>();
    let mut types: Vec<_> = TensorType::ALL.into_iter().filter(|ty| !ty.is_float()).map(|ty| (ty, bytes(ty))).collect();
    let all: f64 = weights.products().map(|m| m.weights().bytes() as f64).sum();
    types.retain(|&(_, bytes)| bytes >= 2.0 * caches as f64 && bytes >= SHARE * all);
    types.sort_by(|a, b| b.1.total_cmp(&a.1));
    types.into_iter().map(|(ty, _)| ty).collect()
}

/// The weights of one type in the order of a forward pass, over and over.
struct Walk<'a> {
    matrices: Vec<&'a Matrix>,
    /// An input of each length that there is.
    inputs: Vec<(usize, Vec<Tile>)>,
    /// Matrix and row group.
    at: (usize, usize),
}

impl<'a> Walk<'a> {
    fn new(weights: &'a ModelWeights, ty: TensorType, kernels: &Kernels) -> Walk<'a> {
        let matrices: Vec<_> = weights.products().filter(|m| m.ty() == ty).collect();
        let mut inputs: Vec<(usize, Vec<Tile>)> = Vec::new();
        for cols in matrices.iter().map(|m| m.weights().cols()) {
            if inputs.iter().all(|&(n, _)| n != cols) {
                let x: Vec<f32> = (0..cols).map(|i| (i % 7) as f32 - 3.0).collect();
                inputs.push((cols, kernels.tiles(&x, 1, cols)));
            }
        }
        Walk { matrices, inputs, at: (0, 0) }
    }

    /// Reads about `bytes`; returns how many bytes a second that were, or `None` when `deadline` came first.
    fn read(&mut self, team: &mut Team<'_>, bytes: usize, deadline: Instant) -> Option<f64> {
        let (start, mut done) = (Instant::now(), 0);
        while done < bytes {
            if Instant::now() >= deadline {
                return None;
            }
            let (number, first) = self.at;
            let matrix = self.matrices[number];
            let weights = matrix.weights();
            let groups = ((bytes - done) / weights.group_bytes()).clamp(1, weights.groups() - first);
            let input = self.inputs.iter().find(|(n, _)| *n == weights.cols());
            let (_, tiles) = input.expect("there is an input for every length");
            team.discard_product(matrix, first..first + groups, tiles);
            done += groups * weights.group_bytes();
            self.at = if first + groups < weights.groups() {
                (number, first + groups)
            } else {
                ((number + 1) % self.matrices.len(), 0)
            };
        }
        Some(done as f64 / start.elapsed().as_secs_f64())
    }
}

/// Bytes a second of weights of type `ty`, by candidate and round, the candidates in turns; `None` when `budget` was
/// not enough.
pub(super) fn rates(
    team: Team<'_>,
    weights: &ModelWeights,
    ty: TensorType,
    candidates: &[Ahead],
    budget: Duration,
) -> Option<Vec<Vec<f64>>> {
    let Team { kernels, pool, locals, noticed, adapted } = team;
    let (start, mut walk) = (Instant::now(), Walk::new(weights, ty, kernels));
    let deadline = start + budget;
    let mut read = |ahead: Option<Ahead>, bytes| {
        let tuning = ahead.map_or(*kernels.tuning(), |ahead| kernels.tuning().with_ahead(ty, ahead));
        let kernels = &kernels.tuned(tuning);
        walk.read(&mut Team { kernels, pool, locals, noticed, adapted }, bytes, deadline)
    };
    // The workers wake up; then the pace is seen, that of what is most likely the slowest candidate. A part of the time
    // is left for what comes in between.
    read(None, FIRST / 2)?;
    let pace = read(None, FIRST)?.min(read(candidates.first().copied(), FIRST)?);
    let slices = f64::from(ROUNDS) * candidates.len() as f64;
    let slice = 0.8 * pace * deadline.saturating_duration_since(Instant::now()).as_secs_f64() / slices;
    let slice = (slice as usize).clamp(SLICE.start, SLICE.end);
    let mut rates = vec![Vec::new(); candidates.len()];
    for _ in 0..ROUNDS {
        for (&ahead, rates) in candidates.iter().zip(&mut rates) {
            rates.push(read(Some(ahead), slice)?);
        }
    }
    Some(rates)
}
