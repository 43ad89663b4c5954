//! Many texts for a long time: prompts of all lengths, some cancelled, sequences handed on and forked, engines loaded
//! again and again. The memory of the process stays what it was.
//!
//! Five seconds by themselves, which finds what leaks fast; `QUIPU_SOAK_SECONDS=1200` is the soak of twenty minutes.
//! `QUIPU_SOAK_LEAK=4096` loses so many bytes with every text: the test must fail.
#![cfg(target_os = "linux")]

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use quipu_runtime::chat::{ChatTemplate, Message};
use quipu_runtime::generate::{Event, GenerateOptions, Request, RequestId, Scheduler, SchedulerOptions};
use quipu_runtime::host::cores::Cores;
use quipu_runtime::sampler::SamplerOptions;
use quipu_runtime::{Cancel, LoadOptions, Sequence, TuningChoice};
use quipu_test_random::Random;
use quipu_tests::{data, load, skipped};

/// Requests that are served at once.
const MOST: usize = 6;
/// Texts of an engine, after which another one is loaded.
const TEXTS: u64 = 300;
/// What the allocator may hold back, more at one time than at another.
const SLACK: u64 = 6 << 20;

/// Bytes of this process that are in memory and belong to no file.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a kernel since 4.5");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of kB") << 10
}

/// Of the memory seen at even distances: most of the last quarter against most of the second one; the first warms up.
fn growth(samples: &[u64]) -> i64 {
    let quarter = samples.len() / 4;
    let most = |samples: &[u64]| samples.iter().copied().max().unwrap_or(0) as i64;
    most(&samples[3 * quarter..]) - most(&samples[quarter..2 * quarter])
}

struct Soak {
    random: Random,
    template: ChatTemplate,
    /// Of finished requests.
    sequences: Vec<Sequence>,
    cancels: HashMap<RequestId, Cancel>,
    leak: usize,
    texts: u64,
    cancelled: u64,
    tokens: u64,
}

impl Soak {
    /// Serves [`TEXTS`] texts with one engine, or until `end`; calls `see` after every step.
    fn engine(&mut self, end: Instant, mut see: impl FnMut()) {
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tales.gguf");
        let threads = Cores::here().allowed_threads().min(2);
        let options = LoadOptions::default().threads(threads).context(1024).tuning(TuningChoice::Defaults);
        let mut scheduler = Scheduler::with_options(load(&demo, &options), SchedulerOptions::default().piece(64));
        let last = self.texts + TEXTS;
        let mut submitted = self.texts;
        while scheduler.is_busy() || submitted < last && Instant::now() < end {
            while self.cancels.len() < MOST && submitted < last {
                self.submit(&mut scheduler);
                submitted += 1;
            }
            for (id, event) in scheduler.step() {
                let sequence = match event {
                    Event::Token(_) => {
                        self.tokens += 1;
                        continue;
                    }
                    Event::Finished(finished) => Some(finished.sequence),
                    Event::Failed(failed) => panic!("{}", failed.error),
                    _ => continue,
                };
                self.texts += 1;
                self.cancels.remove(&id);
                self.sequences.extend(sequence);
                if self.sequences.len() > 4 {
                    let at = self.random.below(self.sequences.len());
                    self.sequences.swap_remove(at);
                }
                std::mem::forget(vec![1_u8; self.leak]);
            }
            if self.random.below(40) == 0
                && let Some(cancel) = self.cancels.values().next()
            {
                self.cancelled += u64::from(!cancel.cancelled());
                cancel.cancel();
            }
            see();
        }
        // They are of no use to another engine.
        self.sequences.clear();
        self.cancels.clear();
    }

    fn submit(&mut self, scheduler: &mut Scheduler) {
        let random = &mut self.random;
        let tokenizer = scheduler.engine().tokenizer().clone();
        let text = "Once upon a time there was a poor woodcutter. ".repeat(1 + random.below(40));
        let mut tokens = match random.below(4) {
            0 => {
                let count = 1 + random.below(700);
                random.tokens(count, tokenizer.vocab_size())
            }
            1 => {
                let messages = [Message::new("user", &text[..random.below(400).min(text.len())])];
                let made = self.template.prompt(&tokenizer, &messages, &Default::default(), false);
                made.expect("a prompt")
            }
            _ => tokenizer.encode(&text, true, false),
        };
        tokens.truncate(900);
        let sequence = match random.below(3) {
            _ if self.sequences.is_empty() => None,
            0 => {
                let at = random.below(self.sequences.len());
                Some(self.sequences.swap_remove(at))
            }
            1 => Some(self.sequences[random.below(self.sequences.len())].clone()),
            _ => None,
        };
        if let Some(sequence) = &sequence
            && random.below(2) == 0
        {
            // It goes on from what was read.
            let more = tokens.split_off(tokens.len() / 2);
            tokens = [sequence.tokens(), &more].concat();
            tokens.truncate(900);
        }
        let sampler = SamplerOptions::default().seed(random.bits());
        let options = GenerateOptions::new(sampler)
            .max_tokens(1 + random.below(60))
            .stops(vec!["the king".to_string()])
            .logprobs(random.below(3) == 0);
        let cancel = Cancel::new();
        let id = scheduler.submit(Request::new(tokens, options).sequence(sequence).cancel(cancel.clone()));
        self.cancels.insert(id, cancel);
    }
}

#[test]
fn memory_stays_what_it_was() {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().expect(name));
    if std::env::var_os("QUIPU_SKIP_TIMING").is_some() {
        return skipped("QUIPU_SKIP_TIMING is set");
    }
    let time = Duration::from_secs(number("QUIPU_SOAK_SECONDS").unwrap_or(5));
    let template = std::fs::read_to_string(data("templates/chatml.jinja")).expect("a template");
    let mut soak = Soak {
        random: Random::new(1),
        template: ChatTemplate::new(&template, None, None).expect("a template that can be read"),
        sequences: Vec::new(),
        cancels: HashMap::new(),
        leak: number("QUIPU_SOAK_LEAK").unwrap_or(0) as usize,
        texts: 0,
        cancelled: 0,
        tokens: 0,
    };
    let (start, pause) = (Instant::now(), time / 400);
    let (mut samples, mut next) = (Vec::new(), start);
    while start.elapsed() < time {
        soak.engine(start + time, || {
            if Instant::now() >= next {
                samples.push(resident());
                next = Instant::now() + pause;
            }
        });
    }
    let (megabytes, grown) = (|bytes: u64| bytes as f64 / 1e6, growth(&samples));
    let quarters: Vec<String> = samples
        .chunks(samples.len().div_ceil(8))
        .map(|part| format!("{:.1}", megabytes(part.iter().copied().max().unwrap_or(0))))
        .collect();
    println!(
        "{} texts ({} cancelled), {} tokens, {} looks; MB in eighths of the time: {}",
        soak.texts,
        soak.cancelled,
        soak.tokens,
        samples.len(),
        quarters.join(" ")
    );
    assert!(soak.texts > 50 && samples.len() > 50, "too slow to see anything");
    let most = samples.iter().copied().max().unwrap_or(0);
    assert!(grown < (SLACK + most / 50) as i64, "memory has grown by {:.1} MB", grown as f64 / 1e6);
}

#[test]
fn a_leak_would_be_seen() {
    let noise = |i: u64| ((i * 7919) % 3) << 20;
    let flat: Vec<u64> = (0..400).map(|i| (50 << 20) + noise(i)).collect();
    assert!(growth(&flat) < SLACK as i64 / 2);
    // 4 kB a text, a hundred texts a look.
    let leaking: Vec<u64> = (0..400).map(|i| (50 << 20) + noise(i) + i * 409_600).collect();
    assert!(growth(&leaking) > 10 * SLACK as i64);
}
