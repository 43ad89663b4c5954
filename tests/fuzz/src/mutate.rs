//! Changes at random.

use quipu_test_random::Random;

/// Numbers at which something changes.
const EDGES: [u64; 22] = [
    0,
    1,
    2,
    7,
    8,
    16,
    31,
    32,
    64,
    127,
    128,
    255,
    256,
    65535,
    65536,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    (1 << 63) - 1,
    1 << 63,
    u64::MAX,
];

/// The largest input.
const LONGEST: usize = 1 << 17;

/// An input made of `pool`: one of it with up to eight changes.
pub(crate) fn mutant(pool: &[Vec<u8>], words: &[&str], random: &mut Random) -> Vec<u8> {
    // As often an early one as a late one: early ones are valid, late ones went somewhere new.
    let mut bytes = pool[random.below(pool.len())].clone();
    for _ in 0..1 << random.below(4) {
        change(&mut bytes, pool, words, random);
    }
    bytes.truncate(LONGEST);
    bytes
}

/// A place, more often near the start: there the formats have their headers.
fn place(len: usize, random: &mut Random) -> usize {
    let span = [64, 512, 4096, len, len][random.below(5)].min(len);
    random.below(span.max(1))
}

fn change(bytes: &mut Vec<u8>, pool: &[Vec<u8>], words: &[&str], random: &mut Random) {
    let at = place(bytes.len(), random);
    let some = [1, 2, 4, 8, 16, 64, 256][random.below(7)];
    let edge = EDGES[random.below(EDGES.len())];
    match random.below(14) {
        0 => bytes.insert(at.min(bytes.len()), random.byte()),
        1..=2 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        3 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random.byte();
            }
        }
        4 => drop(bytes.drain(at.min(bytes.len())..bytes.len().min(at + some))),
        5 => {
            // A part again, or somewhere else.
            let part = bytes[at.min(bytes.len())..bytes.len().min(at + some)].to_vec();
            let to = place(bytes.len(), random);
            bytes.splice(to..to, part);
        }
        6 => {
            // A part many times.
            let part = bytes[at.min(bytes.len())..bytes.len().min(at + some)].repeat(1 << random.below(8));
            bytes.splice(at..at, part);
        }
        7 => {
            let width = [1, 2, 4, 8][random.below(4)];
            bytes.iter_mut().skip(at).zip(&edge.to_le_bytes()[..width]).for_each(|(byte, new)| *byte = *new);
        }
        8 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = byte.wrapping_add([1, 255, 8, 248][random.below(4)]);
            }
        }
        9 => number(bytes, at, edge, random),
        10..=11 if !words.is_empty() => {
            let word = words[random.below(words.len())].bytes();
            let over = if random.below(2) == 0 { word.len() } else { 0 };
            bytes.splice(at..bytes.len().min(at + over), word);
        }
        12 => {
            // The start of this one and the end of another.
            let other = &pool[random.below(pool.len())];
            let from = place(other.len(), random);
            bytes.truncate(at);
            bytes.extend(&other[from.min(other.len())..]);
        }
        _ if random.below(3) == 0 => bytes.truncate(at),
        _ => {}
    }
}

/// Another number in the place of the next one that is written in digits.
fn number(bytes: &mut Vec<u8>, at: usize, edge: u64, random: &mut Random) {
    let Some(start) = bytes.iter().skip(at).position(u8::is_ascii_digit).map(|i| i + at) else { return };
    let end = bytes[start..].iter().position(|byte| !byte.is_ascii_digit()).map_or(bytes.len(), |i| i + start);
    let text = match random.below(4) {
        0 => format!("-{edge}"),
        1 => format!("{edge}.5"),
        2 => format!("{edge}e{edge}"),
        _ => edge.to_string(),
    };
    bytes.splice(start..end, text.into_bytes());
}
