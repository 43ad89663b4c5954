//! `POST /api/pull`: a model fetched by its name, where the server was started to allow that. What fetches it is given
//! to the server; here is what clients see of it.

use std::sync::Arc;

use serde_json::{Value as Json, json};

use crate::error::ApiError;
use crate::fields::Fields;
use crate::models::fetch::{Progress, Step};
use crate::models::host::Host;

/// Begins to fetch what the body names, on a thread of its own.
///
/// # Errors
/// 403 where it is not allowed; 400 for a body that names none.
pub fn pull(host: &Arc<Host>, body: &Json) -> Result<Progress, ApiError> {
    const NOT_HERE: &str = "models are not fetched by requests here; whoever starts the server can allow it";
    let pull = host.pull().ok_or_else(|| ApiError::forbidden(NOT_HERE))?;
    let fields = Fields::of_body(body)?;
    let name = match fields.str("model")? {
        Some(name) => Some(name),
        None => fields.str("name")?,
    };
    let name = name.filter(|name| !name.is_empty()).ok_or_else(|| fields.missing("model"))?.to_string();
    let is_stream = fields.bool("stream")?.unwrap_or(true);
    let (progress, sender, stop) = Progress::new(is_stream);
    let host = host.clone();
    let work = move || {
        let send = |line: Json| drop(sender.send(format!("{line}\n")));
        let mut tell = |step: Step<'_>| {
            send(match step {
                Step::Status(status) => json!({"status": status}),
                Step::Bytes { digest, done, total } => {
                    let (status, digest) =
                        (format!("pulling {}", &digest[..digest.len().min(12)]), format!("sha256:{digest}"));
                    json!({"status": status, "digest": digest, "total": total, "completed": done})
                }
            });
        };
        match pull(&name, &mut tell, &stop) {
            Ok(offer) => {
                host.add(offer);
                send(json!({"status": "success"}));
            }
            Err(why) => send(json!({"error": why})),
        }
    };
    let begun = std::thread::Builder::new().name("pull".into()).spawn(work);
    begun.map_err(|error| ApiError::internal(format!("no thread for this: {error}")))?;
    Ok(progress)
}
