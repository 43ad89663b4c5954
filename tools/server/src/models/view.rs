//! What is told of a model without loading it.

use std::sync::Arc;
use std::time::Duration;

use crate::card::Card;
use crate::counters::Counters;
use crate::engine::Room;
use crate::model::Model;
use crate::random;

/// What is told of a model.
#[derive(Clone, Debug)]
pub struct View {
    /// What it is called; the first is its id.
    pub names: Vec<String>,
    /// What it is called together with one of its adapters.
    pub adapters: Vec<String>,
    /// What its files say of it; `None` for files that cannot be read, or are no model.
    pub card: Option<Arc<Card>>,
    /// When it was loaded or else its file was changed, in seconds since 1970.
    pub since: u64,
    /// What it has done.
    pub counters: Arc<Counters>,
    /// How many texts it writes and lets wait.
    pub room: Room,
    /// Whether it is loaded.
    pub status: Status,
}

/// Whether a model is loaded.
#[derive(Clone, Debug)]
pub enum Status {
    /// It is not.
    Unloaded {
        /// Whether the last try has failed.
        failed: bool,
    },
    /// It soon will be.
    Loading,
    /// It is.
    Loaded {
        /// What is known of it.
        model: Arc<Model>,
        /// Until when from now, if nobody asks for it; `None` for as long as there is room.
        stays: Option<Duration>,
    },
}

impl View {
    /// Its id.
    pub fn id(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    /// The model, if it is loaded.
    pub fn model(&self) -> Option<&Arc<Model>> {
        match &self.status {
            Status::Loaded { model, .. } => Some(model),
            _ => None,
        }
    }

    /// The most tokens of a prompt and its answer; of a model that is not loaded what it was trained with, and zero for
    /// files that can't be read.
    pub fn context(&self) -> usize {
        let trained = || self.card.as_ref().map_or(0, |card| card.trained_context);
        self.model().map_or_else(trained, |model| model.context)
    }

    /// The source of its chat template; empty without one.
    pub fn template(&self) -> &str {
        match self.model() {
            Some(model) => model.template().map_or("", |template| template.source()),
            None => self.card.as_ref().and_then(|card| card.template.as_deref()).unwrap_or_default(),
        }
    }

    /// When it goes, in seconds since 1970, if it is loaded and does not stay.
    pub fn expires(&self) -> Option<u64> {
        match self.status {
            Status::Loaded { stays: Some(stays), .. } => Some(random::now() + stays.as_secs()),
            _ => None,
        }
    }

    /// llama.cpp's word for its status.
    pub fn word(&self) -> &'static str {
        match self.status {
            Status::Unloaded { .. } => "unloaded",
            Status::Loading => "loading",
            Status::Loaded { .. } => "loaded",
        }
    }
}
