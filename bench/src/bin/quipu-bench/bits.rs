//! The bits of a model's logits by every instruction set and number of threads of this machine.

use std::error::Error;

use quipu_runtime::{Engine, Isa, LoadOptions, open};

/// Tokens that are read at once: whole tiles of every instruction set, and a rest.
const PROMPT: u32 = 41;
/// Tokens that are read one by one.
const DECODE: u32 = 3;

/// FNV-1a (Fowler, Noll and Vo) of the bits of all logits.
fn hash(hash: u64, logits: &[f32]) -> u64 {
    let bytes = logits.iter().flat_map(|x| x.to_bits().to_le_bytes());
    bytes.fold(hash, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

fn logits(model: &str, isa: Isa, threads: usize) -> Result<u64, Box<dyn Error>> {
    let options = LoadOptions::default().isa(Some(isa)).threads(Some(threads)).context(Some(64)).batch(PROMPT as usize);
    let mut engine = Engine::load(open(model)?, &options, &|_, _| {})?;
    let mut sequence = engine.new_sequence();
    let prompt: Vec<u32> = (100..100 + PROMPT).collect();
    let mut all = hash(0xcbf2_9ce4_8422_2325, engine.prefill(&mut sequence, &prompt)?);
    for token in 200..200 + DECODE {
        all = hash(all, engine.decode(&mut sequence, token)?);
    }
    if !engine.prefill(&mut sequence, &prompt[..1])?.iter().all(|x| x.is_finite()) {
        return Err(format!("{model}: its logits are not finite numbers").into());
    }
    Ok(all)
}

/// Prints one JSON object: `same`, and a list `bits` of isa, threads and hash. The portable kernels, which are slow,
/// run with the last number of threads alone.
///
/// # Errors
/// When the model does not run.
pub fn print(model: &str, threads: &str) -> Result<(), Box<dyn Error>> {
    let threads: Vec<usize> = threads.split(',').map(str::parse).collect::<Result<_, _>>()?;
    let mut found = Vec::new();
    for isa in Isa::available() {
        let threads = if isa == Isa::Portable { &threads[threads.len() - 1..] } else { &threads };
        for &threads in threads {
            found.push((isa, threads, logits(model, isa, threads)?));
        }
    }
    let same = found.iter().all(|f| f.2 == found[0].2);
    let rows = found
        .iter()
        .map(|(isa, threads, hash)| format!(r#"{{"isa": "{isa}", "threads": {threads}, "hash": "{hash:016x}"}}"#));
    println!(r#"{{"same": {same}, "bits": [{}]}}"#, rows.collect::<Vec<_>>().join(", "));
    Ok(())
}
