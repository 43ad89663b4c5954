//! How batches are formed, and what memory they may take.

use std::time::Duration;

use crate::setters::setters;

/// What a text may go on with, so that several of its tokens are read in one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Draft {
    /// Nothing is guessed.
    None,
    /// What followed the last time, where the text has said the same few tokens before: quotations, code, JSON. Only as
    /// many as are worth it, by what they have been worth in this text and what steps have cost here.
    #[default]
    Text,
}

impl Draft {
    /// All of them.
    pub const ALL: [Draft; 2] = [Draft::None, Draft::Text];

    /// Its name, as for an option.
    pub fn name(self) -> &'static str {
        match self {
            Draft::None => "none",
            Draft::Text => "text",
        }
    }
}

/// How batches are formed, and what memory they may take. No text depends on it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SchedulerOptions {
    /// The most tokens of prompts in one batch, one at least; the engine's own limit ([`Engine::batch`]) may be lower.
    ///
    /// [`Engine::batch`]: crate::Engine::batch
    pub piece: usize,
    /// How long a step may take while texts are being written: the pieces of prompts that are read beside them are
    /// sized so that it takes about so long. Zero for the most tokens per second, however long a text stands still.
    pub itl_target: Duration,
    /// The most texts at once, one at least; others wait.
    pub sequences: usize,
    /// Bytes that the keys and values of all texts may take, those included that are kept for later requests. With
    /// `None` there is no limit, and nothing is kept.
    pub kv_memory: Option<u64>,
    /// Whether what was read is kept for later requests, as far as [`SchedulerOptions::kv_memory`] has room.
    pub prefix_cache: bool,
    /// What is guessed ahead.
    pub draft: Draft,
}

impl Default for SchedulerOptions {
    fn default() -> SchedulerOptions {
        SchedulerOptions {
            piece: 512,
            itl_target: Duration::from_millis(100),
            sequences: 64,
            kv_memory: None,
            prefix_cache: true,
            draft: Draft::default(),
        }
    }
}

impl SchedulerOptions {
    /// How long a step may read pages from the disk beside so many texts.
    pub(super) fn time_for_disk(&self, decodes: usize) -> Duration {
        match self.itl_target {
            Duration::ZERO => Duration::MAX,
            target if decodes == 0 => 20 * target,
            target => target / 2,
        }
    }
}

setters!(SchedulerOptions {
    piece: usize,
    itl_target: Duration,
    sequences: usize,
    kv_memory: impl Into<Option<u64>>,
    prefix_cache: bool,
    draft: Draft,
});
