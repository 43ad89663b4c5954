//! Tools of MCP servers in `quipu chat`: a server that is a shell script here, and one of Python's `mcp` where that is.

use std::path::PathBuf;
use std::process::Command;

use quipu_test_script::Script;

use serde_json::{Value as Json, json};

use crate::serve::Server;
use crate::{Ended, listening, quipu, quipu_with_input};

/// The model calls, and says what it was told as far as the template lets it know.
fn model(dir: &tempfile::TempDir) -> PathBuf {
    let mut script = Script::new(
        "{% set last = messages[-1] %}<tool_call>{{ tools | tojson }}{% for m in messages %}{{ m.content }}{% endfor %}\
         {% if last.role != 'tool' %}<|asked|>{% elif last.content == '5' %}<|told|>\
         {% elif last.content.startswith('error: ') %}<|failed|>{% else %}<|refused|>{% endif %}",
    );
    script.says(
        "<|asked|>",
        &[
            &["<tool_call>"],
            &["\n{\"name\": \"add\", \"arguments\": {\"a\": "],
            &["\"two\"", "2"],
            &[", \"b\": "],
            &["3"],
            &["}}"],
            &["\n</tool_call>"],
        ],
    );
    script.says("<|told|>", &[&["It is five."]]);
    script.says("<|failed|>", &[&["It went wrong."]]);
    script.says("<|refused|>", &[&["As you like."]]);
    let path = dir.path().join("script.gguf");
    script.write(&path).unwrap();
    path
}

fn chat(dir: &tempfile::TempDir, server: &str, more: &[&str]) -> Ended {
    let model = model(dir);
    let args = ["chat", model.to_str().unwrap(), "--mcp", server, "--temp", "0", "--no-tuning"];
    quipu_with_input(args.iter().chain(more), "How much is it?\n")
}

/// A server that has `add`, asks what servers may ask, and answers with what `sum` prints.
#[cfg(unix)]
fn server(dir: &tempfile::TempDir, sum: &str) -> String {
    let path = dir.path().join("server.sh");
    let schema =
        r#"{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"integer"}},"required":["a","b"]}"#;
    let text = format!(
        r#"while read -r line; do
id=$(printf %s "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
case $line in
*'"initialize"'*) echo '{{"jsonrpc":"2.0","id":"p","method":"ping"}}'
  echo "{{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":{{\"protocolVersion\":\"2025-06-18\",\"capabilities\":{{\"tools\":{{}}}},\"serverInfo\":{{\"name\":\"s\",\"version\":\"1\"}}}}}}";;
*'"tools/list"'*'"cursor"'*) echo "{{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":{{\"tools\":[{{\"name\":\"add\",\"inputSchema\":$(cat "$0.schema")}}]}}}}";;
*'"tools/list"'*) echo '{{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}}'
  echo "{{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":{{\"tools\":[{{\"name\":\"other\",\"inputSchema\":{{\"type\":\"object\"}}}}],\"nextCursor\":\"2\"}}}}";;
*'"tools/call"'*) printf '%s\n' "$line" > "$0.called"; {sum};;
*) printf '%s\n' "$line" >> "$0.heard";;
esac
done
echo over > "$0.ended"
"#
    );
    std::fs::write(&path, text).unwrap();
    std::fs::write(dir.path().join("server.sh.schema"), schema).unwrap();
    format!("sh {}", path.display())
}

#[cfg(unix)]
#[test]
fn a_tool_of_a_server_is_called() {
    let dir = tempfile::tempdir().unwrap();
    let answer =
        r#"echo "{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":{\"content\":[{\"type\":\"text\",\"text\":\"5\"}]}}""#;
    let said = chat(&dir, &server(&dir, answer), &["--allow-tool", "add"]).ok();
    assert_eq!(said, "It is five.\n");
    let file = |name: &str| std::fs::read_to_string(dir.path().join(format!("server.sh.{name}"))).unwrap_or_default();
    let called: serde_json::Value = serde_json::from_str(&file("called")).unwrap();
    assert_eq!(called["params"], serde_json::json!({"name": "add", "arguments": {"a": 2, "b": 3}}));
    let heard = file("heard");
    assert!(heard.contains("notifications/initialized") && heard.contains(r#""id":"p","result":{}"#), "{heard}");
    assert_eq!(file("ended"), "over\n");
    // Nobody agreed to it.
    std::fs::remove_file(dir.path().join("server.sh.called")).unwrap();
    assert_eq!(chat(&dir, &server(&dir, answer), &[]).ok(), "As you like.\n");
    assert_eq!(file("called"), "");
}

#[cfg(unix)]
#[test]
fn a_server_that_goes_wrong() {
    let dir = tempfile::tempdir().unwrap();
    for (sum, problem) in [
        (
            r#"echo "{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":{\"content\":[{\"type\":\"text\",\"text\":\"no\"}],\"isError\":true}}""#,
            "add failed: no",
        ),
        (
            r#"echo "{\"jsonrpc\":\"2.0\",\"id\":$id,\"error\":{\"code\":-32602,\"message\":\"bad\"}}""#,
            "refuses tools/call: bad",
        ),
        ("exit 1", "has ended"),
        ("echo Hello", "no JSON-RPC: \"Hello\""),
        ("sleep 60", "more than 1 s for tools/call"),
    ] {
        let ended = chat(&dir, &server(&dir, sum), &["--allow-tool", "add", "--tool-timeout", "1"]);
        assert_eq!((ended.code, ended.stdout.as_str()), (0, "It went wrong.\n"), "{sum}: {}", ended.stderr);
        assert!(ended.stderr.starts_with("warning: ") && ended.stderr.contains(problem), "{}", ended.stderr);
    }
    for (server, problem) in [
        ("no/such-program", "cannot run the MCP server no/such-program"),
        ("true", "the MCP server `true` has ended"),
        ("cat", "refuses initialize"),
        ("sleep 60", "took more than 1 s for initialize"),
        ("echo x", "no JSON-RPC"),
        ("", "no command"),
    ] {
        let ended = chat(&dir, server, &["--tool-timeout", "1"]);
        assert!(
            ended.code != 0 && ended.stderr.contains(problem) && ended.stdout.is_empty(),
            "{server}: {}",
            ended.stderr
        );
    }
    let error = chat(&dir, &server(&dir, ":"), &["--allow-tool", "sub"]).error();
    assert!(error.contains("no tool is called sub: there are other, add"), "{error}");
}

/// Neither one that speaks without end of something else, nor one that always has another page of tools.
#[cfg(unix)]
#[test]
fn a_server_without_end() {
    let dir = tempfile::tempdir().unwrap();
    let says = |text: &str| {
        let path = dir.path().join("server.sh");
        std::fs::write(&path, text).unwrap();
        let start = std::time::Instant::now();
        let error = chat(&dir, &format!("sh {}", path.display()), &["--tool-timeout", "2"]).error();
        assert!(start.elapsed().as_secs() < 60, "{error}");
        error
    };
    let error = says(r#"while :; do echo '{"jsonrpc":"2.0","method":"notifications/message"}'; done"#);
    assert!(error.contains("took more than 2 s for initialize"), "{error}");
    let error = says(
        r#"n=0
while read -r line; do
case $line in
*'"id"'*) n=$((n + 1)); printf '{"jsonrpc":"2.0","id":%d,"result":{"tools":[],"nextCursor":"more"}}\n' $n;;
esac
done"#,
    );
    assert!(error.contains("tells of its tools in more than 256 pages"), "{error}");
}

/// `quipu serve` with the server, which is called sums there.
fn serve(dir: &tempfile::TempDir, server: &str, more: &[&str]) -> Server {
    let (model, sums) = (model(dir), format!("sums={server}"));
    let args = ["serve", model.to_str().unwrap(), "--port", "0", "-v", "-t", "1", "--temp", "0", "--mcp", &sums];
    let mut command = listening(args.iter().chain(more));
    command.env("QUIPU_TEST_SECRET", "hidden").env("QUIPU_TEST_GIVEN", "seen");
    Server::of(command).unwrap_or_else(|ended| panic!("the server has ended: {}", ended.stderr))
}

/// What it answers: the item of the call, and the text.
#[track_caller]
fn answer(server: &Server) -> (Json, String) {
    let tools = json!([{"type": "mcp", "server_label": "sums", "require_approval": "never"}]);
    let response = server.post("/v1/responses", &json!({"input": "How much is it?", "tools": tools}));
    let output = response["output"].as_array().unwrap_or_else(|| panic!("{response}"));
    let call = output.iter().find(|item| item["type"] == "mcp_call").cloned().unwrap_or_default();
    (call, output.last().unwrap()["content"][0]["text"].as_str().unwrap_or_default().to_string())
}

const FIVE: &str =
    r#"echo "{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":{\"content\":[{\"type\":\"text\",\"text\":\"5\"}]}}""#;

#[cfg(unix)]
#[test]
fn serve_runs_what_its_operator_has_agreed_to() {
    let dir = tempfile::tempdir().unwrap();
    let program = server(&dir, &format!(r#"env > "$0.env"; {FIVE}"#));
    let server = serve(&dir, &program, &["--allow-tool", "add", "--mcp-env", "QUIPU_TEST_GIVEN"]);
    let (call, text) = answer(&server);
    assert_eq!((&call["name"], &call["output"], text.as_str()), (&json!("add"), &json!("5"), "It is five."));
    let file = |name: &str| std::fs::read_to_string(dir.path().join(format!("server.sh.{name}"))).unwrap_or_default();
    let called: Json = serde_json::from_str(&file("called")).unwrap();
    assert_eq!(called["params"], json!({"name": "add", "arguments": {"a": 2, "b": 3}}));
    let seen = file("env");
    assert!(seen.contains("QUIPU_TEST_GIVEN=seen") && seen.contains("PATH="), "{seen}");
    assert!(!seen.contains("QUIPU_TEST_SECRET"), "{seen}");
    // The other tool is there, and may not be used.
    let props = server.ask(
        "/v1/responses",
        &json!({"input": "?", "tools": [{"type": "mcp", "server_label": "sums", "allowed_tools": ["other"]}]}),
    );
    assert!(props.unwrap()["error"]["message"].as_str().unwrap().contains("`other`"));
    let (code, said) = server.stop_by("-INT");
    assert_eq!(code, Some(0));
    assert!(said.contains("runs add of sums"), "{said}");
    assert_eq!(file("ended"), "over\n");
}

#[cfg(unix)]
#[test]
fn serve_says_what_is_wrong_with_its_tools() {
    let dir = tempfile::tempdir().unwrap();
    let (model, program) = (model(&dir), server(&dir, ":"));
    let serve = |args: &[&str]| quipu(["serve", model.to_str().unwrap(), "--port", "0"].iter().chain(args));
    let error = serve(&["--mcp", &program, "--allow-tool", "sub"]).error();
    assert!(error.contains("--allow-tool sub") && error.contains("other, add"), "{error}");
    let error = serve(&["--mcp", "no/such-program"]).error();
    assert!(error.contains("cannot run the MCP server no/such-program"), "{error}");
    let error = serve(&["--mcp", "true"]).error();
    assert!(error.contains("has ended"), "{error}");
    let error = serve(&["--mcp", &program, "--mcp", &program, "--allow-all-tools"]).error();
    assert!(error.contains("two MCP servers are called sh"), "{error}");
    let second = format!("more={program}");
    let error = serve(&["--mcp", &program, "--mcp", &second, "--allow-all-tools"]).error();
    assert!(error.contains("two tools are called other"), "{error}");
    assert_eq!(serve(&["--allow-tool", "add"]).code, 2);
}

/// Whatever a program does, it costs an error in the answer, and the server goes on.
#[cfg(unix)]
#[test]
fn serve_outlives_its_tools() {
    for (sum, problem) in [
        (r#"echo "{\"jsonrpc\":\"2.0\",\"id\":999,\"result\":{\"content\":[]}}""#, "took more than 1 s"),
        (r#"while :; do echo '{"jsonrpc":"2.0","method":"notifications/message"}'; done"#, "took more than 1 s"),
        (r"head -c 9000000 /dev/zero | tr '\0' x", "no JSON-RPC"),
        (
            r#"echo "{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":{\"content\":[{\"type\":\"text\",\"text\":\"$(head -c 70000 /dev/zero | tr '\0' x)\"}]}}""#,
            "more than 65536 bytes",
        ),
        ("sleep 60", "took more than 1 s"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let server = serve(&dir, &server(&dir, sum), &["--allow-tool", "add", "--tool-timeout", "1"]);
        let (call, text) = answer(&server);
        assert_eq!((&call["status"], text.as_str()), (&json!("failed"), "It went wrong."), "{sum}: {call}");
        assert!(call["error"].to_string().contains(problem), "{sum}: {call}");
        let plain = server.post("/v1/responses", &json!({"input": "?", "tool_choice": "none", "max_output_tokens": 1}));
        assert_eq!(plain["object"], "response", "{plain}");
    }
}

#[cfg(unix)]
#[test]
fn a_program_that_has_ended_is_started_anew() {
    let dir = tempfile::tempdir().unwrap();
    let sum = format!(r#"[ -e "$0.once" ] || {{ touch "$0.once"; exit 1; }}; {FIVE}"#);
    let server = serve(&dir, &server(&dir, &sum), &["--allow-all-tools"]);
    let (call, text) = answer(&server);
    assert_eq!(text, "It went wrong.");
    assert!(call["error"].to_string().contains("has ended"), "{call}");
    let start = std::time::Instant::now();
    while answer(&server).1 != "It is five." {
        assert!(start.elapsed().as_secs() < 60, "it was not started anew");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}

/// The reference implementation, in a Python that has it (`QUIPU_MCP_PYTHON`).
#[test]
fn pythons_mcp() {
    let python = std::env::var("QUIPU_MCP_PYTHON").unwrap_or("python3".into());
    if !Command::new(&python).args(["-c", "import mcp"]).output().is_ok_and(|ended| ended.status.success()) {
        eprintln!("SKIPPED: pythons_mcp: {python} has no package mcp");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("server.py");
    let text = "\
try:
    from mcp.server.fastmcp import FastMCP as Server
except ImportError:
    from mcp.server import MCPServer as Server
server = Server('sums')

@server.tool()
def add(a: int, b: int) -> str:
    return str(a + b)

server.run()
";
    std::fs::write(&path, text).unwrap();
    let server = format!("{python} {}", path.display());
    assert_eq!(chat(&dir, &server, &["--allow-tool", "add"]).ok(), "It is five.\n");
    assert_eq!(answer(&serve(&dir, &server, &["--allow-tool", "add"])).1, "It is five.");
}
