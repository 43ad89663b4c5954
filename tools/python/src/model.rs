//! A model, as the package wraps it.

use std::sync::mpsc::channel;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use quipu_formats::source::recoded_types;
use quipu_measure::{Monitor, Perplexity, PerplexityOptions, perplexity};
use quipu_runtime::embedding::{EmbedOptions, Pooling};
use quipu_runtime::generate::{Draft, Scheduler, SchedulerOptions, prompt_tokens};
use quipu_runtime::host::cores::Cores;
use quipu_runtime::host::memory::{self, Memory};
use quipu_runtime::{Cancel, Engine, EngineError, Isa, KvType, LoadOptions, Residence, TuningChoice};
use quipu_server::model::Model as About;

use crate::array::Array;
use crate::failure::{Error, failure, refused, sentence};
use crate::host::{Gone, Host};
use crate::options::{Given, Writing};
use crate::prompt::{Asking, Prompt, conversation, requests};
use crate::texts::Texts;
use crate::wait::receive;

/// A model that is loaded.
#[pyclass(frozen, module = "quipu._quipu")]
pub struct Model {
    host: Host,
    about: About,
    facts: Facts,
}

/// What is known of a model and never changes.
#[derive(Clone, Debug)]
struct Facts {
    threads: usize,
    isa: String,
    vocabulary: usize,
    hidden: usize,
    chat_template: Option<String>,
    warnings: Vec<String>,
}

/// How a model is loaded, and how it works.
struct Opening {
    load: LoadOptions,
    scheduling: SchedulerOptions,
    /// In the place of the model's own chat template.
    template: Option<String>,
    /// If the model has none.
    default_template: Option<String>,
    warnings: Vec<String>,
}

impl Opening {
    fn take(options: &Bound<'_, PyDict>) -> PyResult<Opening> {
        let given = Given::new(options)?;
        let name = |name| given.take::<String>(name, "a text");
        let isa: Option<Isa> = name("isa")?.map(|isa| isa.to_ascii_lowercase().parse()).transpose().map_err(failure)?;
        let tuning = match name("tuning")? {
            Some(text) => TuningChoice::parse(&text, isa.unwrap_or_else(Isa::best)).map_err(failure)?,
            None => TuningChoice::default(),
        };
        let kv: Option<KvType> = name("kv")?.map(|kv| kv.parse()).transpose().map_err(failure)?;
        let count = |name| given.take::<usize>(name, "a whole number").map(|n| n.filter(|&n| n > 0));
        let flag = |name, default| Ok::<_, PyErr>(given.take::<bool>(name, "True or False")?.unwrap_or(default));
        let (allowed, mut warnings) = (Cores::here().allowed_threads(), Vec::new());
        let threads = count("threads")?.map(|threads| {
            if threads > allowed {
                warnings.push(format!("threads={threads}: this process can use {allowed} at once; it runs on so many"));
            }
            threads.min(allowed)
        });
        let load = LoadOptions::default()
            .threads(threads)
            .context(count("context")?)
            .isa(isa)
            .tuning(tuning)
            .kv_type(kv.unwrap_or_default())
            .residence(Residence { mmap: flag("mmap", true)?, mlock: flag("mlock", false)? });
        let draft = name("draft")?;
        let draft = match draft.as_deref() {
            None => Draft::default(),
            Some(name) => Draft::ALL.into_iter().find(|draft| draft.name() == name).ok_or_else(|| {
                Error::new_err(format!("draft must be one of {}, not {name}", Draft::ALL.map(Draft::name).join(", ")))
            })?,
        };
        let kv_memory = given.take("kv_memory", "a number of bytes")?;
        let itl_target = given.take::<f64>("itl_target", "a number of seconds")?.unwrap_or(0.1);
        let scheduling = SchedulerOptions::default()
            .draft(draft)
            .sequences(count("parallel")?.unwrap_or(64))
            .itl_target(Duration::try_from_secs_f64(itl_target).map_err(failure)?)
            .kv_memory(kv_memory.or_else(|| Memory::here().map(|memory| memory.available / 2)));
        let (template, default_template) = (name("chat_template")?, name("default_chat_template")?);
        given.finish()?;
        Ok(Opening { load, scheduling, template, default_template, warnings })
    }

    /// Loads the model, which takes long.
    fn open(self, path: &str) -> Result<(Scheduler, About, Facts), String> {
        let source = quipu_runtime::open(path).map_err(|error| sentence(&failure(error)))?;
        let mut warnings = self.warnings;
        warnings.extend(recoded_types(&*source).iter().map(ToString::to_string));
        let engine = Engine::load(source, &self.load, &|_, _| {}).map_err(|error| sentence(&failure(error)))?;
        warnings.extend(engine.oddities().iter().map(|oddity| format!("{path}: {oddity}")));
        let own = engine.chat_template().map(str::to_string);
        let given = self.template.or_else(|| self.default_template.filter(|_| own.is_none()));
        let facts = Facts {
            threads: engine.threads(),
            isa: engine.isa().name().into(),
            vocabulary: engine.vocabulary(),
            hidden: engine.config().hidden,
            chat_template: given.clone().or(own),
            warnings,
        };
        let mut about = About::of(&engine, vec![path.into()]);
        if let Some(template) = given {
            about = about.with_template(&template).map_err(|error| sentence(&failure(error)))?;
        }
        Ok((Scheduler::with_options(engine, self.scheduling), about, facts))
    }
}

/// The exception for a model that cannot be asked any more.
fn closed(gone: Gone) -> PyErr {
    Error::new_err(match gone {
        Gone::Closed => "the model is closed",
        Gone::Forked => {
            "this model was opened by the process that this one is a fork of, and its threads stayed there; open it here, \
             or start processes with multiprocessing's method \"spawn\""
        }
    })
}

impl Model {
    /// The tokens of something to be read.
    fn tokens(&self, prompt: Prompt, plain: bool) -> PyResult<Vec<u32>> {
        match prompt {
            Prompt::Text(text) => Ok(prompt_tokens(&self.about.tokenizer, &text, !plain)),
            Prompt::Tokens(tokens) => Ok(tokens),
            Prompt::Chat((body,)) => conversation(&body)?.prompt(&self.about).map_err(refused),
        }
    }

    /// A token's id, which may be any number in Python.
    fn known(&self, id: u32) -> PyResult<u32> {
        let vocabulary = self.facts.vocabulary;
        let error = || failure(EngineError::Token { token: id, vocabulary });
        if (id as usize) < vocabulary { Ok(id) } else { Err(error()) }
    }
}

#[pymethods]
impl Model {
    #[new]
    fn new(py: Python<'_>, path: String, options: &Bound<'_, PyDict>) -> PyResult<Model> {
        let opening = Opening::take(options)?;
        let (to, mut from) = channel();
        let make = move || match opening.open(&path) {
            // Whoever waited may be gone: then nobody will ask for anything.
            Ok((scheduler, about, facts)) => to.send(Ok((about, facts))).is_ok().then_some(scheduler),
            Err(error) => {
                let _ = to.send(Err(error));
                None
            }
        };
        let host = Host::start(make).map_err(failure)?;
        let (about, facts) = receive(py, &mut from, &Cancel::new())?.map_err(Error::new_err)?;
        Ok(Model { host, about, facts })
    }

    /// Asks for the continuations of `prompts`.
    fn submit(&self, py: Python<'_>, prompts: Vec<Prompt>, options: &Bound<'_, PyDict>) -> PyResult<Texts> {
        let given = Given::new(options)?;
        let writing = Writing::take(&given)?;
        given.finish()?;
        let asked: Vec<Asking> = py.detach(|| requests(&self.about, prompts, &writing))?;
        let kept = asked.iter().map(Texts::kept).collect();
        let news = self.host.submit(asked.into_iter().map(|(request, _)| request).collect()).map_err(closed)?;
        Ok(Texts::new(kept, news))
    }

    /// The vectors of texts, a row for each.
    fn embed(
        &self,
        py: Python<'_>,
        texts: Vec<Prompt>,
        pooling: &str,
        normalize: bool,
        plain: bool,
    ) -> PyResult<Array> {
        let pooling = match pooling {
            "mean" => Pooling::Mean,
            "last" => Pooling::Last,
            other => return Err(Error::new_err(format!("pooling must be mean or last, not {other}"))),
        };
        let options = EmbedOptions::default().pooling(pooling).normalize(normalize);
        let texts: Vec<_> =
            py.detach(|| texts.into_iter().map(|text| self.tokens(text, plain)).collect::<PyResult<_>>())?;
        let cancel = Cancel::new();
        let mut vectors = self.host.embed(texts, options, cancel.clone()).map_err(closed)?;
        let vectors = receive(py, &mut vectors, &cancel)?.map_err(failure)?;
        Ok(Array::rows(vectors.concat(), self.facts.hidden))
    }

    /// The logits after each token of a prompt, a row for each; or after the last alone.
    fn logits(&self, py: Python<'_>, prompt: Prompt, all: bool, plain: bool) -> PyResult<Array> {
        let tokens = py.detach(|| self.tokens(prompt, plain))?;
        let (cancel, vocabulary) = (Cancel::new(), self.facts.vocabulary);
        let stop = cancel.clone();
        let work = move |scheduler: &mut Scheduler| read_logits(scheduler.engine_mut(), &tokens, all, &stop);
        let mut found = self.host.work(work).map_err(closed)?;
        let values = receive(py, &mut found, &cancel)?.map_err(failure)?;
        Ok(if all { Array::rows(values, vocabulary) } else { Array::row(values) })
    }

    /// How well the model predicts a text.
    fn perplexity<'py>(
        &self,
        py: Python<'py>,
        text: String,
        context: usize,
        chunks: Option<usize>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let cancel = Cancel::new();
        let stop = cancel.clone();
        let work = move |scheduler: &mut Scheduler| {
            let mut options = PerplexityOptions::default();
            (options.context, options.chunks) = (context, chunks);
            perplexity(scheduler.engine_mut(), &text, &options, &Monitor::new(stop, &|_| {}))
        };
        let mut found = self.host.work(work).map_err(closed)?;
        let Perplexity { ppl, error, nll, tokens, chunks, ctx, .. } =
            receive(py, &mut found, &cancel)?.map_err(failure)?;
        let dict = PyDict::new(py);
        for (name, value) in [("ppl", ppl), ("error", error), ("nll", nll)] {
            dict.set_item(name, value)?;
        }
        for (name, value) in [("tokens", tokens), ("chunks", chunks), ("ctx", ctx)] {
            dict.set_item(name, value)?;
        }
        Ok(dict)
    }

    /// The tokens of a text, or of a chat.
    fn encode(&self, py: Python<'_>, text: Prompt, special: bool, parse_special: bool) -> PyResult<Vec<u32>> {
        py.detach(|| match text {
            Prompt::Text(text) => Ok(self.about.tokenizer.encode(&text, special, parse_special)),
            other => self.tokens(other, !parse_special),
        })
    }

    /// The bytes of tokens.
    fn decode<'py>(&self, py: Python<'py>, tokens: Vec<u32>, special: bool) -> PyResult<Bound<'py, PyBytes>> {
        let mut bytes = Vec::new();
        for id in tokens {
            bytes.extend_from_slice(self.about.tokenizer.token_bytes(self.known(id)?, special));
        }
        Ok(PyBytes::new(py, &bytes))
    }

    /// The text of tokens, as they would be shown.
    fn decode_text(&self, tokens: Vec<u32>, special: bool) -> PyResult<String> {
        tokens.iter().try_for_each(|&id| self.known(id).map(drop))?;
        Ok(self.about.tokenizer.decode(&tokens, special))
    }

    /// The token with this piece, if there is one.
    fn token_id(&self, piece: &str) -> Option<u32> {
        self.about.tokenizer.id(piece)
    }

    /// The piece of a token, as the file spells it.
    fn piece(&self, id: u32) -> PyResult<String> {
        self.known(id).map(|id| self.about.tokenizer.piece(id).to_string())
    }

    /// A chat as its template renders it.
    fn render(&self, py: Python<'_>, body: &str) -> PyResult<String> {
        py.detach(|| conversation(body)?.text(&self.about).map_err(refused))
    }

    /// Gives up the model, once the texts have ended that it writes.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.host.close());
    }

    #[getter]
    fn context(&self) -> usize {
        self.about.context
    }

    #[getter]
    fn threads(&self) -> usize {
        self.facts.threads
    }

    #[getter]
    fn isa(&self) -> &str {
        &self.facts.isa
    }

    #[getter]
    fn vocabulary(&self) -> usize {
        self.facts.vocabulary
    }

    #[getter]
    fn hidden(&self) -> usize {
        self.facts.hidden
    }

    #[getter]
    fn chat_template(&self) -> Option<&str> {
        self.facts.chat_template.as_deref()
    }

    #[getter]
    fn warnings(&self) -> Vec<String> {
        self.facts.warnings.clone()
    }

    #[getter]
    fn bos(&self) -> Option<u32> {
        self.about.tokenizer.bos()
    }

    #[getter]
    fn eos(&self) -> Option<u32> {
        self.about.tokenizer.eos()
    }

    /// The tokens that end a text.
    #[getter]
    fn ends(&self) -> Vec<u32> {
        self.about.tokenizer.ends().collect()
    }
}

/// Reads `tokens` in batches, between which it may be cancelled, and returns logits.
fn read_logits(engine: &mut Engine, tokens: &[u32], all: bool, cancel: &Cancel) -> Result<Vec<f32>, EngineError> {
    let (mut sequence, vocabulary) = (engine.new_sequence(), engine.vocabulary());
    if tokens.is_empty() {
        return Err(EngineError::Empty);
    }
    let rows = if all { tokens.len() } else { 1 };
    memory::check(rows as u64 * vocabulary as u64 * 4, || format!("the logits of {rows} tokens"))?;
    let mut values = Vec::with_capacity(rows * vocabulary);
    for chunk in tokens.chunks(engine.batch()) {
        // Whoever has cancelled does not listen any more.
        if cancel.cancelled() {
            break;
        }
        if all {
            engine.score(&mut sequence, chunk, |_, logits| values.extend_from_slice(logits))?;
        } else {
            let last = engine.prefill(&mut sequence, chunk)?;
            values.clear();
            values.extend_from_slice(last);
        }
    }
    Ok(values)
}
