//! One quantised product, for tools that watch instructions: `product ISA TYPE OUTPUTS COLS ROWS`.
//!
//! Multiplies OUTPUTS × COLS weights by ROWS rows of activations, twice: whoever watches takes the second time, when
//! all memory is there. The numbers mean nothing.

use quipu_kernels::{Isa, MatMut, Scratch, Weights};
use quipu_quant::TensorType;
use quipu_quant::pack::PackedLayout;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [isa, ty, outputs, cols, rows] = &args[..] else { panic!("usage: product ISA TYPE OUTPUTS COLS ROWS") };
    let ty = TensorType::ALL.into_iter().find(|t| t.to_string().eq_ignore_ascii_case(ty)).expect("a tensor type");
    let [outputs, cols, rows] = [outputs, cols, rows].map(|n| n.parse::<usize>().expect("a number"));
    let kernels = isa.parse::<Isa>().expect("an instruction set").kernels().expect("this CPU has it");

    let layout = PackedLayout::new(ty, outputs, cols).expect("a shape of this type");
    // Bytes whose 16-bit numbers are finite as binary16.
    let bytes: Vec<u8> = (0..layout.total_bytes()).map(|i| ((i * 2_654_435_761) >> 13) as u8 & 0x3b).collect();
    let weights = Weights::new(layout, &bytes);
    let x: Vec<f32> = (0..rows * cols).map(|i| (i * 7919 % 1000) as f32 / 500.0 - 1.0).collect();
    let tiles = kernels.tiles(&x, rows, cols);
    let width = weights.groups() * 16;
    let (mut out, mut scratch) = (vec![0.0; rows * width], Scratch::default());
    for _ in 0..2 {
        let mut out = MatMut::new(&mut out, rows, width, width);
        kernels.matmul_quant(&weights, 0..weights.groups(), &tiles, &mut scratch, &mut out);
    }
    println!("{}", out.iter().sum::<f32>());
}
