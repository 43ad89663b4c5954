//! The machine's own limits, measured: how fast it reads memory, how fast it multiplies.
//!
//! Decode is a walk through memory and prefill is int8 arithmetic, so these are the roofline of a model's speed
//! (Williams, Waterman and Patterson 2009). Every figure is the best of several runs: what was reached once is
//! possible, and slower runs were disturbed by other programs.

use std::time::{Duration, Instant};

use memmap2::MmapMut;
use quipu_kernels::{Int8Loop, Isa, Kernels, MatMut, Scratch, Weights};
use quipu_quant::TensorType;
use quipu_quant::pack::PackedLayout;
use quipu_runtime::host::cores::Cores;
use quipu_runtime::host::cpu;
use quipu_runtime::host::memory::Memory;
use quipu_runtime::pool::Pool;

use crate::error::MeasureError;

/// Measures one instruction set on a fixed number of threads.
pub struct Roofline {
    kernels: &'static Kernels,
    pool: Pool,
}

/// How long one run of a loop takes: long beside the clock's steps and the start of the threads, short enough that some
/// run is not disturbed.
const RUN: Duration = Duration::from_millis(10);
/// Runs of a loop.
const RUNS: usize = 15;
/// Passes over memory.
const PASSES: usize = 8;

/// Bytes read at a time by a thread.
const STRIDE: usize = 1 << 20;

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

    /// Bytes per second that all threads together read from memory, from pages of the size that `huge` asks for, if the
    /// system has them.
    ///
    /// # Errors
    /// When there is no memory to read from.
    pub fn read_bandwidth(&mut self, huge: bool) -> Result<f64, MeasureError> {
        let mut memory = MmapMut::map_anon(buffer_bytes())?;
        #[cfg(target_os = "linux")]
        {
            use memmap2::Advice;
            // Only a request: where the system has no large pages, the figure is for those that it has.
            let _ = memory.advise(if huge { Advice::HugePage } else { Advice::NoHugePage });
        }
        let kernels = self.kernels;
        let mut sums = vec![0i32; self.pool.threads()];
        // Pages come into being when they are written to; those that are only read would all be the same page of zeros.
        self.pool.for_items(&mut sums, &mut memory.chunks_mut(STRIDE).collect::<Vec<_>>(), |_, _, part| part.fill(1));
        let (parts, _) = memory.as_chunks::<STRIDE>();
        let mut best = Duration::MAX;
        for _ in 0..PASSES {
            let start = Instant::now();
            self.pool.for_each(&mut sums, parts.len(), |sum, i| *sum = sum.wrapping_add(kernels.read(&parts[i])));
            best = best.min(start.elapsed());
        }
        std::hint::black_box(sums);
        Ok(size_of_val(parts) as f64 / best.as_secs_f64())
    }

    /// Multiplications per second of int8 activations with codes of weights of type `ty`, everything in registers; for
    /// the float types of f32.
    pub fn multiply_peak(&mut self, ty: TensorType) -> f64 {
        let kernels = self.kernels;
        if ty.is_float() {
            return self.rate(&|rounds| kernels.f32_loop(rounds));
        }
        // Codes of 5 and 6 bits are as fast as those of 4 at best.
        let bits = if ty == TensorType::Q8_0 { 8 } else { 4 };
        let [long, wide] =
            [Int8Loop::Long, Int8Loop::Wide].map(|how| self.rate(&|rounds| kernels.int8_loop(bits, how, rounds)));
        long.max(wide)
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
        self.rate(&run)
    }

    /// What all threads together do per second; `work(n)` does n units of work and says how much that was.
    fn rate(&mut self, work: &(dyn Fn(usize) -> u64 + Sync)) -> f64 {
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
        for _ in 0..RUNS {
            done.fill(0);
            let start = Instant::now();
            self.pool.for_each(&mut done, threads, |done, _| *done += work(units));
            best = best.max(done.iter().sum::<u64>() as f64 / start.elapsed().as_secs_f64());
        }
        best
    }
}

/// Bytes of memory to read: far more than the caches hold, far less than there is.
fn buffer_bytes() -> usize {
    const LEAST: u64 = 64 << 20;
    const MOST: u64 = 1 << 30;
    let caches = cpu::last_level_cache().unwrap_or(32 << 20);
    let quarter = Memory::here().map_or(MOST, |m| m.available / 4);
    let bytes = caches.saturating_mul(16).clamp(MOST / 2, MOST).min(quarter).max(LEAST);
    (bytes as usize).next_multiple_of(STRIDE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The loop that only multiplies is faster than the product, which also loads and scales.
    #[test]
    fn nothing_is_above_the_roofline() {
        if std::env::var_os("QUIPU_SKIP_TIMING").is_some() {
            return eprintln!("SKIPPED: products beside the roofline: QUIPU_SKIP_TIMING is set");
        }
        let mut roofline = Roofline::new(Isa::best(), 1).unwrap();
        for ty in [TensorType::Q4_0, TensorType::Q8_0, TensorType::F16] {
            let (peak, many, one) = (roofline.multiply_peak(ty), roofline.product(ty, 64), roofline.product(ty, 1));
            assert!(peak > 0.0 && many > 0.0 && one > 0.0);
            // The margin is for a neighbour who takes the core away.
            assert!(many < 1.5 * peak, "{ty}: {many:e} of {peak:e}");
        }
        assert!(roofline.read_bandwidth(true).unwrap() > 1e8);
    }

    #[test]
    fn the_buffer_is_whole_strides_and_not_all_memory() {
        let bytes = buffer_bytes();
        assert!(bytes.is_multiple_of(STRIDE) && bytes <= 1 << 30);
    }
}
