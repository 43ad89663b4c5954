//! Servers for tests.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::thread::JoinHandle;

use quipu_runtime::generate::{GenerateOptions, Request, Scheduler, SchedulerOptions, prompt_tokens};
use quipu_runtime::{Engine, LoadOptions, TuningChoice};
use quipu_server::model::Model;
use quipu_server::models::library::{Library, Loaded};
use quipu_server::models::offer::Offer;
use quipu_server::options::{Address, ServerOptions};
use quipu_server::server::{Server, Stopper};

/// Tokens that a text of the test servers may have.
pub const CONTEXT: usize = 600;

/// What the demo model's conversations look like here.
pub const TEMPLATE: &str = "\
{{ bos_token }}{% for m in messages %}\
{{ '<|start_header_id|>' ~ m.role ~ '<|end_header_id|>' ~ m.content ~ '<|eot_id|>' }}\
{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>{% endif %}";

/// The demo model, as the servers have it.
pub fn engine() -> Engine {
    let options = LoadOptions::default().threads(1).context(CONTEXT).tuning(TuningChoice::Defaults);
    Engine::load(quipu_runtime::open("demo").unwrap(), &options, &|_, _| {}).unwrap()
}

/// What writes so many texts side by side.
pub fn scheduler(engine: Engine, sequences: usize) -> Scheduler {
    Scheduler::with_options(engine, SchedulerOptions::default().sequences(sequences))
}

/// A server that ends with the test.
pub struct Running {
    pub address: SocketAddr,
    stopper: Stopper,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// With other options than the default ones.
    pub fn with(set: impl FnOnce(&mut ServerOptions)) -> Running {
        let mut options = ServerOptions::new(Address::Tcp([127, 0, 0, 1].into(), 0));
        options.drain = std::time::Duration::from_millis(200);
        set(&mut options);
        let running = options.room.running;
        let load = move |offer: &Offer| {
            let engine = engine();
            let model = Model::of(&engine, offer.names.clone()).with_template(TEMPLATE).unwrap();
            Ok(Loaded { model, scheduler: scheduler(engine, running) })
        };
        let offer = Offer::new(vec!["demo".into(), "other-name".into()], "demo");
        Running::of(options, Library::new([offer], load))
    }

    /// With these models.
    pub fn of(options: ServerOptions, mut library: Library<std::io::Error>) -> Running {
        library.kv_memory = Some(64 << 20);
        let server = Server::bind(options).unwrap();
        let address = server.addresses().first().copied().unwrap_or(([127, 0, 0, 1], 0).into());
        let stopper = server.stopper();
        let thread = std::thread::spawn(move || server.run(library).unwrap());
        let running = Running { address, stopper, thread: Some(thread) };
        if address.port() != 0 {
            while running.get("/health").status != 200 {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
        running
    }

    /// Asks it to end.
    pub fn stop(&self) {
        self.stopper.stop();
    }

    /// Waits until it has ended.
    pub fn join(mut self) {
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The server that most tests share.
pub fn shared() -> &'static Running {
    static SHARED: OnceLock<Running> = OnceLock::new();
    SHARED.get_or_init(|| Running::with(|_| {}))
}

/// What the runtime alone makes of a prompt: its text, and its tokens with the logarithms of their probabilities.
pub fn alone(prompt: &str, options: GenerateOptions) -> (String, Vec<(u32, f64)>) {
    let engine = engine();
    let tokens = prompt_tokens(engine.tokenizer(), prompt, true);
    let (mut text, mut written) = (String::new(), Vec::new());
    let hear = |event: &quipu_runtime::generate::Event| {
        if let quipu_runtime::generate::Event::Token(token) = event {
            text.push_str(&token.text);
            written.push((token.id, token.logprob.unwrap_or(f64::NAN)));
        }
    };
    let end = Scheduler::new(engine).stream(Request::new(tokens, options.logprobs(true)), hear).unwrap();
    (text + &end.text, written)
}
