//! What is read beside a model, with lies in it: adapters, sessions, what an MCP server says.

use std::path::Path;

use quipu_test_random::Random;
use serde_json::{Value as Json, json};

use super::bytes::mutate_bytes;
use super::hf;
use super::hunt::{hunt, ready};
use super::requests::tools;
use super::{DATA, OUT, mutant, valid, written};
use crate::quipu_with_input;

/// What somebody says in a chat: little.
fn say(dir: &Path) {
    std::fs::write(dir.join("text"), "Once upon a time\n").unwrap();
}

/// PEFT's adapter, or llama.cpp's.
#[test]
fn lies_of_an_adapter_are_errors() {
    if !ready() {
        return;
    }
    let model = std::fs::read(format!("{DATA}/llama_cpp_convert/tiny-llama3-bf16.gguf")).unwrap();
    let gguf = [valid(std::fs::read(format!("{DATA}/lora/one.gguf")).unwrap())];
    let commands = [
        "run m Once -n 2 -t 1 --lora a",
        "run m Once -n 2 -t 1 --lora a=0.5 --kv q8q4",
        "chat m -n 2 -t 1 --template template --lora a",
        "merge m a -o out",
        "merge m a -o out --type q8_0 --packed --no-calibrate",
    ];
    hunt("adapters", &commands, |dir, random| {
        std::fs::write(dir.join("m"), &model).unwrap();
        say(dir);
        if random.below(2) == 0 {
            let (bytes, what) = mutant(&gguf, random);
            std::fs::write(dir.join("a"), bytes).unwrap();
            return what;
        }
        let (from, to) = (Path::new(DATA).join("lora/two"), dir.join("a"));
        std::fs::create_dir(&to).unwrap();
        let names = ["adapter_config.json", "adapter_model.safetensors"];
        for name in names {
            std::fs::copy(from.join(name), to.join(name)).unwrap();
        }
        hf::mutate(&to, &names, random)
    });
}

/// Where the checksum of what stands before the pages is (docs/file-format.md).
const SUM: std::ops::Range<usize> = 48..56;

fn number(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

/// Gives a session the checksum that its head has.
fn mend(session: &mut [u8]) {
    if session.len() < SUM.end {
        return;
    }
    let [identity, state, text, pages] = [12, 16, 20, 32].map(|at| number(session, at));
    let end = (SUM.end + identity + state + 4 * text + 8 * pages).next_multiple_of(64);
    let Some(head) = session.get_mut(..end) else { return };
    head[SUM].fill(0);
    let mix = |h: u64, word: u64| (h ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    // Its length is a multiple of a word's.
    let words = head.as_chunks().0.iter().map(|&word| u64::from_le_bytes(word));
    let sum = mix(words.fold(0, mix), end as u64);
    head[SUM].copy_from_slice(&sum.to_le_bytes());
}

/// Other bytes, another state, or other tokens; with the right checksum as a rule, or nothing else would be looked at.
fn mutate_session(session: &mut Vec<u8>, random: &mut Random) -> String {
    let (start, len) = (SUM.end + number(session, 12), number(session, 16));
    let what = match random.below(3) {
        0 => mutate_bytes(session, random),
        1 => {
            // As long as it was, so that all else stays where it is.
            let mut state: Json = serde_json::from_slice(&session[start..start + len]).unwrap();
            let what = hf::mutate_json(&mut state, random);
            let mut text = state.to_string().into_bytes();
            text.resize(len, b' ');
            session[start..start + len].copy_from_slice(&text);
            what
        }
        _ => {
            let tokens = start + len;
            let which = random.below(number(session, 20));
            let token = [512, u32::MAX, 1 << 31, random.below(512) as u32][random.below(4)];
            session[tokens + 4 * which..][..4].copy_from_slice(&token.to_le_bytes());
            format!("token {which} is {token}")
        }
    };
    if random.below(8) > 0 {
        mend(session);
    }
    what
}

#[test]
fn lies_of_a_session_are_errors() {
    if !ready() {
        return;
    }
    let template = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(template.path(), "{% for m in messages %}{{ m.content }} {% endfor %}").unwrap();
    let run = written(&["run", "demo", "Once upon a time", "-n", "4", "-t", "1", "--session", OUT]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let [path, template] = [&path, template.path()].map(|path| path.to_str().unwrap());
    let words = ["chat", "demo", "-n", "2", "-t", "1", "--template", template, "--session", path];
    quipu_with_input(words, "Once upon a time\n").ok();
    let chat = std::fs::read(path).unwrap();
    let commands = [
        "run demo Once -n 2 -t 1 --session s",
        "run demo -n 2 -t 1 --json --session s",
        "run demo Once -n 2 -t 1 --kv q4 --session s",
        "chat demo -n 2 -t 1 --template template --session s",
    ];
    let mut mended = run.clone();
    mend(&mut mended);
    assert!(mended == run, "another checksum than Quipu's");
    hunt("sessions", &commands, |dir, random| {
        say(dir);
        let mut session = [&run, &chat][random.below(2)].clone();
        let what = mutate_session(&mut session, random);
        std::fs::write(dir.join("s"), session).unwrap();
        what
    });
}

/// Says all that it has to say, and hears for a while.
const SERVER: &str = "#!/bin/sh\ncat answers\ntimeout 0.3 cat > /dev/null\n";

/// A server that has all its answers ready: how it greets, and the tools that it has, in two pages.
#[test]
fn lies_of_an_mcp_server_are_errors() {
    if !ready() {
        return;
    }
    let functions: Vec<Json> = tools().as_array().unwrap().iter().map(|tool| tool["function"].clone()).collect();
    let listed = functions.iter().map(|function| {
        let empty = json!({"type": "object"});
        let schema = function.get("parameters").unwrap_or(&empty);
        json!({"name": function["name"], "description": function["description"], "inputSchema": schema})
    });
    let listed: Vec<Json> = listed.collect();
    let answer = |id: u64, result: Json| json!({"jsonrpc": "2.0", "id": id, "result": result});
    let info = json!({"name": "s", "version": "1"});
    let answers = [
        answer(1, json!({"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": info})),
        json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}),
        answer(2, json!({"tools": listed[..1], "nextCursor": "2"})),
        json!({"jsonrpc": "2.0", "id": "p", "method": "ping"}),
        answer(3, json!({"tools": listed[1..]})),
    ];
    let commands = ["chat demo -n 2 -t 1 --template template --tool-timeout 1 --mcp ./server"];
    hunt("answers of an MCP server", &commands, |dir, random| {
        say(dir);
        let mut answers = answers.to_vec();
        let mut what = String::new();
        for _ in 0..1 + random.below(2) {
            let which = random.below(answers.len());
            what += &format!("{which}: {}, ", hf::mutate_json(&mut answers[which], random));
        }
        let mut lines: Vec<u8> = answers.iter().flat_map(|answer| format!("{answer}\n").into_bytes()).collect();
        if random.below(4) == 0 {
            what = mutate_bytes(&mut lines, random);
        }
        std::fs::write(dir.join("answers"), lines).unwrap();
        std::fs::write(dir.join("server"), SERVER).unwrap();
        std::fs::set_permissions(dir.join("server"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        what
    });
}
