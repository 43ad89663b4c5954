//! Codes of weights, and the numbers that they stand for before they are scaled.

use half::f16;

use crate::safetensors::Dtype;

/// How the codes of a weight are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codes {
    /// A float of eight bits: sign, four bits of exponent, three of mantissa; no infinities (Micikevicius et al. 2022).
    E4M3,
    /// A float of eight bits: sign, five bits of exponent, two of mantissa. The upper half of an F16.
    E5M2,
    /// Signed bytes.
    Int8,
    /// So many bits each, 1 to 8, packed into words of 32 from the lowest bit on, without gaps; less 2^(bits - 1).
    Packed { bits: usize },
}

impl Codes {
    /// Those of a tensor whose numbers are one code each.
    pub fn of(dtype: Dtype) -> Option<Codes> {
        match dtype {
            Dtype::F8_E4M3 => Some(Codes::E4M3),
            Dtype::F8_E5M2 => Some(Codes::E5M2),
            Dtype::I8 => Some(Codes::Int8),
            _ => None,
        }
    }

    /// Writes what the codes of a row, whose bytes `row` are, stand for.
    pub fn decode(self, row: &[u8], out: &mut [f32]) {
        match self {
            Codes::E4M3 => out.iter_mut().zip(row).for_each(|(out, &code)| *out = E4M3[usize::from(code)]),
            Codes::E5M2 => out.iter_mut().zip(row).for_each(|(out, &code)| *out = e5m2(code)),
            Codes::Int8 => out.iter_mut().zip(row).for_each(|(out, &code)| *out = f32::from(code as i8)),
            Codes::Packed { bits } => {
                for (at, out) in out.iter_mut().enumerate() {
                    *out = packed(bits, at, |byte| row.get(byte).copied().unwrap_or(0));
                }
            }
        }
    }
}

/// Code number `at` of those of `bits` bits each in the bytes that `byte` gives, little-endian.
pub(super) fn packed(bits: usize, at: usize, byte: impl Fn(usize) -> u8) -> f32 {
    let first = at * bits;
    let two = u16::from_le_bytes([byte(first / 8), byte(first / 8 + 1)]);
    let code = two >> (first % 8) & ((1 << bits) - 1);
    f32::from(code as i16 - (1 << (bits - 1)))
}

fn e5m2(code: u8) -> f32 {
    f16::from_bits(u16::from(code) << 8).to_f32()
}

/// Every E4M3.
static E4M3: [f32; 256] = {
    let mut table = [0.0; 256];
    let mut code = 0;
    while code < 256 {
        let (exponent, mantissa) = (code >> 3 & 15, code & 7);
        let value = match (exponent, mantissa) {
            (15, 7) => f32::NAN,
            // 2^-6 · m/8
            (0, mantissa) => mantissa as f32 / 512.0,
            // 2^(e-7) · (1 + m/8), by the bits of an F32.
            _ => f32::from_bits((exponent as u32 + 120) << 23 | (mantissa as u32) << 20),
        };
        table[code] = if code < 128 { value } else { -value };
        code += 1;
    }
    table
};

/// The number that a scale or a zero point of this type stands for, its bytes in `bytes` from number `at` on; `None`
/// where scales have no such type.
pub(super) fn number(dtype: Dtype, bytes: &[u8], at: usize) -> Option<f32> {
    let half = || u16::from_le_bytes([bytes[2 * at], bytes[2 * at + 1]]);
    Some(match dtype {
        Dtype::F32 => f32::from_le_bytes([bytes[4 * at], bytes[4 * at + 1], bytes[4 * at + 2], bytes[4 * at + 3]]),
        Dtype::F16 => f16::from_bits(half()).to_f32(),
        Dtype::BF16 => half::bf16::from_bits(half()).to_f32(),
        Dtype::F8_E4M3 => E4M3[usize::from(bytes[at])],
        // An exponent alone; as bytes in older checkpoints.
        Dtype::F8_E8M0 | Dtype::U8 => match bytes[at] {
            0 => f32::from_bits(1 << 22),
            255 => f32::NAN,
            exponent => f32::from_bits(u32::from(exponent) << 23),
        },
        Dtype::I8 => f32::from(bytes[at] as i8),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_floats_are_those_of_the_definition() {
        let e4m3 = |code: usize| f64::from(E4M3[code]);
        assert_eq!((e4m3(0x7e), e4m3(0x08), e4m3(0x01), e4m3(0x38)), (448.0, 2f64.powi(-6), 2f64.powi(-9), 1.0));
        assert!(E4M3[0x7f].is_nan() && E4M3[0xff].is_nan() && E4M3[0x80].is_sign_negative());
        assert_eq!(E4M3.iter().filter(|v| v.is_nan()).count(), 2);
        for code in 0..127 {
            assert_eq!(E4M3[code], -E4M3[code + 128]);
            assert!(code == 126 || E4M3[code] < E4M3[code + 1]);
        }
        assert_eq!((e5m2(0x7b), e5m2(0x01), e5m2(0x3c)), (57344.0, 2f32.powi(-16), 1.0));
        assert_eq!(e5m2(0x7c), f32::INFINITY);
        for (byte, value) in [(127, 1.0), (0, 2f64.powi(-127)), (254, 2f64.powi(127)), (1, 2f64.powi(-126))] {
            assert_eq!(number(Dtype::F8_E8M0, &[byte], 0).map(f64::from), Some(value));
        }
    }

    #[test]
    fn codes_of_any_width_lie_without_gaps() {
        for bits in 1..=8 {
            let codes: Vec<u32> = (0..40).map(|i| (i * 37 + 11) % (1 << bits)).collect();
            let mut bytes = vec![0_u8; (40 * bits as usize).div_ceil(32) * 4];
            for (at, code) in codes.iter().enumerate() {
                for bit in 0..bits as usize {
                    let place = at * bits as usize + bit;
                    bytes[place / 8] |= ((code >> bit & 1) as u8) << (place % 8);
                }
            }
            let mut out = [0.0; 40];
            Codes::Packed { bits: bits as usize }.decode(&bytes, &mut out);
            let expected: Vec<f32> = codes.iter().map(|&code| code as f32 - (1 << (bits - 1)) as f32).collect();
            assert_eq!(out[..], expected);
        }
    }
}
