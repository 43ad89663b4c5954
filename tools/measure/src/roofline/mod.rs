//! The machine's own limits, measured: how fast it reads memory, how fast it multiplies.
//!
//! Decode is a walk through memory and prefill is int8 arithmetic, so these are the roofline of a model's speed
//! (Williams, Waterman and Patterson 2009). Every figure is the best of several ways and several runs: what was reached
//! once is possible, and slower runs were disturbed by other programs. The memory of a virtual machine has states that
//! differ by half and change within seconds, so a limit that was measured once may be exceeded later. [`Roof`] looks
//! again and again.

mod memory;

use std::time::{Duration, Instant};

use quipu_kernels::{Int8Loop, Isa, Kernels, MatMut, Reading, Scratch, Weights};
use quipu_quant::TensorType;
use quipu_quant::pack::PackedLayout;
use quipu_runtime::host::cores::Cores;
use quipu_runtime::pool::Pool;

use crate::error::MeasureError;
pub(crate) use memory::caches;
use memory::{Memory, Pages};

/// Measures one instruction set on a fixed number of threads.
pub struct Roofline {
    kernels: &'static Kernels,
    pool: Pool,
}

/// How long one run of a loop takes: long beside the clock's steps and the start of the threads, short enough that some
/// run is not disturbed.
const RUN: Duration = Duration::from_millis(10);
/// Runs of a loop.
const RUNS: usize = 10;

/// Elements of a row of the matrix in [`Roofline::product`].
const COLS: usize = 2048;
/// Row groups of the matrix: with 8-bit weights 280 KB, so that it stays in the second-level cache of most CPUs.
const GROUPS: usize = 8;

impl Roofline {
    /// A way to measure `isa` on `threads` threads.
    ///
    /// # Errors
    /// When there are no kernels for `isa` here, or the system gives no threads.
    pub fn new(isa: Isa, threads: usize) -> Result<Roofline, MeasureError> {
        Ok(Roofline {
            kernels: isa.kernels().ok_or(MeasureError::Isa(isa))?,
            pool: Pool::new(threads, &Cores::here())?,
        })
    }

    /// Reads all of `memory` with all threads, by each of `ways` in turns, and again, `passes` times. Returns the bytes
    /// per second of each way in each pass.
    fn read(&mut self, memory: &Memory, ways: &[Reading], passes: usize) -> Vec<Vec<f64>> {
        let kernels = self.kernels;
        let parts = memory.parts();
        let mut sums = vec![0i32; self.pool.threads()];
        let mut once = |&how: &Reading| {
            let start = Instant::now();
            self.pool.for_each(&mut sums, parts.len(), |sum, i| *sum = sum.wrapping_add(kernels.read(&parts[i], how)));
            size_of_val(parts) as f64 / start.elapsed().as_secs_f64()
        };
        let found = (0..passes).map(|_| ways.iter().map(&mut once).collect()).collect();
        std::hint::black_box(sums);
        found
    }

    /// Multiplications per second of int8 activations with codes of weights of type `ty`, everything in registers; for
    /// the float types of f32.
    pub fn multiply_peak(&mut self, ty: TensorType) -> f64 {
        largest(&self.multiply_by(ty, &Int8Loop::ALL, RUNS))
    }

    /// The same, by each of these loops.
    fn multiply_by(&mut self, ty: TensorType, loops: &[Int8Loop], runs: usize) -> Vec<f64> {
        let kernels = self.kernels;
        if ty.is_float() {
            return vec![self.rate(&|rounds| kernels.f32_loop(rounds), runs)];
        }
        // Codes of 5 and 6 bits are as fast as those of 4 at best.
        let bits = if ty == TensorType::Q8_0 { 8 } else { 4 };
        loops.iter().map(|&how| self.rate(&|rounds| kernels.int8_loop(bits, how, rounds), runs)).collect()
    }

    /// Multiplications per second of `rows` rows of activations with a matrix of type `ty` that lies in the cache: what
    /// the kernels make of the peak.
    pub fn product(&mut self, ty: TensorType, rows: usize) -> f64 {
        let kernels = self.kernels;
        let layout = PackedLayout::new(ty, 16 * GROUPS, COLS).expect("whole blocks of every type");
        // Zeros take as long as anything else.
        let packed = vec![0; layout.total_bytes()];
        let x = vec![0.0; rows * COLS];
        let tiles = kernels.tiles(&x, rows, COLS);
        let run = |repetitions: usize| {
            let weights = Weights::new(layout, &packed);
            let (mut out, mut scratch) = (vec![0.0; rows * 16 * GROUPS], Scratch::default());
            for _ in 0..repetitions {
                let mut out = MatMut::new(&mut out, rows, 16 * GROUPS, 16 * GROUPS);
                if ty.is_float() {
                    kernels.matmul_float(&weights, 0..GROUPS, &x, COLS, &mut out);
                } else {
                    kernels.matmul_quant(&weights, 0..GROUPS, &tiles, &mut scratch, &mut out);
                }
            }
            (repetitions * rows * 16 * GROUPS * COLS) as u64
        };
        self.rate(&run, RUNS)
    }

    /// What all threads together do per second at best; `work(n)` does n units of work and says how much that was.
    fn rate(&mut self, work: &(dyn Fn(usize) -> u64 + Sync), runs: usize) -> f64 {
        let mut units = 1;
        loop {
            let start = Instant::now();
            work(units);
            let took = start.elapsed();
            if took > RUN / 10 || units > usize::MAX / 1000 {
                units = (units as f64 * RUN.as_secs_f64() / took.as_secs_f64()).ceil() as usize;
                break;
            }
            units *= 2;
        }
        let threads = self.pool.threads();
        let mut done = vec![0; threads];
        let mut best = 0f64;
        for _ in 0..runs {
            done.fill(0);
            let start = Instant::now();
            self.pool.for_each(&mut done, threads, |done, _| *done += work(units));
            best = best.max(done.iter().sum::<u64>() as f64 / start.elapsed().as_secs_f64());
        }
        best
    }
}

/// The limits of some threads, looked at again and again.
pub struct Roof {
    roofline: Roofline,
    ty: TensorType,
    /// The fastest ways to read, the pages for them, and the fastest loop, by the first look.
    ways: Vec<Reading>,
    pages: Pages,
    loops: Vec<Int8Loop>,
    reads: Vec<f64>,
    small_pages: f64,
    multiplications: Vec<f64>,
}

/// Passes over memory in the first look, and in later ones.
const PASSES: [usize; 2] = [4, 2];
/// Ways to read that later looks try.
const LATER_WAYS: usize = 3;
/// Runs of a loop in later looks.
const LATER_RUNS: usize = 3;

impl Roof {
    /// A first, thorough look: all ways to read and to multiply with weights of type `ty`.
    ///
    /// # Errors
    /// When there are no kernels for `isa` here, or the system gives no threads or no memory.
    pub fn new(isa: Isa, threads: usize, ty: TensorType) -> Result<Roof, MeasureError> {
        let mut roofline = Roofline::new(isa, threads)?;
        let mut by_pages = [Vec::new(), Vec::new()];
        for (pages, found) in [Pages::Large, Pages::Small].into_iter().zip(&mut by_pages) {
            let memory = Memory::new(pages, &mut roofline.pool)?;
            *found = roofline.read(&memory, &Reading::ALL, PASSES[0]);
        }
        let best = by_pages.each_ref().map(|passes| passes.iter().map(|rates| largest(rates)).fold(0.0, f64::max));
        let pages = if best[1] > best[0] { Pages::Small } else { Pages::Large };
        let [large, small] = by_pages;
        let passes = if pages == Pages::Small { &small } else { &large };
        let best_of_way = |i: usize| passes.iter().map(|rates| rates[i]).fold(0.0, f64::max);
        let ways = fastest(&Reading::ALL, LATER_WAYS, best_of_way);
        let reads = passes.iter().map(|rates| largest(rates)).collect();
        let by_loop = roofline.multiply_by(ty, &Int8Loop::ALL, RUNS);
        let loops = fastest(&Int8Loop::ALL, 1, |i| by_loop.get(i).copied().unwrap_or(0.0));
        let multiplications = vec![largest(&by_loop)];
        Ok(Roof { roofline, ty, ways, pages, loops, reads, small_pages: best[1], multiplications })
    }

    /// Looks again, by what was the fastest, for a quarter of a second.
    ///
    /// # Errors
    /// When there is no memory to read from.
    pub fn look(&mut self) -> Result<(), MeasureError> {
        let memory = Memory::new(self.pages, &mut self.roofline.pool)?;
        let passes = self.roofline.read(&memory, &self.ways, PASSES[1]);
        self.reads.extend(passes.iter().map(|rates| largest(rates)));
        self.multiplications.push(largest(&self.roofline.multiply_by(self.ty, &self.loops, LATER_RUNS)));
        Ok(())
    }

    /// Bytes read per second, pass by pass: the best of all ways each time.
    pub fn reads(&self) -> &[f64] {
        &self.reads
    }

    /// The most bytes read per second from small pages in the first look.
    pub fn small_pages(&self) -> f64 {
        self.small_pages
    }

    /// Multiplications per second, look by look.
    pub fn multiplications(&self) -> &[f64] {
        &self.multiplications
    }

    /// The threads for other measurements.
    pub fn roofline(&mut self) -> &mut Roofline {
        &mut self.roofline
    }
}

/// The largest of some rates.
pub(crate) fn largest(rates: &[f64]) -> f64 {
    rates.iter().copied().fold(0.0, f64::max)
}

/// The `count` of `all` with the highest rates, the best first.
fn fastest<T: Copy>(all: &[T], count: usize, rate: impl Fn(usize) -> f64) -> Vec<T> {
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by(|&a, &b| rate(b).total_cmp(&rate(a)));
    order.into_iter().take(count).map(|i| all[i]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skipped() -> bool {
        let skip = std::env::var_os("QUIPU_SKIP_TIMING").is_some();
        if skip {
            eprintln!("SKIPPED: products beside the roofline: QUIPU_SKIP_TIMING is set");
        }
        skip
    }

    /// The loop that only multiplies is faster than the product, which also loads and scales.
    #[test]
    fn nothing_is_above_the_roofline() {
        if skipped() {
            return;
        }
        let mut roofline = Roofline::new(Isa::best(), 1).unwrap();
        for ty in [TensorType::Q4_0, TensorType::Q8_0, TensorType::F16] {
            let (peak, many, one) = (roofline.multiply_peak(ty), roofline.product(ty, 64), roofline.product(ty, 1));
            assert!(peak > 0.0 && many > 0.0 && one > 0.0);
            // The margin is for a neighbour who takes the core away.
            assert!(many < 1.1 * peak, "{ty}: {many:e} of {peak:e}");
        }
    }

    /// A matrix that no cache holds is not read faster than memory that is only read.
    #[test]
    fn decode_is_below_the_roof() {
        if skipped() {
            return;
        }
        let kernels = Isa::best().kernels().unwrap();
        for (ty, threads) in [(TensorType::Q4_0, 1), (TensorType::Q8_0, 2.min(Cores::here().allowed_threads()))] {
            let mut roof = Roof::new(Isa::best(), threads, ty).unwrap();
            let group = PackedLayout::new(ty, 16, COLS).unwrap().total_bytes();
            let groups = memory::bytes_to_read(threads) / group;
            let layout = PackedLayout::new(ty, 16 * groups, COLS).unwrap();
            let packed = vec![1; layout.total_bytes()];
            let weights = Weights::new(layout, &packed);
            let tiles = kernels.tiles(&[0.5; COLS], 1, COLS);
            let mut fastest = 0f64;
            for _ in 0..8 {
                let mut locals: Vec<_> = (0..threads).map(|_| (Scratch::default(), vec![0.0; 16 * 64])).collect();
                let start = Instant::now();
                roof.roofline.pool.for_each(&mut locals, groups / 64, |(scratch, out), i| {
                    let mut out = MatMut::new(out, 1, 16 * 64, 16 * 64);
                    kernels.matmul_quant(&weights, 64 * i..64 * (i + 1), &tiles, scratch, &mut out);
                });
                fastest = fastest.max((groups / 64 * 64 * group) as f64 / start.elapsed().as_secs_f64());
                roof.look().unwrap();
            }
            // The margin is for a memory that changes its state between two looks.
            let limit = largest(roof.reads());
            assert!(fastest > 0.2 * limit && fastest < 1.05 * limit, "{ty}, {threads}: {fastest:e} of {limit:e}");
        }
    }

    #[test]
    fn the_fastest_come_first() {
        assert_eq!(fastest(&['a', 'b', 'c'], 2, |i| [1.0, 3.0, 2.0][i]), ['b', 'c']);
        assert_eq!(largest(&[1.0, 3.0, 2.0]), 3.0);
    }
}
