//! Tools of other programs: a client of the Model Context Protocol over a server's stdin and stdout.
//!
//! Of the protocol it has what a user of tools needs: `initialize`, `tools/list`, `tools/call`. A server's own requests
//! are answered with an error, but for `ping`; what it notifies of is not needed.

mod connection;

use std::sync::mpsc::sync_channel;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use quipu_runtime::chat::answer::Tool;
use quipu_server::fields::Fields;
use quipu_server::mcp::hosted::{Failure, Outcome};
use quipu_server::openai::tools::function;
use serde_json::{Value as Json, json};

use self::connection::Connection;
pub use self::connection::Environment;
use crate::talk;

/// The version of the protocol that is asked for. What is used of it has been the same in all of them.
const VERSION: &str = "2025-06-18";

/// Tools of one server, and pages in which it tells of them: one that always has another page would never come to an
/// end.
const MOST_TOOLS: usize = 256;

/// A running server.
pub struct McpServer {
    name: String,
    connection: Connection,
    timeout: Duration,
}

impl McpServer {
    /// Starts a server, and greets it.
    ///
    /// # Errors
    /// When it cannot be run, ends, or does not answer in time.
    pub fn start(words: &[String], environment: Environment<'_>, timeout: Duration) -> Result<McpServer> {
        let server = McpServer { name: words.join(" "), connection: Connection::start(words, environment)?, timeout };
        let client = json!({"name": "quipu", "version": env!("CARGO_PKG_VERSION")});
        let hello = json!({"protocolVersion": VERSION, "capabilities": {}, "clientInfo": client});
        server.request("initialize", hello)?;
        server.connection.notify("notifications/initialized", json!({}));
        Ok(server)
    }

    /// The tools that it has. One with a name that no model could call is left out, with a warning.
    ///
    /// # Errors
    /// When it does not tell them.
    pub fn tools(&self) -> Result<Vec<Tool>> {
        let (mut tools, mut page) = (Vec::new(), json!({}));
        for _ in 0..MOST_TOOLS {
            let told = self.request("tools/list", page)?;
            for tool in told["tools"].as_array().with_context(|| self.wrong("tells no list of tools"))? {
                let read = Fields::of(tool, "tool").and_then(|fields| function(&fields, "inputSchema"));
                match read {
                    Ok(tool) => tools.push(tool),
                    Err(error) => {
                        talk::warning(&self.wrong(&format!("has a tool that is left out: {}", error.message)))
                    }
                }
            }
            ensure!(tools.len() <= MOST_TOOLS, self.wrong(&format!("has more than {MOST_TOOLS} tools")));
            match told["nextCursor"].as_str() {
                Some(cursor) => page = json!({"cursor": cursor}),
                None => return Ok(tools),
            }
        }
        bail!(self.wrong(&format!("tells of its tools in more than {MOST_TOOLS} pages")))
    }

    /// Calls a tool, and waits for the text of its result.
    ///
    /// # Errors
    /// When the tool says that it has failed, or the server does not answer in time.
    pub fn call(&self, tool: &str, arguments: &str) -> Result<String> {
        let arguments: Json = serde_json::from_str(arguments).context("the arguments are no JSON")?;
        let told = self.request("tools/call", json!({"name": tool, "arguments": arguments}))?;
        result(&told).map_err(|failure| anyhow!("{tool} failed: {}", failure.text()))
    }

    /// Calls a tool, and returns at once: `done` is told its result. Returns the number of the call.
    pub fn begin(&self, tool: &str, arguments: &str, done: impl FnOnce(Outcome) + Send + 'static) -> u64 {
        let Ok(arguments) = serde_json::from_str::<Json>(arguments) else {
            done(Err(Failure::Server("the arguments are no JSON".into())));
            return 0;
        };
        let name = self.name.clone();
        let told = move |told: Result<Json, String>| match told {
            Ok(told) => done(result(&told)),
            Err(problem) => done(Err(Failure::Server(wrong(&name, &problem)))),
        };
        self.connection.request("tools/call", json!({"name": tool, "arguments": arguments}), Box::new(told))
    }

    /// Nobody waits for this call any longer.
    pub fn give_up(&self, call: u64) {
        self.connection.give_up(call);
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        self.connection.is_over()
    }

    fn request(&self, method: &str, params: Json) -> Result<Json> {
        let (to, from) = sync_channel(1);
        let id = self.connection.request(method, params, Box::new(move |told| drop(to.send(told))));
        match from.recv_timeout(self.timeout) {
            Ok(told) => told.map_err(|problem| {
                anyhow!(self.wrong(&problem.replacen("refuses it", &format!("refuses {method}"), 1)))
            }),
            Err(_) => {
                self.connection.give_up(id);
                bail!(self.wrong(&format!("took more than {} s for {method}", self.timeout.as_secs())))
            }
        }
    }

    fn wrong(&self, problem: &str) -> String {
        wrong(&self.name, problem)
    }
}

fn wrong(name: &str, problem: &str) -> String {
    format!("the MCP server `{name}` {problem}")
}

/// The text of what a tool has answered.
fn result(told: &Json) -> Outcome {
    let part = |part: &Json| match part["text"].as_str() {
        Some(text) => text.to_string(),
        None => format!("[{} that cannot be shown]", part["type"].as_str().unwrap_or("something")),
    };
    let mut parts: Vec<String> = told["content"].as_array().into_iter().flatten().map(part).collect();
    if parts.is_empty() && !told["structuredContent"].is_null() {
        parts.push(told["structuredContent"].to_string());
    }
    let text = parts.join("\n");
    if told["isError"] == true { Err(Failure::Tool(text)) } else { Ok(text) }
}
