//! Tools of other programs: a client of the Model Context Protocol over a server's stdin and stdout.
//!
//! Messages are JSON-RPC, one a line. Of the protocol it has what a user of tools needs: `initialize`, `tools/list`,
//! `tools/call`. A server's own requests are answered with an error, but for `ping`; what it notifies of is not needed.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use quipu_runtime::chat::answer::Tool;
use quipu_server::fields::Fields;
use quipu_server::openai::tools::function;
use serde_json::{Value as Json, json};

use crate::talk;

/// The version of the protocol that is asked for. What is used of it has been the same in all of them.
const VERSION: &str = "2025-06-18";

/// Bytes of a message. A result may be an image, of which nothing is used.
const LONGEST_LINE: u64 = 32 << 20;

/// Tools of one server, and pages in which it tells of them: one that always has another page would never come to an
/// end.
const MOST_TOOLS: usize = 256;

/// Messages that nobody has read yet. A server that says more has to wait, as with any pipe.
const UNREAD: usize = 16;

/// A server ends when nobody talks to it; this much time it has for that.
const PARTING: Duration = Duration::from_millis(500);

/// A running server.
pub struct McpServer {
    name: String,
    child: Child,
    /// Taken when it is to end.
    stdin: Option<ChildStdin>,
    messages: Receiver<Result<Json, String>>,
    requests: u64,
    timeout: Duration,
}

impl McpServer {
    /// Starts a server, and greets it.
    ///
    /// # Errors
    /// When it cannot be run, ends, or does not answer in time.
    pub fn start(words: &[String], timeout: Duration) -> Result<McpServer> {
        let name = words.join(" ");
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(talk::stderr_of_others());
        // Ctrl-C ends an answer and not the server.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().with_context(|| format!("cannot run the MCP server {}", words[0]))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("no pipe to the MCP server")?;
        let (to, messages) = sync_channel(UNREAD);
        std::thread::Builder::new().name("quipu-mcp".into()).spawn(move || {
            for message in lines(stdout) {
                if to.send(message).is_err() {
                    break;
                }
            }
        })?;
        let mut server = McpServer { name, child, stdin, messages, requests: 0, timeout };
        let client = json!({"name": "quipu", "version": env!("CARGO_PKG_VERSION")});
        let hello = json!({"protocolVersion": VERSION, "capabilities": {}, "clientInfo": client});
        server.request("initialize", hello)?;
        server.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))?;
        Ok(server)
    }

    /// The tools that it has. One with a name that no model could call is left out, with a warning.
    ///
    /// # Errors
    /// When it does not tell them.
    pub fn tools(&mut self) -> Result<Vec<Tool>> {
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

    /// Calls a tool; the text of its result.
    ///
    /// # Errors
    /// When the tool says that it has failed, or the server does not answer in time.
    pub fn call(&mut self, tool: &str, arguments: &str) -> Result<String> {
        let arguments: Json = serde_json::from_str(arguments).context("the arguments are no JSON")?;
        let told = self.request("tools/call", json!({"name": tool, "arguments": arguments}))?;
        let part = |part: &Json| match part["text"].as_str() {
            Some(text) => text.to_string(),
            None => format!("[{} that cannot be shown]", part["type"].as_str().unwrap_or("something")),
        };
        let mut parts: Vec<String> = told["content"].as_array().into_iter().flatten().map(part).collect();
        if parts.is_empty() && !told["structuredContent"].is_null() {
            parts.push(told["structuredContent"].to_string());
        }
        let text = parts.join("\n");
        ensure!(told["isError"] != true, "{tool} failed: {text}");
        Ok(text)
    }

    fn request(&mut self, method: &str, params: Json) -> Result<Json> {
        self.requests += 1;
        let id = self.requests;
        if let Err(ended) = self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})) {
            // What it wrote before it ended says more.
            return match self.messages.recv_timeout(PARTING) {
                Ok(Err(problem)) => Err(anyhow!(self.wrong(&problem))),
                _ => Err(ended),
            };
        }
        let end = Instant::now() + self.timeout;
        loop {
            // One that says something else again and again has no more time than one that is silent.
            let left = end.saturating_duration_since(Instant::now());
            let message = match self.messages.recv_timeout(left) {
                Ok(message) if !left.is_zero() => message.map_err(|problem| anyhow!(self.wrong(&problem)))?,
                Err(RecvTimeoutError::Disconnected) => bail!(self.wrong("has ended; -v shows what it says")),
                Ok(_) | Err(RecvTimeoutError::Timeout) => {
                    bail!(self.wrong(&format!("took more than {} s for {method}", self.timeout.as_secs())))
                }
            };
            if message["method"].is_string() {
                self.refuse(&message)?;
            } else if message["id"] == id {
                let error = &message["error"];
                ensure!(
                    error.is_null(),
                    self.wrong(&format!("refuses {method}: {}", error["message"].as_str().unwrap_or("no reason")))
                );
                return Ok(message["result"].clone());
            }
        }
    }

    /// Answers what a server asks, if it is no notification.
    fn refuse(&mut self, message: &Json) -> Result<()> {
        let id = &message["id"];
        match message["method"].as_str() {
            _ if id.is_null() => Ok(()),
            Some("ping") => self.send(&json!({"jsonrpc": "2.0", "id": id, "result": {}})),
            _ => {
                let error = json!({"code": -32601, "message": "not supported"});
                self.send(&json!({"jsonrpc": "2.0", "id": id, "error": error}))
            }
        }
    }

    fn send(&mut self, message: &Json) -> Result<()> {
        let sent = self.stdin.as_mut().map_or(Ok(()), |stdin| stdin.write_all(format!("{message}\n").as_bytes()));
        sent.map_err(|_| anyhow!(self.wrong("has ended; -v shows what it says")))
    }

    fn wrong(&self, problem: &str) -> String {
        format!("the MCP server `{}` {problem}", self.name)
    }
}

impl Drop for McpServer {
    fn drop(&mut self) {
        self.stdin = None;
        let end = Instant::now() + PARTING;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > end {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The messages that a server writes, up to the first that is none.
fn lines(stdout: ChildStdout) -> impl Iterator<Item = Result<Json, String>> {
    let mut stdout = BufReader::new(stdout);
    let mut over = false;
    std::iter::from_fn(move || {
        let mut line = Vec::new();
        while !over && line.trim_ascii().is_empty() {
            line.clear();
            match stdout.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line) {
                Ok(1..) => {}
                _ => over = true,
            }
        }
        if over {
            return None;
        }
        let message = serde_json::from_slice(&line).map_err(|_| {
            let begun: String = String::from_utf8_lossy(&line).trim_end().chars().take(60).collect();
            format!("writes what is no JSON-RPC: {begun:?}")
        });
        over = message.is_err();
        Some(message)
    })
}
