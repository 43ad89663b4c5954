//! GBNF: what may be written is what its rules say, letter by letter.

use quipu_constrain::Shape;

use crate::walk::{accepts, compile};

#[test]
fn grammars_mean_what_their_rules_say() {
    let list = "# a list of letters, nested\nroot ::= list\nlist ::= \"[\" ws (item (\",\" ws item)*)? \"]\" ws\n\
                item ::= [a-c]+ ws | list\nws ::= | \" \" | \"\\n\" [ \\t]{0,4}\n";
    let sum = "root ::= expr \";\"\nexpr ::= term ([-+] term)*\nterm ::= num | \"(\" expr \")\"\n\
               num ::= \"0\" | [1-9] [0-9]{0,2} (\".\" [0-9]+)?";
    let date = "root ::= year \"-\" two \"-\" two\nyear ::= digit{4}\ntwo ::= digit digit\ndigit ::= [0-9]";
    let odd = "root ::= \"\\x41\\u00e9\\U0001F600\" [^a-z\\n] . maybe?\nmaybe ::= (\"x\" |\n  \"y\") # two\n";
    for (gbnf, texts) in [
        (
            list,
            &[
                ("[]", true),
                ("[ab, [c,[a]\n  ]]", true),
                ("[a", false),
                ("[d]", false),
                ("[a,]", false),
                ("[a  ]", false),
                ("", false),
            ][..],
        ),
        (sum, &[("1+2-(3+(0.5));", false), ("1+2-(3+(7.5));", true), ("0;", true), ("00;", false), ("(1;", false)]),
        (date, &[("2024-11-27", true), ("2024-11-2", false), ("2024-11-271", false)]),
        (odd, &[("Aé😀Zx", true), ("Aé😀Z\ny", true), ("Aé😀zx", false), ("Aé😀", false), ("Aé😀Zxz", false)]),
        ("root ::= \"a\"{2,3} \"b\"*", &[("aa", true), ("aaab", true), ("aaaa", false), ("a", false)]),
        ("root ::= \"\" | \"a\" root \"b\"", &[("", true), ("aabb", true), ("aab", false), ("ba", false)]),
    ] {
        let grammar = compile(&Shape::grammar(gbnf)).unwrap_or_else(|error| panic!("{error}: {gbnf}"));
        for (text, is) in texts {
            assert_eq!(accepts(&*grammar, text), *is, "{text:?} of {gbnf}");
        }
    }
}

/// llama.cpp's grammars: `QUIPU_GBNF` is its directory `grammars`.
#[test]
fn llama_cpps_grammars_are_read() {
    let Some(directory) = std::env::var_os("QUIPU_GBNF") else {
        println!("SKIPPED: QUIPU_GBNF is not set");
        return;
    };
    let mut count = 0;
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "gbnf") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a text");
        let grammar = compile(&Shape::grammar(&text)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for seed in 0..5 {
            let random = &mut quipu_test_random::Random::new(seed);
            let (text, ended) = crate::walk::write(&*grammar, &crate::walk::tokenizer(), random, 200);
            println!("{} {ended} {text:?}", path.file_name().unwrap_or_default().display());
        }
        count += 1;
    }
    assert!(count > 0);
}
