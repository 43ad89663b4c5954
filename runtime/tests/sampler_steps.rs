//! Each step against a second implementation of its formula: plain f64, one probability after the other, the steps in
//! any order. And what holds whatever the options: there is always a candidate, and a step that is off is not there.

use std::collections::HashSet;

use proptest::prelude::*;
use quipu_runtime::sampler::{DryOptions, MirostatOptions, Sampler, SamplerOptions, SamplerStep, Xoshiro256PlusPlus};

/// Tokens with logits, the likeliest first.
type List = Vec<(u32, f64)>;

fn plain() -> SamplerOptions {
    SamplerOptions::default().temperature(1.0).top_k(0).top_p(1.0).min_p(0.0)
}

fn probabilities(list: &List) -> Vec<f64> {
    let max = list.iter().map(|&(_, l)| l).fold(f64::MIN, f64::max);
    let sum: f64 = list.iter().map(|&(_, l)| (l - max).exp()).sum();
    list.iter().map(|&(_, l)| (l - max).exp() / sum).collect()
}

fn entropy(p: &[f64]) -> f64 {
    p.iter().filter(|&&p| p > 0.0).map(|p| -p * p.ln()).sum()
}

fn sort(list: &mut List) {
    list.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
}

/// The first tokens in `order` (indices) that have the probability `share` together.
fn nucleus(p: &[f64], order: &[usize], share: f64) -> HashSet<usize> {
    let mut sum = 0.0;
    let mut kept = HashSet::new();
    for &i in order {
        kept.insert(i);
        sum += p[i];
        if sum >= share {
            break;
        }
    }
    kept
}

fn keep(list: &mut List, kept: impl Fn(usize) -> bool) {
    let mut i = 0;
    list.retain(|_| {
        i += 1;
        kept(i - 1)
    });
}

/// How long a repetition a token would continue, if it stands in the text after its first token: every place before it
/// is compared with the end, token by token.
fn repetition(text: &[u32], token: u32) -> Option<usize> {
    let places = (0..text.len().saturating_sub(1)).filter(|&i| text[i + 1] == token);
    places.map(|i| (0..=i).take_while(|k| text[i - k] == text[text.len() - 1 - k]).count()).max()
}

/// What a step leaves, by its formula. `uniform` is the random number that XTC takes.
fn reference(step: SamplerStep, list: &mut List, o: &SamplerOptions, text: &[u32], uniform: f64) {
    sort(list);
    let p = probabilities(list);
    let by_likelihood: Vec<usize> = (0..list.len()).collect();
    let recent = |n: usize| &text[text.len().saturating_sub(n)..];
    match step {
        SamplerStep::Penalties => {
            for (id, l) in list.iter_mut() {
                let count = recent(o.repeat_last_n).iter().filter(|t| *t == id).count();
                if count > 0 {
                    let r = f64::from(o.repeat_penalty);
                    *l = if *l > 0.0 { *l / r } else { *l * r };
                    *l -= count as f64 * f64::from(o.frequency_penalty) + f64::from(o.presence_penalty);
                }
            }
        }
        SamplerStep::Dry if o.dry.multiplier > 0.0 => {
            let recent = recent(o.dry.last_n);
            for (id, l) in list.iter_mut() {
                if let Some(n) = repetition(recent, *id).filter(|&n| n >= o.dry.allowed_length) {
                    let power = (n - o.dry.allowed_length) as i32;
                    *l -= f64::from(o.dry.multiplier) * f64::from(o.dry.base).powi(power);
                }
            }
        }
        SamplerStep::TopNSigma if o.top_n_sigma > 0.0 => {
            let n = list.len() as f64;
            let mean = list.iter().map(|c| c.1).sum::<f64>() / n;
            let sigma = (list.iter().map(|c| (c.1 - mean).powi(2)).sum::<f64>() / n).sqrt();
            let max = list[0].1;
            list.retain(|c| c.1 >= max - f64::from(o.top_n_sigma) * sigma);
        }
        SamplerStep::TopK if o.top_k > 0 => list.truncate(o.top_k),
        SamplerStep::TypicalP if o.typical_p < 1.0 => {
            let h = entropy(&p);
            let mut order = by_likelihood;
            order.sort_by(|&a, &b| (-p[a].ln() - h).abs().total_cmp(&(-p[b].ln() - h).abs()));
            let kept = nucleus(&p, &order, o.typical_p.into());
            keep(list, |i| kept.contains(&i));
        }
        SamplerStep::TopP if o.top_p < 1.0 => {
            let kept = nucleus(&p, &by_likelihood, o.top_p.into());
            keep(list, |i| kept.contains(&i));
        }
        SamplerStep::MinP => keep(list, |i| p[i] >= f64::from(o.min_p) * p[0]),
        SamplerStep::Xtc if uniform < o.xtc_probability.into() => {
            let tops = p.iter().filter(|&&p| p >= o.xtc_threshold.into()).count();
            list.drain(..tops.saturating_sub(1));
        }
        SamplerStep::Temperature => {
            let (t, r) = (f64::from(o.temperature), f64::from(o.dynatemp_range));
            let share = if list.len() > 1 { entropy(&p) / (list.len() as f64).ln() } else { 0.0 };
            let dynamic = (t - r).max(0.0) + (t + r - (t - r).max(0.0)) * share.powf(o.dynatemp_exponent.into());
            let t = if r > 0.0 && list.len() > 1 { dynamic } else { t };
            list.iter_mut().for_each(|(_, l)| *l /= t);
        }
        _ => {}
    }
}

/// The list of all tokens.
fn all(logits: &[f32]) -> List {
    (0..).zip(logits).map(|(id, &l)| (id, l.into())).collect()
}

fn dry(multiplier: f32, allowed_length: usize, last_n: usize) -> DryOptions {
    DryOptions::default().multiplier(multiplier).allowed_length(allowed_length).last_n(last_n).breakers([])
}

/// Options of any kind: each step is off in half of them.
fn any_options() -> impl Strategy<Value = SamplerOptions> {
    let share = || prop_oneof![Just(1.0f32), 0.05f32..0.99];
    let truncation = (prop_oneof![Just(0usize), 1usize..40], share(), share(), share());
    let penalties = (prop_oneof![Just(1.0f32), 0.7f32..1.6], -1.0f32..1.0, 0usize..20);
    let xtc = (prop_oneof![Just(0.0f32), Just(1.0f32), 0.0f32..1.0], 0.01f32..0.6);
    let heat = (0.2f32..3.0, prop_oneof![Just(0.0f32), 0.0f32..2.0], 0.2f32..3.0);
    let repeats = (prop_oneof![Just(0.0f32), 0.1f32..2.0], 0usize..4, 0usize..30, -1.0f32..4.0);
    let order = Just(SamplerStep::DEFAULT.to_vec()).prop_shuffle().prop_flat_map(|all| (Just(all), 0usize..10));
    (truncation, penalties, xtc, heat, repeats, order, any::<u64>()).prop_map(
        |(truncation, penalties, xtc, heat, repeats, (mut order, kept), seed)| {
            order.truncate(kept);
            SamplerOptions::default()
                .top_k(truncation.0)
                .top_p(truncation.1)
                .min_p(1.0 - truncation.2)
                .typical_p(truncation.3)
                .repeat_penalty(penalties.0)
                .frequency_penalty(penalties.1)
                .repeat_last_n(penalties.2)
                .xtc_probability(xtc.0)
                .xtc_threshold(xtc.1)
                .temperature(heat.0)
                .dynatemp_range(heat.1)
                .dynatemp_exponent(heat.2)
                .dry(dry(repeats.0, repeats.1, repeats.2))
                .top_n_sigma(repeats.3)
                .steps(order)
                .seed(seed)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// The whole chain, in any order, with any of its steps.
    #[test]
    fn steps_are_those_of_the_formulas(
        logits in prop::collection::vec(-8.0f32..8.0, 1..60),
        text in prop::collection::vec(0u32..8, 0..30),
        options in any_options(),
    ) {
        let mut sampler = Sampler::new(options.clone()).unwrap();
        text.iter().for_each(|&token| sampler.accept(token));
        let found = sampler.distribution(&logits).unwrap();
        let uniform = Xoshiro256PlusPlus::new(options.seed).uniform();
        let mut expected = all(&logits);
        for &step in &options.steps {
            reference(step, &mut expected, &options, &text, uniform);
        }
        sort(&mut expected);
        let p = probabilities(&expected);
        let ids = |list: &[(u32, f64)]| list.iter().map(|c| c.0).collect::<HashSet<_>>();
        prop_assert_eq!(ids(&found), ids(&expected), "{:?} and {:?}", found, expected);
        for ((_, found), expected) in found.iter().zip(p) {
            // Penalties are taken in f32.
            prop_assert!((found - expected).abs() < 1e-5, "{found} and {expected}");
        }
    }

    /// Whatever is asked for, and of whatever logits: at least one candidate, no NaN, probabilities that add up to 1,
    /// and a token that is one of them.
    #[test]
    fn there_is_always_a_candidate(
        mut logits in prop::collection::vec(
            prop_oneof![-10.0f32..10.0, Just(f32::NEG_INFINITY), Just(f32::MAX), Just(f32::MIN), Just(0.0)], 1..40),
        text in prop::collection::vec(0u32..50, 0..20),
        options in any_options(),
        no_repeat_ngram in 0usize..3,
        mirostat in (0u8..3, 0.0f32..12.0, 0.0f32..2.0),
        cold: bool,
    ) {
        logits[0] = logits[0].max(-1.0);
        let (version, tau, eta) = mirostat;
        let mirostat = MirostatOptions::default().version(version).tau(tau).eta(eta);
        let temperature = if cold { 0.0 } else { options.temperature };
        let options = options.no_repeat_ngram(no_repeat_ngram).mirostat(mirostat).temperature(temperature);
        let mut sampler = Sampler::new(options).unwrap();
        text.iter().for_each(|&token| sampler.accept(token));
        for _ in 0..5 {
            let found = sampler.distribution(&logits).unwrap();
            let sum: f64 = found.iter().map(|c| c.1).sum();
            prop_assert!(!found.is_empty() && (sum - 1.0).abs() < 1e-9, "{found:?}");
            prop_assert!(found.iter().all(|&(id, p)| p >= 0.0 && logits[id as usize] > f32::NEG_INFINITY));
            let token = sampler.sample(&logits).unwrap();
            prop_assert!(found.iter().any(|c| c.0 == token));
            sampler.accept(token);
        }
    }
}

/// A penalty that leaves f32's range makes a token unlikely, not impossible: here it is the only one that is possible
/// and ends no bigram which stands in the text.
#[test]
fn no_penalty_excludes_the_last_candidate() {
    for (repeat, frequency) in [(1.5, 0.0), (1.0, f32::MAX)] {
        let options = SamplerOptions::default().repeat_penalty(repeat).frequency_penalty(frequency);
        let mut sampler = Sampler::new(options.repeat_last_n(8).no_repeat_ngram(2)).unwrap();
        [2, 0, 0, 1, 0].into_iter().for_each(|token| sampler.accept(token));
        assert_eq!(sampler.sample(&[0.0, 0.0, f32::MIN, f32::NEG_INFINITY]).unwrap(), 2);
    }
}

/// The tokens of a sampler that hears what it draws.
fn draws(options: SamplerOptions, n: usize) -> Vec<u32> {
    let mut sampler = Sampler::new(options).unwrap();
    let draw = |i: usize| {
        let logits: Vec<f32> = (0..200).map(|k| ((k * (37 + i) % 211) as f32).sqrt() / 2.0).collect();
        let token = sampler.sample(&logits).unwrap();
        sampler.accept(token);
        token
    };
    (0..n).map(draw).collect()
}

/// What is off is not there: not a token changes, so not a random number is taken. Steps that can change nothing
/// because of another one count as on.
#[test]
fn off_changes_nothing() {
    for base in [SamplerOptions::default().seed(5), plain().seed(6), SamplerOptions::greedy()] {
        let expected = draws(base.clone(), 60);
        let off = [
            base.clone().typical_p(1.0),
            base.clone().top_n_sigma(0.0),
            base.clone().top_n_sigma(-3.0),
            base.clone().xtc_probability(0.0).xtc_threshold(0.0),
            base.clone().xtc_probability(1.0).xtc_threshold(0.51),
            base.clone().dynatemp_range(0.0).dynatemp_exponent(3.0),
            base.clone().dry(dry(0.0, 0, 100)),
            base.clone().dry(dry(2.0, 0, 0)),
            base.clone().mirostat(MirostatOptions::default().version(0).tau(1.0)),
            base.clone().no_repeat_ngram(0),
        ];
        for options in off {
            assert_eq!(draws(options.clone(), 60), expected, "{options:?}");
        }
    }
}

/// XTC takes one number each time, used or not, so the draws after it are those of a sampler that took one too.
#[test]
fn xtc_takes_one_number() {
    let logits: Vec<f32> = (0..50).map(|i| (i as f32).sin()).collect();
    // At a threshold of ½ nothing of these is a top choice.
    let mut xtc = Sampler::new(plain().seed(9).xtc_probability(0.5).xtc_threshold(0.5)).unwrap();
    let mut random = Xoshiro256PlusPlus::new(9);
    let mut order = all(&logits);
    sort(&mut order);
    let p = probabilities(&order);
    for _ in 0..100 {
        random.uniform();
        let (target, mut sum) = (random.uniform(), 0.0);
        let place = p.iter().position(|p| {
            sum += p;
            sum > target
        });
        assert_eq!(xtc.sample(&logits).unwrap(), order[place.unwrap()].0);
    }
}

/// Mirostat over a text, with its own draws: the tokens of the algorithm as the paper has it, written down once more.
#[test]
fn mirostat_is_that_of_the_paper() {
    for (version, tau, eta) in [(1, 3.0f32, 0.1f32), (1, 5.0, 0.3), (2, 3.0, 0.1), (2, 5.5, 0.5), (2, 0.5, 1.0)] {
        let options =
            plain().temperature(1.2).seed(3).mirostat(MirostatOptions::default().version(version).tau(tau).eta(eta));
        let mut sampler = Sampler::new(options).unwrap();
        let mut random = Xoshiro256PlusPlus::new(3);
        let (mut mu, mut surprises) = (2.0 * f64::from(tau), 0.0);
        for i in 0..300 {
            let logits: Vec<f32> = (0..500).map(|k| -1.1 * ((k * (7 + i) % 503 + 1) as f32).ln()).collect();
            let mut list = all(&logits);
            list.iter_mut().for_each(|(_, l)| *l /= f64::from(1.2f32));
            sort(&mut list);
            let p = probabilities(&list);
            let kept = if version == 2 {
                p.iter().take_while(|p| -p.log2() <= mu).count()
            } else {
                let (mut tb, mut tt) = (0.0, 0.0);
                for k in 1..100 {
                    let t = ((k + 1) as f64 / k as f64).ln();
                    tb += t * (p[k - 1] / p[k]).ln();
                    tt += t * t;
                }
                let s = tb / tt;
                let e = s - 1.0;
                ((e * 2f64.powf(mu)) / (1.0 - 500f64.powf(-e))).powf(1.0 / s) as usize
            };
            list.truncate(kept.max(1));
            let p = probabilities(&list);
            let (target, mut sum) = (random.uniform(), 0.0);
            let place = p.iter().position(|p| {
                sum += p;
                sum > target
            });
            let place = place.unwrap_or(list.len() - 1);
            mu -= f64::from(eta) * (-p[place].log2() - f64::from(tau));
            surprises -= p[place].log2() / 300.0;
            let token = sampler.sample(&logits).unwrap();
            assert_eq!(token, list[place].0, "version {version}, token {i}");
            sampler.accept(token);
        }
        // What it is for: the average is near the target.
        assert!((surprises - f64::from(tau)).abs() < 0.35, "version {version}: {surprises} bits, not {tau}");
    }
}

/// What a sampler has drawn counts when it is accepted, so a draw that is discarded leaves only the random numbers.
#[test]
fn a_discarded_draw_is_forgotten() {
    let logits: Vec<f32> = (0..100).map(|i| ((i * 17 % 101) as f32).sqrt()).collect();
    let mirostat = MirostatOptions::default().version(2).tau(2.0).eta(1.0);
    let options = plain().seed(4).mirostat(mirostat);
    let mut sampler = Sampler::new(options).unwrap();
    let before = sampler.distribution(&logits).unwrap();
    sampler.sample(&logits).unwrap();
    assert_eq!(sampler.distribution(&logits).unwrap(), before);
    let copy = sampler.clone();
    let token = sampler.sample(&logits).unwrap();
    sampler.accept(token);
    assert_ne!(sampler.distribution(&logits).unwrap(), before);
    assert_eq!(copy.distribution(&logits).unwrap(), before);
}

#[test]
fn no_ngram_comes_twice() {
    for n in [1, 2, 3] {
        let options = plain().seed(1).no_repeat_ngram(n);
        let mut sampler = Sampler::new(options).unwrap();
        let logits = [1.0f32, 0.5, 0.0, -0.5, 0.2, 0.1];
        let mut text = vec![0, 1, 2];
        text.iter().for_each(|&token| sampler.accept(token));
        // So long that no token is left without repetition now and then: then every token may come.
        for _ in 0..200 {
            let token = sampler.sample(&logits).unwrap();
            let repeats = |next: u32| {
                let ngram: Vec<u32> = text[text.len() + 1 - n..].iter().copied().chain([next]).collect();
                text.windows(n).any(|seen| seen == ngram)
            };
            assert!(!repeats(token) || (0..6).all(repeats), "{token} after {text:?}");
            text.push(token);
            sampler.accept(token);
        }
    }
}

/// The likeliest token is not always what is left at temperature 0: what leaves it out comes before.
#[test]
fn greedy_takes_the_likeliest_of_what_is_left() {
    let logits: Vec<f32> = [0.4f64, 0.3, 0.2, 0.1].iter().map(|p| p.ln() as f32).collect();
    let pick = |options: SamplerOptions| Sampler::new(options.temperature(0.0)).unwrap().sample(&logits).unwrap();
    assert_eq!(pick(plain()), 0);
    assert_eq!(pick(plain().xtc_probability(1.0).xtc_threshold(0.15)), 2);
    // Top-k counts, since XTC comes after it: one candidate alone is never left out.
    assert_eq!(pick(plain().top_k(1).xtc_probability(1.0).xtc_threshold(0.15)), 0);
    assert_eq!(pick(plain().top_k(2).xtc_probability(1.0).xtc_threshold(0.15)), 1);
    // The surprise of 0.3 is the nearest to the entropy, 1.28 nats.
    assert_eq!(pick(plain().typical_p(0.1)), 1);
    // Without its step the temperature is 1.
    let options = plain().steps([SamplerStep::TopK]).temperature(0.0).seed(2);
    let mut sampler = Sampler::new(options).unwrap();
    let drawn: HashSet<u32> = (0..100).map(|_| sampler.sample(&logits).unwrap()).collect();
    assert_eq!(drawn.len(), 4);
}
