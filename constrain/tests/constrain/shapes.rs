//! Each kind of shape.

use quipu_constrain::Shape;
use quipu_runtime::constraint::{ConstraintError, Grammar, TokenMask};
use serde_json::{Value as Json, json};

use crate::walk::{self, accepts, compile};

fn grammar(shape: Shape) -> std::sync::Arc<dyn Grammar> {
    compile(&shape).unwrap_or_else(|error| panic!("{error}: {shape:?}"))
}

#[test]
fn regular_expressions_and_choices() {
    let date = grammar(Shape::Regex(r"\d{4}-\d\d(-\d\d)?".into()));
    for (text, is) in [("2024-11", true), ("2024-11-27", true), ("2024-1", false), ("2024-11-27 ", false), ("", false)]
    {
        assert_eq!(accepts(&*date, text), is, "{text:?}");
    }
    let choice = grammar(Shape::Choice(vec!["yes".into(), "no".into(), "not \"sure\"\n".into()]));
    for (text, is) in [("yes", true), ("not \"sure\"\n", true), ("n", false), ("yesno", false)] {
        assert_eq!(accepts(&*choice, text), is, "{text:?}");
    }
    assert!(compile(&Shape::Regex("(a".into())).is_err() && compile(&Shape::Choice(vec![])).is_err());
}

#[test]
fn white_space_has_bounds() {
    let any = grammar(Shape::JsonObject);
    let deep = "{\"a\":\n          {}}";
    for (text, is) in [
        ("{}", true),
        ("{\n \"a\": [1, 2]\n}", true),
        ("{} ", false),
        (" {}", false),
        (deep, true),
        ("{  }", false),
        ("[]", false),
    ] {
        assert_eq!(accepts(&*any, text), is, "{text:?}");
    }
    assert!(!accepts(&*any, &format!("{{\n{}}}", " ".repeat(40))));
}

/// A member cannot hide behind another spelling of its name, nor a letter behind its number.
#[test]
fn strings_are_written_in_one_way() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}});
    let grammar = grammar(Shape::JsonSchema(schema));
    for (text, is) in [
        (r#"{"a":1}"#, true),
        (r#"{"a":"x"}"#, false),
        (r#"{"\u0061":"x"}"#, false),
        (r#"{"b":"x"}"#, true),
        (r#"{"a":1,"a":"x"}"#, false),
        (r#"{"b":"\"\n\\é"}"#, true),
    ] {
        assert_eq!(accepts(&*grammar, text), is, "{text}");
    }
}

/// No class of a pattern lets an escape in that it excludes.
#[test]
fn classes_of_patterns_are_exact() {
    for (pattern, text, is) in [
        ("^[^\"]*$", r#""a\"b""#, false),
        ("^[^\"]*$", r#""a\\b\n""#, true),
        (r"^[^\\]+$", r#""a\\b""#, false),
        (r"^[^\\]+$", r#""a\"b""#, true),
        (r"^[\x00-\x7f]*$", r#""a\"\\b""#, true),
        (r"^[\x00-!]*$", r#""a""#, false),
        (r"^\D*$", r#""a\"b""#, true),
        (r"^\D*$", r#""1""#, false),
        (r"^\W$", r#""\"""#, true),
        (r"^.$", r#""\n""#, false),
        (r"^.$", r#""\t""#, true),
        (r"^\S$", r#""\t""#, false),
    ] {
        let grammar = grammar(Shape::JsonSchema(json!({"type": "string", "pattern": pattern})));
        assert_eq!(accepts(&*grammar, text), is, "{pattern} {text}");
    }
}

#[test]
fn a_grammar_from_a_trigger_on() {
    let lark = "call: %json {\"type\": \"object\", \"properties\": {\"n\": {\"type\": \"integer\"}}, \"required\": [\"n\"], \
                \"additionalProperties\": false} \"</call>\"";
    let grammar = grammar(Shape::after(&[("<call>", "call"), ("[[", "call")], lark));
    for (text, is) in [
        ("", true),
        ("Just text.\n\n<call", true),
        ("Some text <call>{\"n\": 7}</call>", true),
        ("<call>{\"n\": 7}</call>", true),
        ("a [ [[{\"n\": 7}</call>", true),
        ("<call>", false),
        ("Some text <call>{\"n\": \"7\"}</call>", false),
        ("Some text <call>{\"n\": 7}</call> and more", false),
        ("<call>{\"m\": 7}</call>", false),
    ] {
        assert_eq!(accepts(&*grammar, text), is, "{text:?}");
    }
}

/// The first token is drawn from masks that are there already, also when a grammar comes again.
#[test]
fn a_grammar_is_compiled_once() {
    let shape = Shape::JsonSchema(json!({"type": "array", "items": {"type": "integer"}, "title": "twice"}));
    let (first, second) = (grammar(shape.clone()), grammar(shape));
    assert!(std::ptr::addr_eq(std::sync::Arc::as_ptr(&first), std::sync::Arc::as_ptr(&second)));
}

/// Tokens that are forced are the usual ones of their text.
#[test]
fn forced_text_has_its_usual_tokens() {
    let tokenizer = walk::tokenizer();
    let text = "The king of the mountain had three daughters.";
    let grammar = grammar(Shape::Choice(vec![text.into()]));
    let mut place = grammar.begin().expect("a beginning");
    let mut found = Vec::new();
    loop {
        let mut next = TokenMask::new(tokenizer.vocab_size());
        if place.allow(&mut next).expect("a mask") {
            break;
        }
        let token = next.only().expect("one token");
        place.advance(token).expect("it is allowed");
        found.push(token);
    }
    let parts = [quipu_runtime::tokenizer::Part::Tokens(&[0]), quipu_runtime::tokenizer::Part::Data(text)];
    assert_eq!(found, tokenizer.encode_parts(&parts)[1..]);
}

/// Whatever is asked for, it takes a moment and ends.
#[test]
fn monsters_are_refused_or_harmless() {
    let deep_lark = format!("start: {}\"a\"{}", "(".repeat(5000), ")".repeat(5000));
    let chain: String = (0..5000).map(|i| format!("r{i}: r{} \"a\"\n", i + 1)).collect();
    let wide: Json = (0..100_000).map(|i| i.to_string()).collect();
    for (shape, refused) in [
        (Shape::Lark(deep_lark), true),
        (Shape::Lark(format!("start: r0\n{chain}r5000: \"b\"\n")), true),
        (Shape::Regex("(".repeat(3000) + &")".repeat(3000)), true),
        (Shape::Regex("((a{1000}){1000}){1000}".into()), true),
        (Shape::Regex("(a{200}b){200}".into()), false),
        (Shape::JsonSchema(json!({ "enum": wide })), true),
        (Shape::JsonSchema(json!({"$ref": "#"})), true),
        (Shape::Lark("start: start".into()), true),
        (Shape::Lark("".into()), true),
        (Shape::JsonSchema(json!(false)), true),
    ] {
        let begun = std::time::Instant::now();
        let found = compile(&shape);
        assert!(begun.elapsed().as_secs() < 20);
        assert_eq!(
            found.is_err(),
            refused,
            "{:?} {}",
            found.err(),
            format!("{shape:?}").chars().take(60).collect::<String>()
        );
        if let Ok(grammar) = found {
            // It may become too costly while it is written, and then says so.
            let mut place = grammar.begin().expect("a beginning");
            let mut next = TokenMask::new(walk::tokenizer().vocab_size());
            for _ in 0..50 {
                next.clear();
                let token = place.allow(&mut next).ok().and_then(|_| next.iter().next());
                let Some(token) = token else { break };
                if let Err(error) = place.advance(token) {
                    assert!(matches!(error, ConstraintError::TooCostly { .. }), "{error}");
                    break;
                }
            }
        }
    }
}
