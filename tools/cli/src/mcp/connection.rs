//! A program that speaks JSON-RPC over its stdin and stdout, a message a line. Several requests may be open at once.
//!
//! Nothing that it does or leaves undone holds up who asks: a thread of its own writes to it, another one reads what it
//! writes and tells each answer to whoever waits for it.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value as Json, json};

use crate::talk;

/// Bytes of a message. A result may be an image, of which nothing is used.
const LONGEST_LINE: u64 = 8 << 20;

/// Messages that are on their way to a program that does not read.
const UNREAD: usize = 64;

/// A program ends when nobody talks to it; this much time it has for that.
const PARTING: Duration = Duration::from_millis(500);

/// Between two messages that nobody waits for: one that speaks without end is to cost nothing.
const IDLE: Duration = Duration::from_millis(100);

/// What else a program sees of the environment than what is given to it by name: what programs need to run at all.
const NEEDED: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "TERM",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR", // Unix
    "APPDATA",
    "LOCALAPPDATA",
    "COMSPEC",
    "PATHEXT",
    "SYSTEMDRIVE",
    "SYSTEMROOT",
    "TEMP",
    "TMP",
    "USERNAME",
    "USERPROFILE", // Windows
];

/// What a program sees of the environment.
#[derive(Clone, Copy, Debug)]
pub enum Environment<'a> {
    /// All of it.
    Whole,
    /// What programs need to run, and these variables.
    Only(&'a [String]),
}

/// Who is told the result of a request, or what is wrong with the program, a sentence that goes on after its name.
pub type Told = Box<dyn FnOnce(Result<Json, String>) + Send>;

/// A running program.
pub struct Connection {
    child: Mutex<Child>,
    out: Arc<Out>,
    open: Arc<(Mutex<Open>, Condvar)>,
}

/// By which it is told something. Taken when it is to end, whoever else would have said something.
struct Out(Mutex<Option<SyncSender<String>>>);

impl Out {
    fn send(&self, message: &Json) -> Result<(), String> {
        match lock(&self.0).as_ref().map(|out| out.try_send(format!("{message}\n"))) {
            Some(Err(TrySendError::Full(_))) => Err("does not read what it is told".into()),
            // That its stdin is closed is told by what it wrote before, or by its end.
            _ => Ok(()),
        }
    }
}

/// What was asked and is not answered.
#[derive(Default)]
struct Open {
    requests: u64,
    told: HashMap<u64, Told>,
    /// Why nothing comes any more.
    over: Option<String>,
}

const ENDED: &str = "has ended; -v shows what it says";

impl Connection {
    /// Starts a program.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn start(words: &[String], environment: Environment<'_>) -> Result<Connection> {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(talk::stderr_of_others());
        if let Environment::Only(named) = environment {
            command.env_clear();
            let seen = NEEDED.iter().copied().chain(named.iter().map(String::as_str));
            command.envs(seen.filter_map(|name| Some((name, std::env::var_os(name)?))));
        }
        // Ctrl-C ends an answer and not the program.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().with_context(|| format!("cannot run the MCP server {}", words[0]))?;
        let mut stdin = child.stdin.take().context("no pipe to the MCP server")?;
        let stdout = child.stdout.take().context("no pipe from the MCP server")?;
        let (out, lines): (_, Receiver<String>) = sync_channel(UNREAD);
        let open = Arc::new((Mutex::new(Open::default()), Condvar::new()));
        let out = Arc::new(Out(Mutex::new(Some(out))));
        let connection = Connection { child: child.into(), out: out.clone(), open: open.clone() };
        std::thread::Builder::new().name("quipu-mcp-out".into()).spawn(move || {
            while let Ok(line) = lines.recv()
                && stdin.write_all(line.as_bytes()).is_ok()
            {}
        })?;
        std::thread::Builder::new().name("quipu-mcp".into()).spawn(move || listen(stdout, &open, &out))?;
        Ok(connection)
    }

    /// Asks for something. `told` hears of it once, from another thread.
    pub fn request(&self, method: &str, params: Json, told: Told) -> u64 {
        let mut open = lock(&self.open.0);
        if let Some(over) = open.over.clone() {
            drop(open);
            told(Err(over));
            return 0;
        }
        open.requests += 1;
        let id = open.requests;
        open.told.insert(id, told);
        drop(open);
        self.open.1.notify_one();
        if let Err(problem) = self.out.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
            && let Some(told) = self.forget(id)
        {
            told(Err(problem));
        }
        id
    }

    /// Nobody waits any longer for what was asked under this number.
    pub fn give_up(&self, id: u64) {
        if self.forget(id).is_some() {
            self.notify("notifications/cancelled", json!({"requestId": id, "reason": "nobody waits for it"}));
        }
    }

    fn forget(&self, id: u64) -> Option<Told> {
        lock(&self.open.0).told.remove(&id)
    }

    /// Tells something that is not answered.
    pub fn notify(&self, method: &str, params: Json) {
        let _ = self.out.send(&json!({"jsonrpc": "2.0", "method": method, "params": params}));
    }

    /// Whether it has ended, or said what makes no sense.
    pub fn is_over(&self) -> bool {
        lock(&self.open.0).over.is_some() || !matches!(lock(&self.child).try_wait(), Ok(None))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        lock(&self.out.0).take();
        let end = Instant::now() + PARTING;
        let mut child = lock(&self.child);
        while matches!(child.try_wait(), Ok(None)) {
            if Instant::now() > end {
                let _ = child.kill();
                let _ = child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Nothing panics while it holds one of these.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads what it writes, to its end.
fn listen(stdout: ChildStdout, (open, asked): &(Mutex<Open>, Condvar), out: &Out) {
    let mut over = ENDED.to_string();
    for message in lines(stdout) {
        let message = match message {
            Ok(message) => message,
            Err(problem) => {
                over = problem;
                break;
            }
        };
        if message["method"].is_string() {
            answer(&message).map(|answer| out.send(&answer));
        } else if let Some(told) = message["id"].as_u64().and_then(|id| lock(open).told.remove(&id)) {
            told(match &message["error"] {
                Json::Null => Ok(message["result"].clone()),
                error => Err(format!("refuses it: {}", error["message"].as_str().unwrap_or("no reason"))),
            });
        }
        let _ = asked.wait_timeout_while(lock(open), IDLE, |open| open.told.is_empty());
    }
    let left = {
        let mut open = lock(open);
        open.over = Some(over.clone());
        std::mem::take(&mut open.told)
    };
    left.into_values().for_each(|told| told(Err(over.clone())));
}

/// The answer to what it asks itself; none to a notification.
fn answer(message: &Json) -> Option<Json> {
    let id = &message["id"];
    match message["method"].as_str() {
        _ if id.is_null() => None,
        Some("ping") => Some(json!({"jsonrpc": "2.0", "id": id, "result": {}})),
        _ => Some(json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "not supported"}})),
    }
}

/// The messages that a program writes, up to the first that is none.
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
