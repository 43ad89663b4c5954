//! Small templates rendered here and by jinja2, as Hugging Face sets it up (see `tests/refs/jinja_reference.py`): every
//! method, operator, filter, test and statement.

use std::path::Path;

use quipu_runtime::chat::{ChatError, ChatTemplate, Message, RenderOptions};
use serde::Deserialize;
use serde_json::{Map, Value as Json};

#[derive(Deserialize)]
struct Reference {
    made_by: String,
    variables: Map<String, Json>,
    /// A source, and its text or null where it fails.
    cases: Vec<(String, Option<String>)>,
}

fn render(source: &str, options: &RenderOptions) -> Result<String, ChatError> {
    ChatTemplate::new(source, None, None)?.render(&[Message::new("user", "hi")], options)
}

#[test]
fn templates_render_as_by_jinja2() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/templates/jinja.json");
    let reference: Reference = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(reference.cases.len() > 1700, "{} cases", reference.cases.len());
    let options = RenderOptions::default().variables(reference.variables);
    let mut differences = Vec::new();
    for (source, expected) in &reference.cases {
        let rendered = render(source, &options);
        if rendered.as_ref().ok() != expected.as_ref() {
            differences.push(format!("{source}\n  got  {rendered:?}\n  want {expected:?}"));
        }
    }
    let count = differences.len();
    assert!(count == 0, "{count} against {}:\n{}", reference.made_by, differences.join("\n"));
}

/// What a hostile template costs is an error, whatever it does: soon, and with bounded memory (`tests/hostile` of the
/// program measures that).
#[test]
fn hostile_templates_cost_an_error() {
    let n = 20_000;
    let double = |op: &str, start: &str| {
        format!(
            "{{% set ns = namespace(x={start}) %}}{{% for i in range(99) %}}{{% set ns.x = ns.x {op} ns.x %}}{{% endfor %}}"
        )
    };
    let nested_list =
        "{% set ns = namespace(x=[1]) %}{% for i in range(150) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}";
    let mut hostile: Vec<String> = vec![
        // Deep.
        format!("{{{{ {}1{} }}}}", "(".repeat(n), ")".repeat(n)),
        format!("{{{{ {}1 }}}}", "not ".repeat(n)),
        format!("{{{{ {}1 }}}}", "-".repeat(n)),
        format!("{{{{ {} }}}}", "[".repeat(n)),
        format!("{{{{ {} }}}}", "{1:".repeat(n)),
        format!("{{{{ 1{} }}}}", "|string".repeat(n)),
        format!("{{{{ x{} }}}}", ".a".repeat(n)),
        format!("{{{{ x{} }}}}", "[0]".repeat(n)),
        format!("{{{{ x{} }}}}", "()".repeat(n)),
        format!("{{{{ {}1 }}}}", "1 + ".repeat(n)),
        format!("{{{{ {}1 }}}}", "1 ~ ".repeat(n)),
        format!("{{{{ {}1 }}}}", "1 and ".repeat(n)),
        format!("{{{{ {}1 }}}}", "1 if 0 else ".repeat(n)),
        "{% if 1 %}".repeat(n),
        "{% for a in [1] %}".repeat(n),
        "{{ ".repeat(n),
        "{% macro m(x) %}{{ m(x) }}{% endmacro %}{{ m(1) }}".into(),
        "{% macro a() %}{{ caller() }}{% endmacro %}{% macro b() %}{% call a() %}{{ b() }}{% endcall %}{% endmacro %}\
         {{ b() }}"
            .into(),
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}".into(),
        "{% set ns = namespace(x=[1]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% endfor %}".into(),
        "{% set ns = namespace() %}{% set ns.x = [ns] %}{{ ns }}".into(),
        // Long.
        double("~", "'a'"),
        double("+", "'a'"),
        double("+", "[1]"),
        format!("{nested_list}{{{{ ns.x }}}}"),
        format!("{nested_list}{{{{ ns.x | tojson }}}}"),
        format!("{nested_list}{{% set b = namespace(x=ns.x) %}}{{{{ ns.x == [b.x[0], b.x[1]] }}}}"),
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}".into(),
        "{% set x = 'a' * 9999999 %}{% for i in range(99999) %}{% set y = 'b' in x %}{% endfor %}".into(),
        "{% set x = 'a ' * 999999 %}{% for i in range(99999) %}{% set y = x.split() %}{% endfor %}".into(),
        "{% for i in range(99999) %}{% set x = range(99999) | sort %}{% endfor %}".into(),
        "{% for i in range(99999) %}{% set x = strftime_now('%c' * 99999) %}{% endfor %}".into(),
    ];
    let huge = [
        "'a' * 10**12",
        "[1] * 10**12",
        "'a\nb' | indent(4000000000000)",
        "'a'.center(10**15)",
        "'1'.zfill(10**15)",
        "'a'.ljust(10**15)",
        "'%1000000000000d' % 1",
        "'%*d' % (10**15, 1)",
        "'%.1000000000f' % 1",
        "'{:1000000000000}'.format(1)",
        "'{:.1000000000f}'.format(1.0)",
        "'\t'.expandtabs(10**15)",
        "[1] | batch(10**15, 'x') | list",
        "[1] | slice(10**15) | list",
        "range(10**30)",
        "9**9**9**9",
        "2**126 * 4",
        "('a' * 9999) | replace('', 'b' * 9999)",
        "('a' * 9999).join(range(99999) | map('string'))",
        "[[[1]]] | tojson(indent=10**15)",
        "-(-170141183460469231731687303715884105727 - 1)",
    ];
    hostile.extend(huge.map(|expression| format!("{{{{ {expression} }}}}")));
    for source in hostile {
        let start = std::time::Instant::now();
        let rendered = render(&source, &RenderOptions::default());
        let shown: String = source.chars().take(100).collect();
        assert!(matches!(rendered, Err(ChatError::Syntax(_) | ChatError::Render(_))), "{shown}: {}", rendered.is_ok());
        // Ten times what it takes.
        assert!(start.elapsed().as_secs() < 30, "{shown}: {:?}", start.elapsed());
    }
}
