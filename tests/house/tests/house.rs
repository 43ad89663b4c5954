//! The workspace keeps the rules of the house.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use quipu_house::circles::circles;
use quipu_house::lexer::{Token, lex};
use quipu_house::modules::imports;
use quipu_house::workspace::{Member, crate_roots, files, members, root};

/// The floors of the house, from the ground up (docs/design.md): a package knows packages of lower floors only.
const FLOORS: &[&[&str]] = &[
    &["quipu-test-random"],
    &["quipu-quant", "quipu-demo"],
    &["quipu-formats", "quipu-kernels"],
    &["quipu-runtime", "quipu-test-script"],
    &["quipu-constrain"],
    &["quipu-measure", "quipu-server", "quipu-store"],
    &["quipu", "quipu-python", "quipu-embed"],
    &["quipu-bench", "quipu-tests", "quipu-house", "quipu-fuzz-targets"],
];

/// Where `unsafe` may stand (docs/design.md, "Rules of the house"), and why.
const UNSAFE: &[(&str, &str)] = &[
    ("kernels-simd/", "intrinsics"),
    ("bench/benches/", "runs kernels"),
    ("runtime/src/pool.rs", "hands parts of an output to workers"),
    ("runtime/src/host/system/", "asks the system about the machine"),
    ("formats/src/map.rs", "maps files"),
    ("formats/src/lock.rs", "keeps memory from being swapped out"),
    ("tools/cli/src/fatal.rs", "handles signals that end the process"),
    ("tools/cli/src/console.rs", "hears Windows' console"),
    ("embed/", "the border to C"),
    ("tests/tests/no_allocation.rs", "an allocator that counts"),
    ("tests/bochs/init.rs", "the first process of an emulated machine"),
];

/// A comment's line may be as long as rustfmt makes a line of code.
const COLUMNS: usize = 120;

/// What a newcomer reads in one sitting.
const LINES: usize = 500;

/// Prints what breaks a rule, one a line, and fails if anything does.
fn none(rule: &str, broken: &[String]) {
    for line in broken {
        println!("{line}");
    }
    assert!(broken.is_empty(), "{rule}: {} found\n{}", broken.len(), broken.join("\n"));
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// The circles of all crates of a package, each as a chain of files with the lines that import.
fn circles_of(member: &Member) -> Vec<String> {
    let read = |path: &Path| fs::read_to_string(root().join(path)).ok();
    let mut found = BTreeSet::new();
    for crate_root in crate_roots(&root().join(&member.directory)) {
        let imports = imports(Path::new(&relative(&crate_root)), &read);
        for circle in circles(&imports.graph()) {
            let mut chain = circle[0].clone();
            for pair in circle.windows(2) {
                let import = &imports.arrows[&(pair[0].clone(), pair[1].clone())];
                chain += &format!(":{} ({}) → {}", import.line, import.path, pair[1]);
            }
            found.insert(chain);
        }
    }
    found.into_iter().collect()
}

#[test]
fn no_file_imports_one_that_imports_it() {
    let broken: Vec<_> = members(&root()).iter().flat_map(circles_of).collect();
    none("import circles", &broken);
}

#[test]
fn arrows_between_crates_point_down() {
    let members = members(&root());
    let floor = |name: &str| FLOORS.iter().position(|floor| floor.contains(&name));
    let mut broken = Vec::new();
    for member in &members {
        let Some(own) = floor(&member.name) else {
            broken.push(format!("{} has no floor in this test and in docs/design.md", member.name));
            continue;
        };
        for other in &member.depends_on {
            if floor(other).is_none_or(|other| other >= own) {
                broken.push(format!("{} depends on {other}, which is not below it", member.name));
            }
        }
    }
    none("crate arrows", &broken);
}

#[test]
fn unsafe_stands_where_the_design_allows_it() {
    let mut broken = Vec::new();
    for path in files(&root(), &[".rs"]) {
        let name = relative(&path);
        if UNSAFE.iter().any(|(place, _)| name.starts_with(place)) {
            continue;
        }
        let source = lex(&fs::read_to_string(&path).expect("a source file is UTF-8"));
        let is_unsafe = |token: &&(Token, usize)| token.0 == Token::Ident("unsafe".into());
        if let Some((_, line)) = source.tokens.iter().find(is_unsafe) {
            broken.push(format!("{name}:{line}: unsafe"));
        }
    }
    none("unsafe", &broken);
}

#[test]
fn a_file_is_read_in_one_sitting() {
    let mut broken = Vec::new();
    for path in files(&root(), &[".rs"]) {
        let lines = fs::read_to_string(&path).expect("a source file is UTF-8").lines().count();
        if lines > LINES {
            broken.push(format!("{}: {lines} lines", relative(&path)));
        }
    }
    none("long files", &broken);
}

#[test]
fn comments_keep_to_the_columns_of_code() {
    let mut broken = Vec::new();
    for path in files(&root(), &[".rs", ".toml", "run"]).into_iter().chain([root().join(".ci/run")]) {
        let text = fs::read_to_string(&path).expect("a source file is UTF-8");
        let lines: Vec<_> = text.lines().collect();
        let comments: Vec<_> = if path.extension().is_some_and(|extension| extension == "rs") {
            lex(&text).comment_lines
        } else {
            let is_comment = |(at, line): (usize, &&str)| line.trim_start().starts_with('#').then_some(at + 1);
            lines.iter().enumerate().filter_map(is_comment).collect()
        };
        for line in comments {
            let columns = lines[line - 1].chars().count();
            // The row of a table cannot be broken.
            let table = lines[line - 1].trim_start().trim_start_matches(['/', '!', ' ']).starts_with('|');
            if columns > COLUMNS && !table {
                broken.push(format!("{}:{line}: {columns} columns", relative(&path)));
            }
        }
    }
    none("long comments", &broken);
}

/// The program adds which option helps; a library may be called by anything.
#[test]
fn no_message_of_a_library_names_an_option_of_the_program() {
    // `--name`, but not the middle of a word; and another program may be told of with its options.
    let names_an_option = |line: &str| {
        let is_option = |(at, _)| {
            let (before, after): (&str, &str) = (&line[..at], &line[at + 2..]);
            !before.ends_with(char::is_alphanumeric) && after.starts_with(|c: char| c.is_ascii_lowercase())
        };
        line.match_indices("--").any(is_option) && !line.contains("llama-gguf-split")
    };
    let mut broken = Vec::new();
    for member in members(&root()).iter().filter(|member| member.name != "quipu") {
        for path in files(&root().join(&member.directory).join("src"), &[".rs"]) {
            let text = fs::read_to_string(&path).expect("a source file is UTF-8");
            let comments = lex(&text).comment_lines;
            for (at, line) in text.lines().enumerate() {
                if names_an_option(line) && comments.binary_search(&(at + 1)).is_err() {
                    broken.push(format!("{}:{}: {}", relative(&path), at + 1, line.trim()));
                }
            }
        }
    }
    none("options in messages", &broken);
}
