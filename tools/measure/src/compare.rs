//! What several files of one model cost, and what they are worth.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::PathBuf;
use std::sync::Arc;

use quipu_runtime::tokenizer::Tokenizer;
use quipu_runtime::{Engine, LoadOptions};
use serde::Serialize;

use crate::error::MeasureError;
use crate::model_file::ModelFile;
use crate::monitor::{Event, Monitor};
use crate::perplexity::read;
use crate::speed::{Speed, SpeedOptions, speed};
use crate::statistics::{Divergence, Divergences, Mean, Place};
use crate::text::{Chunks, predict, same_vocabulary};

/// How files are compared.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CompareOptions {
    /// Tokens of a chunk of the text; at least 4.
    pub context: usize,
    /// How many chunks of the text are read at most.
    pub chunks: usize,
    /// How speeds are measured; `None` when they are not.
    pub speed: Option<SpeedOptions>,
    /// How the models are loaded; its context is replaced by the smallest that the text and the speeds need.
    pub load: LoadOptions,
}

impl Default for CompareOptions {
    fn default() -> CompareOptions {
        let speed = Some(SpeedOptions::default());
        CompareOptions { context: 512, chunks: 20, speed, load: LoadOptions::default() }
    }
}

/// What was measured of several files.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Comparison {
    /// Tokens of a chunk of the text.
    pub ctx: usize,
    /// Chunks that were read.
    pub chunks: usize,
    /// Tokens that were predicted.
    pub tokens: usize,
    /// The files, in the order in which they were given.
    pub files: Vec<Compared>,
}

/// What was measured of one file.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Compared {
    /// The file.
    #[serde(flatten)]
    pub file: ModelFile,
    /// Its perplexity on the text.
    pub ppl: f64,
    /// The standard error of that.
    pub error: f64,
    /// How far its predictions are from those of the base; `None` for the base.
    #[serde(flatten)]
    pub divergence: Option<Divergence>,
    /// How fast it is, if that was measured.
    #[serde(flatten)]
    pub speed: Option<Speed>,
}

/// Compares `files` on `text`, which is read as [`perplexity`](fn@crate::perplexity) reads it: how well each model
/// predicts it, how far its predictions are from those of the file with number `base`, and how fast it is.
///
/// Models are loaded one after the other, the base first. Between them the base's predictions lie in a temporary file
/// (in [`std::env::temp_dir`]) of 4 bytes for each entry of the vocabulary and each predicted token.
///
/// # Errors
/// When a model can't be loaded or can't read the text, or has another vocabulary than the base.
///
/// # Panics
/// When there is no file with number `base`.
///
/// # Examples
/// ```
/// use quipu_measure::{CompareOptions, ModelFile, Monitor, compare};
///
/// let files = [ModelFile::open("demo")?, ModelFile::open("demo")?];
/// let base = ModelFile::most_precise(&files);
/// let mut options = CompareOptions::default();
/// (options.context, options.speed) = (16, None);
/// let text = "The fox went out on a chilly night, and he prayed for the moon to give him light. ".repeat(2);
/// let found = compare(&files, base, &text, &options, &Monitor::silent())?;
/// assert!(found.files[0].divergence.is_none(), "the base");
/// assert_eq!(found.files[1].divergence.map(|d| d.kl), Some(0.0), "the same file");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn compare(
    files: &[ModelFile],
    base: usize,
    text: &str,
    options: &CompareOptions,
    monitor: &Monitor<'_>,
) -> Result<Comparison, MeasureError> {
    if let Some(speed) = &options.speed {
        speed.check()?;
    }
    let run = Run { options, monitor };
    let mut found: Vec<Option<Compared>> = files.iter().map(|_| None).collect();
    monitor.report(Event::Comparing { number: 1, total: files.len(), path: &files[base].path });
    let mut engine = run.load(&files[base])?;
    let mut reference = Reference::new(&engine, &files[base], text, options)?;
    let nll = reference.write(&mut engine, monitor)?;
    found[base] = Some(run.compared(&mut engine, &files[base], &nll, None)?);
    drop(engine);
    for (n, i) in (0..files.len()).filter(|&i| i != base).enumerate() {
        monitor.report(Event::Comparing { number: n + 2, total: files.len(), path: &files[i].path });
        let mut engine = run.load(&files[i])?;
        reference.check(&engine, &files[i])?;
        let (other_nll, divergence) = reference.compare(&mut engine, monitor)?;
        found[i] = Some(run.compared(&mut engine, &files[i], &other_nll, Some(divergence))?);
    }
    Ok(Comparison {
        ctx: options.context,
        chunks: reference.chunks.count(),
        tokens: nll.count,
        files: found.into_iter().flatten().collect(),
    })
}

/// What does not change from file to file.
struct Run<'a> {
    options: &'a CompareOptions,
    monitor: &'a Monitor<'a>,
}

impl Run<'_> {
    fn load(&self, file: &ModelFile) -> Result<Engine, MeasureError> {
        let speed = self.options.speed.as_ref().map_or(0, |speed| speed.prompt.max(speed.decode));
        let context = Some(self.options.context.max(speed));
        let options = self.options.load.clone().context(context);
        // The path was made from a name, so nothing is lost.
        let source = quipu_runtime::open(&file.path.to_string_lossy())?;
        Ok(Engine::load(source, &options, &self.monitor.loading())?)
    }

    /// The figures of a file whose text is read; its speed is measured now.
    fn compared(
        &self,
        engine: &mut Engine,
        file: &ModelFile,
        nll: &Mean,
        divergence: Option<Divergence>,
    ) -> Result<Compared, MeasureError> {
        let (ppl, error) = nll.perplexity();
        let speed = match &self.options.speed {
            Some(options) => {
                self.monitor.step(Event::MeasuringSpeed)?;
                Some(speed(engine, options)?)
            }
            None => None,
        };
        Ok(Compared { file: file.clone(), ppl, error, divergence, speed })
    }
}

/// The text, and what the base predicts for it: all logits, place by place, in a temporary file without a name.
struct Reference {
    chunks: Chunks,
    path: PathBuf,
    tokenizer: Arc<Tokenizer>,
    vocabulary: usize,
    logits: File,
}

impl Reference {
    fn new(base: &Engine, file: &ModelFile, text: &str, options: &CompareOptions) -> Result<Reference, MeasureError> {
        let chunks = Chunks::new(base.tokenizer(), text, options.context, Some(options.chunks))?;
        let (tokenizer, vocabulary) = (base.tokenizer().clone(), base.vocabulary());
        chunks.check_memory(vocabulary)?;
        let logits = tempfile::tempfile().map_err(|error| temporary(&chunks, vocabulary, error))?;
        Ok(Reference { chunks, path: file.path.clone(), tokenizer, vocabulary, logits })
    }

    /// Refuses a model whose predictions do not compare with the base's.
    fn check(&self, engine: &Engine, file: &ModelFile) -> Result<(), MeasureError> {
        if engine.vocabulary() == self.vocabulary && same_vocabulary(engine.tokenizer(), &self.tokenizer) {
            return Ok(());
        }
        Err(MeasureError::OtherVocabulary { path: file.path.clone(), base: self.path.clone() })
    }

    /// Lets the base predict the text, and writes its logits into the file.
    fn write(&mut self, base: &mut Engine, monitor: &Monitor<'_>) -> Result<Mean, MeasureError> {
        let (file, vocabulary) = (&mut self.logits, self.vocabulary);
        read(base, &self.chunks, monitor, |base, chunk, nll| {
            for logits in predict(base, chunk, nll, |_, logits| logits.to_vec())? {
                let written = file.write_all(bytemuck::cast_slice(&logits));
                written.map_err(|error| temporary(&self.chunks, vocabulary, error))?;
            }
            Ok(None)
        })
    }

    /// Lets another model predict the text, and compares with the logits in the file.
    fn compare(&mut self, engine: &mut Engine, monitor: &Monitor<'_>) -> Result<(Mean, Divergence), MeasureError> {
        let (file, vocabulary) = (&mut self.logits, self.vocabulary);
        file.rewind().map_err(|error| temporary(&self.chunks, vocabulary, error))?;
        let (mut divergences, mut base) = (Divergences::default(), vec![0.0f32; self.chunks.places() * vocabulary]);
        let nll = read(engine, &self.chunks, monitor, |engine, chunk, nll| {
            let found = file.read_exact(bytemuck::cast_slice_mut(&mut base));
            found.map_err(|error| temporary(&self.chunks, vocabulary, error))?;
            let compare = |place, logits: &[f32]| Place::new(&base[place * vocabulary..][..vocabulary], logits);
            divergences.add(&predict(engine, chunk, nll, compare)?);
            Ok(Some(divergences.mean().value()))
        })?;
        Ok((nll, divergences.divergence()))
    }
}

fn temporary(chunks: &Chunks, vocabulary: usize, error: io::Error) -> MeasureError {
    let bytes = chunks.count() * chunks.places() * vocabulary * size_of::<f32>();
    MeasureError::Temporary { gigabytes: bytes as f64 / 1e9, error }
}
