//! A thread owns the engine and serves others, which talk to it over channels: the skeleton of a server.
//!
//! ```text
//! cargo run --release -p quipu-runtime --example engine_thread [MODEL]
//! ```

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use quipu_runtime::generate::{Event, GenerateOptions, Request, RequestId, Scheduler, prompt_tokens};
use quipu_runtime::{Engine, LoadOptions};

/// A request, and where its events go.
type Job = (Request, Sender<Event>);

/// Serves jobs until nobody can send any more.
fn serve(mut scheduler: Scheduler, jobs: &Receiver<Job>) {
    let mut clients: HashMap<RequestId, (Sender<Event>, quipu_runtime::Cancel)> = HashMap::new();
    loop {
        // With nothing to do, sleep until there is a job; otherwise take what has come since the last step.
        let first = if scheduler.is_busy() { None } else { jobs.recv().ok() };
        if first.is_none() && !scheduler.is_busy() {
            return;
        }
        for (request, events) in first.into_iter().chain(jobs.try_iter()) {
            let cancel = request.cancel.clone();
            clients.insert(scheduler.submit(request), (events, cancel));
        }
        for (id, event) in scheduler.step() {
            let last = matches!(event, Event::Finished(_) | Event::Failed(_));
            if let Some((events, cancel)) = clients.get(&id)
                && events.send(event).is_err()
            {
                // The client is gone: its request ends, the others notice nothing.
                cancel.cancel();
            }
            if last {
                clients.remove(&id);
            }
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = std::env::args().nth(1).unwrap_or("demo".into());
    let engine = Engine::load(quipu_runtime::open(&model)?, &LoadOptions::default(), &|_, _| {})?;
    let tokenizer = engine.tokenizer().clone();
    let (jobs, inbox) = channel::<Job>();
    let server = thread::spawn(move || serve(Scheduler::new(engine), &inbox));

    let clients = ["The fox said", "The raven said", "The cat said"].map(|prompt| {
        let (jobs, tokenizer) = (jobs.clone(), tokenizer.clone());
        thread::spawn(move || {
            let (events, inbox) = channel();
            let request =
                Request::new(prompt_tokens(&tokenizer, prompt, true), GenerateOptions::default().max_tokens(30));
            let _ = jobs.send((request, events));
            let mut text = prompt.to_string();
            for event in inbox {
                match event {
                    Event::Token(token) => text.push_str(&token.text),
                    Event::Finished(end) => text.push_str(&end.text),
                    Event::Failed(failed) => eprintln!("{prompt}: {failed}"),
                    _ => {}
                }
            }
            println!("{text}\n");
        })
    });
    drop(jobs);
    for thread in clients.into_iter().chain([server]) {
        thread.join().map_err(|_| "a thread panicked")?;
    }
    Ok(())
}
