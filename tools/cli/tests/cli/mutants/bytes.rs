//! Numbers at which something changes, and changes of bytes that know nothing of the format.

use quipu_test_random::Random;

/// Numbers at which something changes.
const INTEGERS: [u64; 27] = [
    0,
    1,
    2,
    3,
    5,
    7,
    15,
    16,
    17,
    31,
    32,
    33,
    63,
    64,
    127,
    128,
    255,
    256,
    300,
    65535,
    65536,
    1 << 24,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 63,
    u64::MAX,
];

/// One of them.
pub fn integer(random: &mut Random) -> u64 {
    INTEGERS[random.below(INTEGERS.len())]
}

/// Bytes, wherever they are: others, fewer, or numbers at which something changes.
pub fn mutate_bytes(bytes: &mut Vec<u8>, random: &mut Random) -> String {
    for _ in 0..1 + random.below(8) {
        if bytes.is_empty() {
            break;
        }
        let span = [64, 1024, 16384, bytes.len()][random.below(4)].min(bytes.len());
        let at = random.below(span);
        let number = integer(random).to_le_bytes();
        match random.below(4) {
            0 => bytes[at] = random.byte(),
            1 => bytes.iter_mut().skip(at).zip(number).for_each(|(byte, new)| *byte = new),
            2 => bytes.iter_mut().skip(at).zip(&number[..4]).for_each(|(byte, new)| *byte = *new),
            _ => drop(bytes.drain(at..bytes.len().min(at + 1 + random.below(100)))),
        }
    }
    if random.below(3) == 0 {
        bytes.truncate(random.below(bytes.len() + 1));
    }
    "other bytes".into()
}
