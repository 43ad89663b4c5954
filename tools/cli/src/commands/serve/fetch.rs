//! Models that requests have the server fetch.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::Result;
use quipu_formats::stores::name_in_store;
use quipu_server::models::fetch::{Pull, Step};
use quipu_server::models::keep_alive::KeepAlive;
use quipu_server::models::offer::Offer;
use quipu_store::pull::{Event, Puller};

use crate::hints;

/// Between two lines about the same file.
const PACE: Duration = Duration::from_millis(100);

/// Fetches as `quipu pull` does; models stay for so long when nobody uses them.
pub fn pull(keep_alive: KeepAlive) -> Result<Pull> {
    let puller = Puller::here()?;
    let pull = move |asked: &str, tell: &mut dyn FnMut(Step<'_>), stop: &AtomicBool| {
        let (name, mut told) = (name(asked), None);
        let mut report = |event: Event<'_>| match event {
            Event::Asking => tell(Step::Status("pulling manifest")),
            Event::Naming => tell(Step::Status("writing manifest")),
            Event::Again { why, .. } => tell(Step::Status(why)),
            Event::Bytes { digest, done, total, .. } => {
                let due = told.is_none_or(|told: Instant| told.elapsed() >= PACE);
                if due || done == total {
                    told = Some(Instant::now());
                    tell(Step::Bytes { digest, done, total });
                }
            }
            _ => {}
        };
        let pulled = puller.pull(&name, &mut report, stop);
        pulled.map_err(|error| hints::message(&error.into()))?;
        // What clients have asked for is what they call it, and what it is called where several are served.
        let mut names = vec![asked.to_string()];
        names.extend(name_in_store(&name).filter(|own| *own != asked).map(String::from));
        Ok(Offer { keep_alive, ..Offer::new(names, name) })
    };
    Ok(Arc::new(pull))
}

/// The name of a store for what clients of ollama ask for: they know no other one, and call the Hub `hf.co`.
fn name(asked: &str) -> String {
    let hub = ["hf.co/", "huggingface.co/"].into_iter().find_map(|host| asked.strip_prefix(host));
    match hub {
        Some(rest) => format!("hf:{rest}"),
        None if asked.starts_with("hf:") || asked.starts_with("ollama:") => asked.into(),
        None => format!("ollama:{asked}"),
    }
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn clients_of_ollama_ask_for_its_models_and_the_hubs() {
        for (asked, meant) in [
            ("llama3.2", "ollama:llama3.2"),
            ("hf.co/org/repo:Q4_K_M", "hf:org/repo:Q4_K_M"),
            ("hf:org/repo", "hf:org/repo"),
            ("ollama:x", "ollama:x"),
        ] {
            assert_eq!(name(asked), meant);
        }
    }
}
