//! A model with its tokenizer, on a fixed number of threads.

mod adapters;
mod check;
mod error;
mod identity;
mod options;
#[cfg(test)]
mod tuning_tests;

use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::{Arc, OnceLock};

use quipu_formats::oddity::Oddity;
use quipu_formats::source::{Recoded, Source, recoded_types};
use quipu_kernels::{Isa, Tuning};

use crate::cancel::Cancel;
use crate::config::Config;
use crate::embedding::{EmbedOptions, Pool as Pooled};
use crate::host::cores::Cores;
use crate::host::{memory, threads};
use crate::kv::{KvLayout, KvType, Sequence, checksum};
pub use crate::model::EngineError;
use crate::model::{
    BatchToken, Input, Logits, Model, NotFinite, Observer, Progress, Rows, WeightsError, broken_weight, load,
    unused_tensors,
};
use crate::pool::Pool;
use crate::tokenizer::Tokenizer;
use crate::tuning::{Tuner, TuningChoice};
pub use check::check_model;
use check::{context_limit, read_tokenizer};
pub use error::LoadError;
pub use options::LoadOptions;

/// A loaded model with its tokenizer, ready to run.
pub struct Engine {
    model: Model,
    tokenizer: Arc<Tokenizer>,
    /// Until there is nothing left to find.
    tuner: Option<Tuner>,
    /// Whether a pass has shown logits: until then nothing is measured.
    first_token_out: bool,
    source: Arc<dyn Source>,
    context: usize,
    kv_layout: Arc<KvLayout>,
    kv_type: KvType,
    batch: usize,
    logits: Vec<f32>,
    /// What [`Engine::read`] reads at once; kept, so that a token allocates nothing.
    tokens: Vec<BatchToken>,
    /// How many tokens of a batch each sequence gets; kept as well.
    more: Vec<usize>,
    /// The most tokens of a batch for which there was memory.
    fitted: usize,
}

impl Engine {
    /// Loads a model; `progress` is told how many bytes of weights are loaded, of how many.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load(source: Box<dyn Source>, options: &LoadOptions, progress: Progress<'_>) -> Result<Engine, LoadError> {
        Engine::load_shared(source.into(), options, progress)
    }

    /// Loads a model as [`Engine::load`] does, from a source that is used elsewhere too.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load_shared(
        source: Arc<dyn Source>,
        options: &LoadOptions,
        progress: Progress<'_>,
    ) -> Result<Engine, LoadError> {
        let path = || source.path().to_path_buf();
        let isa = options.isa.unwrap_or_else(Isa::best);
        let kernels = isa.kernels().ok_or_else(|| LoadError::isa(isa))?;
        let (kernels, tuner) = match &options.tuning {
            TuningChoice::Defaults => (*kernels, None),
            TuningChoice::Given(tuning) => (kernels.tuned(*tuning), None),
            TuningChoice::Measured(directory) => (*kernels, Some(Tuner::new(directory.clone()))),
        };
        let cores = Cores::here();
        let (threads, allowed) = (options.threads.unwrap_or(cores.default_threads()), cores.allowed_threads());
        if threads > allowed {
            return Err(LoadError::Threads { wanted: threads, allowed });
        }
        for (what, n) in [("the number of threads", threads), ("the batch", options.batch)] {
            if n == 0 {
                return Err(LoadError::Zero { what });
            }
        }
        if options.context == Some(0) {
            return Err(LoadError::Zero { what: "the context" });
        }
        let config =
            Config::from_metadata(source.metadata()).map_err(|error| WeightsError::Config { path: path(), error })?;
        let context = context_limit(&config, options.context)?;
        let mut pool = Pool::new(threads, &cores)?;
        // The tokenizer is read while the weights are loaded: a vocabulary of 128,000 tokens takes a good part of the
        // time that a mapped file needs. If it can't be read, loading the weights is cancelled.
        let no_tokenizer = Cancel::new();
        let (tokenizer, weights) = std::thread::scope(|scope| {
            let read = || read_tokenizer(&*source).inspect_err(|_| no_tokenizer.cancel());
            let tokenizer = threads::builder("quipu-tokenizer")?.spawn_scoped(scope, read)?;
            let weights = load(source.clone(), &config, &mut pool, options.residence, &no_tokenizer, progress);
            Ok::<_, std::io::Error>((tokenizer.join().unwrap_or_else(|panic| resume_unwind(panic)), weights))
        })?;
        let (tokenizer, weights) = (tokenizer?, weights?);
        Ok(Engine {
            context,
            kv_layout: KvLayout::new(&config).into(),
            model: Model::new(config, weights, context, kernels, pool),
            tokenizer: tokenizer.into(),
            tuner,
            first_token_out: false,
            source,
            kv_type: options.kv_type,
            batch: options.batch,
            logits: Vec::new(),
            tokens: Vec::new(),
            more: Vec::new(),
            fitted: 0,
        })
    }

    /// The model's sizes.
    pub fn config(&self) -> &Config {
        &self.model.config
    }

    /// The model's tokenizer; shared, so that it can be used while the engine reads.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// The file that the model came from.
    pub fn source(&self) -> &dyn Source {
        &*self.source
    }

    /// The number types of the file that run recoded into another type. A user should be told of them.
    pub fn recoded_types(&self) -> Vec<Recoded> {
        recoded_types(&*self.source)
    }

    /// What is odd about the file and changes nothing that the model computes. A user should be told.
    pub fn oddities(&self) -> Vec<Oddity> {
        let weights = unused_tensors(&*self.source, self.config());
        self.source.oddities().iter().chain(self.tokenizer.oddities()).cloned().chain(weights).collect()
    }

    /// The chat template of the file, if it has one.
    pub fn chat_template(&self) -> Option<&str> {
        self.source.metadata().str_opt("tokenizer.chat_template").ok().flatten()
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.model.kernels().isa()
    }

    /// The tuning of the kernels in use, which may change until some tokens have been read.
    pub fn tuning(&self) -> &Tuning {
        self.model.kernels().tuning()
    }

    /// The number of threads in use.
    pub fn threads(&self) -> usize {
        self.model.threads()
    }

    /// The context length: the most positions that a sequence may have.
    pub fn context_length(&self) -> usize {
        self.context
    }

    /// The most tokens of a text that go through the model at once.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Logits per token: rows of the embedding. The tokenizer may have fewer tokens.
    pub fn vocabulary(&self) -> usize {
        self.model.weights.vocabulary()
    }

    /// An empty sequence.
    pub fn new_sequence(&self) -> Sequence {
        Sequence::new(self.kv_layout.clone(), self.kv_type)
    }

    /// Names everything that keys and values depend on besides the tokens of their text: the same on every machine,
    /// with every instruction set and number of threads.
    pub(crate) fn kv_identity(&self) -> String {
        let Engine { model, kv_layout, kv_type, source, .. } = self;
        // The context limit is part of it only where it changes how keys are turned.
        let shapes = format!("{:?} {:?}", model.config, kv_layout.groups);
        let shapes = checksum(checksum(0, shapes.as_bytes()), model.rope().as_bytes());
        let weights = identity::fingerprint(&**source);
        format!(
            "quipu {}; weights {weights:016x}; shapes and rope {shapes:016x}; {kv_type:?}",
            env!("CARGO_PKG_VERSION")
        )
    }

    /// Bytes of the keys and values of all sequences of this engine, wherever they are. Pages that sequences share
    /// count once.
    pub fn kv_bytes(&self) -> u64 {
        self.kv_layout.used.bytes()
    }

    /// Bytes of keys and values for [`PAGE`](crate::kv::PAGE) positions of a sequence: memory is taken in pages of so
    /// many.
    pub fn page_bytes(&self) -> u64 {
        self.kv_layout.page_bytes(self.kv_type) as u64
    }

    /// Reads a batch of tokens into several sequences at once and calls `logits(i, values)` for every token of the
    /// batch that wants them, in order.
    ///
    /// # Errors
    /// See [`EngineError`]; then no sequence has changed.
    pub fn forward(
        &mut self,
        batch: &[BatchToken],
        sequences: &mut [&mut Sequence],
        logits: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), EngineError> {
        self.check(batch, sequences)?;
        self.pass(batch, |model| model.forward(batch, sequences, Some(Logits::InOrder(logits)), None))
    }

    /// As [`Engine::forward`], but the workers call `logits`: for several sequences at once, in any order; for the
    /// tokens of one sequence in theirs, if the batch has them side by side.
    ///
    /// # Errors
    /// See [`EngineError`]; then no sequence has changed.
    pub fn forward_each(
        &mut self,
        batch: &[BatchToken],
        sequences: &mut [&mut Sequence],
        logits: &(dyn Fn(usize, &[f32]) + Sync),
    ) -> Result<(), EngineError> {
        self.check(batch, sequences)?;
        self.pass(batch, |model| model.forward(batch, sequences, Some(Logits::BySequence(logits)), None))
    }

    /// As [`Engine::forward`], and shows `observer` the inputs of all matrices; those of the output matrix only for the
    /// tokens that want logits.
    ///
    /// # Errors
    /// See [`EngineError`]; then no sequence has changed.
    pub fn forward_observed(
        &mut self,
        batch: &[BatchToken],
        sequences: &mut [&mut Sequence],
        logits: &mut dyn FnMut(usize, &[f32]),
        observer: &mut Observer<'_>,
    ) -> Result<(), EngineError> {
        self.check(batch, sequences)?;
        self.pass(batch, |model| model.forward(batch, sequences, Some(Logits::InOrder(logits)), Some(observer)))
    }

    /// One pass of the model. Before it, once a first token is out, the kernels may be tuned.
    fn pass(
        &mut self,
        batch: &[BatchToken],
        forward: impl FnOnce(&mut Model) -> Result<(), NotFinite>,
    ) -> Result<(), EngineError> {
        if self.first_token_out && self.tuner.as_mut().is_some_and(|tuner| !tuner.before_pass(&mut self.model)) {
            self.tuner = None;
        }
        forward(&mut self.model).map_err(|NotFinite { token, position, sequence }| {
            // Only now is the weight that is to blame looked for.
            EngineError::NotFinite { token, position, sequence, cause: broken_weight(&*self.source) }
        })?;
        self.first_token_out |= batch.iter().any(|token| token.logits);
        Ok(())
    }

    /// Whether the model can read `batch` into `sequences`.
    fn check(&mut self, batch: &[BatchToken], sequences: &[&mut Sequence]) -> Result<(), EngineError> {
        let mut more = std::mem::take(&mut self.more);
        more.clear();
        more.resize(sequences.len(), 0);
        let mut checked = batch.iter().try_for_each(|&BatchToken { token, sequence, .. }| {
            self.check_token(token)?;
            let count = more.get_mut(sequence);
            *count.ok_or(EngineError::Sequence { sequence, sequences: sequences.len() })? += 1;
            Ok(())
        });
        for (sequence, &more) in sequences.iter().zip(&more) {
            checked = checked.and_then(|()| self.check_room(sequence, more));
        }
        self.more = more;
        checked.and_then(|()| self.check_activations(batch.len()))
    }

    /// Whether all of `tokens` are in the vocabulary.
    ///
    /// # Errors
    /// [`EngineError::Token`] for the first that is not.
    pub fn check_tokens(&self, tokens: &[u32]) -> Result<(), EngineError> {
        tokens.iter().try_for_each(|&token| self.check_token(token))
    }

    fn check_token(&self, token: u32) -> Result<(), EngineError> {
        let vocabulary = self.vocabulary();
        if token as usize >= vocabulary { Err(EngineError::Token { token, vocabulary }) } else { Ok(()) }
    }

    /// Whether `sequence` is one of this engine's.
    ///
    /// # Errors
    /// [`EngineError::OtherEngine`].
    pub fn check_sequence(&self, sequence: &Sequence) -> Result<(), EngineError> {
        if sequence.is_of(&self.kv_layout) { Ok(()) } else { Err(EngineError::OtherEngine) }
    }

    /// Whether `sequence` is this engine's and `more` tokens can be read into it.
    pub(crate) fn check_room(&self, sequence: &Sequence, more: usize) -> Result<(), EngineError> {
        self.check_sequence(sequence)?;
        let (used, context) = (sequence.len(), self.context);
        if more > context.saturating_sub(used) {
            return Err(EngineError::ContextFull { used, more, context });
        }
        let what = || format!("the KV cache of {} positions", used + more);
        Ok(memory::check(sequence.bytes_for(more), what)?)
    }

    /// Whether there is memory for the activations of so many tokens at once; what fitted once still does.
    fn check_activations(&mut self, tokens: usize) -> Result<(), EngineError> {
        if tokens > self.fitted {
            memory::check(self.model.activation_bytes(tokens), || format!("a batch of {tokens} tokens"))?;
            self.fitted = tokens;
        }
        Ok(())
    }

    /// Reads `tokens` and returns the logits after the last of them.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn prefill(&mut self, sequence: &mut Sequence, tokens: &[u32]) -> Result<&[f32], EngineError> {
        let mut last = std::mem::take(&mut self.logits);
        let mut keep = |_, logits: &[f32]| {
            last.clear();
            last.extend_from_slice(logits);
        };
        let read = self.read(
            sequence,
            tokens,
            |i| i + 1 == tokens.len(),
            |model, _, batch, sequence| model.forward(batch, &mut [sequence], Some(Logits::InOrder(&mut keep)), None),
        );
        self.logits = last;
        read.map(|()| self.logits.as_slice())
    }

    /// Reads one token and returns the logits after it.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn decode(&mut self, sequence: &mut Sequence, token: u32) -> Result<&[f32], EngineError> {
        self.prefill(sequence, &[token])
    }

    /// Reads `tokens` and calls `logits(i, values)` after every one.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn score(
        &mut self,
        sequence: &mut Sequence,
        tokens: &[u32],
        mut logits: impl FnMut(usize, &[f32]),
    ) -> Result<(), EngineError> {
        self.read(
            sequence,
            tokens,
            |_| true,
            |model, start, batch, sequence| {
                let mut see = |i, values: &[f32]| logits(start + i, values);
                model.forward(batch, &mut [sequence], Some(Logits::InOrder(&mut see)), None)
            },
        )
    }

    /// Reads `tokens` and calls `f(i, logits)` for each token `i` from `first` on; the ones before it cost no product
    /// with the output matrix. The workers call `f`, for several tokens at once; its results are returned in order.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn score_each<T: Send + Sync>(
        &mut self,
        sequence: &mut Sequence,
        tokens: &[u32],
        first: usize,
        f: impl Fn(usize, &[f32]) -> T + Sync,
    ) -> Result<Vec<T>, EngineError> {
        let found: Vec<OnceLock<T>> = (first..tokens.len()).map(|_| OnceLock::new()).collect();
        self.read(
            sequence,
            tokens,
            |i| i >= first,
            |model, start, batch, sequence| {
                let see = |i: usize, logits: &[f32]| {
                    let i = start + i;
                    // Each token is shown once.
                    let _ = found[i - first].set(f(i, logits));
                };
                model.forward(batch, &mut [sequence], Some(Logits::SideBySide(&see)), None)
            },
        )?;
        Ok(found.into_iter().map(|found| found.into_inner().expect("every token from `first` on was shown")).collect())
    }

    /// Reads `tokens` and shows `observer` the inputs of all matrices.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn observe(
        &mut self,
        sequence: &mut Sequence,
        tokens: &[u32],
        observer: &mut Observer<'_>,
    ) -> Result<(), EngineError> {
        self.read(
            sequence,
            tokens,
            |_| true,
            |model, _, batch, sequence| model.forward(batch, &mut [sequence], None, Some(observer)),
        )
    }

    /// The vector of the text `tokens`: its hidden states after the final norm, pooled.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn embed(&mut self, tokens: &[u32], options: &EmbedOptions) -> Result<Vec<f32>, EngineError> {
        let (mut sequence, mut pool) = (self.new_sequence(), Pooled::new(*options, self.config().embedding));
        self.embed_piece(tokens, 0..tokens.len(), &mut sequence, &mut pool)?;
        Ok(pool.finish())
    }

    /// Reads the tokens `piece` of `text`, whose first ones `sequence` has, and shows `pool` their hidden states.
    pub(crate) fn embed_piece(
        &mut self,
        text: &[u32],
        piece: Range<usize>,
        sequence: &mut Sequence,
        pool: &mut Pooled,
    ) -> Result<(), EngineError> {
        let wanted: Vec<bool> = piece.clone().map(|i| pool.wants(i, text.len())).collect();
        let mut see = |input, rows: Rows<'_>| {
            if input == Input::Head {
                rows.x.chunks(rows.stride).take(rows.count).for_each(|row| pool.add(&row[..rows.cols]));
            }
        };
        let wanted = |i: usize| wanted[i];
        self.read(sequence, &text[piece], wanted, |model, _, batch, sequence| {
            model.forward(batch, &mut [sequence], None, Some(&mut see))
        })
    }

    /// Reads `tokens` in batches. Calls `forward(model, start, batch, sequence)` for each, where `start` is the number
    /// of the batch's first token; `wanted(i)` says whether token `i` wants logits.
    fn read(
        &mut self,
        sequence: &mut Sequence,
        tokens: &[u32],
        wanted: impl Fn(usize) -> bool,
        mut forward: impl FnMut(&mut Model, usize, &[BatchToken], &mut Sequence) -> Result<(), NotFinite>,
    ) -> Result<(), EngineError> {
        if tokens.is_empty() {
            return Err(EngineError::Empty);
        }
        self.check_room(sequence, tokens.len())?;
        self.check_tokens(tokens)?;
        let before = sequence.len();
        self.check_activations(tokens.len().min(self.batch))?;
        let mut batch = std::mem::take(&mut self.tokens);
        for (b, chunk) in tokens.chunks(self.batch).enumerate() {
            let start = b * self.batch;
            batch.clear();
            let token = |(i, &token)| BatchToken { token, sequence: 0, logits: wanted(start + i) };
            batch.extend(chunk.iter().enumerate().map(token));
            if let Err(error) = self.pass(&batch, |model| forward(model, start, &batch, sequence)) {
                sequence.truncate(before);
                return Err(error);
            }
        }
        self.tokens = batch;
        Ok(())
    }
}
