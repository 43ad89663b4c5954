//! What is to be measured, and whether there is room for it.

use std::path::PathBuf;

use quipu_runtime::host::memory::Memory;
use quipu_runtime::kv::PAGE;
use quipu_runtime::{Isa, LoadError, LoadOptions};

use crate::cost::Cost;
use crate::error::MeasureError;

/// Tokens of the prompt for the time to the first token.
pub(super) const FIRST_PROMPT: usize = 16;

/// What is measured.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BenchOptions {
    /// Prompts that are read at once, by their numbers of tokens. Those of no tokens are left out.
    pub prompts: Vec<usize>,
    /// Tokens that are read one by one; 0: none.
    pub decode: usize,
    /// Numbers of sequences that are decoded together, [`BenchOptions::decode`] tokens of each.
    pub sequences: Vec<usize>,
    /// Tokens of context before each test; one round of tests for each.
    pub depths: Vec<usize>,
    /// Threads; one round of everything for each. When empty, one thread for each fast core.
    pub threads: Vec<usize>,
    /// Runs of each test, of which the median counts; at least 1.
    pub repetitions: usize,
    /// Guesses of which it is measured what they are worth, for as many texts as [`BenchOptions::sequences`] says.
    pub guesses: Option<Guesses>,
    /// LoRA adapters with scales. The sequences that are decoded together have one each, in turns; all else is read
    /// with the first.
    pub lora: Vec<(PathBuf, f32)>,
    /// How the model is loaded; its threads and its context are replaced by what each round needs.
    pub load: LoadOptions,
}

/// Where guesses of the next tokens come from.
#[derive(Clone, Debug)]
pub struct Guesses {
    /// A draft model; `None` for what the text has said before.
    pub model: Option<String>,
    /// How likely a guess of the model is right, from 0 to 1, whatever it guesses; `None` for as often as it is.
    pub acceptance: Option<f64>,
}

impl Default for BenchOptions {
    fn default() -> BenchOptions {
        BenchOptions {
            prompts: vec![512],
            decode: 128,
            sequences: Vec::new(),
            depths: vec![0],
            threads: Vec::new(),
            repetitions: 3,
            guesses: None,
            lora: Vec::new(),
            load: LoadOptions::default(),
        }
    }
}

impl BenchOptions {
    /// An error when there is nothing to measure.
    pub(super) fn check(&self) -> Result<(), MeasureError> {
        let nothing = |what| Err(MeasureError::Nothing { what });
        if self.repetitions == 0 {
            return nothing("the number of runs");
        }
        if self.sequences.contains(&0) {
            return nothing("the number of sequences");
        }
        if self.decode == 0 && (self.longest_prompt() == 0 || !self.sequences.is_empty()) {
            return nothing("the number of tokens");
        }
        Ok(())
    }

    pub(super) fn isa(&self) -> Isa {
        self.load.isa.unwrap_or_else(Isa::best)
    }

    pub(super) fn longest_prompt(&self) -> usize {
        self.prompts.iter().copied().max().unwrap_or(0)
    }

    pub(super) fn most_sequences(&self) -> usize {
        self.sequences.iter().copied().max().unwrap_or(0)
    }

    /// Positions of the longest sequence.
    ///
    /// # Errors
    /// When there are more than can be counted, or the keys and values of all sequences at once, with the activations
    /// of the largest batch, take more memory than is available, beside the weights unless these are `packed`: then
    /// they stay in the file.
    pub(super) fn context(&self, cost: &Cost, packed: bool) -> Result<usize, MeasureError> {
        let available = Memory::here().map_or(u64::MAX, |memory| memory.available);
        self.context_within(cost, if packed { 0 } else { cost.resident_bytes }, available)
    }

    fn context_within(&self, cost: &Cost, weights: u64, available: u64) -> Result<usize, MeasureError> {
        let deepest = self.depths.iter().copied().max().unwrap_or(0);
        // Texts with guesses have a prompt, and a token that comes with it.
        let written = if self.guesses.is_some() { self.decode.saturating_add(FIRST_PROMPT + 1) } else { self.decode };
        let longest = self.longest_prompt().max(written).max(FIRST_PROMPT);
        let many = MeasureError::TooManyPositions { depth: deepest, more: longest };
        let Some(context) = deepest.checked_add(longest) else { return Err(many) };
        // What stands before the tests, a test's own copy of it, and sequences that share nothing.
        let bytes = |positions: usize, sequences: usize| {
            let positions = positions.checked_next_multiple_of(PAGE)?.checked_mul(sequences)?;
            cost.position_bytes.checked_mul(positions as u64)
        };
        let together = deepest.checked_add(self.decode).and_then(|each| bytes(each, self.most_sequences()));
        let keys_and_values = bytes(context, 1).zip(together).and_then(|(a, b)| a.checked_add(b));
        let Some(keys_and_values) = keys_and_values else { return Err(many) };
        let tokens = self.load.batch.min(longest.max(deepest)).max(self.most_sequences());
        let batch = cost.token_bytes.saturating_mul(tokens as u64);
        let needed = weights.saturating_add(keys_and_values).saturating_add(batch);
        if needed > available {
            return Err(MeasureError::Memory { needed, keys_and_values, batch, available });
        }
        Ok(context)
    }
}

/// The numbers of threads that are measured.
///
/// # Errors
/// When one of them cannot run here.
pub(super) fn threads(wanted: &[usize], default: usize, allowed: usize) -> Result<Vec<usize>, MeasureError> {
    if wanted.contains(&0) {
        return Err(LoadError::Zero { what: "the number of threads" }.into());
    }
    match wanted.iter().find(|&&n| n > allowed) {
        Some(&wanted) => Err(LoadError::Threads { wanted, allowed }.into()),
        None if wanted.is_empty() => Ok(vec![default]),
        None => Ok(wanted.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use quipu_quant::TensorType;

    use super::*;
    use crate::cost::Work;

    /// A thousand positions of a kilobyte fit into two megabytes, but not twice; no number is too large to be refused.
    #[test]
    fn room_is_counted_before_it_is_taken() {
        let cost = Cost {
            layers: Work { bytes: 900, macs: 900 },
            head: Work::default(),
            resident_bytes: 1000,
            position_bytes: 1000,
            token_bytes: 10,
            ty: TensorType::Q8_0,
        };
        let with_batch = |batch, prompt, decode, depth, sequences: &[usize], available| {
            let (prompts, sequences, depths) = (vec![0, prompt], sequences.to_vec(), vec![0, depth]);
            let load = LoadOptions::default().batch(batch);
            let options = BenchOptions { prompts, decode, sequences, depths, load, ..BenchOptions::default() };
            options.context_within(&cost, 1000, available)
        };
        let with = |prompt, decode, depth, sequences: &[usize], available| {
            with_batch(1, prompt, decode, depth, sequences, available)
        };
        assert_eq!(with(100, 20, 900, &[], 2_000_000).unwrap(), 1000);
        // 1024 positions, with the rest of the last page; 13 sequences of 1024 positions more.
        assert_eq!(with(100, 20, 900, &[1, 13], 1130 + 14 * 1_024_000).unwrap(), 1000);
        let error = with(100, 20, 900, &[1, 13], 14 * 1_024_000).unwrap_err();
        let MeasureError::Memory { needed, keys_and_values, batch, available } = error else { panic!("{error}") };
        assert_eq!((needed, keys_and_values, batch), (1130 + available, 14 * 1_024_000, 130));
        // A batch has no more tokens than there are to read, before the tests or in them.
        for (size, prompt, depth, tokens) in
            [(700, 100, 800, 700), (usize::MAX, 100, 800, 800), (usize::MAX, 800, 100, 800)]
        {
            let room = 1000 + 1_024_000 + 10 * tokens;
            assert_eq!(with_batch(size, prompt, 20, depth, &[], room).unwrap(), 900);
            assert!(matches!(with_batch(size, prompt, 20, depth, &[], room - 1), Err(MeasureError::Memory { .. })));
        }
        const MOST: usize = usize::MAX;
        for (prompt, decode, depth, sequences) in
            [(MOST, 1, 1, 1), (1, MOST, 1, 1), (0, 1, MOST, 1), (0, 1, MOST - 40, 1), (0, 1, 1, MOST)]
        {
            let error = with(prompt, decode, depth, &[sequences], u64::MAX).unwrap_err();
            assert!(matches!(error, MeasureError::TooManyPositions { .. }), "{error}");
        }
    }
}
