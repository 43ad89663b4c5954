//! The tokens that may come next.

use std::cmp::Ordering;
use std::collections::HashMap;

use crate::constraint::TokenMask;
use crate::softmax::log_sum_exp;

/// A token and its logit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) logit: f32,
    pub(super) id: u32,
}

/// (logit descending, id ascending). The logits are no NaN, so this is total; the zeros of either sign are equal.
fn by_likelihood(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.partial_cmp(&a.logit).unwrap_or(Ordering::Equal).then(a.id.cmp(&b.id))
}

/// Memory that serves every token. It is no part of a sampler's state: a copy starts with none.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    /// The logits after the penalties.
    changed: Vec<f32>,
    list: Vec<Candidate>,
}

impl Clone for Buffers {
    fn clone(&self) -> Buffers {
        Buffers::default()
    }
}

/// How the candidates are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// As the model's logits.
    Logits,
    /// As logits that a step has changed.
    Changed,
    /// As a list of those above -∞, in any order.
    List,
    /// As a list in the order of their likelihood.
    Sorted,
}

/// The tokens that may come next, with their logits. A vocabulary is long, so it becomes a list only when a step needs
/// one, and is sorted only when a step needs that.
#[derive(Debug)]
pub(super) struct Candidates<'a> {
    logits: &'a [f32],
    buffers: &'a mut Buffers,
    form: Form,
}

impl<'a> Candidates<'a> {
    /// All tokens. The logits are neither NaN nor +∞.
    pub(super) fn new(logits: &'a [f32], buffers: &'a mut Buffers) -> Candidates<'a> {
        Candidates { logits, buffers, form: Form::Logits }
    }

    /// The tokens of `mask` alone.
    pub(super) fn among(logits: &'a [f32], mask: &TokenMask, buffers: &'a mut Buffers) -> Candidates<'a> {
        let Buffers { changed, list } = &mut *buffers;
        // Either form gives the same. A list is quick as long as it is short.
        let form = if mask.len() <= logits.len() / 16 {
            list.clear();
            list.extend(mask.iter().filter_map(|id| Some(Candidate { logit: *logits.get(id as usize)?, id })));
            list.retain(|c| c.logit > f32::NEG_INFINITY);
            Form::List
        } else {
            changed.clear();
            mask.apply(logits, changed);
            Form::Changed
        };
        Candidates { logits, buffers, form }
    }

    /// One token. What its logit is does not matter when there is no other.
    pub(super) fn only(id: u32, buffers: &'a mut Buffers) -> Candidates<'a> {
        buffers.list.clear();
        buffers.list.push(Candidate { logit: 0.0, id });
        Candidates { logits: &[], buffers, form: Form::List }
    }

    /// Replaces the logit `l` of each token of `known` by `f(l, what is known of it)`, which may be -∞ but neither NaN
    /// nor +∞.
    pub(super) fn adjust<T: Copy>(&mut self, known: &HashMap<u32, T>, f: impl Fn(f32, T) -> f32) {
        let Buffers { changed, list } = &mut *self.buffers;
        if self.form == Form::Logits {
            changed.clear();
            changed.extend_from_slice(self.logits);
            self.form = Form::Changed;
        }
        if self.form == Form::Changed {
            for (&id, &known) in known {
                if let Some(logit) = changed.get_mut(id as usize) {
                    *logit = f(*logit, known);
                }
            }
        } else {
            for candidate in list.iter_mut() {
                if let Some(&known) = known.get(&candidate.id) {
                    candidate.logit = f(candidate.logit, known);
                }
            }
            list.retain(|c| c.logit > f32::NEG_INFINITY);
            self.form = Form::List;
        }
    }

    /// Those above -∞: by id if no step has listed or sorted them yet.
    pub(super) fn list(&mut self) -> &mut Vec<Candidate> {
        let Buffers { changed, list } = &mut *self.buffers;
        if matches!(self.form, Form::Logits | Form::Changed) {
            let logits = if self.form == Form::Logits { self.logits } else { changed };
            list.clear();
            let all = logits.iter().zip(0..).map(|(&logit, id)| Candidate { logit, id });
            list.extend(all.filter(|c| c.logit > f32::NEG_INFINITY));
            self.form = Form::List;
        }
        list
    }

    /// The list, the likeliest first.
    pub(super) fn sorted(&mut self) -> &mut Vec<Candidate> {
        if self.form != Form::Sorted {
            self.list().sort_unstable_by(by_likelihood);
            self.form = Form::Sorted;
        }
        &mut self.buffers.list
    }

    /// Keeps the `k` likeliest, sorted; when there are no more than `k`, nothing changes.
    ///
    /// A vocabulary takes one pass with a threshold that rises: a token whose logit is not above that of the `k`-th
    /// likeliest so far can't be among the `k` likeliest, since among equals the lower id wins and ids ascend.
    pub(super) fn keep_likeliest(&mut self, k: usize) {
        let Buffers { changed, list } = &mut *self.buffers;
        let logits = match self.form {
            Form::Logits => self.logits,
            Form::Changed => changed,
            Form::List | Form::Sorted if k < list.len() => return self.sorted().truncate(k),
            Form::List | Form::Sorted => return,
        };
        if k >= logits.len() {
            return;
        }
        list.clear();
        let mut bar = f32::NEG_INFINITY;
        for (&logit, id) in logits.iter().zip(0..) {
            if logit > bar {
                list.push(Candidate { logit, id });
                if list.len() == 2 * k {
                    bar = list.select_nth_unstable_by(k - 1, by_likelihood).1.logit;
                    list.truncate(k);
                }
            }
        }
        self.form = Form::List;
        self.sorted().truncate(k);
    }

    /// The greatest logit; -∞ when there is no candidate.
    pub(super) fn largest(&mut self) -> f32 {
        self.list().iter().fold(f32::NEG_INFINITY, |max, c| max.max(c.logit))
    }

    /// The token with the greatest logit above -∞, the lowest id among equals.
    pub(super) fn likeliest(&mut self) -> Option<u32> {
        let logits = match self.form {
            Form::Logits => self.logits,
            Form::Changed => &self.buffers.changed,
            Form::List | Form::Sorted => return self.sorted().first().map(|c| c.id),
        };
        let (mut best, mut max) = (None, f32::NEG_INFINITY);
        for (&logit, id) in logits.iter().zip(0..) {
            if logit > max {
                (best, max) = (Some(id), logit);
            }
        }
        best
    }
}

/// The `k` likeliest tokens with their log probabilities, by (logit descending, id ascending).
pub fn top_log_probabilities(logits: &[f32], k: usize) -> Vec<(u32, f64)> {
    let norm = log_sum_exp(logits);
    let mut candidates: Vec<_> = logits.iter().zip(0..).map(|(&logit, id)| Candidate { logit, id }).collect();
    candidates.retain(|c| !c.logit.is_nan());
    if k > 0 && k < candidates.len() {
        candidates.select_nth_unstable_by(k - 1, by_likelihood);
    }
    candidates.truncate(k);
    candidates.sort_unstable_by(by_likelihood);
    candidates.iter().map(|c| (c.id, f64::from(c.logit) - norm)).collect()
}
