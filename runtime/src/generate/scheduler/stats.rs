//! What a scheduler is doing, in numbers.

use std::time::Duration;

/// What a scheduler is doing and has done since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Requests whose texts are being read or written.
    pub running: usize,
    /// Requests that wait for memory or their turn.
    pub waiting: usize,
    /// Bytes of a page.
    pub page_bytes: u64,
    /// Pages in use, by texts, by what is kept for later ones, and by sequences that were handed out.
    pub pages_used: u64,
    /// Pages that could be added; `None` without a limit.
    pub pages_free: Option<u64>,
    /// Pages kept for later requests; running ones may share them.
    pub cached_pages: usize,
    /// Batches read.
    pub steps: u64,
    /// Tokens of the prompts of all requests that were begun.
    pub prompt_tokens: u64,
    /// Those of them that did not have to be read.
    pub cached_tokens: u64,
    /// Those of them that came from the disk.
    pub restored_tokens: u64,
    /// Tokens written.
    pub written_tokens: u64,
    /// Guesses that were read ([`SchedulerOptions::draft`](super::SchedulerOptions::draft)).
    pub drafted_tokens: u64,
    /// How often some were, for one text and step.
    pub drafts: u64,
    /// Those of them that were right: each has saved a text a step.
    pub accepted_tokens: u64,
    /// Bytes of keys and values of the draft model.
    pub draft_kv_bytes: u64,
    /// How often a text was put back, so that others could go on.
    pub preempted: u64,
    /// Tokens that were read again after that.
    pub recomputed_tokens: u64,
    /// Pages that were given up for others.
    pub evicted_pages: u64,
    /// The time of all steps.
    pub step_time: Duration,
    /// How much of it was the model's, with drawing tokens.
    pub forward_time: Duration,
    /// The time of steps that read prompts.
    pub prompt_time: Duration,
    /// The longest step in which a text was being written.
    pub longest_step: Duration,
}
