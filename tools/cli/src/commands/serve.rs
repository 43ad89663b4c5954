//! `quipu serve`: models over HTTP.

#[cfg(feature = "pull")]
mod fetch;
mod guard;
mod mcp;
mod names;
mod page;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use quipu_formats::output::Inputs;
use quipu_runtime::generate::{Scheduler, SchedulerOptions};
use quipu_server::engine::Room;
use quipu_server::keys::Keys;
use quipu_server::model::Model;
use quipu_server::models::directory::Directory;
use quipu_server::models::keep_alive::KeepAlive;
use quipu_server::models::library::{Library, Loaded};
use quipu_server::models::offer::Offer;
use quipu_server::options::{Address, Defaults, ServerOptions};
use quipu_server::server::Server;

use self::guard::GuardArgs;
use self::mcp::McpArgs;
use crate::adapters::NamedLoraArgs;
use crate::args::{AnswerArgs, CacheArgs, ContextArgs, MachineArgs, byte_count};
use crate::draft::DraftArgs;
use crate::sampling::SamplingArgs;
use crate::{interrupt, model, out, talk};

/// Serve models over HTTP, in OpenAI's dialect and others
///
/// docs/server.md lists the endpoints. With several models, requests name one; the first MODEL is loaded at once, the
/// others when they are asked for, and where memory is short the one goes that nobody has used for longest.
///
/// Whoever can reach the server can use it: it listens on this machine alone unless it is told otherwise, and then it
/// wants an API key. Ctrl-C lets texts that are being written go on for 30 seconds; a second one ends them.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  quipu serve demo
  quipu serve llama-3.2-1b-instruct.gguf -c 8192 --alias llama
  quipu serve small.gguf large.gguf --alias gpt-4o=large --keep-alive 30m
  quipu serve --models ~/models
  quipu serve llama.gguf --lora sql=adapters/sql/ --lora style=style.gguf:0.5
  quipu serve ollama:llama3.2
  quipu serve llama-3.2-3b-instruct.gguf --draft llama-3.2-1b-instruct.gguf
  quipu serve llama.gguf --mcp 'time=uvx mcp-server-time' --allow-tool get_current_time
  quipu serve llama-3.2-3b-instruct.gguf --guard llama-guard-3-1b.gguf
  QUIPU_API_KEY=secret quipu serve llama.gguf --host 0.0.0.0
  curl http://127.0.0.1:8080/v1/chat/completions -d '{\"messages\":[{\"role\":\"user\",\"content\":\"Hello!\"}]}'")]
pub struct Args {
    /// GGUF files, packed files, Hugging Face directories, `ollama:NAME`, `hf:ORG/REPO[:TYPE]`, or `demo`
    #[arg(value_name = "MODEL", required_unless_present = "models")]
    model: Vec<PathBuf>,
    /// Serve all models in a directory, too: GGUF files, packed files, and directories with a checkpoint
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    #[command(flatten)]
    machine: MachineArgs,
    /// The address to listen at; 0.0.0.0 and :: are all of this machine's; several may stand with commas between them
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1", value_delimiter = ',')]
    host: Vec<String>,
    /// The port; 0: any that is free
    #[arg(long, value_name = "N", default_value_t = 8080)]
    port: u16,
    /// Fetch models that requests ask for (ollama's /api/pull), as `quipu pull` does, and serve them, too
    #[cfg(feature = "pull")]
    #[arg(long)]
    allow_pull: bool,
    /// Open the web page in this machine's browser
    #[arg(long, conflicts_with = "socket")]
    open: bool,
    /// Listen at a socket in the file system instead
    #[arg(long, value_name = "PATH", conflicts_with_all = ["host", "port"])]
    socket: Option<PathBuf>,
    /// Ask for one of the keys in a file, one a line; the variable QUIPU_API_KEY may have one, too
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Ask for no key although other machines can reach the server
    #[arg(long)]
    insecure: bool,
    /// A name by which clients may call the machine (the header Host), besides its address and localhost; may be given
    /// several times
    #[arg(long, value_name = "NAME")]
    allowed_host: Vec<String>,
    /// Web pages of this origin may call the server, such as https://chat.example; may be given several times
    #[arg(long, value_name = "ORIGIN")]
    cors_origin: Vec<String>,
    /// What clients call a model [default: the file's name without its ending]; may be given several times. With
    /// several models NAME=MODEL, where MODEL is such a default name or what was given
    #[arg(long, value_name = "NAME[=MODEL]")]
    alias: Vec<String>,
    /// How long a model stays loaded when nobody uses it, such as 30m or 0; -1: for ever [default: -1 for the first
    /// MODEL, 5m for all others]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = KeepAlive::parse)]
    keep_alive: Option<KeepAlive>,
    /// Bytes that the weights of all loaded models may take together [default: what the machine has free]
    #[arg(long, value_name = "BYTES", value_parser = byte_count)]
    model_memory: Option<u64>,
    /// A chat template (Jinja) instead of the model's own
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
    #[command(flatten)]
    lora: NamedLoraArgs,
    #[command(flatten)]
    answer: AnswerArgs,
    /// Texts that are written side by side at most; others wait
    #[arg(long, value_name = "N", default_value_t = 32)]
    parallel: usize,
    /// Texts that may wait; more are refused for the moment (503)
    #[arg(long, value_name = "N", default_value_t = 64)]
    queue: usize,
    /// Bytes for the keys and values of all texts of all models, with what is kept for later requests: a number, or one
    /// with K, M or G [default: half of the memory that is free]
    #[arg(long, value_name = "BYTES", value_parser = byte_count)]
    kv_memory: Option<u64>,
    #[command(flatten)]
    cache: CacheArgs,
    /// Milliseconds that a text may stand still while prompts of others are read; 0: as long as it takes
    #[arg(long, value_name = "MS", default_value_t = 100)]
    itl_target: u64,
    #[command(flatten)]
    guard: GuardArgs,
    #[command(flatten)]
    mcp: McpArgs,
    #[command(flatten)]
    context: ContextArgs,
    #[command(flatten)]
    draft: DraftArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// How long a model stays that was not the first.
const FIVE_MINUTES: KeepAlive = KeepAlive::For(Duration::from_secs(300));

pub fn run(args: Args) -> Result<()> {
    ensure!(args.parallel > 0, "--parallel must be at least 1");
    let one = args.model.len() == 1 && args.models.is_none();
    ensure!(args.template.is_none() || one, "--template is for one model");
    ensure!(args.draft.model().is_none() || one, "--draft MODEL guesses for one model");
    ensure!(args.lora.is_empty() || one, "--lora is for one model");
    let (mut offers, directory) = models(&args)?;
    if let [only] = &mut offers[..] {
        only.adapters = args.lora.names(&only.names)?;
    }
    let mut options = ServerOptions::at(addresses(&args)?);
    options.keys = keys(&args)?;
    options.insecure = args.insecure;
    options.hosts.clone_from(&args.allowed_host);
    options.origins.clone_from(&args.cors_origin);
    options.room = Room { running: args.parallel, waiting: args.queue };
    options.defaults = defaults(&args);
    options.tell = Arc::new(talk::note);
    options.guard = args.guard.options()?;
    #[cfg(feature = "pull")]
    if args.allow_pull {
        options.pull = Some(fetch::pull(args.keep_alive.unwrap_or(FIVE_MINUTES))?);
    }
    options.toolbox = args.mcp.toolbox()?;
    let server = Server::bind(options)?;
    let stopper = server.stopper();
    let _listening = interrupt::listen_and_wake(move || stopper.stop());
    for address in server.addresses() {
        talk::note(&format!("listening at http://{address}"));
    }
    if let Some(address) = server.addresses().first().filter(|_| args.open) {
        page::open(address);
    }
    if let Some(path) = &args.socket {
        talk::note(&format!("listening at {}", path.display()));
    }
    let (weights, kv_memory) = (args.model_memory, args.kv_memory);
    let library = Library::new(offers, move |offer| load(&args, offer));
    server.run(Library { directory, weights, kv_memory, ..library })
}

/// Which models there are by name, and where there may be more. Nothing is loaded yet.
fn models(args: &Args) -> Result<(Vec<Offer>, Option<Directory>)> {
    let (mut offers, others) = names::offers(&args.model, &args.alias)?;
    for (number, offer) in offers.iter_mut().enumerate() {
        let default = if number == 0 { KeepAlive::Forever } else { FIVE_MINUTES };
        offer.keep_alive = args.keep_alive.unwrap_or(default);
    }
    let Some(path) = &args.models else {
        names::check(&others, &offers)?;
        return Ok((offers, None));
    };
    let keep_alive = args.keep_alive.unwrap_or(FIVE_MINUTES);
    let directory = Directory { path: path.clone(), keep_alive, aliases: others };
    let found = directory.scan().with_context(|| format!("--models {}", path.display()))?;
    names::check(&directory.aliases, &[&offers[..], &found].concat())?;
    Ok((offers, Some(directory)))
}

fn load(args: &Args, offer: &Offer) -> Result<Loaded> {
    // A guard that is nothing else has its own limit, and its own template.
    let guards = !args.model.iter().any(|given| given.as_os_str() == offer.model.as_str())
        && args.guard.model().is_some_and(|guard| guard.as_os_str() == offer.model.as_str());
    let context = args.context.context.filter(|_| !guards);
    let (mut engine, _) = model::load_on(&args.machine, Path::new(&offer.model), context)?;
    let loras = if guards { Vec::new() } else { args.lora.load(&mut engine)? };
    let scheduling =
        SchedulerOptions::default().sequences(args.parallel).itl_target(Duration::from_millis(args.itl_target));
    let mut model = Model::of(&engine, offer.names.clone()).with_loras(loras);
    let mut scheduler = if guards {
        Scheduler::with_options(engine, scheduling)
    } else {
        args.draft.scheduler(engine, scheduling, &args.machine)?
    };
    args.cache.keep(&mut scheduler)?;
    if let Some(path) = args.template.as_ref().filter(|_| !guards) {
        out::apart_from(&Inputs::of([path]), path)?;
        let source = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        model = model.with_template(&source).with_context(|| path.display().to_string())?;
    }
    Ok(Loaded { model, scheduler })
}

fn addresses(args: &Args) -> Result<Vec<Address>> {
    if let Some(path) = &args.socket {
        return Ok(vec![Address::Unix(path.clone())]);
    }
    let address = |host: &String| {
        let ip = match host.trim() {
            "localhost" => IpAddr::from([127, 0, 0, 1]),
            host => host
                .parse()
                .with_context(|| format!("--host {host}: expected an IP address, such as 127.0.0.1 or ::1"))?,
        };
        Ok(Address::Tcp(ip, args.port))
    };
    args.host.iter().map(address).collect()
}

fn keys(args: &Args) -> Result<Keys> {
    let mut keys = Keys::of_lines(&std::env::var("QUIPU_API_KEY").unwrap_or_default());
    if let Some(path) = &args.api_key_file {
        out::apart_from(&Inputs::of([path]), path)?;
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let found = Keys::of_lines(&text);
        ensure!(!found.is_empty(), "{}: there is no key in it", path.display());
        keys = keys.and(found);
    }
    Ok(keys)
}

fn defaults(args: &Args) -> Defaults {
    let sampling = &args.sampling;
    let only = if args.model.len() == 1 && args.models.is_none() { &args.model[0] } else { Path::new("") };
    let options = sampling.options().max_tokens(args.answer.get(only));
    Defaults { options, seed: sampling.seed() }
}
