//! Tools that a model may call in `quipu chat`: commands of the user's own and tools of MCP servers, run with the
//! user's consent.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use quipu_formats::output::Inputs;
use quipu_runtime::chat::answer::Tool;
use quipu_server::fields::Fields;
use quipu_server::openai::tools::function;
use serde_json::Value as Json;

use crate::mcp::{Environment, McpServer};
use crate::out;

/// Bytes of a result. More would fill the context with it.
const LONGEST_RESULT: u64 = 64 << 10;

/// Tools that the model may call.
#[derive(clap::Args)]
#[command(next_help_heading = "Tools")]
pub struct ToolArgs {
    /// Functions that the model may call, a JSON list in OpenAI's form
    #[arg(long, value_name = "FILE")]
    tools: Option<PathBuf>,
    /// What runs when it calls one: a program with arguments, which gets the call's arguments as JSON on stdin; what it
    /// prints is the result. Once for each tool; without a command a call is only shown
    #[arg(long, value_name = "NAME=COMMAND", value_parser = command, requires = "tools")]
    tool_command: Vec<(String, Vec<String>)>,
    /// A server of the Model Context Protocol, whose tools the model may call: a program with arguments, which runs as
    /// long as the conversation; may be given several times
    #[arg(long, value_name = "COMMAND", value_parser = words)]
    mcp: Vec<Words>,
    /// Run this tool without asking; once for each tool. Where there is nobody to ask, no other one runs
    #[arg(long, value_name = "NAME")]
    allow_tool: Vec<String>,
    /// Seconds that a tool may take
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=LONGEST))]
    tool_timeout: u64,
}

/// Seconds that nobody waits for: a month.
pub const LONGEST: u64 = 30 * 24 * 3600;

/// A program with its arguments.
pub type Words = Vec<String>;

/// `NAME=COMMAND`.
fn command(text: &str) -> Result<(String, Words)> {
    let (name, command) = text.split_once('=').context("expected NAME=COMMAND")?;
    let words = words(command).with_context(|| format!("for {}", name.trim()))?;
    Ok((name.trim().to_string(), words))
}

/// A command cut into words as a shell cuts it: at spaces, but not within quotes.
pub fn words(command: &str) -> Result<Words> {
    let (mut words, mut quote) = (vec![None::<String>], None);
    for c in command.chars() {
        let last = words.len() - 1;
        match (quote, c) {
            (None, ' ') => words.push(None),
            (None, '\'' | '"') => {
                quote = Some(c);
                words[last].get_or_insert_default();
            }
            (Some(open), c) if c == open => quote = None,
            (_, c) => words[last].get_or_insert_default().push(c),
        }
    }
    ensure!(quote.is_none(), "a quote is not closed");
    let words: Words = words.into_iter().flatten().collect();
    ensure!(!words.is_empty(), "there is no command");
    Ok(words)
}

/// What runs for a tool.
enum Runner {
    Command(Words),
    /// The MCP server with this number.
    Mcp(usize),
}

/// The tools, and what runs for them.
pub struct Toolbox {
    /// What the model is told of.
    pub list: Arc<[Tool]>,
    runners: HashMap<String, Runner>,
    servers: Vec<McpServer>,
    allowed: HashSet<String>,
    timeout: Duration,
}

impl ToolArgs {
    /// The file that declares them.
    pub fn file(&self) -> Option<&Path> {
        self.tools.as_deref()
    }

    /// Reads them and starts the servers that have some.
    pub fn open(&self) -> Result<Toolbox> {
        let mut list = self.tools.as_deref().map_or(Ok(Vec::new()), read)?;
        for (name, _) in &self.tool_command {
            ensure!(has(&list, name), "no tool is called {name}: --tools declares {}", names(&list));
        }
        let mut runners: HashMap<String, Runner> =
            self.tool_command.iter().map(|(name, words)| (name.clone(), Runner::Command(words.clone()))).collect();
        let (mut servers, timeout) = (Vec::new(), Duration::from_secs(self.tool_timeout));
        for words in &self.mcp {
            let server = McpServer::start(words, Environment::Whole, timeout)?;
            for tool in server.tools()? {
                ensure!(
                    !has(&list, &tool.name),
                    "two tools are called {}: one of them is that of {}",
                    tool.name,
                    words[0]
                );
                runners.insert(tool.name.clone(), Runner::Mcp(servers.len()));
                list.push(tool);
            }
            servers.push(server);
        }
        for name in &self.allow_tool {
            ensure!(has(&list, name), "no tool is called {name}: there are {}", names(&list));
        }
        let allowed = self.allow_tool.iter().cloned().collect();
        Ok(Toolbox { list: list.into(), runners, servers, allowed, timeout })
    }
}

fn has(list: &[Tool], name: &str) -> bool {
    list.iter().any(|tool| tool.name == name)
}

fn names(list: &[Tool]) -> String {
    list.iter().map(|tool| tool.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn read(path: &Path) -> Result<Vec<Tool>> {
    let shown = path.display();
    out::apart_from(&Inputs::of([path]), path)?;
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    let list: Json = serde_json::from_str(&text).with_context(|| format!("{shown}: no JSON"))?;
    let list = list.as_array().with_context(|| format!("{shown}: expected a list of tools"))?;
    let mut tools: Vec<Tool> = Vec::new();
    for (i, tool) in list.iter().enumerate() {
        let wrong = |error: quipu_server::error::ApiError| anyhow!("{shown}: {}", error.message);
        let fields = Fields::of(tool, format!("tools[{i}]")).map_err(wrong)?;
        let inner = fields.object("function").map_err(wrong)?.unwrap_or(fields);
        let tool = function(&inner, "parameters").map_err(wrong)?;
        ensure!(tools.iter().all(|other| other.name != tool.name), "{shown}: two tools are called {}", tool.name);
        tools.push(tool);
    }
    Ok(tools)
}

impl Toolbox {
    /// Whether something runs when this tool is called.
    pub fn has_runner(&self, name: &str) -> bool {
        self.runners.contains_key(name)
    }

    /// Whether it runs without asking.
    pub fn is_allowed(&self, name: &str) -> bool {
        self.allowed.contains(name)
    }

    /// From now on it does.
    pub fn allow(&mut self, name: &str) {
        self.allowed.insert(name.to_string());
    }

    /// Runs a tool; its result, which is what a command printed.
    ///
    /// # Errors
    /// When it cannot be run, fails, or takes too long. The model is told so.
    pub fn run(&mut self, name: &str, arguments: &str) -> Result<String> {
        let result = match self.runners.get(name).with_context(|| format!("nothing runs for {name}"))? {
            Runner::Command(words) => run(words, arguments, self.timeout)?,
            Runner::Mcp(server) => self.servers[*server].call(name, arguments)?,
        };
        ensure!(result.len() as u64 <= LONGEST_RESULT, "its result has more than {LONGEST_RESULT} bytes");
        Ok(result)
    }
}

fn run(words: &Words, arguments: &str, timeout: Duration) -> Result<String> {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot run {}", words[0]))?;
    let output = output(&mut child, arguments, timeout);
    if output.is_err() {
        let _ = child.kill();
    }
    let status = child.wait().with_context(|| format!("cannot wait for {}", words[0]))?;
    let output = output.with_context(|| format!("{} failed", words[0]))?;
    ensure!(status.success(), "{} ended with {status}", words[0]);
    Ok(output)
}

/// Gives a command its arguments and takes what it prints, as long as there is time.
fn output(child: &mut Child, arguments: &str, timeout: Duration) -> Result<String> {
    let end = Instant::now() + timeout;
    let (mut stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let arguments = arguments.to_string();
    // A command need not read what it gets; one that does not read it all ends the pipe, which is no error.
    std::thread::Builder::new().spawn(move || stdin.as_mut().map(|stdin| stdin.write_all(arguments.as_bytes())))?;
    let (to, from) = channel();
    std::thread::Builder::new().spawn(move || {
        let mut bytes = Vec::new();
        let read = stdout.map_or(Ok(0), |stdout| stdout.take(LONGEST_RESULT + 1).read_to_end(&mut bytes));
        let _ = to.send(read.map(|_| bytes));
    })?;
    let bytes = from.recv_timeout(timeout).map_err(|_| anyhow!("it took more than {} s", timeout.as_secs()))??;
    ensure!(bytes.len() as u64 <= LONGEST_RESULT, "it printed more than {} bytes", LONGEST_RESULT);
    // It may have closed its output and go on.
    while child.try_wait()?.is_none() {
        ensure!(Instant::now() < end, "it took more than {} s", timeout.as_secs());
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_cut_into_words() {
        let (name, words) = command("f = sh -c 'cat; echo \"x\"' \"\" a\"b c\"d").unwrap();
        assert_eq!(
            (name.as_str(), words),
            ("f", ["sh", "-c", "cat; echo \"x\"", "", "ab cd"].map(String::from).into())
        );
        for wrong in ["f", "f=", "f=  ", "f=a 'b"] {
            assert!(command(wrong).is_err(), "{wrong}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_a_command_does() {
        let run = |script: &str, seconds: u64| {
            let words = ["sh", "-c", script].map(String::from).to_vec();
            super::run(&words, "{\"x\": 1}", Duration::from_secs(seconds)).map_err(|error| format!("{error:#}"))
        };
        assert_eq!(run("cat; echo", 30).as_deref(), Ok("{\"x\": 1}"));
        assert_eq!(run("echo no input", 30).as_deref(), Ok("no input"));
        assert!(run("exit 3", 30).unwrap_err().contains("exit status: 3"));
        let started = Instant::now();
        assert!(run("exec sleep 60", 1).unwrap_err().contains("more than 1 s"));
        assert!(run("exec >&-; exec sleep 60", 1).unwrap_err().contains("more than 1 s"));
        assert!(run("exec cat /dev/zero", 30).unwrap_err().contains("65536 bytes"));
        assert!(started.elapsed() < Duration::from_secs(20));
    }
}
