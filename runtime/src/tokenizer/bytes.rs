//! The two ways in which vocabularies write bytes.

/// GPT-2's alphabet: each byte is one printable character. Printable Latin-1 bytes stand for themselves, the other 68
/// follow from U+0100 on, in order (`bytes_to_unicode` in OpenAI's gpt-2/src/encoder.py).
pub(super) fn byte_to_char(byte: u8) -> char {
    let shifted = match byte {
        0x00..=0x20 => 0x100 + u32::from(byte),
        0x7F..=0xA0 => 0x121 + u32::from(byte - 0x7F),
        0xAD => 0x143,
        _ => u32::from(byte),
    };
    char::from_u32(shifted).expect("below the surrogates")
}

/// The inverse of [`byte_to_char`].
pub(super) fn char_to_byte(c: char) -> Option<u8> {
    match u32::from(c) {
        x @ (0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF) => Some(x as u8),
        x @ 0x100..=0x120 => Some((x - 0x100) as u8),
        x @ 0x121..=0x142 => Some((x - 0x121) as u8 + 0x7F),
        0x143 => Some(0xAD),
        _ => None,
    }
}

/// The bytes that a piece in GPT-2's alphabet stands for; `None` when it has other characters.
pub(super) fn from_alphabet(piece: &str) -> Option<Vec<u8>> {
    piece.chars().map(char_to_byte).collect()
}

/// The byte of a SentencePiece byte piece, `<0x0A>`.
pub(super) fn byte_piece(piece: &str) -> Option<u8> {
    let digits = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    let two_digits = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    two_digits.then(|| u8::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_is_the_published_one() {
        // encoder.py: the printable ranges, then all other bytes, counted from 256 in ascending order.
        let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
        let mut others = 256u32..;
        for byte in 0..=255u8 {
            let expected = if printable(byte) { u32::from(byte) } else { others.next().unwrap() };
            assert_eq!(u32::from(byte_to_char(byte)), expected);
            assert_eq!(char_to_byte(byte_to_char(byte)), Some(byte));
        }
        assert_eq!((0..=0x10FFFF).filter_map(char::from_u32).filter_map(char_to_byte).count(), 256);
        assert_eq!(byte_to_char(b' '), 'Ġ');
        assert_eq!(from_alphabet("Ġé"), Some(vec![b' ', 0xE9]));
        assert_eq!(from_alphabet("a b"), None);
    }

    #[test]
    fn byte_pieces() {
        assert_eq!(byte_piece("<0x0A>"), Some(10));
        assert_eq!(byte_piece("<0xff>"), Some(255));
        for wrong in ["<0x+1>", "<0x1>", "<0x123>", "0x0A", "<0xG0>", "<0x0A", ""] {
            assert_eq!(byte_piece(wrong), None, "{wrong}");
        }
    }
}
