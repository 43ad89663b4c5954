//! GBNF, llama.cpp's notation of grammars, as Lark.
//!
//! GBNF knows no words: its rules go on letter by letter. Lark has terminals, which a lexer reads, the longest first.
//! So whatever in a grammar does not lead back to itself becomes one terminal, as large as it can be, and means the
//! same as before; only what is recursive stays a rule. Where two terminals meet at the edge of a recursive rule and
//! the first could take letters of the second, the longer reading alone is left: then fewer texts may be written than
//! the grammar has, never others.
//!
//! - `syntax`: what a grammar is made of; `read`: from text to that; `write`: from that to Lark.

mod read;
mod syntax;
mod write;

use crate::error::ShapeError;

/// The grammar in Lark.
///
/// # Errors
/// [`ShapeError::Grammar`] with the line of what is no GBNF, and [`ShapeError::TooLarge`].
pub fn to_lark(text: &str) -> Result<String, ShapeError> {
    let problem = |problem| ShapeError::Grammar { kind: "GBNF grammar", problem };
    let rules = read::read(text).map_err(problem)?;
    write::write(&rules).map_err(problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_gbnf_is_named_with_its_line() {
        for (text, expected) in [
            ("", "there is no rule `root`"),
            ("rot ::= \"a\"", "there is no rule `root`"),
            ("root ::= a\n", "line 1: there is no rule `a`"),
            ("root ::= \"a\nb\"", "line 1: the text has no end"),
            ("root ::= \"a\"\n\nroot ::= \"b\"", "line 3: there is a rule `root` already"),
            ("root ::= [a-", "line 1: the class has no end"),
            ("root ::= (\"a\"", "line 1: a `)` is missing"),
            ("root ::= \"a\" )", "line 1: `)` does not belong here"),
            ("root ::= \"\\q\"", "line 1: the escape `\\q` is not known"),
            ("root ::= \"a\"{3,2}", "line 1: a repetition must be"),
            ("root = \"a\"", "line 1: a rule is `name ::= …`"),
            ("root ::= *", "line 1: there is nothing to be repeated"),
            ("root ::= root", "`root` never comes to an end"),
            ("root ::= a \"x\"\na ::= \"b\" a", "never comes to an end"),
        ] {
            let error = to_lark(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
        let deep = format!("root ::= {}\"a\"{}", "(".repeat(500), ")".repeat(500));
        assert!(to_lark(&deep).unwrap_err().to_string().contains("deep"));
        let huge = "root ::= (((\"a\"{1000}){1000}){1000})";
        assert!(to_lark(huge).unwrap_err().to_string().contains("too many"), "{:?}", to_lark(huge));
    }
}
