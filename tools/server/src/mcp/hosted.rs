//! The tools that a server has, and how they are called. Who runs them is not known here.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use quipu_runtime::chat::answer::Tool;
use serde_json::{Value as Json, json};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Bytes of a result. More would fill the context with it.
pub const LONGEST_RESULT: usize = 64 << 10;

/// Bytes of what is told of a failure.
const LONGEST_FAILURE: usize = 2 << 10;

/// Why there is no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The tool says so.
    Tool(String),
    /// The program that has it does not do what it should.
    Server(String),
}

/// What came of a call: a text, which nobody vouches for.
pub type Outcome = Result<String, Failure>;

impl Failure {
    /// What is said of it.
    pub fn text(&self) -> &str {
        match self {
            Failure::Tool(text) | Failure::Server(text) => text,
        }
    }

    /// The same in OpenAI's form.
    pub fn to_json(&self) -> Json {
        match self {
            Failure::Tool(text) => {
                json!({"type": "mcp_tool_execution_error", "content": [{"type": "text", "text": text}]})
            }
            Failure::Server(text) => json!({"type": "mcp_protocol_error", "code": -32000, "message": text}),
        }
    }
}

/// Who is told what came of a call. If it is dropped, the program has ended.
pub type Done = Box<dyn FnOnce(Outcome) + Send>;

/// A program that has tools.
pub trait ToolServer: Send + Sync {
    /// Calls a tool with the text of a JSON object, and returns at once. When what is returned is dropped, nobody waits
    /// for the result any longer.
    fn call(self: Arc<Self>, tool: &str, arguments: &str, done: Done) -> Box<dyn Send>;
}

/// A program with those of its tools that its operator has agreed to.
#[derive(Clone)]
pub struct Hosted {
    /// What requests call it.
    pub label: String,
    /// The tools, as they were when the server began: what a program says of them later changes nothing.
    pub tools: Vec<Tool>,
    /// It.
    pub server: Arc<dyn ToolServer>,
}

impl fmt::Debug for Hosted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hosted").field("label", &self.label).field("tools", &self.tools).finish_non_exhaustive()
    }
}

/// All of them. No two tools have the same name.
#[derive(Clone, Debug, Default)]
pub struct Toolbox {
    /// They.
    pub servers: Vec<Hosted>,
    /// How long a call may take.
    pub timeout: Duration,
}

impl Toolbox {
    /// What a page or a program is told of them.
    pub fn to_json(&self) -> Json {
        let tool = |tool: &Tool| json!({"name": tool.name, "description": tool.description});
        let one = |server: &Hosted| json!({"server_label": server.label, "tools": server.tools.iter().map(tool).collect::<Json>()});
        self.servers.iter().map(one).collect()
    }

    /// Calls a tool of server number `server`. If this is dropped, the call is given up.
    pub async fn call(&self, server: usize, tool: &str, arguments: &str) -> Outcome {
        let label = &self.servers[server].label;
        let (to, outcome) = oneshot::channel();
        let done = Box::new(move |outcome| drop(to.send(outcome)));
        let _waiting = self.servers[server].server.clone().call(tool, arguments, done);
        let outcome = match timeout(self.timeout, outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Failure::Server(format!("{label} has ended"))),
            Err(_) => Err(Failure::Server(format!("{tool} took more than {} s", self.timeout.as_secs_f32()))),
        };
        match outcome {
            Ok(text) if text.len() > LONGEST_RESULT => {
                Err(Failure::Tool(format!("the result of {tool} has more than {LONGEST_RESULT} bytes")))
            }
            Err(Failure::Tool(text)) => Err(Failure::Tool(shortened(text))),
            Err(Failure::Server(text)) => Err(Failure::Server(shortened(text))),
            result => result,
        }
    }
}

fn shortened(mut text: String) -> String {
    if text.len() > LONGEST_FAILURE {
        text.truncate(text.floor_char_boundary(LONGEST_FAILURE));
        text.push('…');
    }
    text
}
