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
pub(super) fn by_likelihood(a: &Candidate, b: &Candidate) -> Ordering {
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
    /// What the logits are divided by before anything is made of their probabilities; 1 until a step sets it.
    temperature: f64,
    /// Whether the likeliest is taken, whatever the steps after this one would do.
    decided: bool,
}

/// How logits become probabilities: `weight = exp((logit − max) / temperature)`, to be divided by the sum of all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Softmax {
    max: f64,
    temperature: f64,
}

impl Softmax {
    /// The logarithm of a weight: 0 for the likeliest, else below.
    pub(super) fn log_weight(&self, candidate: &Candidate) -> f64 {
        (f64::from(candidate.logit) - self.max) / self.temperature
    }

    /// From 0 to 1.
    pub(super) fn weight(&self, candidate: &Candidate) -> f64 {
        libm::exp(self.log_weight(candidate))
    }

    /// The logit from which on weights are at least this, up to rounding.
    pub(super) fn logit(&self, weight: f64) -> f64 {
        self.max + libm::log(weight) * self.temperature
    }

    /// The sum of the weights, and the entropy `H = −Σ p·ln p` of the probabilities, in nats. The sums run in the order
    /// of the list.
    pub(super) fn entropy(&self, list: &[Candidate]) -> (f64, f64) {
        let (mut total, mut product) = (0.0, 0.0);
        for candidate in list {
            let log = self.log_weight(candidate);
            let weight = libm::exp(log);
            total += weight;
            // What is too small for a weight may be infinite as a logarithm.
            product += if weight > 0.0 { weight * log } else { 0.0 };
        }
        (total, libm::log(total) - product / total)
    }
}

impl<'a> Candidates<'a> {
    /// All tokens. The logits are neither NaN nor +∞.
    pub(super) fn new(logits: &'a [f32], buffers: &'a mut Buffers) -> Candidates<'a> {
        Candidates { logits, buffers, form: Form::Logits, temperature: 1.0, decided: false }
    }

    /// How many tokens the vocabulary has.
    pub(super) fn vocabulary(&self) -> usize {
        self.logits.len()
    }

    /// What the logits are to be divided by.
    pub(super) fn temperature(&self) -> f64 {
        self.temperature
    }

    /// Divides the logits, as they are from here on, by `temperature`. At 0 the likeliest is taken.
    pub(super) fn divide_by(&mut self, temperature: f64) {
        if temperature > 0.0 {
            self.temperature *= temperature;
        } else {
            self.decided = true;
        }
    }

    /// Whether the likeliest is taken, and no step has anything left to do.
    pub(super) fn is_decided(&self) -> bool {
        self.decided
    }

    /// The probabilities of the list as it is now.
    pub(super) fn softmax(&mut self) -> Softmax {
        let temperature = self.temperature;
        Softmax { max: self.largest().into(), temperature }
    }

    /// Leaves these tokens out, unless nothing would be left.
    pub(super) fn exclude(&mut self, tokens: &HashMap<u32, ()>) {
        let stays = |logit: f32, id: u32| logit > f32::NEG_INFINITY && !tokens.contains_key(&id);
        let logits = match self.form {
            Form::Logits => self.logits,
            Form::Changed => &self.buffers.changed,
            Form::List | Form::Sorted => {
                let list = &mut self.buffers.list;
                if list.iter().any(|c| stays(c.logit, c.id)) {
                    list.retain(|c| stays(c.logit, c.id));
                }
                return;
            }
        };
        if logits.iter().zip(0..).any(|(&logit, id)| stays(logit, id)) {
            self.adjust(tokens, |_, ()| f32::NEG_INFINITY);
        }
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
        Candidates { logits, buffers, form, temperature: 1.0, decided: false }
    }

    /// One token. What its logit is does not matter when there is no other.
    pub(super) fn only(id: u32, buffers: &'a mut Buffers) -> Candidates<'a> {
        buffers.list.clear();
        buffers.list.push(Candidate { logit: 0.0, id });
        Candidates { logits: &[], buffers, form: Form::List, temperature: 1.0, decided: false }
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

    /// The list, to be brought into another order.
    pub(super) fn reorder(&mut self) -> &mut Vec<Candidate> {
        self.list();
        self.form = Form::List;
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
    fn largest(&mut self) -> f32 {
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
