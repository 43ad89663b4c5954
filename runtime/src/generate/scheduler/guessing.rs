//! Which guesses a step reads, for all of its texts: whatever promises most tokens per second.

use std::time::{Duration, Instant};

use super::draft::{Costs, DraftModel, DraftModelError, MOST, NEAR, Offer, Plan, Rate, Simulated, Task, check};
use super::options::{Draft, SchedulerOptions};
use super::texts::Texts;
use crate::engine::Engine;
use crate::generate::request::Drafted;
use crate::kv::PAGE;
use crate::sampler::Xoshiro256PlusPlus;

/// How often a draft model is thought to be right before it was tried, as if so many guesses had said so.
const BEFORE: f64 = 0.7;
const WEIGHT: f64 = 4.0;

/// What is left of its earlier guesses after each new one, and after each step: what was bad is tried again.
const KEPT: f64 = 0.995;
const KEPT_A_STEP: f64 = 0.999;

/// What is known of guesses that belongs to no single text.
#[derive(Default)]
pub(super) struct Guessing {
    /// What steps have cost.
    pub(super) costs: Costs,
    model: Option<DraftModel>,
    /// How often the draft model was right, in all texts.
    rate: Rate,
    /// What guessing for the present step has taken.
    pub(super) time: Duration,
    /// Nothing is guessed.
    pub(super) off: bool,
}

/// A text for which guesses may be read: its number, and the most of them.
type Open = (usize, usize);

impl Guessing {
    /// Has `draft` guess for `engine`.
    pub(super) fn set_model(&mut self, draft: Engine, engine: &Engine) -> Result<(), DraftModelError> {
        check(&draft, engine)?;
        self.model = Some(DraftModel::new(draft, engine.vocabulary()));
        Ok(())
    }

    pub(super) fn page_bytes(&self) -> u64 {
        self.model.as_ref().map_or(0, DraftModel::page_bytes)
    }

    pub(super) fn kv_bytes(&self) -> u64 {
        self.model.as_ref().map_or(0, DraftModel::kv_bytes)
    }

    /// Gives the draft model its part of `bytes`, so that it can hold as many tokens as the texts, whose pages have
    /// `page_bytes`. Returns what is left for these.
    pub(super) fn share(&mut self, bytes: Option<u64>, page_bytes: u64) -> Option<u64> {
        let Some(model) = &mut self.model else { return bytes };
        let part = |bytes: u64| {
            let (theirs, all) =
                (u128::from(model.page_bytes()), u128::from(model.page_bytes()) + u128::from(page_bytes));
            (u128::from(bytes) * theirs).checked_div(all).map_or(0, |part| part as u64)
        };
        let part = bytes.map(part);
        model.set_budget(part);
        bytes.zip(part).map(|(bytes, part)| bytes - part)
    }

    /// From now on guesses of the draft model are right so often, for these texts.
    pub(super) fn simulate(&mut self, acceptance: f64, texts: Vec<Vec<u32>>) {
        if let Some(model) = &mut self.model {
            model.simulated = Some(Simulated { acceptance, texts, random: Xoshiro256PlusPlus::new(0) });
        }
    }

    /// Forgets what the draft model has read.
    pub(super) fn clear(&mut self) {
        self.model.iter_mut().for_each(DraftModel::clear);
    }

    /// Learns how many guesses of the draft model were right.
    pub(super) fn learn(&mut self, judged: Drafted) {
        self.rate.note(judged, KEPT);
    }

    /// Adds guesses to a batch that has only next tokens of texts, as many as are worth it. They take no page of the
    /// texts' memory, so nobody gives way to them.
    pub(super) fn guess(&mut self, texts: &mut Texts, context: usize, options: &SchedulerOptions) {
        let started = Instant::now();
        let rows = texts.running.iter().map(|request| request.planned).sum();
        if rows == 0 || self.off {
            return;
        }
        let (open, from_text) = look_up(texts, context, options.draft);
        let plan = self.costs.plan(rows, &from_text, None);
        match self.with_model(texts, &open, &from_text, rows, options.itl_target) {
            Some((better, offers)) if better.speed > plan.speed => self.take(texts, &offers[..better.take]),
            _ => self.take(texts, &from_text[..plan.take]),
        }
        self.time = started.elapsed();
    }

    /// What the draft model could guess where the text itself promises less, and what that is worth. A text that it has
    /// not read yet is read if that is worth it.
    fn with_model(
        &mut self,
        texts: &mut Texts,
        open: &[Open],
        from_text: &[Offer],
        rows: usize,
        time: Duration,
    ) -> Option<(Plan, Vec<Offer>)> {
        let model = self.model.as_mut()?;
        let everywhere = self.rate.chance(BEFORE, WEIGHT);
        self.rate.fade(KEPT_A_STEP);
        model.costs.age();
        model.keep_only(|id| texts.running.iter().any(|request| request.id == id));
        let (mut offers, mut late) = (from_text.to_vec(), None);
        for &(text, most) in open {
            let request = &mut texts.running[text];
            let chance = request.drafter.chance(everywhere);
            let is_better = |offer: &Offer| offer.text == text && offer.chance >= chance;
            if request.drafter.unreadable || from_text.iter().any(is_better) {
                continue;
            }
            let Some(behind) = model.behind(request.id, request.generation().tokens()) else { continue };
            if behind <= NEAR {
                offers.retain(|offer| offer.text != text);
                offers.extend(guesses(text, chance, behind, most));
            } else {
                late.get_or_insert((text, behind, chance));
            }
        }
        // What a step costs without guesses has to be known before it is changed.
        if !self.costs.knows(rows) {
            return None;
        }
        if let Some((text, behind, chance)) = late {
            let request = &mut texts.running[text];
            let offers: Vec<_> = guesses(text, chance, 1, MOST).collect();
            let Plan { speed, plain, .. } = self.costs.plan(1, &offers, Some(&model.costs));
            // A text that was written for so long will go on for as long, unless it may not.
            let left = request.generation().left().map_or(f64::INFINITY, |left| left as f64 / plain);
            let gain = (1.0 - plain / speed) * left.min(request.decoding().as_secs_f64());
            if gain > 0.0 && gain >= model.reading(behind) {
                model.catch_up(request.id, request.generation().tokens(), time);
            }
        }
        offers.sort_by(|a, b| b.chance.total_cmp(&a.chance));
        Some((self.costs.plan(rows, &offers, Some(&model.costs)), offers))
    }

    /// Plans to read these guesses; those of the draft model are made now.
    fn take(&mut self, texts: &mut Texts, offers: &[Offer]) {
        let mut wanted = vec![0; texts.running.len()];
        for offer in offers {
            match offer.draft {
                Some(_) => wanted[offer.text] += 1,
                None => texts.running[offer.text].plan_guess(),
            }
        }
        let Some(model) = self.model.as_mut().filter(|_| wanted.iter().any(|&wanted| wanted > 0)) else { return };
        let asked = texts.running.iter_mut().zip(&wanted).filter(|(_, wanted)| **wanted > 0);
        let tasks = asked.map(|(request, &most)| {
            let id = request.id;
            let generation = &*request.generation();
            Task { id, tokens: generation.tokens(), foresight: generation.foresight(), most }
        });
        let found = model.guess(tasks.collect());
        let asked = texts.running.iter_mut().zip(&wanted).filter(|(_, wanted)| **wanted > 0);
        for ((request, _), guesses) in asked.zip(found) {
            request.drafter.unreadable = guesses.is_none();
            let guesses = guesses.unwrap_or_default();
            guesses.iter().for_each(|_| request.plan_guess());
            request.drafter.take(guesses);
        }
    }
}

/// The guesses of the draft model for a text that it is so many tokens behind, each right with this chance.
fn guesses(text: usize, chance: f64, behind: usize, most: usize) -> impl Iterator<Item = Offer> {
    let chances = (1..).map(move |i| chance.powi(i));
    let rows = std::iter::once(behind).chain(std::iter::repeat(1)).enumerate();
    chances.zip(rows).map(move |(chance, draft)| Offer { chance, text, draft: Some(draft) }).take(most.min(MOST))
}

/// The texts for which guesses may be read, and those that come from the texts themselves, the likeliest first.
fn look_up(texts: &mut Texts, context: usize, draft: Draft) -> (Vec<Open>, Vec<Offer>) {
    let (mut open, mut offers) = (Vec::new(), Vec::new());
    for (text, request) in texts.running.iter_mut().enumerate().filter(|(_, r)| r.planned == 1) {
        // Up to the end of a page.
        let read = texts.sequences[text].len() + 1;
        let mut most = (read.next_multiple_of(PAGE) - read).min(context - read);
        let generation = request.generation();
        if let Some(left) = generation.left() {
            most = most.min(left.saturating_sub(1));
        }
        if generation.in_prompt() || generation.has_bans() {
            continue;
        }
        let from_text = if draft == Draft::Text { most } else { 0 };
        request.look_up(from_text, |chance| offers.push(Offer { chance, text, draft: None }));
        if most > 0 && !request.drafter.off {
            open.push((text, most));
        }
    }
    offers.sort_by(|a, b| b.chance.total_cmp(&a.chance));
    (open, offers)
}
