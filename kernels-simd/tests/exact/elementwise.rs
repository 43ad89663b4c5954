//! Steps on rows of activations.

use quipu_test_random::Random;

use crate::{activations, all, bits, same_everywhere};

#[test]
fn rows_are_treated_alike_everywhere() {
    let mut random = Random::new(3);
    for n in [16, 64, 176, 2048] {
        let x = activations(&mut random, n);
        let y = activations(&mut random, n);
        let tame: Vec<f32> = x.iter().map(|x| x.clamp(-1e3, 1e3)).collect();
        let angles: Vec<[f32; 2]> = (0..n / 2).map(|_| [random.number(), random.number()]).collect();
        same_everywhere("rms_norm", |k| {
            let mut out = vec![0.0; n];
            k.rms_norm(&tame, &y, 1e-5, n - 3, &mut out);
            out
        });
        same_everywhere("silu_mul", |k| {
            let mut gate = tame.clone();
            k.silu_mul(&mut gate, &y);
            gate
        });
        same_everywhere("gelu_mul", |k| {
            let mut gate = tame.clone();
            k.gelu_mul(&mut gate, &y);
            gate
        });
        same_everywhere("layer_norm", |k| {
            let mut out = tame.clone();
            // What lies behind the row counts for nothing.
            out[n - 3..].fill(7.0);
            k.layer_norm(&mut out, &y, &x, 1e-5, n - 3);
            out.truncate(n - 3);
            out
        });
        same_everywhere("relu", |k| {
            let mut out = x.clone();
            k.relu(&mut out);
            out
        });
        same_everywhere("gelu", |k| {
            let mut out = x.clone();
            k.gelu(&mut out);
            out
        });
        same_everywhere("soft_cap", |k| {
            let mut out = x.clone();
            k.soft_cap(&mut out, 30.0);
            out
        });
        same_everywhere("add", |k| {
            let mut sum = x.clone();
            k.add(&mut sum, &y);
            sum
        });
        same_everywhere("add_scaled", |k| {
            let mut sum = tame.clone();
            k.add_scaled(&mut sum, &x, 0.22);
            sum
        });
        // What a norm added would be, in two steps.
        same_everywhere("add_rms_norm", |k| {
            let (mut sum, mut normed, mut parts) = (x.clone(), vec![0.0; n], x.clone());
            k.add_rms_norm(&tame, &y, 1e-5, n - 3, &mut sum);
            k.rms_norm(&tame, &y, 1e-5, n - 3, &mut normed);
            k.add(&mut parts, &normed);
            assert_eq!(bits(&sum), bits(&parts), "add_rms_norm on {}", k.isa());
            sum
        });
        same_everywhere("rope", |k| {
            let mut out = x.clone();
            k.rope(&mut out, 16, &angles[..6], 0.125);
            out
        });
        same_everywhere("rope_halves", |k| {
            let mut out = x.clone();
            k.rope_halves(&mut out, 16, &angles[..6], 0.125);
            out
        });
        for head_dim in [16, 8, 22, 176] {
            same_everywhere("rms_norm_heads", |k| {
                let mut out = tame.clone();
                k.rms_norm_heads(&mut out, head_dim, &y.repeat(11)[..head_dim], 1e-5);
                out
            });
        }
    }
}

/// What is done to single heads is what the other functions do to them once they lie as those expect it: pairs side by
/// side, rows padded to sixteen.
#[test]
fn heads_are_treated_as_rows_and_pairs_are() {
    let mut random = Random::new(4);
    for (head_dim, turned) in [(2, 2), (24, 24), (24, 16), (64, 64), (128, 96)] {
        let x: Vec<f32> = random.numbers(5 * head_dim);
        let weight: Vec<f32> = random.numbers(head_dim);
        let angles: Vec<[f32; 2]> = (0..turned / 2).map(|_| [random.number(), random.number()]).collect();
        // Where the pairs' order has element `i` of a head.
        let beside = |i: usize| if i >= turned { i } else { i % (turned / 2) * 2 + i / (turned / 2) };
        let moved = |x: &[f32]| {
            let mut out = x.to_vec();
            (0..x.len()).for_each(|i| out[i / head_dim * head_dim + beside(i % head_dim)] = x[i]);
            out
        };
        for k in all() {
            let (mut halves, mut pairs) = (x.clone(), moved(&x));
            k.rope_halves(&mut halves, head_dim, &angles, 0.3);
            k.rope(&mut pairs, head_dim, &angles, 0.3);
            assert_eq!(bits(&moved(&halves)), bits(&pairs), "{turned} of {head_dim} on {}", k.isa());

            let mut heads = x.clone();
            k.rms_norm_heads(&mut heads, head_dim, &weight, 1e-5);
            let pad = |x: &[f32]| [x, &vec![0.0; head_dim.next_multiple_of(16) - head_dim]].concat();
            for (head, x) in heads.chunks(head_dim).zip(x.chunks(head_dim)) {
                let mut row = pad(x);
                k.rms_norm(&pad(x), &pad(&weight), 1e-5, head_dim, &mut row);
                assert_eq!(bits(head), bits(&row[..head_dim]), "{head_dim} on {}", k.isa());
            }
        }
    }
}

#[test]
fn silu_follows_the_exact_function() {
    for k in all() {
        let xs: Vec<f32> = (-100_000..100_000).map(|i| i as f32 * 1e-3).collect();
        let mut out = xs.clone();
        k.silu_mul(&mut out, &vec![1.0; xs.len()]);
        for (x, y) in xs.iter().zip(out) {
            let exact = f64::from(*x) / (1.0 + (-f64::from(*x)).exp());
            let error = (f64::from(y) - exact).abs();
            assert!(error <= 4e-7 * exact.abs() + 1e-36, "silu({x}) = {y}, should be {exact}");
        }
    }
}

#[test]
fn gelu_and_caps_follow_the_exact_functions() {
    for k in all() {
        let xs: Vec<f32> =
            (-100_000..100_000).map(|i| i as f32 * 1e-3).chain([1e-20, -3e-7, 1e30]).chain([0.0; 13]).collect();
        let (mut gelu, mut capped) = (xs.clone(), xs.clone());
        k.gelu_mul(&mut gelu, &vec![1.0; xs.len()]);
        k.soft_cap(&mut capped, 30.0);
        for ((x, gelu), capped) in xs.iter().zip(gelu).zip(capped) {
            let x = f64::from(*x);
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            // As the sum of both, it has digits where tanh is close to -1.
            let exact = x / (1.0 + (-2.0 * u).exp());
            // An exponential's argument is rounded before it is large.
            let error = (f64::from(gelu) - exact).abs();
            assert!(error <= (4e-7 + 4e-7 * u.abs()) * exact.abs() + 1e-35, "gelu({x}) = {gelu}, should be {exact}");
            let exact = 30.0 * (x / 30.0).tanh();
            assert!(
                (f64::from(capped) - exact).abs() <= 4e-7 * exact.abs(),
                "{x} capped is {capped}, should be {exact}"
            );
        }
    }
}

/// The complementary error function as a continued fraction (Laplace) where that converges, else as a series.
fn erfc(x: f64) -> f64 {
    if x.abs() < 2.5 {
        let terms = (0..200).scan(x, |term, n| {
            let (now, n) = (*term / (2 * n + 1) as f64, f64::from(n));
            *term *= -x * x / (n + 1.0);
            Some(now)
        });
        return 1.0 - 2.0 / std::f64::consts::PI.sqrt() * terms.sum::<f64>();
    }
    let fraction = (1..200).rev().fold(x.abs(), |below, n| x.abs() + f64::from(n) / 2.0 / below);
    let beyond = (-x * x).exp() / (std::f64::consts::PI.sqrt() * fraction);
    if x > 0.0 { beyond } else { 2.0 - beyond }
}

#[test]
fn gelu_without_a_gate_follows_the_exact_function() {
    // Published values (Abramowitz & Stegun, table 7.1, and 7.2 for the last).
    for (x, exact) in [(0.5, 0.479_500_122_2), (1.0, 0.157_299_207_1), (2.0, 0.004_677_735_0), (-1.0, 1.842_700_792_9)]
    {
        assert!((erfc(x) - exact).abs() < 1e-10, "{x}: {}", erfc(x));
    }
    for k in all() {
        let xs: Vec<f32> =
            (-20_000..20_000).map(|i| i as f32 * 1e-3).chain([1e-20, -3e-7, 1e30, -1e30]).chain([0.0; 12]).collect();
        let (mut gelu, mut relu) = (xs.clone(), xs.clone());
        k.gelu(&mut gelu);
        k.relu(&mut relu);
        for ((x, gelu), relu) in xs.iter().zip(gelu).zip(relu) {
            assert_eq!(relu, x.max(0.0), "relu({x})");
            let x = f64::from(*x);
            let exact = 0.5 * x * erfc(-x / 2f64.sqrt());
            let error = (f64::from(gelu) - exact).abs();
            // An exponential's argument is rounded before it is large, and beyond −13 its value is none.
            let bound = (5e-7 + 1e-7 * x.min(0.0).powi(2)) * exact.abs() + 1e-35;
            assert!(error <= bound, "gelu({x}) = {gelu}, should be {exact}");
        }
    }
}

#[test]
fn layer_norm_follows_its_formula() {
    let mut random = Random::new(5);
    for (n, mean) in [(1usize, 0.0), (13, 0.5), (16, -3.0), (100, 1000.0)] {
        let len = n.next_multiple_of(16);
        let row = |values: Vec<f32>| [values, vec![0.0; len - n]].concat();
        let x = row(random.numbers(n).iter().map(|x| x + mean).collect());
        let (weight, bias) = (row(random.numbers(n)), row(random.numbers(n)));
        let average = |x: &dyn Fn(usize) -> f64| (0..n).map(x).sum::<f64>() / n as f64;
        let center = average(&|i| x[i].into());
        let variance = average(&|i| (f64::from(x[i]) - center).powi(2));
        for k in all() {
            let mut out = x.clone();
            k.layer_norm(&mut out, &weight, &bias, 1e-5, n);
            for i in 0..n {
                let exact =
                    (f64::from(x[i]) - center) / (variance + 1e-5).sqrt() * f64::from(weight[i]) + f64::from(bias[i]);
                // A mean of 1000 is rounded to 3e-5.
                let bound = 2e-6 + 2e-7 * f64::from(mean.abs());
                assert!((f64::from(out[i]) - exact).abs() <= bound, "{n}: {} should be {exact}", out[i]);
            }
            assert!(out[n..].iter().all(|&x| x == 0.0), "{n}: padding");
        }
    }
}
