//! Finds the tensors that make up each quantised matrix, and puts them together.

use super::codes::Codes;
use super::matrix::Quantised;
use super::meta::LowRank;
use super::method::Quantisation;
use super::scales::{Scales, Zeros, is_scale};
use crate::hf::error::WeightsFault;
use crate::hf::shards::Shards;
use crate::hf::stored::Stored;
use crate::hf::weight::{Numbers, Weight};
use crate::safetensors::Dtype;

/// The ends of names of scales for activations and for the KV cache, which change no weight.
const PASSED_OVER: [&str; 10] = [
    ".input_scale",
    ".input_scale_ub",
    ".input_zero_point",
    ".activation_scale",
    ".output_scale",
    ".output_zero_point",
    ".q_scale",
    ".k_scale",
    ".v_scale",
    ".weight_scale_ub",
];

/// Puts each quantised matrix of `shards` together: `NAME.weight` becomes a matrix of F32, and what it is made of goes
/// out of the index. What does not belong to a matrix stays there, for whoever looks for tensors that are not used.
pub(in crate::hf) fn fold(shards: &mut Shards, method: &Quantisation) -> Result<(), WeightsFault> {
    shards.index.retain(|name, _| !PASSED_OVER.iter().any(|end| name.ends_with(end)));
    let mut names: Vec<String> = shards.index.keys().cloned().collect();
    names.sort_unstable();
    for name in names {
        let (stem, packed) = match (name.strip_suffix(".weight"), name.strip_suffix(".weight_packed")) {
            (Some(stem), _) => (stem, false),
            (_, Some(stem)) => (stem, true),
            _ => continue,
        };
        let Some(&(number, file)) = shards.index.get(&name) else { continue };
        let Some(tensor) = shards.weights[number].stored().cloned() else { continue };
        if !packed && Codes::of(tensor.dtype).is_none() {
            continue;
        }
        let mut parts = Parts { shards, stem };
        let Some(scale) = parts.take("weight_scale_inv").or_else(|| parts.take("weight_scale")) else { continue };
        let (matrix, shape) = parts.assemble(tensor, packed, scale, method)?;
        let weight = Weight { dtype: Dtype::F32, shape, numbers: Numbers::Quantised(Box::new(matrix)) };
        shards.index.remove(&name);
        shards.index.insert(format!("{stem}.weight"), (shards.weights.len(), file));
        shards.weights.push(weight);
    }
    Ok(())
}

/// The tensors of the matrix `stem`.
struct Parts<'a> {
    shards: &'a mut Shards,
    stem: &'a str,
}

impl Parts<'_> {
    /// Takes the tensor with this last part of its name out of the index.
    fn take(&mut self, last: &str) -> Option<Stored> {
        let (number, _) = self.shards.index.remove(&format!("{}.{last}", self.stem))?;
        self.shards.weights[number].stored().cloned()
    }

    fn fault(&self, last: &str, what: impl Into<String>) -> WeightsFault {
        WeightsFault::Quantised { tensor: format!("{}.{last}", self.stem), what: what.into() }
    }

    /// The matrix and its shape.
    fn assemble(
        &mut self,
        tensor: Stored,
        packed: bool,
        scale: Stored,
        method: &Quantisation,
    ) -> Result<(Quantised, Vec<usize>), WeightsFault> {
        let (codes, rows, cols) = if packed { self.packed(&tensor, method)? } else { self.plain(&tensor)? };
        if !is_scale(scale.dtype) {
            return Err(self.fault("weight_scale", format!("is {}, expected floats", scale.dtype)));
        }
        let Some((block, width)) = blocks(rows, cols, &scale.shape, method) else {
            let what = format!("has the shape {:?}, which no scales of {rows} × {cols} weights have", scale.shape);
            return Err(self.fault("weight_scale", what));
        };
        let order = self.order(cols, width)?;
        let heights = rows.div_ceil(block.0);
        let zeros = match self.take("weight_zero_point") {
            Some(zeros) => Some(self.zeros(zeros, heights, width, codes)?),
            None => None,
        };
        let scales = Scales { tensor: scale, block, width, order };
        let turned = method.turned && self.stem.ends_with("mlp.down_proj");
        if turned && !cols.is_power_of_two() {
            return Err(self.fault("weight", format!("has {cols} columns; SpinQuant turns powers of two")));
        }
        let low_rank = self.low_rank(rows, cols, method)?;
        Ok((Quantised { codes, tensor, scales, zeros, low_rank, turned }, vec![rows, cols]))
    }

    /// QLoRA's matrices beside one of `rows` × `cols`, if there are any.
    fn low_rank(&mut self, rows: usize, cols: usize, method: &Quantisation) -> Result<Option<LowRank>, WeightsFault> {
        let Some(scale) = method.low_rank else { return Ok(None) };
        let (a, b) = match (self.take("adaptor.A.weight"), self.take("adaptor.B.weight")) {
            (Some(a), Some(b)) => (a, b),
            (None, None) => return Ok(None),
            (Some(_), None) => return Err(self.fault("adaptor.B.weight", "is missing")),
            (None, Some(_)) => return Err(self.fault("adaptor.A.weight", "is missing")),
        };
        let rank = a.shape.first().copied().unwrap_or(0);
        for (name, found, expected) in [("adaptor.A.weight", &a, [rank, cols]), ("adaptor.B.weight", &b, [rows, rank])]
        {
            if found.shape != expected || !matches!(found.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
                let what = format!("is {} {:?}, expected floats {expected:?}", found.dtype, found.shape);
                return Err(self.fault(name, what));
            }
        }
        Ok(Some(LowRank { a, b, scale }))
    }

    fn plain(&self, tensor: &Stored) -> Result<(Codes, usize, usize), WeightsFault> {
        match (Codes::of(tensor.dtype), tensor.shape.as_slice()) {
            (Some(codes), &[rows, cols]) if rows > 0 && cols > 0 => Ok((codes, rows, cols)),
            _ => Err(self.fault("weight", format!("has the shape {:?}, expected a matrix", tensor.shape))),
        }
    }

    /// Codes in words of 32 bits, and how many they are.
    fn packed(&mut self, tensor: &Stored, method: &Quantisation) -> Result<(Codes, usize, usize), WeightsFault> {
        let Some(shape) = self.take("weight_shape") else {
            return Err(self.fault("weight_shape", "is missing"));
        };
        let size = |bytes: &[u8]| bytes.iter().rev().fold(0_u64, |n, byte| n << 8 | u64::from(*byte));
        let sizes: Vec<usize> = match shape.dtype {
            Dtype::I64 | Dtype::I32 if shape.shape == [2] => shape
                .all(&self.shards.files)
                .chunks_exact(shape.dtype.bits() as usize / 8)
                .map(|bytes| usize::try_from(size(bytes)).unwrap_or(usize::MAX))
                .collect(),
            _ => {
                return Err(
                    self.fault("weight_shape", format!("is {} {:?}, expected two integers", shape.dtype, shape.shape))
                );
            }
        };
        let (rows, cols) = (sizes[0], sizes[1]);
        // In a file, so that their product is small.
        let words = match (tensor.dtype, tensor.shape.as_slice()) {
            (Dtype::I32, &[height, words]) if height == rows && words > 0 && rows > 0 => words,
            _ => {
                let what = format!("is {} {:?}, expected I32 in {rows} rows", tensor.dtype, tensor.shape);
                return Err(self.fault("weight_packed", what));
            }
        };
        let fits = |&&bits: &&usize| {
            (1..=8).contains(&bits) && cols > 0 && cols.checked_mul(bits).is_some_and(|n| n.div_ceil(32) == words)
        };
        match method.bits.iter().find(fits) {
            Some(&bits) => Ok((Codes::Packed { bits }, rows, cols)),
            None => {
                let what =
                    format!("has {words} words in a row, which {cols} codes of {:?} bits do not fill", method.bits);
                Err(self.fault("weight_packed", what))
            }
        }
    }

    /// The group of each column, where they are not in order.
    fn order(&mut self, cols: usize, groups: usize) -> Result<Option<Stored>, WeightsFault> {
        let Some(order) = self.take("weight_g_idx") else { return Ok(None) };
        if order.dtype != Dtype::I32 || order.shape != [cols] {
            let what = format!("is {} {:?}, expected I32 [{cols}]", order.dtype, order.shape);
            return Err(self.fault("weight_g_idx", what));
        }
        let bytes = order.all(&self.shards.files);
        let mut numbers = bytes.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        // The library's own sign for an order that was never set.
        if numbers.clone().any(|group| group == -1) {
            return Ok(None);
        }
        if let Some(wrong) = numbers.find(|&group| usize::try_from(group).map_or(true, |group| group >= groups)) {
            let what = format!("has group {wrong}, of which there are {groups}");
            drop(bytes);
            return Err(self.fault("weight_g_idx", what));
        }
        Ok(Some(order))
    }

    /// Zero points for `heights` × `width` scales.
    fn zeros(&self, tensor: Stored, heights: usize, width: usize, codes: Codes) -> Result<Zeros, WeightsFault> {
        let packed = match (tensor.dtype, codes) {
            (Dtype::I32, Codes::Packed { bits }) => Some(bits),
            (Dtype::I8 | Dtype::F8_E4M3, _) => None,
            _ => return Err(self.fault("weight_zero_point", format!("is {}, expected integers", tensor.dtype))),
        };
        let expected = packed.map_or(heights, |bits| (heights * bits).div_ceil(32)) * width;
        let found: usize = tensor.shape.iter().product();
        if found != expected {
            let what = format!("has the shape {:?}, expected {expected} numbers", tensor.shape);
            return Err(self.fault("weight_zero_point", what));
        }
        Ok(Zeros { tensor, packed })
    }
}

/// The rows and columns of a block with one scale, and how many blocks stand side by side, for a matrix of `rows` ×
/// `cols` whose scales have the shape `scales`.
fn blocks(rows: usize, cols: usize, scales: &[usize], method: &Quantisation) -> Option<((usize, usize), usize)> {
    let (height, width) = match *scales {
        [] => (1, 1),
        [height] => (height, 1),
        [height, width] => (height, width),
        _ => return None,
    };
    if (height, width) == (1, 1) {
        return Some(((rows, cols), 1));
    }
    let fits = |&&(block_rows, block_cols): &&(usize, usize)| {
        (height, width) == (rows.div_ceil(block_rows), cols.div_ceil(block_cols))
    };
    if let Some(&block) = method.blocks.iter().find(fits) {
        return Some((block, width));
    }
    (height == rows && width > 0 && cols.is_multiple_of(width)).then(|| ((1, cols / width), width))
}
