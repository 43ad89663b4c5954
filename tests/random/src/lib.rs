//! The random numbers of tests and benches: the same in every run and on every machine, so that a failure comes again.
//!
//! One generator for all: SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA
//! 2014). Every bit of a number is good, every seed is, and neighbouring seeds have nothing in common.
//!
//! ```
//! use quipu_test_random::Random;
//!
//! let mut random = Random::new(7);
//! let weights = random.numbers(64);
//! assert!(weights.iter().all(|w| (-1.0..1.0).contains(w)));
//! assert_eq!(Random::new(7).numbers(64), weights);
//! ```
#![forbid(unsafe_code)]

/// A generator of random numbers.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The generator at the start of the numbers that belong to `seed`.
    pub const fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        self.bits() as u8
    }

    /// `n` bytes.
    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.byte()).collect()
    }

    /// An integer below `n`.
    ///
    /// # Panics
    /// When `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// A multiple of 2⁻²³ from −1 on, below 1.
    pub fn number(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// `n` of [`Random::number`].
    pub fn numbers(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.number()).collect()
    }

    /// A number that is nearly normally distributed, with mean 0 and a variance of 1/3: half the sum of four of
    /// [`Random::number`].
    pub fn normal(&mut self) -> f32 {
        0.5 * (0..4).map(|_| self.number()).sum::<f32>()
    }

    /// `n` of [`Random::normal`].
    pub fn normals(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.normal()).collect()
    }

    /// `n` token ids of a vocabulary of so many.
    ///
    /// # Panics
    /// When the vocabulary is empty.
    pub fn tokens(&mut self, n: usize, vocabulary: usize) -> Vec<u32> {
        (0..n).map(|_| self.below(vocabulary) as u32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published output of the reference implementation (Rosetta Code, "Pseudo-random numbers/Splitmix64").
    #[test]
    fn numbers_are_the_published_ones() {
        let mut random = Random::new(1_234_567);
        let expected =
            [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821];
        assert_eq!(expected.map(|_| random.bits()), expected);
    }

    #[test]
    fn numbers_have_the_moments_that_are_promised() {
        let mut random = Random::new(1);
        let moments = |x: &[f32]| {
            let n = x.len() as f32;
            (x.iter().sum::<f32>() / n, x.iter().map(|x| x * x).sum::<f32>() / n)
        };
        for x in [random.numbers(1 << 16), random.normals(1 << 16)] {
            let (mean, square) = moments(&x);
            assert!(mean.abs() < 0.01 && (square - 1.0 / 3.0).abs() < 0.01, "{mean} {square}");
        }
        assert!(random.tokens(1000, 7).iter().all(|&t| t < 7));
    }
}
