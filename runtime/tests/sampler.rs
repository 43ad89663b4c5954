//! The sampler against its formulas, and the stop matcher against a plain search.

use proptest::prelude::*;
use quipu_runtime::sampler::{
    DryOptions, MirostatOptions, Sampler, SamplerError, SamplerOptions, SamplerStep, StopMatcher, log_probability,
    top_log_probabilities,
};

/// Everything off: a plain draw from the softmax.
fn plain() -> SamplerOptions {
    SamplerOptions::default().temperature(1.0).top_k(0).top_p(1.0).min_p(0.0)
}

fn softmax(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f32::MIN, f32::max);
    let weights: Vec<f64> = logits.iter().map(|&l| f64::from(l - max).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|w| w / sum).collect()
}

/// How often each token comes in `n` draws, as a share.
fn shares(options: SamplerOptions, logits: &[f32], n: usize) -> Vec<f64> {
    let mut sampler = Sampler::new(options).unwrap();
    let mut counts = vec![0.0; logits.len()];
    for _ in 0..n {
        counts[sampler.sample(logits).unwrap() as usize] += 1.0 / n as f64;
    }
    counts
}

/// The tokens that ever come.
fn support(options: SamplerOptions, logits: &[f32]) -> Vec<usize> {
    shares(options, logits, 4000).iter().enumerate().filter(|(_, s)| **s > 0.0).map(|(i, _)| i).collect()
}

fn logits_of(probabilities: &[f64]) -> Vec<f32> {
    probabilities.iter().map(|p| p.ln() as f32).collect()
}

#[test]
fn draws_follow_the_softmax() {
    let logits = [0.3f32, -1.0, 2.0, 0.0, 1.2, -0.5];
    for temperature in [0.5f32, 1.0, 1.7] {
        let scaled: Vec<f32> = logits.iter().map(|l| l / temperature).collect();
        let n = 40_000;
        let got = shares(plain().temperature(temperature), &logits, n);
        for (got, want) in got.iter().zip(softmax(&scaled)) {
            // Five standard deviations of a binomial share: a right sampler fails this once in a million runs; the seed
            // is fixed.
            let bound = 5.0 * (want * (1.0 - want) / n as f64).sqrt();
            assert!((got - want).abs() < bound, "temperature {temperature}: share {got}, probability {want}");
        }
    }
}

#[test]
fn a_bias_is_added_to_its_logits() {
    let logits = [0.3f32, -1.0, 2.0, 0.0, 1.2, -0.5];
    let bias = vec![(2, -1.5f32), (0, 0.7), (4, f32::NEG_INFINITY), (77, 5.0)];
    let mut biased = logits;
    (biased[2], biased[0], biased[4]) = (logits[2] - 1.5, logits[0] + 0.7, f32::NEG_INFINITY);
    let draws = |options: SamplerOptions, logits: &[f32]| {
        let mut sampler = Sampler::new(options).unwrap();
        (0..500).map(|_| sampler.sample(logits).unwrap()).collect::<Vec<_>>()
    };
    for options in [plain(), plain().top_k(3), plain().top_p(0.8), SamplerOptions::greedy()] {
        assert_eq!(draws(options.clone().logit_bias(bias.clone()), &logits), draws(options, &biased));
    }
    assert_eq!(draws(SamplerOptions::greedy().logit_bias(vec![(1, 100.0)]), &logits)[0], 1);
    for wrong in [f32::NAN, f32::INFINITY] {
        let refused = Sampler::new(plain().logit_bias(vec![(1, wrong)]));
        assert!(matches!(refused, Err(SamplerError::Option { option: "logit_bias", .. })));
    }
}

#[test]
fn truncation_keeps_what_its_rule_keeps() {
    let logits = logits_of(&[0.05, 0.4, 0.1, 0.25, 0.2]);
    assert_eq!(support(plain(), &logits), [0, 1, 2, 3, 4]);
    assert_eq!(support(plain().top_k(2), &logits), [1, 3]);
    assert_eq!(support(plain().top_k(9), &logits), [0, 1, 2, 3, 4]);
    // 0.4 + 0.25 = 0.65 is not yet 0.7; 0.2 more is.
    assert_eq!(support(plain().top_p(0.7), &logits), [1, 3, 4]);
    assert_eq!(support(plain().top_p(0.0), &logits), [1]);
    // At least 0.4 · 0.4 = 0.16.
    assert_eq!(support(plain().min_p(0.4), &logits), [1, 3, 4]);
    assert_eq!(support(plain().min_p(1.0), &logits), [1]);
    // Top-p looks at what top-k left, renormalised: 0.4 of 0.85 is 0.47, 0.65 of 0.85 is 0.76.
    assert_eq!(support(plain().top_k(3).top_p(0.75), &logits), [1, 3]);
    // Top-p's share is that before min-p: 0.65 stays below 0.8 although min-p would leave only 1 and 3.
    assert_eq!(support(plain().top_p(0.8).min_p(0.6), &logits), [1, 3]);
    // Truncation comes before the temperature, so a hot draw widens nothing.
    assert_eq!(support(plain().temperature(50.0).top_p(0.7), &logits), [1, 3, 4]);
}

#[test]
fn ties_go_to_the_lowest_id() {
    let logits = [1.0f32, 3.0, 3.0, 3.0, -0.0, 0.0];
    assert_eq!(Sampler::new(SamplerOptions::greedy()).unwrap().sample(&logits), Ok(1));
    assert_eq!(support(plain().top_k(2), &logits), [1, 2]);
    let top: Vec<u32> = top_log_probabilities(&logits, 6).iter().map(|t| t.0).collect();
    assert_eq!(top, [1, 2, 3, 0, 4, 5]);
}

/// Penalties by ggml's formula, seen through the one number that greedy sampling shows: which logit is greatest.
#[test]
fn penalties_follow_the_formula() {
    let pick = |options: SamplerOptions, seen: &[u32], logits: &[f32]| {
        let mut sampler = Sampler::new(options.temperature(0.0)).unwrap();
        seen.iter().for_each(|&t| sampler.accept(t));
        sampler.sample(logits).unwrap()
    };
    let repeat = |p| plain().repeat_penalty(p);
    // 4 / 1.9 = 2.1 still beats 2; 4 / 2.1 = 1.9 does not. However often it was seen.
    assert_eq!(pick(repeat(1.9), &[0, 0, 0], &[4.0, 2.0]), 0);
    assert_eq!(pick(repeat(2.1), &[0], &[4.0, 2.0]), 1);
    // Negative logits are multiplied: -1 · 2.1 falls below -2.
    assert_eq!(pick(repeat(1.9), &[0], &[-1.0, -2.0]), 0);
    assert_eq!(pick(repeat(2.1), &[0], &[-1.0, -2.0]), 1);
    // Frequency counts occurrences, presence does not.
    let frequency = plain().frequency_penalty(0.8);
    assert_eq!(pick(frequency.clone(), &[0, 0], &[4.0, 2.0]), 0);
    assert_eq!(pick(frequency.clone(), &[0, 0, 0], &[4.0, 2.0]), 1);
    let presence = plain().presence_penalty(0.8);
    assert_eq!(pick(presence, &[0, 0, 0], &[4.0, 2.0]), 0);
    // The window forgets: of 0, 0, 0, 1 the last two hold one 0.
    let window = frequency.repeat_last_n(2);
    assert_eq!(pick(window, &[0, 0, 0, 1], &[4.0, 3.0]), 0);
    // No window, no penalty. Tokens beyond the vocabulary do no harm.
    assert_eq!(pick(repeat(9.0).repeat_last_n(0), &[0], &[4.0, 2.0]), 0);
    assert_eq!(pick(repeat(9.0), &[77], &[4.0, 2.0]), 0);
}

#[test]
fn a_seed_fixes_the_draws() {
    let logits: Vec<f32> = (0..500).map(|i| ((i * 37 % 101) as f32) / 25.0).collect();
    let draw = |seed| {
        let mut sampler = Sampler::new(plain().seed(seed)).unwrap();
        (0..20).map(|_| sampler.sample(&logits).unwrap()).collect::<Vec<u32>>()
    };
    assert_eq!(draw(7), draw(7));
    assert_ne!(draw(7), draw(8));
}

/// Guards the promise that a seed gives the same tokens on every machine and in every version: these draws must never
/// change.
#[test]
fn golden_draws() {
    let logits: Vec<f32> = (0..1000).map(|i| ((i * 7919 % 1000) as f32).sqrt() / 4.0).collect();
    let draw = |options: SamplerOptions| {
        let mut sampler = Sampler::new(options).unwrap();
        (0..8)
            .map(|_| {
                let token = sampler.sample(&logits).unwrap();
                sampler.accept(token);
                token
            })
            .collect::<Vec<u32>>()
    };
    assert_eq!(draw(SamplerOptions::default().seed(42)), GOLDEN_DEFAULT);
    assert_eq!(draw(plain().seed(42)), GOLDEN_PLAIN);
    assert_eq!(draw(SamplerOptions::default().seed(42).repeat_penalty(1.3).frequency_penalty(0.5)), GOLDEN_PENALTIES);
}
const GOLDEN_DEFAULT: [u32; 8] = [951, 852, 198, 346, 630, 62, 605, 383];
const GOLDEN_PLAIN: [u32; 8] = [893, 643, 601, 287, 115, 706, 630, 274];
const GOLDEN_PENALTIES: [u32; 8] = [951, 852, 840, 667, 593, 383, 605, 25];

#[test]
fn bad_options_are_named() {
    let dry = DryOptions::default;
    let mirostat = MirostatOptions::default;
    let cases = [
        ("dynatemp_range", plain().dynatemp_range(-1.0)),
        ("dynatemp_exponent", plain().dynatemp_exponent(f32::NAN)),
        ("typical_p", plain().typical_p(1.5)),
        ("top_n_sigma", plain().top_n_sigma(f32::NAN)),
        ("xtc_probability", plain().xtc_probability(1.1)),
        ("xtc_threshold", plain().xtc_threshold(-0.1)),
        ("dry_multiplier", plain().dry(dry().multiplier(f32::INFINITY))),
        ("dry_base", plain().dry(dry().base(0.9))),
        ("mirostat", plain().mirostat(mirostat().version(3))),
        ("mirostat_tau", plain().mirostat(mirostat().tau(-1.0))),
        ("mirostat_eta", plain().mirostat(mirostat().eta(f32::NAN))),
        ("temperature", plain().temperature(-0.1)),
        ("temperature", plain().temperature(f32::NAN)),
        ("temperature", plain().temperature(f32::INFINITY)),
        ("top_p", plain().top_p(1.1)),
        ("min_p", plain().min_p(-0.1)),
        ("repeat_penalty", plain().repeat_penalty(0.0)),
        ("frequency_penalty", plain().frequency_penalty(f32::NAN)),
        ("presence_penalty", plain().presence_penalty(f32::INFINITY)),
    ];
    for (name, options) in cases {
        match Sampler::new(options) {
            Err(SamplerError::Option { option, .. }) => assert_eq!(option, name),
            other => panic!("{name}: {other:?}"),
        }
    }
    let twice = plain().steps([SamplerStep::TopK, SamplerStep::Xtc, SamplerStep::TopK]);
    assert_eq!(Sampler::new(twice).err(), Some(SamplerError::RepeatedStep("top_k")));
    // Its sequence breakers are texts.
    assert_eq!(Sampler::new(plain().dry(dry().multiplier(1.0))).err(), Some(SamplerError::NoTokenizer));
    assert!(Sampler::new(plain().dry(dry().multiplier(1.0).breakers([]))).is_ok());
}

#[test]
fn broken_logits_are_an_error() {
    for temperature in [0.0, 1.0] {
        let mut sampler = Sampler::new(plain().temperature(temperature)).unwrap();
        assert!(matches!(sampler.sample(&[1.0, f32::NAN, 0.0]), Err(SamplerError::Logit { id: 1, .. })));
        assert!(matches!(sampler.sample(&[1.0, 0.0, f32::INFINITY]), Err(SamplerError::Logit { id: 2, .. })));
        assert_eq!(sampler.sample(&[]), Err(SamplerError::NoCandidate { count: 0 }));
        assert_eq!(sampler.sample(&[f32::NEG_INFINITY; 2]), Err(SamplerError::NoCandidate { count: 2 }));
        assert_eq!(sampler.sample(&[f32::NEG_INFINITY, -3e38]), Ok(1));
    }
}

#[test]
fn log_probabilities_are_those_of_the_softmax() {
    let logits = [0.3f32, -1.0, 2.0, f32::NEG_INFINITY, 1e3, 999.5];
    for (id, p) in softmax(&logits).iter().enumerate() {
        let got = log_probability(&logits, id as u32);
        assert!((got.exp() - p).abs() < 1e-12, "token {id}: {got} against ln {p}");
    }
    assert!(log_probability(&logits, 6).is_nan());
    assert!(top_log_probabilities(&logits, 0).is_empty());
}

proptest! {
    /// Whatever the options, the drawn token is one that each rule by itself would keep.
    #[test]
    fn draws_obey_every_rule(
        logits in prop::collection::vec(-10.0f32..10.0, 1..60),
        top_k in 0usize..70,
        top_p in 0.0f32..=1.0,
        min_p in 0.0f32..=1.0,
        seed: u64,
    ) {
        let mut sampler = Sampler::new(plain().temperature(1.5).top_k(top_k).top_p(top_p).min_p(min_p).seed(seed)).unwrap();
        let token = sampler.sample(&logits).unwrap() as usize;
        let before = |i: usize| logits[i] > logits[token] || (logits[i] == logits[token] && i < token);
        let rank = (0..logits.len()).filter(|&i| before(i)).count();
        prop_assert!(top_k == 0 || rank < top_k);
        let p = softmax(&logits);
        let max = p.iter().copied().fold(0.0, f64::max);
        prop_assert!(p[token] >= f64::from(min_p) * max - 1e-12);
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
        let kept = if top_k == 0 { logits.len() } else { top_k.min(logits.len()) };
        let mass: f64 = order[..kept].iter().map(|&i| p[i]).sum();
        let better: f64 = order[..rank].iter().map(|&i| p[i]).sum();
        prop_assert!(rank == 0 || better < f64::from(top_p) * mass + 1e-12);
    }

    /// What comes out is the text up to the first stop string to be complete, in whatever pieces it went in.
    #[test]
    fn stops_do_not_depend_on_the_pieces(
        text in "[abcé]{0,24}",
        stops in prop::collection::vec("[abcé]{1,4}", 0..4),
        cuts in prop::collection::vec(0usize..24, 0..6),
    ) {
        let ends = text.char_indices().map(|(i, c)| i + c.len_utf8());
        let expected = ends.filter_map(|end| stops.iter().filter(|s| text[..end].ends_with(s.as_str())).map(|s| end - s.len()).min()).next();
        let mut matcher = StopMatcher::new(stops.clone()).unwrap();
        let mut cuts: Vec<usize> = cuts.into_iter().filter(|&c| text.is_char_boundary(c)).chain([text.len()]).collect();
        cuts.sort_unstable();
        let (mut out, mut from, mut stopped) = (String::new(), 0, false);
        for cut in cuts {
            let (piece, stop) = matcher.push(&text[from..cut]);
            out.push_str(&piece);
            from = cut;
            // What has come out so far is never taken back.
            prop_assert!(text[..expected.unwrap_or(text.len())].starts_with(&out));
            if stop { stopped = true; break; }
        }
        if !stopped { out.push_str(&matcher.finish()); }
        prop_assert_eq!(stopped, expected.is_some());
        prop_assert_eq!(out, &text[..expected.unwrap_or(text.len())]);
    }
}

#[test]
fn text_that_cannot_be_a_stop_comes_at_once() {
    let mut matcher = StopMatcher::new(["\nUser:".to_string()]).unwrap();
    assert_eq!(matcher.push("Hello"), ("Hello".into(), false));
    assert_eq!(matcher.push(" there\nU"), (" there".into(), false));
    assert_eq!(matcher.push("nder"), ("\nUnder".into(), false));
    assert_eq!(matcher.push(" it\nUser: x"), (" it".into(), true));
    assert_eq!(StopMatcher::new([String::new()]).err(), Some(SamplerError::EmptyStop));
}
