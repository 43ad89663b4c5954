//! The scales plane of one row group, widened to what the block loop multiplies with.

use quipu_quant::TensorType;
use quipu_quant::pack::scale_bytes;

use crate::simd::{Simd, u16s};

/// f32 scales of a row group, 16 rows side by side, one line per 32 columns.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupScales {
    /// What a block's integer sum is multiplied by.
    pub(crate) d: Vec<[f32; 16]>,
    /// What `d·Σq` of the activations is multiplied by; empty for types without a minimum.
    pub(crate) m: Vec<[f32; 16]>,
    /// Integer scales of the two halves of a block; empty but for Q6_K.
    pub(crate) halves: Vec<[[f32; 16]; 2]>,
}

#[inline(always)]
fn widen<S: Simd>(s: S, bytes: &[u8]) -> [f32; 16] {
    let bits = u16s(bytes);
    let mut out = [0.0; 16];
    for sub in 0..S::SUBS {
        let at = sub * S::LANES;
        s.store(s.load_f16(&bits[at..]), &mut out[at..]);
    }
    out
}

impl GroupScales {
    /// Widens the scales plane of one group of a matrix of `cols` columns.
    #[inline(always)]
    pub(crate) fn expand<S: Simd>(&mut self, s: S, ty: TensorType, plane: &[u8]) {
        self.d.clear();
        self.m.clear();
        self.halves.clear();
        let blocks = plane.chunks_exact(scale_bytes(ty));
        match ty {
            TensorType::Q4_1 | TensorType::Q5_1 => {
                for b in blocks {
                    self.d.push(widen(s, b));
                    self.m.push(widen(s, &b[32..]));
                }
            }
            TensorType::Q4_K | TensorType::Q5_K => {
                for b in blocks {
                    self.expand_k(widen(s, b), widen(s, &b[32..]), &b[64..]);
                }
            }
            TensorType::Q6_K => {
                for b in blocks {
                    let d = widen(s, b);
                    for pair in b[32..].as_chunks::<32>().0 {
                        self.d.push(d);
                        let mut halves = [[0.0; 16]; 2];
                        for r in 0..16 {
                            halves[0][r] = f32::from(pair[r] as i8);
                            halves[1][r] = f32::from(pair[16 + r] as i8);
                        }
                        self.halves.push(halves);
                    }
                }
            }
            _ => {
                for b in blocks {
                    self.d.push(widen(s, b));
                }
            }
        }
    }

    /// The eight groups of a Q4_K or Q5_K block. `packed` is the 12 scale bytes of the format, each for 16 rows: bytes 0–3 and
    /// 4–7 hold six bits of scales and minima 0–3 and, on top, two bits of 4–7, whose low nibbles are bytes 8–11. The
    /// products are exact: 11 bits of f16 times 6 bits.
    #[inline(always)]
    fn expand_k(&mut self, d: [f32; 16], dmin: [f32; 16], packed: &[u8]) {
        let packed: &[[u8; 16]; 12] = packed.as_chunks::<16>().0.first_chunk().expect("12 lines of scale bytes");
        for g in 0..8 {
            let (mut scale, mut min) = ([0.0; 16], [0.0; 16]);
            for r in 0..16 {
                let byte = |i: usize| packed[i][r];
                let (sc, mn) = match g {
                    0..4 => (byte(g) & 63, byte(g + 4) & 63),
                    _ => (byte(g + 4) & 15 | byte(g - 4) >> 6 << 4, byte(g + 4) >> 4 | byte(g) >> 6 << 4),
                };
                scale[r] = d[r] * f32::from(sc);
                min[r] = -(dmin[r] * f32::from(mn));
            }
            self.d.push(scale);
            self.m.push(min);
        }
    }
}
