//! R16·K4 is a permutation: packing and unpacking lose nothing, and every code stands where the layout's table says.

use proptest::prelude::*;
use quipu_quant::blocks::all_finite;
use quipu_quant::pack::{group_is_finite, pack_group};
use quipu_quant::{
    TensorType,
    blocks::{self, Block},
    pack::{self, GROUP_ROWS, PackedLayout},
};
use quipu_test_random::Random;

/// A type, a shape that fits it, and random bytes for its plain rows. (Bytes as proptest draws them, one by one, would
/// take most of the time.)
fn tensors() -> impl Strategy<Value = (PackedLayout, Vec<u8>)> {
    let shape = (0..TensorType::ALL.len(), 1_usize..50, 1_usize..5, 1_usize..200);
    (shape, any::<u64>()).prop_map(|((t, rows, blocks, float_cols), seed)| {
        let ty = TensorType::ALL[t];
        let cols = if ty.is_float() { float_cols } else { blocks * ty.block_len() };
        let layout = PackedLayout::new(ty, rows, cols).unwrap();
        (layout, Random::new(seed).bytes(rows * layout.row_bytes()))
    })
}

proptest! {
    #[test]
    fn unpack_gives_back_every_byte((layout, plain) in tensors()) {
        let packed = pack::pack(&layout, &plain);
        prop_assert_eq!(packed.len(), layout.total_bytes());
        prop_assert!(pack::unpack(&layout, &packed) == plain);
    }

    #[test]
    fn packing_is_a_permutation_of_bits((layout, plain) in tensors()) {
        let ones = |bytes: &[u8]| bytes.iter().map(|b| b.count_ones()).sum::<u32>();
        prop_assert_eq!(ones(&pack::pack(&layout, &plain)), ones(&plain), "padding is zero and no bit is written twice");
    }

    #[test]
    fn a_group_is_packed_over_whatever_was_there((layout, plain) in tensors()) {
        let rows = &plain[..plain.len().min(GROUP_ROWS * layout.row_bytes())];
        let mut clean = (vec![0; layout.group_quant_bytes()], vec![0; layout.group_scale_bytes()]);
        let mut dirty = (vec![0xff; layout.group_quant_bytes()], vec![0xff; layout.group_scale_bytes()]);
        pack::pack_group(&layout, rows, &mut clean.0, &mut clean.1);
        pack::pack_group(&layout, rows, &mut dirty.0, &mut dirty.1);
        prop_assert!(clean == dirty);
    }

    #[test]
    fn a_packed_row_dequantises_like_the_plain_row((layout, plain) in tensors(), row in any::<prop::sample::Index>()) {
        let row = row.index(layout.rows());
        let mut expected = vec![0.0; layout.cols()];
        let plain_row = &plain[row * layout.row_bytes()..][..layout.row_bytes()];
        blocks::dequantize(layout.ty(), plain_row, &mut expected).unwrap();
        let mut found = vec![1.0; layout.cols()];
        pack::dequantize_row(&layout, &pack::pack(&layout, &plain), row, &mut found);
        let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        prop_assert_eq!(bits(&found), bits(&expected));
    }
}

#[test]
fn sizes_are_those_of_the_layout() {
    let cases = [
        (TensorType::Q8_0, 512, 32),
        (TensorType::Q4_0, 256, 32),
        (TensorType::Q4_1, 256, 64),
        (TensorType::Q5_0, 320, 32),
        (TensorType::Q5_1, 320, 64),
        (TensorType::Q4_K, 256, 256),
        (TensorType::Q5_K, 320, 256),
        (TensorType::Q6_K, 384, 288),
        (TensorType::Q2_K, 128, 320),
        (TensorType::Q3_K, 192, 224),
        (TensorType::IQ4_NL, 256, 32),
        (TensorType::IQ4_XS, 256, 128),
        (TensorType::TQ2_0, 128, 32),
        (TensorType::MXFP4, 256, 16),
        (TensorType::F32, 64, 0),
        (TensorType::F16, 32, 0),
        (TensorType::BF16, 32, 0),
    ];
    for (ty, quants, scales) in cases {
        assert_eq!((pack::quant_bytes(ty), pack::scale_bytes(ty)), (quants, scales), "{ty}");
        assert_eq!(
            16 * ty.block_bytes(),
            quants * ty.block_len().div_ceil(32) + scales,
            "{ty}: a full group has as many bytes packed as plain"
        );
        let layout = PackedLayout::new(ty, 17, 256).unwrap();
        assert_eq!(layout.groups(), 2);
        assert_eq!(layout.scales_offset(), 2 * layout.group_quant_bytes());
        assert_eq!(layout.total_bytes(), layout.scales_offset() + 2 * layout.group_scale_bytes());
        assert_eq!(layout.total_bytes(), 32 * layout.row_bytes());
    }
    let odd = PackedLayout::new(TensorType::F16, 1, 3).unwrap();
    assert_eq!((odd.group_quant_bytes(), odd.scales_offset(), odd.total_bytes()), (96, 128, 128), "padded to 64");
}

#[test]
fn impossible_shapes_have_no_layout() {
    for ty in TensorType::ALL {
        assert_eq!(PackedLayout::new(ty, 0, 256), None);
        assert_eq!(PackedLayout::new(ty, 16, 0), None);
        assert_eq!(PackedLayout::new(ty, usize::MAX, 256), None);
        assert_eq!(PackedLayout::new(ty, 16, usize::MAX - 255), None);
        assert_eq!(PackedLayout::new(ty, usize::MAX / 64, 1 << 20), None);
    }
    assert_eq!(PackedLayout::new(TensorType::Q4_0, 16, 48), None);
    assert_eq!(PackedLayout::new(TensorType::Q4_K, 16, 128), None);
}

/// Reads the codes of one group back from the packed bytes with nothing but the table in the layout's description.
fn code_by_the_table(bits: usize, lines: &[u8], r: usize, k: usize) -> u8 {
    let at = |line: usize, i: usize| lines[64 * line + 4 * r + i];
    if bits == 8 {
        return at(k / 4, k % 4);
    }
    if bits < 4 {
        let low = at(k / 16, k % 4) >> (2 * (k % 16 / 4)) & 3;
        let high = if bits == 3 { at(2, k % 4) >> (k / 4) & 1 } else { 0 };
        return low | high << 2;
    }
    let nibbles = at(k % 16 / 4, k % 4);
    let low = if k < 16 { nibbles & 15 } else { nibbles >> 4 };
    let high = match bits {
        5 => at(4, k % 4) >> (k / 4) & 1,
        6 => at(4 + k / 16, k % 4) >> (2 * (k % 16 / 4)) & 3,
        _ => 0,
    };
    low | high << 4
}

fn codes_stand_where_the_table_says<B: Block>() {
    let ty = B::TYPE;
    let cols = 2 * ty.block_len();
    let layout = PackedLayout::new(ty, GROUP_ROWS, cols).unwrap();
    let plain = Random::new(1).bytes(GROUP_ROWS * layout.row_bytes());
    let packed = pack::pack(&layout, &plain);
    let (quants, scales) = layout.group(&packed, 0);
    for r in 0..GROUP_ROWS {
        for b in 0..2 {
            let bytes = &plain[r * layout.row_bytes() + b * ty.block_bytes()..][..ty.block_bytes()];
            let block: B = bytemuck::pod_read_unaligned(bytes);
            let subs = ty.block_len() / 32;
            for sub in 0..subs {
                let lines = &quants[(b * subs + sub) * pack::quant_bytes(ty)..];
                for (k, code) in block.codes(sub).into_iter().enumerate() {
                    assert_eq!(
                        code_by_the_table(B::BITS, lines, r, k),
                        code,
                        "{ty} row {r} sub-block {sub} column {k}"
                    );
                }
            }
            let scales = &scales[b * pack::scale_bytes(ty)..];
            for (n, &offset) in B::F16_SCALES.iter().enumerate() {
                assert_eq!(scales[32 * n + 2 * r..][..2], bytes[offset..][..2], "{ty} f16 scale {n}");
            }
            for (n, offset) in B::BYTE_SCALES.enumerate() {
                assert_eq!(scales[32 * B::F16_SCALES.len() + 16 * n + r], bytes[offset], "{ty} byte scale {n}");
            }
        }
    }
}

#[test]
fn every_code_and_scale_stands_where_the_table_says() {
    codes_stand_where_the_table_says::<blocks::BlockQ4_0>();
    codes_stand_where_the_table_says::<blocks::BlockQ4_1>();
    codes_stand_where_the_table_says::<blocks::BlockQ5_0>();
    codes_stand_where_the_table_says::<blocks::BlockQ5_1>();
    codes_stand_where_the_table_says::<blocks::BlockQ8_0>();
    codes_stand_where_the_table_says::<blocks::BlockQ2_K>();
    codes_stand_where_the_table_says::<blocks::BlockQ3_K>();
    codes_stand_where_the_table_says::<blocks::BlockIQ4_NL>();
    codes_stand_where_the_table_says::<blocks::BlockIQ4_XS>();
    codes_stand_where_the_table_says::<blocks::BlockTQ2_0>();
    codes_stand_where_the_table_says::<blocks::BlockMXFP4>();
    codes_stand_where_the_table_says::<blocks::BlockQ4_K>();
    codes_stand_where_the_table_says::<blocks::BlockQ5_K>();
    codes_stand_where_the_table_says::<blocks::BlockQ6_K>();
}

#[test]
fn floats_stand_column_by_column() {
    let plain: Vec<u8> =
        (0..17_u32).flat_map(|r| (0..70).map(move |k| 1000 * r + k)).flat_map(u32::to_le_bytes).collect();
    let layout = PackedLayout::new(TensorType::F32, 17, 70).unwrap();
    let packed = pack::pack(&layout, &plain);
    let value = |i: usize| u32::from_le_bytes(packed[4 * i..][..4].try_into().unwrap());
    for r in 0..17 {
        for k in 0..70 {
            assert_eq!(value((r / 16 * 70 + k) * 16 + r % 16), (1000 * r + k) as u32);
        }
    }
}

/// The first exponents with which MXFP4 has infinities, and the last without.
#[test]
fn exponents_that_make_infinities_are_found() {
    let ty = TensorType::MXFP4;
    let layout = PackedLayout::new(ty, 3, 64).unwrap();
    for e in 0..=255 {
        let mut plain = vec![0x77; 3 * layout.row_bytes()];
        plain.chunks_exact_mut(ty.block_bytes()).for_each(|block| block[0] = 127);
        plain[5 * ty.block_bytes()] = e;
        let mut values = vec![0.0; 3 * 64];
        blocks::dequantize(ty, &plain, &mut values).unwrap();
        let finite = values.iter().all(|v| v.is_finite());
        let packed = pack::pack(&layout, &plain);
        let (quants, scales) = layout.group(&packed, 0);
        assert_eq!((all_finite(ty, &plain), group_is_finite(&layout, quants, scales)), (finite, finite), "{e}");
    }
}

/// A NaN or an infinity at any place of a scale or of a float is found, and no other bits are taken for one.
#[test]
fn groups_with_anything_but_numbers_are_found() {
    for ty in TensorType::ALL {
        let (rows, cols) = (GROUP_ROWS, 2 * ty.block_len().max(8));
        let layout = PackedLayout::new(ty, rows, cols).unwrap();
        let (f16_bits, wide) = (ty != TensorType::BF16, ty == TensorType::F32);
        let is_finite = |plain: &[u8]| {
            let (mut quants, mut scales) = (vec![0; layout.group_quant_bytes()], vec![0; layout.group_scale_bytes()]);
            pack_group(&layout, plain, &mut quants, &mut scales);
            group_is_finite(&layout, &quants, &scales)
        };
        let mut plain = vec![0; rows * layout.row_bytes()];
        assert!(is_finite(&plain), "{ty}");
        let value = |value: f32| match (wide, f16_bits) {
            (true, _) => value.to_le_bytes().to_vec(),
            (_, true) => half::f16::from_f32(value).to_le_bytes().to_vec(),
            (_, false) => half::bf16::from_f32(value).to_le_bytes().to_vec(),
        };
        let values_of = |row: &[u8]| {
            let mut values = vec![0.0; cols];
            blocks::dequantize(ty, row, &mut values).unwrap();
            values.iter().all(|v| v.is_finite())
        };
        let mut found = 0;
        for (turn, at) in (0..plain.len()).step_by(value(0.0).len()).enumerate() {
            // Every row has each of them at every third place, the next row at the next ones.
            let bad = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][(turn + at / layout.row_bytes()) % 3];
            let bytes = value(bad);
            let before = plain[at..at + bytes.len()].to_vec();
            plain[at..at + bytes.len()].copy_from_slice(&bytes);
            // With codes and small scales of zero, 0 times infinity is NaN: every bad scale shows.
            let finite = values_of(&plain[at / layout.row_bytes() * layout.row_bytes()..][..layout.row_bytes()]);
            assert_eq!((is_finite(&plain), all_finite(ty, &plain)), (finite, finite), "{ty}, byte {at}, {bad}");
            found += usize::from(!finite);
            plain[at..at + before.len()].copy_from_slice(&before);
        }
        // None of these bytes is too large an exponent for MXFP4.
        let least = if ty == TensorType::MXFP4 { 0 } else { 2 * rows };
        assert!(found >= least, "{ty}: {found}");
    }
}
