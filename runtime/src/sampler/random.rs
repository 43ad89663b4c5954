//! The generator of random numbers.

use serde::{Deserialize, Serialize};

/// xoshiro256++ 1.0 by David Blackman and Sebastiano Vigna (<https://prng.di.unimi.it>), its state filled by SplitMix64
/// as its authors advise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Xoshiro256PlusPlus {
    state: [u64; 4],
}

impl Xoshiro256PlusPlus {
    /// The generator for a seed.
    pub fn new(mut seed: u64) -> Self {
        let mut split_mix = || {
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        Xoshiro256PlusPlus { state: [split_mix(), split_mix(), split_mix(), split_mix()] }
    }

    fn next(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let result = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c, d) = (c ^ a, d ^ b);
        self.state = [a ^ d, b ^ c, c ^ (b << 17), d.rotate_left(45)];
        result
    }

    /// A number in [0, 1) with 53 random bits.
    pub fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published outputs of the reference implementations: SplitMix64 (Rosetta Code's vector for seed 1234567) and
    /// xoshiro256++ (the vector in `rand_xoshiro`'s tests, from the authors' C code with state 1, 2, 3, 4).
    #[test]
    fn generator_gives_the_published_numbers() {
        assert_eq!(
            Xoshiro256PlusPlus::new(1234567).state,
            [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
        );
        let mut random = Xoshiro256PlusPlus { state: [1, 2, 3, 4] };
        let expected = [
            41943041,
            58720359,
            3588806011781223,
            3591011842654386,
            9228616714210784205,
            9973669472204895162,
            14011001112246962877,
            12406186145184390807,
            15849039046786891736,
            10450023813501588000,
        ];
        assert_eq!(expected.map(|_| random.next()), expected);
    }
}
