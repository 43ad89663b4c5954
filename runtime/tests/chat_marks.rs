//! What others wrote never becomes a control token, and an answer keeps its tokens, with every template at hand.

use std::path::{Path, PathBuf};

use quipu_formats::gguf::{Array, Metadata, Value};
use quipu_runtime::chat::{ChatTemplate, DateTime, Message, RenderOptions};
use quipu_runtime::generate::prompt_tokens;
use quipu_runtime::tokenizer::{Part, Tokenizer};
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;

/// Control tokens of the templates, one of which begins another.
const MARKS: [&str; 12] = [
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|im_start|>",
    "<|im_end|>",
    "[SYSTEM]",
    "[/SYSTEM]",
    "[USER]",
    "[/USER]",
    "<s>",
    "<|python_tag|>",
];

/// A token for each byte, a few merges, the marks, and a token that is text wherever it stands.
fn tokenizer() -> Tokenizer {
    Tokenizer::from_metadata(&vocabulary()).unwrap()
}

/// The same, but texts are normalised, and the marks are found in what came of it, with the white space around them, as
/// single words, or both.
fn normalizing_tokenizer() -> Tokenizer {
    let mut metadata = vocabulary();
    let marks = MARKS.iter().enumerate().map(|(i, mark)| {
        json!({"id": 261 + i, "content": mark, "special": true, "normalized": i % 4 != 1, "lstrip": i % 3 == 1, "rstrip": i % 3 == 2, "single_word": i % 5 == 2})
    });
    let added: Vec<Json> = marks.chain([json!({"id": 273, "content": "<think>", "normalized": true})]).collect();
    let normalizers = ["NFKC", "Lowercase", "StripAccents"].map(|name| json!({"type": name}));
    let pre = json!({
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false}
    });
    metadata.set("quipu.tokenizer.added_tokens", Value::String(Json::from(added).to_string()));
    metadata.set("quipu.tokenizer.pre", Value::String(pre.to_string()));
    Tokenizer::from_metadata(&metadata).unwrap()
}

fn vocabulary() -> Metadata {
    let byte = |b: u8| match b {
        b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => char::from(b),
        0..=0x20 => char::from_u32(256 + u32::from(b)).unwrap(),
        0x7F..=0xA0 => char::from_u32(256 + 33 + u32::from(b) - 0x7F).unwrap(),
        0xAD => '\u{143}',
    };
    let mut tokens: Vec<(String, i32)> = (0..=255).map(|b| (byte(b).to_string(), NORMAL)).collect();
    tokens.extend(["th", "the", "Ġthe", "in", "er"].map(|piece| (piece.to_string(), NORMAL)));
    tokens.extend(MARKS.map(|piece| (piece.to_string(), CONTROL)));
    tokens.push(("<think>".into(), USER_DEFINED));
    let strings = |items: Vec<&str>| Value::Array(Array::String(items.into_iter().collect()));
    let mut metadata = Metadata::default();
    metadata.set("tokenizer.ggml.model", Value::String("gpt2".into()));
    metadata.set("tokenizer.ggml.pre", Value::String("llama-bpe".into()));
    metadata.set("tokenizer.ggml.tokens", strings(tokens.iter().map(|t| t.0.as_str()).collect()));
    metadata.set("tokenizer.ggml.token_type", Value::Array(Array::I32(tokens.iter().map(|t| t.1).collect())));
    metadata.set("tokenizer.ggml.merges", strings(vec!["t h", "th e", "Ġ the", "i n", "e r"]));
    metadata.set("tokenizer.ggml.bos_token_id", Value::U32(261));
    metadata
}

fn marks(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<u32> {
    ids.iter().copied().filter(|id| tokenizer.is_control(*id)).collect()
}

#[derive(Deserialize)]
struct Case {
    template: String,
    messages: Vec<Message>,
    tools: Option<Json>,
    variables: Map<String, Json>,
    add_generation_prompt: bool,
    text: Option<String>,
}

/// A template's source, and a conversation that it renders.
type Conversation = (String, Vec<Message>, RenderOptions);

/// The conversations of `expected.json`, and those of Meta's templates, which may be missing.
fn conversations() -> Vec<Conversation> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let place = |name: &str, default: &str| std::env::var_os(name).map_or_else(|| root.join(default), PathBuf::from);
    let own = root.join("tests/data/templates");
    let metas = place("QUIPU_SHARED", "../shared").join("data/templates");
    let sources =
        [(own.clone(), own.join("expected.json")), (metas, place("QUIPU_REFS", "target/refs").join("templates.json"))];
    let mut conversations = Vec::new();
    for (templates, cases) in sources {
        let Ok(cases) = std::fs::read_to_string(&cases) else {
            println!("SKIPPED: {} is missing", cases.display());
            continue;
        };
        let mut cases: Json = serde_json::from_str(&cases).unwrap();
        for case in serde_json::from_value::<Vec<Case>>(cases["cases"].take()).unwrap() {
            if case.text.is_none() {
                continue;
            }
            let source = std::fs::read_to_string(templates.join(&case.template)).unwrap();
            let options = RenderOptions::default()
                .tools(case.tools)
                .add_generation_prompt(case.add_generation_prompt)
                .variables(case.variables)
                .now(Some(DateTime::from_unix(0)));
            conversations.push((source, case.messages, options));
        }
    }
    assert!(conversations.len() > 60, "{}", conversations.len());
    conversations
}

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::new(source, Some("<|begin_of_text|>"), Some("<|eot_id|>")).unwrap()
}

/// Changes all strings in `json` but the names of keys and what templates look for.
fn change(json: &mut Json, to: &dyn Fn(&str) -> String) {
    match json {
        Json::String(text) => *text = to(text),
        Json::Array(items) => items.iter_mut().for_each(|item| change(item, to)),
        Json::Object(map) => map.iter_mut().filter(|(key, _)| *key != "type").for_each(|(_, item)| change(item, to)),
        _ => {}
    }
}

#[test]
fn without_marks_in_it_a_prompt_is_the_tokens_of_its_text() {
    let tokenizer = tokenizer();
    for (source, messages, options) in conversations() {
        let template = template(&source);
        let text = template.render(&messages, &options).unwrap();
        let expected = prompt_tokens(&tokenizer, &text, true);
        let has_marks = |json: &Json| MARKS.iter().any(|mark| json.to_string().contains(mark));
        let clean = !messages.iter().any(|m| has_marks(&m.content));
        assert_eq!(template.prompt(&tokenizer, &messages, &options, true).unwrap(), expected, "{source}");
        if clean {
            assert_eq!(template.prompt(&tokenizer, &messages, &options, false).unwrap(), expected, "{source}");
        }
    }
}

#[test]
fn no_text_becomes_a_control_token() {
    let tokenizer = tokenizer();
    let mut fooled = 0;
    for (source, messages, mut options) in conversations() {
        let template = template(&source);
        let with = |mark: &str, messages: &[Message], options: &mut RenderOptions| {
            let to = |text: &str| format!(" {mark}{text}{mark}{mark} the {mark}");
            let mut messages = messages.to_vec();
            for message in &mut messages {
                change(&mut message.content, &to);
                message.extra.values_mut().for_each(|value| change(value, &to));
            }
            if let Some(tools) = &mut options.tools {
                change(tools, &to);
            }
            let prompt = template.prompt(&tokenizer, &messages, options, false).ok()?;
            // All that was said is there.
            let text = template.render(&messages, options).unwrap();
            let decoded = tokenizer.decode(&prompt, true);
            let without_bos = |text: &str| text.trim_start_matches("<|begin_of_text|>").to_string();
            assert_eq!(without_bos(&decoded), without_bos(&text), "{source}");
            let parsed = template.prompt(&tokenizer, &messages, options, true).unwrap();
            Some((marks(&tokenizer, &prompt), marks(&tokenizer, &parsed)))
        };
        let tools = options.tools.clone();
        let Some((expected, _)) = with("?x?", &messages, &mut options) else { continue };
        for mark in MARKS {
            options.tools = tools.clone();
            let (found, parsed) = with(mark, &messages, &mut options).unwrap();
            assert_eq!(found, expected, "{mark} in\n{source}");
            fooled += usize::from(parsed != expected);
        }
    }
    assert!(fooled > 300, "{fooled}: with marks parsed there are more of them");
}

/// Whatever normalising makes of it: capitals, wide letters, accents that vanish.
#[test]
fn no_text_becomes_a_control_token_by_being_normalised() {
    let tokenizer = normalizing_tokenizer();
    let capitals = |mark: &str| mark.to_uppercase();
    let wide = |mark: &str| mark.replace('|', "\u{ff5c}").replace('<', "\u{ff1c}").replace('[', "\u{ff3b}");
    let accents = |mark: &str| mark.replace('_', "_\u{301}").replace('s', "s\u{30c}");
    let disguises: [&dyn Fn(&str) -> String; 4] = [&str::to_string, &capitals, &wide, &accents];
    let (mut fooled, mut seen) = (0, 0);
    for (source, messages, mut options) in conversations() {
        let template = template(&source);
        let tools = options.tools.clone();
        let mut with = |mark: &str, parse: bool| {
            let to = |text: &str| format!("?{text} {mark} {mark}{text}{mark} the ?");
            let mut messages = messages.clone();
            messages.iter_mut().for_each(|message| {
                change(&mut message.content, &to);
                message.extra.values_mut().for_each(|value| change(value, &to));
            });
            options.tools.clone_from(&tools);
            if let Some(tools) = &mut options.tools {
                change(tools, &to);
            }
            template.prompt(&tokenizer, &messages, &options, parse).ok().map(|ids| marks(&tokenizer, &ids))
        };
        let Some(expected) = with("?x?", false) else { continue };
        seen += expected.len();
        for mark in MARKS {
            for disguise in disguises {
                let mark = disguise(mark);
                assert_eq!(with(&mark, false).unwrap(), expected, "{mark} in\n{source}");
                fooled += usize::from(with(&mark, true).unwrap() != expected);
            }
        }
    }
    assert!(fooled > 500 && seen > 300, "{fooled}, {seen}: there are marks, and with those of messages more of them");
}

/// A piece that begins in the template and ends in a message, or the other way round, is no token; user-defined tokens
/// are found everywhere.
#[test]
fn pieces_across_a_border_are_text() {
    let tokenizer = tokenizer();
    let count = |parts: &[Part<'_>]| {
        let ids = tokenizer.encode_parts(parts);
        (marks(&tokenizer, &ids).len(), ids.iter().filter(|id| tokenizer.piece(**id) == "<think>").count())
    };
    assert_eq!(count(&[Part::Template("<|eot_"), Part::Data("id|>")]), (0, 0));
    assert_eq!(count(&[Part::Data("<|eot_"), Part::Template("id|><s>")]), (1, 0));
    assert_eq!(count(&[Part::Data("<s><think>"), Part::Template("<s><think>"), Part::Data("<s>")]), (1, 2));
    assert_eq!(count(&[Part::Template("<thi"), Part::Data("nk>")]), (0, 1));
    assert_eq!(
        count(&[Part::Template("<|eot_"), Part::Template("id|>"), Part::Tokens(&[261]), Part::Data("<s>")]),
        (2, 0)
    );
}

/// The model has written "the" in three tokens where a tokenizer needs one.
#[test]
fn an_answer_keeps_its_tokens() {
    let tokenizer = tokenizer();
    let written = |text: &str| -> Vec<u32> { text.bytes().map(u32::from).collect() };
    let templates = [
        // As it is, trimmed, with a space before it that the model has written, cut after its thoughts.
        "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}",
        "{% for m in messages %}<|im_start|>{{ m.content | trim }}<|im_end|>{% endfor %}",
        "{% for m in messages %}<|im_start|> {{ m.content.strip() }} <|im_end|>{% endfor %}",
        "{% for m in messages %}<|im_start|>{{ m.content.split('</t>')[-1] }}<|im_end|>{% endfor %}",
    ];
    for (source, shown) in templates.into_iter().zip([
        " the end</t> the theatre\n",
        "the end</t> the theatre",
        " the end</t> the theatre",
        " the theatre\n",
    ]) {
        let answer = Message::answer(" the end</t> the theatre\n", written(" the end</t> the theatre\n"));
        let messages = [Message::new("user", "the"), answer, Message::new("user", "the")];
        let prompt = template(source).prompt(&tokenizer, &messages, &RenderOptions::default(), false).unwrap();
        let kept = written(shown);
        assert!(prompt.windows(kept.len()).any(|ids| ids == kept), "{source}: {prompt:?}");
        let text = template(source).render(&messages, &RenderOptions::default()).unwrap();
        assert_eq!(tokenizer.decode(&prompt[1..], true), text, "{source}");
        // What others wrote is cut by the tokenizer.
        let the = tokenizer.id("the").unwrap();
        assert!(prompt.contains(&the) || prompt.contains(&tokenizer.id("Ġthe").unwrap()), "{source}");
    }
    // Changed on the way, or tokens of another text: the text counts.
    for (source, content) in [("{{ messages[0].content | upper }}", "the"), ("{{ messages[0].content }}", "a theatre")]
    {
        let messages = [Message::answer(content, written("the"))];
        let prompt = template(source).prompt(&tokenizer, &messages, &RenderOptions::default(), false).unwrap();
        let text = template(source).render(&messages, &RenderOptions::default()).unwrap();
        assert_eq!(prompt, prompt_tokens(&tokenizer, &text, false), "{source}");
    }
}

/// Gemma 2's template refuses the system a turn: what it says stands before the user's first words, where Gemma 3's own
/// template puts it, and is text there.
#[test]
fn a_template_without_a_system_hears_it_from_the_user() {
    let tokenizer = tokenizer();
    let strict = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}\
        {% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('No tools') }}{% endif %}\
        <|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>{% endfor %}";
    let template = ChatTemplate::for_tokenizer(strict, &tokenizer).unwrap();
    let options = RenderOptions::default();
    let prompt = |messages: &[Message]| template.prompt(&tokenizer, messages, &options, false);
    let system = Message::new("system", "Be brief.<|im_end|>");
    let (user, answer) = (Message::new("user", "Hi"), Message::new("assistant", "Ho"));
    let told = prompt(&[system.clone(), user.clone(), answer.clone()]).unwrap();
    let expected = Message::new("user", "Be brief.<|im_end|>\n\nHi");
    assert_eq!(told, prompt(&[expected, answer]).unwrap());
    let end = tokenizer.id("<|im_end|>").unwrap();
    assert_eq!(told.iter().filter(|&&id| id == end).count(), 2);
    // Another refusal stays what it was, and so does that of the system alone.
    for messages in [&[system.clone(), user, Message::new("tool", "4")][..], &[system]] {
        let error = prompt(messages).unwrap_err().to_string();
        assert!(error.contains("System role not supported"), "{error}");
    }
}
