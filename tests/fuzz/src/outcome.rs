//! What became of an input, in words.

use std::fmt::Display;

/// The most words that tell one outcome from another.
const MOST: usize = 16;

/// The outcome of an error: its first words. Numbers and what it quotes of the input say nothing new.
pub(crate) fn outcome(error: impl Display) -> String {
    let message = error.to_string();
    let (mut unquoted, mut quote, mut chars) = (String::new(), None, message.chars());
    while let Some(c) = chars.next() {
        match quote {
            // What is escaped does not end it.
            Some(_) if c == '\\' => drop(chars.next()),
            Some(end) if c == end => quote = None,
            Some(_) => {}
            None if c == '`' || c == '"' => quote = Some(c),
            None => unquoted.push(c),
        }
    }
    // Shorter ones may be bytes in hexadecimal.
    let words = unquoted.split(|c: char| !c.is_ascii_lowercase()).filter(|word| word.len() > 2);
    words.take(MOST).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::outcome;

    #[test]
    fn an_outcome_is_the_words_of_a_message() {
        assert_eq!(outcome(r#"m: tensor "a \" b": 17 bytes of ef c0, `x` is expected"#), "tensor bytes expected");
    }
}
