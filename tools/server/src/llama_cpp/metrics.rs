//! `GET /metrics`: Prometheus's text, under llama.cpp's names, and the times under vLLM's. What guards do has names of
//! our own.

use std::fmt::Write;
use std::sync::Arc;

use crate::counters::{Counters, Histogram};
use crate::models::host::Host;

/// The type of the text.
pub const TYPE: &str = "text/plain; version=0.0.4";

/// All numbers; those of several models are told apart by a label.
pub fn text(host: &Host) -> String {
    let models = host.counters();
    let guard = host.guard().map(|guard| guard.offer.id());
    let guards: Vec<_> =
        models.iter().filter(|(name, c)| guard == Some(name.as_str()) || c.judging.read().1 > 0).cloned().collect();
    let mut out = Text { models: &models, several: host.has_several() || models.len() > 1, text: String::new() };
    let seconds = |micros: u64| micros as f64 / 1e6;
    let rate = |tokens: u64, micros: u64| if micros == 0 { 0.0 } else { tokens as f64 / seconds(micros) };
    out.counter("prompt_tokens_total", "Tokens of prompts that were read", |c| c.prompt_tokens.get() as f64);
    out.counter("prompt_tokens_cached_total", "Tokens of prompts that did not have to be read", |c| {
        c.cached_tokens.get() as f64
    });
    out.counter("prompt_seconds_total", "Time in which prompts were read", |c| seconds(c.prompt_micros.get()));
    out.counter("tokens_predicted_total", "Tokens that were written", |c| c.drawn_tokens.get() as f64);
    out.counter(
        "tokens_predicted_seconds_total",
        "Time in which those after the first of each text were written",
        |c| seconds(c.written_micros.get()),
    );
    out.counter("n_decode_total", "Passes of the model", |c| c.steps.get() as f64);
    out.counter("requests_refused_total", "Requests that found the queue full", |c| c.refused.get() as f64);
    out.counter("requests_cancelled_total", "Texts that were cancelled", |c| c.cancelled.get() as f64);
    out.counter("requests_finished_total", "Texts that have ended by themselves", |c| c.finished.get() as f64);
    out.counter("n_tokens_max", "The most tokens that a text had, with its prompt", |c| c.longest.get() as f64);
    out.gauge("n_busy_slots_per_decode", "Texts that took part in a pass, on average", |c| {
        c.texts_in_steps.get() as f64 / c.steps.get().max(1) as f64
    });
    out.gauge("prompt_tokens_seconds", "Tokens of prompts that were read in a second", |c| {
        rate(c.prompt_tokens.get(), c.prompt_micros.get())
    });
    out.gauge("predicted_tokens_seconds", "Tokens that were written in a second, for one text", |c| {
        rate(c.written_tokens.get(), c.written_micros.get())
    });
    out.gauge("requests_processing", "Texts that are written", |c| c.running.get() as f64);
    out.gauge("requests_deferred", "Texts that wait for their turn", |c| {
        c.open.get().saturating_sub(c.running.get()) as f64
    });
    out.counter("spec_decode_num_drafts_total", "Times that tokens were guessed ahead", |c| c.drafts.get() as f64);
    out.counter("spec_decode_num_draft_tokens_total", "Guessed tokens", |c| c.drafted_tokens.get() as f64);
    out.counter("spec_decode_num_accepted_tokens_total", "Guesses that were right", |c| c.accepted_tokens.get() as f64);
    out.histogram("vllm:time_to_first_token_seconds", "From a request to its first token", |c| &c.first_token);
    out.histogram("vllm:inter_token_latency_seconds", "From one token to the next", |c| &c.next_token);
    out.histogram("vllm:e2e_request_latency_seconds", "From a request to the end of its text", |c| &c.whole);
    if !guards.is_empty() {
        out.models = &guards;
        let flagged = |c: &Counters| c.flagged.get() as f64;
        out.number("counter", "quipu:guard_flagged_total", "Verdicts of a guard that flag something", flagged);
        out.histogram("quipu:guard_verdict_seconds", "From a question to a guard to its verdict", |c| &c.judging);
    }
    out.text
}

struct Text<'m> {
    /// What each has done, by its name.
    models: &'m [(String, Arc<Counters>)],
    several: bool,
    text: String,
}

impl Text<'_> {
    fn counter(&mut self, name: &str, help: &str, read: impl Fn(&Counters) -> f64) {
        self.number("counter", &format!("llamacpp:{name}"), help, read);
    }

    fn gauge(&mut self, name: &str, help: &str, read: impl Fn(&Counters) -> f64) {
        self.number("gauge", &format!("llamacpp:{name}"), help, read);
    }

    fn head(&mut self, kind: &str, name: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}."));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // A string takes everything.
        let _ = writeln!(self.text, "{line}");
    }

    fn number(&mut self, kind: &str, name: &str, help: &str, read: impl Fn(&Counters) -> f64) {
        self.head(kind, name, help);
        for (model, counters) in self.models {
            let label = if self.several { format!("{{model={model:?}}}") } else { String::new() };
            self.line(format_args!("{name}{label} {}", read(counters)));
        }
    }

    fn histogram(&mut self, name: &str, help: &str, read: impl Fn(&Counters) -> &Histogram) {
        self.head("histogram", name, help);
        for (model, counters) in self.models {
            let model = format!("model_name={model:?}");
            let (buckets, count, sum) = read(counters).read();
            for (bound, below) in Histogram::BOUNDS.iter().zip(buckets) {
                self.line(format_args!("{name}_bucket{{{model},le=\"{bound}\"}} {below}"));
            }
            self.line(format_args!("{name}_bucket{{{model},le=\"+Inf\"}} {count}"));
            self.line(format_args!("{name}_sum{{{model}}} {sum}"));
            self.line(format_args!("{name}_count{{{model}}} {count}"));
        }
    }
}
