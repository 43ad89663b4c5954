//! `quipu batch`: a file of requests, answered offline.
//!
//! The requests are OpenAI's batch lines, read and answered by the server's own code. They are begun in the order of
//! their prompts, so that those that begin alike follow each other; what a text becomes does not depend on that.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use quipu_formats::output::{self, Inputs};
use quipu_runtime::Cancel;
use quipu_runtime::generate::{GenerateOptions, Request, RequestId, Scheduler, SchedulerOptions};
use quipu_runtime::host::memory::Memory;
use quipu_server::answer::Answer;
use quipu_server::engine::Heard;
use quipu_server::error::{ApiError, Dialect};
use quipu_server::model::Model;
use quipu_server::openai::chat::{self, ChatBody};
use quipu_server::openai::completions::{self, CompletionBody};
use quipu_server::options::{Defaults, Limits};
use serde_json::{Value as Json, json};

use crate::adapters::NamedLoraArgs;
use crate::args::{CacheArgs, ContextArgs, ModelArgs, byte_count};
use crate::draft::DraftArgs;
use crate::sampling::SamplingArgs;
use crate::{interrupt, model, out, talk};

/// Answer a file of requests, one a line, as OpenAI's batches have them
///
/// Each line is an object with custom_id, method (POST), url (/v1/chat/completions or /v1/completions) and body. The
/// answers are lines of the output, in the order in which they are ready. A run that was ended goes on where it was:
/// what the output has is not asked again. The same request gets the same answer, whatever stands around it: without a
/// seed of its own it gets one from --seed and its custom_id.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  quipu batch llama-3.2-1b-instruct.gguf in.jsonl -o out.jsonl
  quipu batch llama.gguf in.jsonl -o out.jsonl --parallel 16 --kv-memory 4G")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The requests
    input: PathBuf,
    /// Where the answers go, one a line; if it is there, it is completed
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Texts that are written side by side at most
    #[arg(long, value_name = "N", default_value_t = 64)]
    parallel: usize,
    /// Bytes for the keys and values of all texts, with what is kept of prompts: a number, or one with K, M or G
    /// [default: half of the memory that is free]
    #[arg(long, value_name = "BYTES", value_parser = byte_count)]
    kv_memory: Option<u64>,
    #[command(flatten)]
    lora: NamedLoraArgs,
    #[command(flatten)]
    cache: CacheArgs,
    #[command(flatten)]
    context: ContextArgs,
    #[command(flatten)]
    draft: DraftArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// A request of the file.
struct Line {
    custom_id: String,
    is_chat: bool,
    body: Json,
}

impl Line {
    /// Reads line number `number`.
    fn read(text: &str) -> Result<Line> {
        let line: Json = serde_json::from_str(text).context("is no JSON")?;
        let field = |name: &str| line.get(name).and_then(Json::as_str);
        let custom_id = field("custom_id").context("`custom_id` must be a string")?.to_string();
        ensure!(!custom_id.is_empty(), "`custom_id` is empty");
        if let Some(method) = field("method").filter(|method| *method != "POST") {
            bail!("`method` is {method:?}, expected \"POST\"");
        }
        let is_chat = match field("url") {
            Some("/v1/chat/completions") => true,
            Some("/v1/completions") => false,
            Some(url) => bail!("`url` is {url:?}, expected \"/v1/chat/completions\" or \"/v1/completions\""),
            None => bail!("`url` must be a string"),
        };
        let body = line.get("body").filter(|body| body.is_object()).context("`body` must be an object")?.clone();
        Ok(Line { custom_id, is_chat, body })
    }

    /// By which requests are sorted: those whose prompts begin alike become neighbours.
    fn prompt(&self) -> (bool, String) {
        let prompt = self.body.get(if self.is_chat { "messages" } else { "prompt" });
        (self.is_chat, prompt.map(Json::to_string).unwrap_or_default())
    }
}

/// All requests of a file.
fn read(path: &Path) -> Result<Vec<Line>> {
    out::apart_from(&Inputs::of([path]), path)?;
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (mut lines, mut seen) = (Vec::new(), HashMap::new());
    for (number, text) in (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty()) {
        let place = || format!("{}: line {number}", path.display());
        let line = Line::read(text).with_context(place)?;
        if let Some(first) = seen.insert(line.custom_id.clone(), number) {
            bail!("{}: `custom_id` {:?} is that of line {first}, too", place(), line.custom_id);
        }
        lines.push(line);
    }
    Ok(lines)
}

/// What the output has already: the ids that are answered, and the bytes of whole lines. A last line that was not
/// finished does not count.
fn answered(path: &Path, asked: &HashSet<&str>) -> Result<(HashSet<String>, u64)> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((HashSet::new(), 0)),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    let mut ids = HashSet::new();
    for (number, line) in (1..).zip(bytes[..whole].split(|&byte| byte == b'\n')).filter(|(_, line)| !line.is_empty()) {
        let answer: Option<Json> = serde_json::from_slice(line).ok();
        let id = answer.as_ref().and_then(|answer| answer.get("custom_id")?.as_str()).filter(|id| asked.contains(id));
        let id = id.ok_or_else(|| {
            anyhow!("{}: line {number} answers nothing of the input; choose another output", path.display())
        })?;
        ids.insert(id.to_string());
    }
    // Half a line of something else is no half answer.
    let begun = &bytes[..bytes.len().min(BEGINNING.len())];
    if whole == 0 && begun != &BEGINNING.as_bytes()[..begun.len()] {
        bail!("{}: is no output of a batch; choose another output", path.display());
    }
    Ok((ids, whole as u64))
}

/// What every line of an output begins with.
const BEGINNING: &str = r#"{"id":"batch_req_"#;

/// A number for a text (FNV-1a; Fowler, Noll and Vo).
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

/// What a line asks for.
enum Body {
    Chat(Box<ChatBody>),
    Completion(Box<CompletionBody>),
}

impl Body {
    fn read(line: &Line, defaults: &Defaults) -> Result<Body, ApiError> {
        let limits = Limits::default();
        Ok(match line.is_chat {
            true => Body::Chat(Box::new(ChatBody::read(&line.body, &limits, defaults)?)),
            false => Body::Completion(Box::new(CompletionBody::read(&line.body, &limits, defaults)?)),
        })
    }

    fn requests(&self, model: &Model) -> Result<(Vec<Request>, Answer), ApiError> {
        match self {
            Body::Chat(body) => body.requests(model),
            Body::Completion(body) => Ok((body.requests(model)?, body.answer())),
        }
    }

    fn whole(&self, model: &Model, answer: &Answer) -> Json {
        match self {
            Body::Chat(body) => chat::whole(model, body, answer),
            Body::Completion(body) => completions::whole(model, body, answer),
        }
    }
}

/// A line that is being answered.
struct Job {
    custom_id: String,
    body: Body,
    answer: Answer,
    /// Its texts that have not ended.
    left: usize,
    cancels: Vec<Cancel>,
}

/// The batch at work.
struct Batch<'a> {
    model: &'a Model,
    scheduler: Scheduler,
    options: GenerateOptions,
    seed: u64,
    jobs: HashMap<usize, Job>,
    /// Which job a text belongs to, and its number there.
    whose: HashMap<RequestId, (usize, usize)>,
    next: usize,
    output: File,
    path: &'a Path,
    done: usize,
    failed: usize,
}

impl Batch<'_> {
    /// Begins to answer a line.
    fn begin(&mut self, line: Line) -> Result<()> {
        let seed = self.seed ^ hash(&line.custom_id);
        let defaults = Defaults { options: self.options.clone(), seed: Some(seed) };
        let read = Body::read(&line, &defaults).and_then(|body| Ok((body.requests(self.model)?, body)));
        let ((requests, answer), body) = match read {
            Ok(read) => read,
            Err(error) => return self.write(&line.custom_id, Err(error)),
        };
        let job = self.next;
        self.next += 1;
        let cancels = requests.iter().map(|request| request.cancel.clone()).collect();
        self.jobs.insert(job, Job { custom_id: line.custom_id, body, answer, left: requests.len(), cancels });
        for (number, request) in requests.into_iter().enumerate() {
            self.whose.insert(self.scheduler.submit(request), (job, number));
        }
        Ok(())
    }

    /// One step of all texts.
    fn step(&mut self) -> Result<()> {
        for (id, event) in self.scheduler.step() {
            let Some(&(number, text)) = self.whose.get(&id) else { continue };
            let Some(heard) = Heard::of(event) else { continue };
            let is_last = heard.is_last();
            if is_last {
                self.whose.remove(&id);
            }
            // Of a line that has failed already, nothing more is wanted.
            let Some(job) = self.jobs.get_mut(&number) else { continue };
            job.left -= usize::from(is_last);
            let (heard, left) = (job.answer.hear(text, heard), job.left);
            if heard.is_ok() && left > 0 {
                continue;
            }
            if let Some(job) = self.jobs.remove(&number) {
                job.cancels.iter().for_each(Cancel::cancel);
                let answer = heard.map(|_| job.body.whole(self.model, &job.answer));
                self.write(&job.custom_id, answer)?;
            }
        }
        Ok(())
    }

    /// Writes an answer as one line, at once.
    fn write(&mut self, custom_id: &str, answer: Result<Json, ApiError>) -> Result<()> {
        let (status, body) = match answer {
            Ok(body) => (200, body),
            Err(error) => {
                self.failed += 1;
                (error.status, error.body(Dialect::OpenAi))
            }
        };
        self.done += 1;
        let id = format!("batch_req_{:016x}", hash(custom_id));
        let response = json!({"status_code": status, "request_id": id, "body": body});
        let line = json!({"id": id, "custom_id": custom_id, "response": response, "error": null}).to_string() + "\n";
        let written = self.output.write_all(line.as_bytes());
        written.with_context(|| format!("{}: cannot write", self.path.display()))
    }
}

/// The output, to be gone on with after its first `whole` bytes if it is a file that was there.
fn open(path: &Path, whole: Option<u64>) -> Result<File> {
    if let Some(bytes) = whole {
        let file = File::options().write(true).open(path);
        file.and_then(|file| file.set_len(bytes)).with_context(|| format!("{}: cannot write", path.display()))?;
    }
    let output = File::options().append(true).create(true).open(path);
    output.with_context(|| format!("{}: cannot create", path.display()))
}

/// How often it is said how far the work is.
const SAY: Duration = Duration::from_secs(5);

pub fn run(args: Args) -> Result<()> {
    ensure!(args.parallel > 0, "--parallel must be at least 1");
    let mut inputs = Inputs::of([&args.input]);
    inputs.extend(&Inputs::of(args.lora.inputs()));
    let source = model::open_path(&args.model.model)?;
    source.files().iter().for_each(|file| inputs.add(file));
    drop(source);
    output::check(&args.output, &inputs)?;
    let mut lines = read(&args.input)?;
    let total = lines.len();
    // A pipe or a device has nothing that could be gone on with.
    let mut whole = None;
    if !output::is_stream(&args.output) {
        let asked = lines.iter().map(|line| line.custom_id.as_str()).collect();
        let (ids, bytes) = answered(&args.output, &asked)?;
        whole = args.output.exists().then_some(bytes);
        lines.retain(|line| !ids.contains(&line.custom_id));
    }
    if lines.is_empty() {
        open(&args.output, whole)?;
        talk::note(&format!("all {total} requests are answered"));
        return Ok(());
    }
    lines.sort_by_cached_key(Line::prompt);

    let (mut engine, _) = model::load(&args.model, args.context.context)?;
    let names = vec![model::name(&args.model.model)?.to_string()];
    args.lora.names(&names)?;
    let loras = args.lora.load(&mut engine)?;
    let about = Model::of(&engine, names).with_loras(loras);
    let kv_memory = args.kv_memory.or_else(|| Memory::here().map(|memory| memory.available / 2));
    let scheduling =
        SchedulerOptions::default().sequences(args.parallel).itl_target(Duration::ZERO).kv_memory(kv_memory);
    let options = args.sampling.options();
    let interrupt = interrupt::listen();
    let mut scheduler = args.draft.scheduler(engine, scheduling, &args.model.machine)?;
    args.cache.keep(&mut scheduler)?;
    // Not before: a model that cannot be loaded leaves no empty file.
    let output = open(&args.output, whole)?;
    let mut batch = Batch {
        model: &about,
        scheduler,
        options,
        seed: args.sampling.seed().unwrap_or(0),
        jobs: HashMap::new(),
        whose: HashMap::new(),
        next: 0,
        output,
        path: &args.output,
        done: total - lines.len(),
        failed: 0,
    };
    let (started, before, mut said) = (Instant::now(), batch.done, Instant::now());
    let mut lines = lines.into_iter().peekable();
    while lines.peek().is_some() || batch.scheduler.is_busy() {
        if interrupt.cancel().cancelled() {
            talk::note(&format!("{} of {total} requests are answered; the same command goes on", batch.done));
            return Err(interrupt::Interrupted.into());
        }
        // Some wait, so that none is missing when a text ends.
        while batch.whose.len() < args.parallel.saturating_mul(2)
            && let Some(line) = lines.next()
        {
            batch.begin(line)?;
        }
        batch.step()?;
        if said.elapsed() > SAY {
            said = Instant::now();
            let tokens = batch.scheduler.stats().written_tokens as f64 / started.elapsed().as_secs_f64();
            let rate = (batch.done - before) as f64 / started.elapsed().as_secs_f64();
            let left =
                if rate > 0.0 { format!(", {:.0} s left", (total - batch.done) as f64 / rate) } else { String::new() };
            talk::note(&format!("{} of {total} requests are answered, {tokens:.1} tokens/s{left}", batch.done));
        }
    }
    let stats = batch.scheduler.stats();
    talk::note(&format!(
        "{total} requests are answered, {} of them with an error; {} tokens of prompts ({} of them read before), {} written, in {:.1} s",
        batch.failed,
        stats.prompt_tokens,
        stats.cached_tokens,
        stats.written_tokens,
        started.elapsed().as_secs_f64()
    ));
    Ok(())
}
