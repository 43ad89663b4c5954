//! What the benches work on: weights and activations without meaning, of any type and size.
//!
//! - `benches/kernels.rs`: every kernel on every instruction set, in GB/s and multiplications per second. `cargo bench
//!   -p quipu-bench` runs all; a part by its name: `cargo bench -p quipu-bench -- matmul/q4_0/avx2`.
//! - `compare`: Quipu and a `llama-bench` in turns on one model.
//! - `record`: the log of measurements by CPU (`README.md`), with models that `quipu-bench` makes; `elsewhere`: the
//!   same for a machine without compiler and network.
//!
//! A whole model beside the machine's own limits is the matter of `quipu bench`.

use std::io;

use memmap2::MmapMut;
use quipu_kernels::{Kernels, Tile, Weights};
use quipu_quant::TensorType;
use quipu_quant::blocks::f16_scales;
use quipu_quant::pack::{GROUP_ROWS, PackedLayout, pack_group};
use quipu_test_random::Random;

/// A packed matrix.
pub struct Matrix {
    layout: PackedLayout,
    memory: MmapMut,
}

impl Matrix {
    /// `groups` × 16 rows of `cols` weights: random codes, and scales of ordinary size, since arithmetic on denormal
    /// numbers would be slow. All groups are the same.
    ///
    /// # Errors
    /// When there is no memory.
    ///
    /// # Panics
    /// When `cols` is no whole number of blocks.
    pub fn new(ty: TensorType, groups: usize, cols: usize) -> io::Result<Matrix> {
        let layout = PackedLayout::new(ty, groups * GROUP_ROWS, cols).expect("whole blocks");
        let plain = plain_rows(ty, GROUP_ROWS * cols);
        let mut quants = vec![0; layout.group_quant_bytes()];
        let mut scales = vec![0; layout.group_scale_bytes()];
        pack_group(&layout, &plain, &mut quants, &mut scales);

        let mut memory = MmapMut::map_anon(layout.total_bytes())?;
        // As the engine asks for its weights.
        #[cfg(target_os = "linux")]
        let _ = memory.advise(memmap2::Advice::HugePage);
        let (all_quants, all_scales) = memory.split_at_mut(layout.scales_offset());
        for group in all_quants.chunks_exact_mut(quants.len()) {
            group.copy_from_slice(&quants);
        }
        for group in all_scales.chunks_exact_mut(scales.len().max(1)) {
            group.copy_from_slice(&scales);
        }
        Ok(Matrix { layout, memory })
    }

    /// The matrix as kernels take it.
    pub fn weights(&self) -> Weights<'_> {
        Weights::new(self.layout, &self.memory)
    }

    /// The bytes of the matrix.
    pub fn bytes(&self) -> &[u8] {
        &self.memory
    }
}

/// Blocks of `n` weights in GGUF's form.
fn plain_rows(ty: TensorType, n: usize) -> Vec<u8> {
    let mut random = Random::new(1);
    if ty == TensorType::F32 {
        return random.numbers(n).iter().flat_map(|x| x.to_le_bytes()).collect();
    }
    let mut bytes = random.bytes(n / ty.block_len() * ty.block_bytes());
    // The upper byte of an f16 or a bf16; with these, numbers are around a hundredth.
    let (f16, bf16) = (0x20, 0x3c);
    let at = if ty.is_float() { &[0] } else { f16_scales(ty) };
    for block in bytes.chunks_exact_mut(ty.block_bytes()) {
        for &at in at {
            block[at + 1] = if ty == TensorType::BF16 { bf16 } else { f16 };
        }
        if ty == TensorType::MXFP4 {
            // Its scale is a power of two, by its exponent.
            block[0] = 120;
        }
    }
    bytes
}

/// Rows of activations as products take them: f32, and int8 tiles.
pub struct Activations {
    /// rows × cols.
    pub x: Vec<f32>,
    /// The rows in int8.
    pub tiles: Vec<Tile>,
}

impl Activations {
    /// `rows` random rows of `cols` elements.
    pub fn new(kernels: &Kernels, rows: usize, cols: usize) -> Activations {
        let x = Random::new(1).numbers(rows * cols);
        let tiles = kernels.tiles(&x, rows, cols);
        Activations { x, tiles }
    }
}

#[cfg(test)]
mod tests {
    use quipu_quant::pack::dequantize_row;

    use super::*;

    /// Infinities and denormal numbers would make a bench measure something else.
    #[test]
    fn weights_are_ordinary_numbers() {
        for ty in TensorType::ALL {
            let matrix = Matrix::new(ty, 3, 512).unwrap();
            let mut row = vec![0.0; 512];
            for r in [0, 15, 16, 47] {
                dequantize_row(&matrix.layout, &matrix.memory, r, &mut row);
                assert!(row.iter().all(|x| x.is_finite() && x.abs() < 1e3), "{ty}");
                let ordinary = row.iter().filter(|x| x.abs() > 1e-4).count();
                assert!(ordinary > 256, "{ty}: only {ordinary} of 512");
            }
        }
    }
}
