//! A Hugging Face directory as if it were a GGUF.
//!
//! [`HfDirectory`] opens what `save_pretrained` writes for a model of a [family](crate::families) (config.json,
//! safetensors or PyTorch's files, the tokenizer's files) or what Meta and Mistral publish and shows it as a
//! [`Source`]: GGUF's tensor names and row order, GGUF's metadata keys. So the runtime can run it and the converter
//! can write it without knowing where it came from. Weights stay mapped; only the rows of q and k, whose order
//! differs, and vectors, which GGUF keeps in F32, are computed when they are asked for.
//!
//! Where to start reading: [`HfConfig`] (config.json), `tensors.rs` (names, shapes, what is done to each), `rope.rs`
//! (the row order and RoPE's divisors), `rope_scaling.rs`, [`tokenizer`] (the vocabulary and everything around it).
//!
//! What llama.cpp's converter writes for the same directory is the model for keys, types and values; where the two
//! differ, the code says why.

mod config;
mod config_fault;
mod elsewhere;
mod error;
mod experts;
mod granite4;
pub(crate) mod json;
mod metadata;
mod mllama;
mod native;
mod nested;
mod params;
mod plan;
mod quantised;
mod reconcile;
mod rope;
mod rope_scaling;
mod shards;
mod stored;
mod tensors;
pub mod tokenizer;
mod weight;

use std::borrow::Cow;
use std::ops::Range;
use std::path::{Path, PathBuf};

pub use config::HfConfig;
pub use config_fault::ConfigFault;
pub use error::{HfError, WeightsFault};
pub use json::{FileError, KeyError};
pub(crate) use rope::hf_row;
pub use rope_scaling::{RopeFault, RopeScaling};
pub use tokenizer::{SentencePieceFault, TokenizerFault, read_tokenizer};

use crate::gguf::Metadata;
use crate::map::Advice;
use crate::oddity::Oddity;
use crate::source::{Source, TensorInfo};
use quantised::fold::fold;
use shards::Shards;
use tensors::Origin;

/// An open Hugging Face directory of a model, checked: every tensor that config.json implies is there with the right
/// shape, and nothing else is.
///
/// Bytes that [`Source::rows`] borrows may start at any address, since safetensors does not align tensors.
#[derive(Debug)]
pub struct HfDirectory {
    path: PathBuf,
    config: HfConfig,
    metadata: Metadata,
    shards: Shards,
    tensors: Vec<TensorInfo>,
    origins: Vec<Origin>,
    oddities: Vec<Oddity>,
}

impl HfDirectory {
    /// Opens the directory `dir`: reads the small files, maps the weights and checks everything but the weights'
    /// values.
    pub fn open(dir: &Path) -> Result<HfDirectory, HfError> {
        match std::fs::metadata(dir) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => return Err(HfError::NotADirectory { path: dir.to_owned(), found: "not a directory".into() }),
            Err(e) => return Err(HfError::NotADirectory { path: dir.to_owned(), found: e.to_string() }),
        }
        let config_path = dir.join("config.json");
        let (path, json, mut shards) = match config::read(&config_path)? {
            Some(json) => (config_path, json, None),
            None => {
                let path = dir.join("params.json");
                let Some(params) = config::read(&path)? else {
                    return Err(HfError::NoConfig { path: dir.to_owned(), found: elsewhere::what_instead(dir) });
                };
                let shards = Shards::open(dir)?;
                let json = params::config(&params, |name| shards.shape(name));
                (path.clone(), json.map_err(|fault| HfError::Config { path, fault })?, Some(shards))
            }
        };
        let is_native = shards.is_some();
        let read = || {
            let text = nested::text(&json)?;
            let config = HfConfig::from_json(text.as_ref().map_or(&json, |text| &text.config))?;
            Ok((text, config))
        };
        let (text, (mut config, mut oddities)) = read().map_err(|fault| HfError::Config { path, fault })?;
        let mut shards = match shards.take() {
            Some(shards) => shards,
            None => Shards::open(dir)?,
        };
        if let Some(text) = text {
            oddities.extend(text.rename(&mut shards, config.sizes.vocabulary));
        }
        oddities.append(&mut shards.oddities);
        if let Some(method) = &config.quantisation {
            fold(&mut shards, method).map_err(|fault| HfError::weights(dir, fault))?;
        }
        oddities.extend(reconcile::reconcile(&mut config, &mut shards));
        let (plans, unused) = tensors::plan(&config, &shards).map_err(|fault| HfError::weights(dir, fault))?;
        oddities.extend(unused);
        let infos: Vec<_> = plans.iter().map(|(info, _)| info).collect();
        let mut metadata = metadata::model_metadata(&config, dir, &infos);
        oddities.extend(tokenizer::read_into(
            &mut metadata,
            dir,
            Some(config.sizes.vocabulary),
            is_native.then_some(&json),
        )?);
        let (tensors, origins) = plans.into_iter().unzip();
        Ok(HfDirectory { path: dir.to_owned(), config, metadata, shards, tensors, origins, oddities })
    }

    /// The shape of the model, as config.json has it.
    pub fn config(&self) -> &HfConfig {
        &self.config
    }
}

impl HfDirectory {
    fn advise(&self, index: usize, advice: Advice) {
        for &weight in self.origins[index].weights() {
            self.shards.weights[weight].advise(&self.shards.files, advice);
        }
    }
}

impl Source for HfDirectory {
    fn path(&self) -> &Path {
        &self.path
    }

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn oddities(&self) -> &[Oddity] {
        &self.oddities
    }

    fn rows(&self, index: usize, rows: Range<usize>) -> Cow<'_, [u8]> {
        tensors::rows(&self.tensors[index], &self.origins[index], &self.shards, self.config.sizes.head_dim, rows)
    }

    fn mapped(&self, index: usize) -> Option<&[u8]> {
        match self.origins[index] {
            Origin::AsItIs { weight, first: 0 } => self.shards.weights[weight].mapped(&self.shards.files),
            Origin::AsItIs { .. }
            | Origin::Heads { .. }
            | Origin::Floats { .. }
            | Origin::Bank { .. }
            | Origin::Columns { .. }
            | Origin::Computed(_) => None,
        }
    }

    fn release(&self, index: usize) {
        self.advise(index, Advice::DontNeed);
    }

    fn read_ahead(&self, index: usize) {
        self.advise(index, Advice::WillNeed);
    }
}
