//! What drawing a token costs, over a vocabulary of 128 k.
//!
//!     cargo bench -p quipu-bench --bench sampler

use criterion::{Criterion, criterion_group, criterion_main};
use quipu_runtime::sampler::{DryOptions, MirostatOptions, Sampler, SamplerOptions};
use quipu_test_random::Random;

const VOCABULARY: usize = 128_256;

/// Logits as a model has them: most tokens far below a few.
fn logits() -> Vec<f32> {
    let mut random = Random::new(7);
    (0..VOCABULARY).map(|_| 2.5 * random.normal()).collect()
}

fn cases() -> Vec<(&'static str, SamplerOptions)> {
    let default = SamplerOptions::default;
    let dry = DryOptions::default().multiplier(0.8).breakers([]).last_n(4096);
    let all = || {
        default()
            .repeat_penalty(1.1)
            .frequency_penalty(0.1)
            .dry(dry.clone())
            .no_repeat_ngram(4)
            .top_n_sigma(2.0)
            .typical_p(0.9)
            .xtc_probability(0.5)
            .dynatemp_range(0.3)
    };
    let mirostat = |version| default().mirostat(MirostatOptions::default().version(version));
    vec![
        ("greedy", SamplerOptions::greedy()),
        ("default", default()),
        ("all", all()),
        ("all but top-k and top-nσ", all().top_k(0).top_n_sigma(0.0)),
        ("typical alone", default().top_k(0).top_p(1.0).min_p(0.0).typical_p(0.9)),
        ("top-nσ alone", default().top_k(0).top_p(1.0).min_p(0.0).top_n_sigma(1.0)),
        ("mirostat 1", mirostat(1)),
        ("mirostat 2", mirostat(2)),
    ]
}

fn draws(criterion: &mut Criterion) {
    let logits = logits();
    let mut group = criterion.benchmark_group("sampler");
    for (name, options) in cases() {
        let mut sampler = Sampler::new(options).expect("sensible options");
        // A text of 4096 tokens, some of which come again.
        (0..4096).for_each(|i| sampler.accept(i * i % 1021));
        group.bench_function(name, |bencher| bencher.iter(|| sampler.sample(&logits)));
    }
}

criterion_group!(benches, draws);
criterion_main!(benches);
