//! Mixtures of experts (Shazeer et al. 2017): feed-forward layers of which each token takes a few.
//!
//! A batch is sorted by expert, so the weights of an expert are read once for all tokens that take it, and those of an
//! expert that nobody takes not at all. What the experts say of a token is added in the order of their numbers,
//! whatever else is in the batch.
//!
//! Two steps are parallel, for one token as for many: the gates and ways up of all experts that somebody takes, and
//! their ways down, cut by outputs, so that the worker who has some outputs adds up all experts' share in them.

use std::ops::Range;

use quipu_formats::families::names::Input;
use quipu_formats::families::{Experts as ExpertsPlan, Router};
use quipu_kernels::{Kernels, MatMut, Tile, padded_rows};

use super::adapted::Products;
use super::batch::{Observer, Rows};
use super::local::{Local, room};
use super::product::{InputBuffers, ProductInput};
use super::team::Team;
use super::weights::{Dense, Experts, Linear};
use crate::config::Config;

/// A token's choice of an expert.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Choice {
    expert: u32,
    /// By its number in the batch.
    token: u32,
    /// How much of its input the expert gets.
    input: f32,
    /// How much of what it says is taken.
    output: f32,
}

/// Which experts serve which token, and the rows that they get.
#[derive(Default)]
pub(super) struct Routes {
    /// (token, expert): the router's scores, rows padded to 16.
    scores: Vec<f32>,
    /// By expert, those of an expert by token: the rows of its products.
    choices: Vec<Choice>,
    /// Where the choices of each expert that is taken begin, and the end.
    bounds: Vec<usize>,
    /// (choice, hidden): the experts' inputs.
    rows: Vec<f32>,
    /// Tiles of each of these experts begin here among all, and the end.
    tile_bounds: Vec<usize>,
}

/// The mixture of one layer for a batch.
pub(super) struct Mixture<'a> {
    pub(super) config: &'a Config,
    pub(super) layer: usize,
    pub(super) weights: &'a Experts,
    /// Tokens of the batch.
    pub(super) tokens: usize,
}

impl Mixture<'_> {
    /// `f_e = activation(W_gate,e u) · W_up,e u` into `ffn`, for the experts e that the router chooses for each token.
    /// `show` sees the input of each.
    pub(super) fn choose_and_widen(
        &self,
        team: &mut Team<'_>,
        u: &[f32],
        routes: &mut Routes,
        (ffn, made): (&mut Vec<f32>, &mut InputBuffers),
        show: &mut Observer<'_>,
    ) {
        let (c, plan, n, kernels) = (self.config, &self.weights.plan, self.tokens, team.kernels);
        let (d, ff) = (padded_rows(c.hidden), padded_rows(plan.feed_forward));
        let Experts { router, banks: Dense { gate_and_up, .. }, .. } = self.weights;

        // p = router(u); the choices, sorted
        let width = padded_rows(plan.count);
        let scores = room(&mut routes.scores, n * width);
        let input = team.input(&[router], u, n, c.hidden, d, made);
        team.products(&[router], input, &mut MatMut::new(scores, n, width, width));
        routes.choose(team, plan, c.family.block.router, n, width);
        let Routes { choices, bounds, rows, tile_bounds, .. } = routes;
        let (choices, bounds) = (&*choices, &*bounds);

        // Of a single token, all have the same input, unless they get as much of it as their scores say.
        let scaled = c.family.block.router == Some(Router::SigmoidOfInput);
        let one_input = n == 1 && !scaled;
        let inputs = if one_input {
            Inputs { x: u, cols: c.hidden, stride: d, bounds: &[0, 1], choices }
        } else {
            let rows = room(rows, choices.len() * d);
            team.each_row(rows, d, |r, row| {
                let Choice { token, input, .. } = choices[r];
                row.copy_from_slice(&u[token as usize * d..][..d]);
                if scaled {
                    row.iter_mut().for_each(|x| *x *= input);
                }
            });
            Inputs { x: rows, cols: c.hidden, stride: d, bounds, choices }
        };
        let number = |i: usize| if one_input { 0 } else { i };
        for (i, range) in parts(bounds).enumerate() {
            show(Input::Experts(self.layer), inputs.shown(number(i), choices[range.start].expert));
        }
        let inputs = inputs.prepare(team, gate_and_up.matrices(), &mut made.tiles, tile_bounds);
        let ffn = room(ffn, choices.len() * ff);
        let chunk = team.chunk((bounds.len() - 1) * ff / 16);
        let mut out = MatMut::new(ffn, choices.len(), ff, ff);
        team.pool.for_tiles(team.locals, &mut out, bounds, chunk, |local, rows, cols, tile| {
            let first = choices[rows.start].expert as usize * (ff / 16);
            let groups = first + cols.start / 16..first + cols.end / 16;
            let input = inputs.of(number(bounds.partition_point(|&start| start < rows.start)));
            gate_and_up.apply(kernels, c.family.block.activation, groups, input, local, tile);
        });
    }

    /// `x ← x + Σ p_e · W_down,e f_e`.
    pub(super) fn add(
        &self,
        team: &mut Team<'_>,
        routes: &mut Routes,
        (ffn, made): (&[f32], &mut InputBuffers),
        show: &mut Observer<'_>,
        x: &mut [f32],
    ) {
        let (c, plan, n, kernels) = (self.config, &self.weights.plan, self.tokens, team.kernels);
        let (d, ff) = (padded_rows(c.hidden), padded_rows(plan.feed_forward));
        let down = &self.weights.banks.down;
        let Routes { choices, bounds, tile_bounds, .. } = routes;
        let (choices, bounds) = (&*choices, &*bounds);
        let inputs = Inputs { x: ffn, cols: plan.feed_forward, stride: ff, bounds, choices };
        for (i, range) in parts(bounds).enumerate() {
            show(Input::ExpertsDown(self.layer), inputs.shown(i, choices[range.start].expert));
        }
        let inputs = inputs.prepare(team, std::slice::from_ref(down), &mut made.tiles, tile_bounds);
        let chunk = team.chunk(d / 16);
        let mut x = MatMut::new(x, n, d, d);
        team.pool.for_tiles(team.locals, &mut x, &[0, n], chunk, |local, _, cols, x| {
            let Local { product, buffer, .. } = local;
            for (i, range) in parts(bounds).enumerate() {
                let (width, first) = (cols.len(), choices[range.start].expert as usize * (d / 16));
                let out = room(buffer, range.len() * width);
                let groups = first + cols.start / 16..first + cols.end / 16;
                let mut part = MatMut::new(out, range.len(), width, width);
                down.apply(kernels, groups, inputs.of(i), product, &mut part);
                for (choice, out) in choices[range].iter().zip(out.chunks_exact(width)) {
                    kernels.add_scaled(x.row(choice.token as usize), out, choice.output);
                }
            }
        });
    }
}

/// The ranges between neighbours of `bounds`.
fn parts(bounds: &[usize]) -> impl Iterator<Item = Range<usize>> {
    bounds.windows(2).map(|pair| pair[0]..pair[1])
}

impl Routes {
    /// Lets each of `n` tokens choose by its scores, `width` apart, and sorts the choices by expert.
    fn choose(&mut self, team: &mut Team<'_>, plan: &ExpertsPlan, router: Option<Router>, n: usize, width: usize) {
        let Routes { scores, choices, bounds, .. } = self;
        choices.clear();
        choices.resize(n * plan.used, Choice::default());
        let scores = &*scores;
        let choose = |token: usize, choices: &mut [Choice]| {
            choose(&scores[token * width..][..plan.count], token, plan.normalised, router, choices);
        };
        if n == 1 {
            choose(0, choices);
        } else {
            let mut tokens: Vec<&mut [Choice]> = choices.chunks_exact_mut(plan.used).collect();
            team.pool.for_items(team.locals, &mut tokens, |_, token, choices| choose(token, choices));
        }
        choices.sort_unstable_by_key(|choice| (choice.expert, choice.token));
        bounds.clear();
        bounds.extend((0..choices.len()).filter(|&i| i == 0 || choices[i - 1].expert != choices[i].expert));
        bounds.push(choices.len());
    }
}

/// The choices of token number `token`: the experts with the highest scores, of equals the first, and their weights.
fn choose(scores: &[f32], token: usize, normalised: bool, router: Option<Router>, choices: &mut [Choice]) {
    let before = |a: usize, b: usize| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)).is_lt();
    let mut last = None;
    for choice in choices.iter_mut() {
        let left = (0..scores.len()).filter(|&e| last.is_none_or(|last| before(last, e)));
        let Some(best) = left.reduce(|best, e| if before(e, best) { e } else { best }) else { return };
        *choice = Choice { expert: best as u32, token: token as u32, input: 1.0, output: 1.0 };
        last = Some(best);
    }
    // In f64, by an exponential of pure Rust: the same bits on every machine, and there are few of them.
    if router == Some(Router::SigmoidOfInput) {
        let sigmoid = |score: f32| (1.0 / (1.0 + libm::exp(-f64::from(score)))) as f32;
        return choices.iter_mut().for_each(|choice| choice.input = sigmoid(scores[choice.expert as usize]));
    }
    let top = f64::from(scores[choices[0].expert as usize]);
    let power = |expert: usize| libm::exp(f64::from(scores[expert]) - top);
    let sum: f64 = match normalised {
        true => choices.iter().map(|choice| power(choice.expert as usize)).sum(),
        false => (0..scores.len()).map(power).sum(),
    };
    choices.iter_mut().for_each(|choice| choice.output = (power(choice.expert as usize) / sum) as f32);
}

/// The rows that go into the products of experts: of each expert that is taken, those between two bounds.
struct Inputs<'a> {
    x: &'a [f32],
    cols: usize,
    stride: usize,
    bounds: &'a [usize],
    choices: &'a [Choice],
}

/// [`Inputs`] as products take them.
struct ProductInputs<'a> {
    inputs: Inputs<'a>,
    tiles: &'a [Tile],
    tile_bounds: &'a [usize],
}

impl<'a> Inputs<'a> {
    /// The rows between two bounds, for an observer: those of this expert.
    fn shown(&self, i: usize, expert: u32) -> Rows<'a> {
        let Inputs { x, cols, stride, bounds, .. } = *self;
        let (x, count) = (&x[bounds[i] * stride..], bounds[i + 1] - bounds[i]);
        Rows { x, count, cols, stride, expert: Some(expert as usize) }
    }

    /// Quantises the rows to int8, if one of `linears` needs that. A row that is not all numbers is noticed.
    fn prepare(
        self,
        team: &mut Team<'_>,
        linears: &[Linear],
        tiles: &'a mut Vec<Tile>,
        tile_bounds: &'a mut Vec<usize>,
    ) -> ProductInputs<'a> {
        tile_bounds.clear();
        tile_bounds.push(0);
        if linears.iter().all(|linear| linear.matrix.ty().is_float()) {
            tile_bounds.resize(self.bounds.len(), 0);
            return ProductInputs { inputs: self, tiles: &[], tile_bounds };
        }
        let kernels = team.kernels;
        for range in parts(self.bounds) {
            let (mut left, mut end) = (range.len(), tile_bounds[tile_bounds.len() - 1]);
            while left > 0 {
                left -= kernels.tile_rows(left);
                end += 1;
            }
            tile_bounds.push(end);
        }
        let (used, noticed, tile_bounds) = (tile_bounds[tile_bounds.len() - 1], team.noticed, &*tile_bounds);
        if tiles.len() < used {
            tiles.resize_with(used, Tile::default);
        }
        let quantise = |i: usize, tile: &mut Tile| {
            let rows = self.rows_of_tile(kernels, tile_bounds, i);
            kernels.quantize(&self.x[rows.start * self.stride..], rows.len(), self.cols, self.stride, tile);
            for row in rows {
                if !kernels.within(&self.x[row * self.stride..][..self.cols], f32::INFINITY) {
                    noticed.add(self.choices[row].token as usize);
                }
            }
        };
        // Of a single token that takes less time than waking the other workers.
        if self.choices.last().is_none_or(|last| self.choices.iter().all(|choice| choice.token == last.token)) {
            tiles[..used].iter_mut().enumerate().for_each(|(i, tile)| quantise(i, tile));
        } else {
            team.pool.for_items(team.locals, &mut tiles[..used], |_, i, tile| quantise(i, tile));
        }
        ProductInputs { tiles: &tiles[..used], inputs: self, tile_bounds }
    }

    /// The rows of tile number `i`: of an expert's, full ones come first.
    fn rows_of_tile(&self, kernels: &Kernels, tile_bounds: &[usize], i: usize) -> Range<usize> {
        let part = tile_bounds.partition_point(|&start| start <= i) - 1;
        let (mut start, end) = (self.bounds[part], self.bounds[part + 1]);
        for _ in tile_bounds[part]..i {
            start += kernels.tile_rows(end - start);
        }
        start..start + kernels.tile_rows(end - start)
    }
}

impl ProductInputs<'_> {
    /// The rows of expert number `i` of those that are taken.
    fn of(&self, i: usize) -> ProductInput<'_> {
        let Inputs { x, cols, stride, bounds, .. } = self.inputs;
        let rows = bounds[i + 1] - bounds[i];
        let x = &x[bounds[i] * stride..][..(rows - 1) * stride + cols];
        let tiles = &self.tiles[self.tile_bounds[i]..self.tile_bounds[i + 1]];
        ProductInput { x, rows, stride, tiles, first: 0, low_rank: Products::NONE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(scores: &[f32], used: usize, normalised: bool) -> Vec<(u32, f32)> {
        let mut choices = vec![Choice::default(); used];
        choose(scores, 3, normalised, Some(Router::Softmax { normalised: true }), &mut choices);
        assert!(choices.iter().all(|choice| choice.token == 3));
        choices.iter().map(|choice| (choice.expert, choice.output)).collect()
    }

    #[test]
    fn the_highest_scores_are_chosen_and_the_first_of_equals() {
        let two = (0.5f32).ln();
        assert_eq!(chosen(&[two, 0.0, 0.0, 0.0], 2, true), [(1, 0.5), (2, 0.5)]);
        assert_eq!(chosen(&[0.0; 5], 5, true).iter().map(|c| c.0).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        // The softmax of all, of which these are kept; and the same made to sum to 1.
        let (all, kept) = (chosen(&[0.0, two, 0.0, two], 2, false), chosen(&[0.0, two, 0.0, two], 3, true));
        assert_eq!(all.iter().map(|c| c.0).collect::<Vec<_>>(), [0, 2]);
        assert!((all[0].1 - 1.0 / 3.0).abs() < 1e-6 && (kept[2].1 - 0.2).abs() < 1e-6, "{all:?} {kept:?}");
    }

    #[test]
    fn sigmoids_are_of_the_input() {
        let mut choices = [Choice::default(); 2];
        choose(&[0.0, -1.0, 3f32.ln()], 0, true, Some(Router::SigmoidOfInput), &mut choices);
        let found = choices.map(|choice| (choice.expert, choice.input, choice.output));
        assert_eq!(found, [(2, 0.75, 1.0), (0, 0.5, 1.0)]);
    }

    #[test]
    fn scores_that_are_no_numbers_choose_something_and_say_so() {
        for bad in [f32::NAN, f32::INFINITY] {
            assert!(chosen(&[0.0, bad, bad], 2, true).iter().any(|(_, weight)| weight.is_nan()));
        }
        assert_eq!(chosen(&[f32::NEG_INFINITY, 0.0], 1, true), [(1, 1.0)]);
    }
}
