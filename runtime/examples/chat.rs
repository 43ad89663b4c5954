//! A conversation of two turns: the second reads only what is new.
//!
//! ```text
//! cargo run --release -p quipu-runtime --example chat [MODEL]
//! ```

use quipu_runtime::chat::{ChatTemplate, Conversation};
use quipu_runtime::generate::{GenerateOptions, Scheduler};
use quipu_runtime::{Engine, LoadOptions};

/// The demo model has no template of its own: it tells tales. So what was said is simply one text.
const TALE: &str = "{% for message in messages %}{{ message.content }} {% endfor %}";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = std::env::args().nth(1).unwrap_or("demo".into());
    let engine = Engine::load(quipu_runtime::open(&model)?, &LoadOptions::default(), &|_, _| {})?;
    let mut conversation = match engine.chat_template() {
        Some(_) => Conversation::in_own_template(&engine)?,
        None => Conversation::new(&engine, ChatTemplate::for_tokenizer(TALE, engine.tokenizer())?),
    };
    let mut scheduler = Scheduler::new(engine);
    for said in ["A miller had three sons.", "But the youngest"] {
        println!("> {said}");
        let turn = conversation.ask(said, GenerateOptions::default().max_tokens(40))?;
        match scheduler.complete(turn.request) {
            Ok((answer, end)) => {
                println!("{}", answer.trim());
                println!("({} of {} tokens were read before)", end.cached_tokens, end.prompt_tokens);
                conversation.answer(answer, end.sequence);
            }
            Err(failed) => {
                // What was said is taken back, and what was read is kept.
                conversation.take_back(failed.sequence);
                return Err(failed.error.into());
            }
        }
    }
    Ok(())
}
