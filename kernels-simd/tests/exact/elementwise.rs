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
