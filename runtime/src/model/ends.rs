//! Where a forward pass begins and ends: from tokens to the residual stream, and from there to the input of the output
//! matrix.

use quipu_formats::families::names::Input;
use quipu_kernels::{MatMut, padded_rows};

use super::batch::{BatchToken, Observer, Rows};
use super::buffers::Buffers;
use super::layers::LayerSource;
use super::local::room;
use super::product::InputBuffers;
use super::team::Team;
use crate::config::Config;

/// `x = s·E[t]`; where the embedding has another width than the layers, `x = W_in·s·E[t]`; and where positions are
/// learned, `x = x + P[p]`. Into the residual stream of `buffers`, which know the positions.
pub(super) fn begin<W: LayerSource>(
    team: &mut Team<'_>,
    c: &Config,
    weights: &W,
    batch: &[BatchToken],
    buffers: &mut Buffers,
    show: &mut Observer<'_>,
) {
    let (n, d, e) = (batch.len(), padded_rows(c.hidden), padded_rows(c.embedding));
    let Buffers { x, h, ffn, input: made, positions, .. } = buffers;
    let x = room(x, n * d);
    let embedded = if weights.projections().is_some() { room(h, n * e) } else { &mut *x };
    for (row, token) in embedded.chunks_exact_mut(e).zip(batch) {
        let (row, padding) = row.split_at_mut(c.embedding);
        weights.embed(token.token, row);
        if c.plan.embedding_scale != 1.0 {
            row.iter_mut().for_each(|x| *x *= c.plan.embedding_scale);
        }
        padding.fill(0.0);
    }
    if let Some(projections) = weights.projections() {
        let (h, into) = (&h[..n * e], &projections.into);
        show(Input::EmbeddingIn, Rows { x: h, count: n, cols: c.embedding, stride: e, expert: None });
        let input = team.input(&[into], h, n, c.embedding, e, made);
        team.products(&[into], input, &mut MatMut::new(x, n, d, d));
    }
    let learned = room(ffn, d);
    learned.fill(0.0);
    for (x, &position) in x.chunks_exact_mut(d).zip(positions.iter()) {
        if weights.position(position, &mut learned[..c.hidden]) {
            team.kernels.add(x, learned);
        }
    }
}

/// What the end of a forward pass works on.
pub(super) struct EndBuffers<'a> {
    /// The residual stream of all tokens.
    pub(super) x: &'a [f32],
    /// hidden, for each token that is wanted.
    pub(super) h: &'a mut [f32],
    /// embedding, where that is another width.
    pub(super) projected: &'a mut Vec<f32>,
}

/// `u = norm(x)`, if there is such a norm, of the tokens `wanted`; where the embedding has
/// another width than the layers, `W_out·u`. The rows and their width.
pub(super) fn end<'a, W: LayerSource>(
    team: &mut Team<'_>,
    c: &Config,
    weights: &W,
    wanted: &[usize],
    buffers: EndBuffers<'a>,
    made: &mut InputBuffers,
    show: &mut Observer<'_>,
) -> (&'a [f32], usize) {
    let (rows, d, e) = (wanted.len(), padded_rows(c.hidden), padded_rows(c.embedding));
    let EndBuffers { x, h, projected } = buffers;
    for (h, &i) in h.chunks_exact_mut(d).zip(wanted) {
        let x = &x[i * d..][..d];
        match weights.output_norm() {
            Some(norm) => norm.apply(team.kernels, x, c.norm_epsilon, c.hidden, h),
            None => h.copy_from_slice(x),
        }
        if !team.kernels.within(&h[..c.hidden], f32::INFINITY) {
            team.noticed.add(i);
        }
    }
    let Some(projections) = weights.projections() else { return (h, c.hidden) };
    show(Input::EmbeddingOut, Rows { x: h, count: rows, cols: c.hidden, stride: d, expert: None });
    let out_of = &projections.out_of;
    let input = team.input(&[out_of], h, rows, c.hidden, d, made);
    let out = room(projected, rows * e);
    team.products(&[out_of], input, &mut MatMut::new(out, rows, e, e));
    (out, c.embedding)
}
