//! Tools of MCP servers that a server runs for its clients.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use quipu_runtime::chat::answer::Tool;
use quipu_server::mcp::hosted::{Done, Failure, Hosted, ToolServer, Toolbox};

use crate::mcp::{Environment, McpServer};
use crate::talk;
use crate::tools::{LONGEST, Words, words};

/// Tools that the server runs itself, where a request asks for them.
#[derive(clap::Args)]
#[command(next_help_heading = "Tools")]
pub struct McpArgs {
    /// A server of the Model Context Protocol, whose tools requests may have run (/v1/responses, the web page): a
    /// program with arguments, and what requests call it [default: the program's name]; may be given several times
    #[arg(long, value_name = "[LABEL=]COMMAND", value_parser = labelled)]
    mcp: Vec<(String, Words)>,
    /// Requests may have this tool run; once for each tool. Others are not offered
    #[arg(long, value_name = "NAME", requires = "mcp")]
    allow_tool: Vec<String>,
    /// Requests may have all tools run
    #[arg(long, requires = "mcp", conflicts_with = "allow_tool")]
    allow_all_tools: bool,
    /// A variable of the environment that MCP servers may see, besides PATH, HOME and the like; may be given several
    /// times
    #[arg(long, value_name = "NAME", requires = "mcp")]
    mcp_env: Vec<String>,
    /// Seconds that a tool may take
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=LONGEST))]
    tool_timeout: u64,
}

/// `[LABEL=]COMMAND`.
fn labelled(text: &str) -> Result<(String, Words)> {
    let is_label = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
    };
    match text.split_once('=') {
        Some((label, command)) if is_label(label.trim()) => Ok((label.trim().into(), words(command)?)),
        _ => {
            let words = words(text)?;
            let label = Path::new(&words[0]).file_stem().map(|stem| stem.to_string_lossy().into_owned());
            Ok((label.filter(|label| is_label(label)).context("expected LABEL=COMMAND")?, words))
        }
    }
}

impl McpArgs {
    /// Starts the servers, and finds what of their tools may be used.
    pub fn toolbox(&self) -> Result<Toolbox> {
        let mut toolbox = Toolbox { servers: Vec::new(), timeout: Duration::from_secs(self.tool_timeout) };
        let mut all: Vec<String> = Vec::new();
        for (label, words) in &self.mcp {
            let twice = toolbox.servers.iter().any(|server| server.label == *label);
            ensure!(!twice, "two MCP servers are called {label}; give one another name, --mcp LABEL=COMMAND");
            let (words, environment) = (words.clone(), self.mcp_env.clone());
            let program = Program { label: label.clone(), words, environment, timeout: toolbox.timeout };
            let server = program.start()?;
            let (mut tools, mut others) = (Vec::new(), Vec::new());
            for tool in server.tools()? {
                ensure!(
                    !all.contains(&tool.name),
                    "two tools are called {}; one of them is that of {label}",
                    tool.name
                );
                all.push(tool.name.clone());
                let agreed = self.allow_all_tools || self.allow_tool.contains(&tool.name);
                if agreed { &mut tools } else { &mut others }.push(tool);
            }
            tell(label, &tools, &others);
            let server = Arc::new(Kept::new(program, server));
            toolbox.servers.push(Hosted { label: label.clone(), tools, server });
        }
        for name in &self.allow_tool {
            ensure!(all.contains(name), "--allow-tool {name}: there is no such tool; there are {}", all.join(", "));
        }
        for Hosted { label, .. } in toolbox.servers.iter().filter(|server| server.tools.is_empty()) {
            talk::warning(&format!(
                "no tool of {label} may be used: --allow-tool NAME or --allow-all-tools lets requests use some"
            ));
        }
        Ok(toolbox)
    }
}

/// Says what may be used, and what the operator has not agreed to.
fn tell(label: &str, tools: &[Tool], others: &[Tool]) {
    let names = |tools: &[Tool]| tools.iter().map(|tool| tool.name.as_str()).collect::<Vec<_>>().join(", ");
    if !tools.is_empty() {
        talk::note(&format!("requests may have {label} run {}", names(tools)));
    }
    if !others.is_empty() {
        talk::note(&format!("not offered, without --allow-tool: {} of {label}", names(others)));
    }
}

/// How an MCP server is started.
struct Program {
    label: String,
    words: Words,
    environment: Vec<String>,
    timeout: Duration,
}

impl Program {
    fn start(&self) -> Result<McpServer> {
        McpServer::start(&self.words, Environment::Only(&self.environment), self.timeout)
    }
}

/// Between two starts of a server that ends again and again.
const PAUSE: Duration = Duration::from_secs(2);

/// A server that is started anew when it has ended.
struct Kept {
    program: Program,
    state: Mutex<State>,
}

struct State {
    server: Arc<McpServer>,
    started: Instant,
    /// Whether a thread is starting another one.
    starting: bool,
}

impl Kept {
    fn new(program: Program, server: McpServer) -> Kept {
        let state = State { server: server.into(), started: Instant::now(), starting: false };
        Kept { program, state: state.into() }
    }
}

/// A call that somebody waits for.
struct Waiting(Arc<McpServer>, u64);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.give_up(self.1);
    }
}

impl ToolServer for Kept {
    fn call(self: Arc<Self>, tool: &str, arguments: &str, done: Done) -> Box<dyn Send> {
        let server = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.server.is_over() {
                if !state.starting && state.started.elapsed() >= PAUSE {
                    let kept = self.clone();
                    let start = move || kept.start_anew();
                    state.starting = std::thread::Builder::new().name("quipu-mcp-start".into()).spawn(start).is_ok();
                }
                drop(state);
                done(Err(Failure::Server(format!("{} has ended and is started anew; try again", self.program.label))));
                return Box::new(());
            }
            state.server.clone()
        };
        talk::note(&format!("runs {tool} of {}", self.program.label));
        let call = server.begin(tool, arguments, done);
        Box::new(Waiting(server, call))
    }
}

impl Kept {
    /// Its tools are those of before, whatever it says now.
    fn start_anew(&self) {
        let started = self.program.start();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.started, state.starting) = (Instant::now(), false);
        let before = match started {
            Ok(server) => std::mem::replace(&mut state.server, server.into()),
            Err(error) => return talk::warning(&format!("{error:#}")),
        };
        drop(state);
        talk::note(&format!("{} is started anew", self.program.label));
        drop(before);
    }
}

#[cfg(test)]
mod tests {
    use super::labelled;

    #[test]
    fn servers_have_labels() {
        let read = |text| labelled(text).map(|(label, words)| (label, words.join("|"))).ok();
        let is = |label: &str, words: &str| Some((label.to_string(), words.to_string()));
        assert_eq!(read("time=uvx mcp-server-time"), is("time", "uvx|mcp-server-time"));
        assert_eq!(read("/usr/bin/sums.py --exact"), is("sums", "/usr/bin/sums.py|--exact"));
        assert_eq!(read("sums --base=2"), is("sums", "sums|--base=2"));
        assert_eq!(read("a b=c"), is("a", "a|b=c"));
        assert_eq!((read("x="), read(""), read("'a b'")), (None, None, None));
    }
}
