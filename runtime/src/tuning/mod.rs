//! Kernels tune themselves: how far ahead weights are best asked for is measured on the weights, on this machine.
//!
//! Two short looks, one after the first token is out and one some tokens later, compare a few distances for each type
//! of weights (`measure`). A distance other than the default is used when both found it clearly faster (`decide`), and
//! kept in a file (`cache`), so that the next start need not look again. Where the looks did not agree, since the
//! machine was busy or the text ended too soon, the next start looks on. No bit of any result depends on this.

mod cache;
mod decide;
mod measure;

use std::path::{Path, PathBuf};
use std::time::Duration;

use quipu_kernels::{Ahead, Isa, Kernels, Tuning, TuningError};
use quipu_quant::TensorType;

use crate::host::cpu;
use crate::model::Model;
use cache::{Finding, Machine};
use decide::{Verdict, judge};

/// How the kernels of an engine are tuned.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TuningChoice {
    /// By the defaults of the instruction set.
    Defaults,
    /// By measurements, which are kept in this directory, or nowhere.
    Measured(Option<PathBuf>),
    /// As said here.
    Given(Tuning),
}

impl TuningChoice {
    /// By measurements, kept in the user's directory for caches: `$XDG_CACHE_HOME/quipu` or `~/.cache/quipu`,
    /// `~/Library/Caches/quipu` on macOS, `%LOCALAPPDATA%\quipu` on Windows.
    pub fn measured() -> TuningChoice {
        TuningChoice::Measured(cache::directory())
    }

    /// As `text` says: `auto` is [`TuningChoice::measured`], `off` are the defaults, anything else are settings as
    /// [`Tuning::with`] takes them, in place of those defaults of `isa`.
    ///
    /// # Errors
    /// When it says none of these.
    pub fn parse(text: &str, isa: Isa) -> Result<TuningChoice, TuningError> {
        match text.trim() {
            "auto" => Ok(TuningChoice::measured()),
            "off" => Ok(TuningChoice::Defaults),
            settings => isa.tuning().with(settings).map(TuningChoice::Given),
        }
    }
}

impl Default for TuningChoice {
    fn default() -> TuningChoice {
        TuningChoice::measured()
    }
}

/// What is known of a type of weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TypeTuning {
    /// The type.
    pub ty: TensorType,
    /// How far ahead it is asked for: the default, unless another distance was found faster.
    pub ahead: Ahead,
    /// By how many percent that was faster than the default.
    pub gain_percent: f64,
    /// Whether that is certain, or another look is to come.
    pub is_final: bool,
}

/// What was found on this machine for an instruction set with a number of threads.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Where that is kept, or would be.
    pub file: PathBuf,
    /// By type.
    pub types: Vec<TypeTuning>,
}

impl Found {
    /// Reads what is kept in `directory`.
    pub fn read(directory: &Path, isa: Isa, threads: usize) -> Found {
        let machine = Machine::here();
        let found = kept(directory, &machine, isa, threads);
        let types = found.iter().filter_map(|finding| {
            let (ty, standing) = (finding.ty()?, finding.standing());
            let (ahead, gain_percent) =
                if standing.counts() { (finding.ahead(), finding.gain_percent) } else { (isa.tuning().ahead(ty), 0.0) };
            Some(TypeTuning { ty, ahead, gain_percent, is_final: standing.is_final() })
        });
        Found { file: machine.file(directory), types: types.collect() }
    }
}

/// Looks of one engine.
const LOOKS: u32 = 2;

/// Passes from one look to the next: some time, in which memory may change its speed.
const PASSES_BETWEEN: u32 = 32;

/// What a look may take. Both together stay below 30 ms.
const LOOK: Duration = Duration::from_millis(12);

/// What caches may hold where the system does not tell.
const CACHES: u64 = 32 << 20;

/// Tunes the kernels of one engine, pass by pass, until there is nothing left to find.
pub(crate) struct Tuner {
    directory: Option<PathBuf>,
    /// The machine and what is known of the types that are worth a look; `None` before anybody asked.
    known: Option<(Machine, Vec<Finding>)>,
    looks: u32,
    /// Passes before the next look.
    wait: u32,
    /// Bytes that caches hold, when it is not this machine that says so.
    caches: Option<u64>,
}

impl Tuner {
    /// Asks nothing yet: loading a model takes no longer for it.
    pub(crate) fn new(directory: Option<PathBuf>) -> Tuner {
        Tuner { directory, known: None, looks: 0, wait: 0, caches: None }
    }

    /// As if there were no caches, so that a small model is worth a look.
    #[cfg(test)]
    pub(crate) fn look_at_small_models(&mut self) {
        self.caches = Some(0);
    }

    /// Called before a pass, when a first token is out: tunes `model`. Returns whether there is more to find.
    pub(crate) fn before_pass(&mut self, model: &mut Model) -> bool {
        if self.wait > 0 {
            self.wait -= 1;
            return true;
        }
        let (machine, mut findings) = self.known.take().unwrap_or_else(|| {
            let machine = Machine::here();
            let caches = self.caches.or_else(cpu::last_level_cache).unwrap_or(CACHES);
            let findings = known(self.directory.as_deref(), &machine, model, caches);
            (machine, findings)
        });
        let all_final = |findings: &[Finding]| findings.iter().all(|finding| finding.standing().is_final());
        if !all_final(&findings) {
            look(model, &mut findings);
            self.looks += 1;
            if let Some(directory) = &self.directory {
                cache::write(directory, &machine, &findings);
            }
        }
        model.set_kernels(tuned(model.kernels(), &findings));
        let more = self.looks < LOOKS && !all_final(&findings);
        (self.known, self.wait) = (Some((machine, findings)), PASSES_BETWEEN);
        more
    }
}

/// What is kept in `directory` for an instruction set with a number of threads, if a look can have found it.
fn kept(directory: &Path, machine: &Machine, isa: Isa, threads: usize) -> Vec<Finding> {
    let mut kept = cache::read(directory, machine);
    let is_candidate =
        |f: &Finding| f.ty().is_some_and(|ty| measure::candidates(isa.tuning().ahead(ty)).contains(&f.ahead()));
    kept.retain(|finding| finding.is_for(isa, threads) && is_candidate(finding));
    kept
}

/// What is known of the types of `model` that are worth a look; of what nothing is, the default.
fn known(directory: Option<&Path>, machine: &Machine, model: &Model, caches: u64) -> Vec<Finding> {
    let (isa, threads) = (model.kernels().isa(), model.threads());
    let kept = directory.map_or(Vec::new(), |directory| kept(directory, machine, isa, threads));
    let of = |ty: TensorType| {
        let kept = kept.iter().find(|finding| finding.ty() == Some(ty)).cloned();
        kept.unwrap_or_else(|| Finding::new(isa, threads, ty, isa.tuning().ahead(ty)))
    };
    measure::types(&model.weights, caches).into_iter().map(of).collect()
}

/// The kernels with all that counts of `findings`.
fn tuned(kernels: &Kernels, findings: &[Finding]) -> Kernels {
    let certain = findings.iter().filter(|finding| finding.standing().counts());
    let tuning = certain.fold(*kernels.tuning(), |tuning, finding| {
        finding.ty().map_or(tuning, |ty| tuning.with_ahead(ty, finding.ahead()))
    });
    kernels.tuned(tuning)
}

/// Looks once at every type of which nothing is certain yet.
fn look(model: &mut Model, findings: &mut [Finding]) {
    let default = model.kernels().isa().tuning();
    let mut open: Vec<_> = findings.iter_mut().filter(|finding| !finding.standing().is_final()).collect();
    let budget = LOOK / open.len().max(1) as u32;
    for finding in &mut open {
        let Some(ty) = finding.ty() else { continue };
        let candidates = measure::candidates(default.ahead(ty));
        let number = |ahead| candidates.iter().position(|&candidate| candidate == ahead).expect("it is a candidate");
        let (default, used) = (number(default.ahead(ty)), number(finding.ahead()));
        let (team, weights) = model.team();
        let rates = measure::rates(team, weights, ty, &candidates, budget);
        let verdict = rates.as_ref().map_or(Verdict::Disturbed, |rates| judge(rates, default, used));
        if let (Verdict::Change(found), Some(rates)) = (verdict, rates) {
            let best = |c: usize| rates[c].iter().copied().fold(0.0, f64::max);
            finding.set_ahead(candidates[found]);
            finding.gain_percent = (1000.0 * (best(found) / best(default) - 1.0)).round() / 10.0;
        }
        finding.set_standing(finding.standing().after(verdict));
    }
}
