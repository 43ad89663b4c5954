//! Texts with their pages in a file: what the cache on disk and sessions have in common. `docs/file-format.md` has the
//! bytes.

use std::fmt;

use super::types::PAGE;

const MAGIC: &[u8; 8] = b"QUIPU-KV";
const VERSION: u32 = 2;
/// Bytes before the identity.
const FIXED: usize = 56;
/// Where the checksum of the head stands.
const SUM: usize = FIXED - 8;
/// Pages begin where a line of the cache does.
const ALIGNMENT: usize = 64;

fn mix(h: u64, word: u64) -> u64 {
    (h ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

/// A checksum of words of eight bytes: whatever changes within one word changes it.
pub(crate) fn checksum(start: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let h = words.iter().fold(start, |h, word| mix(h, u64::from_le_bytes(*word)));
    rest.iter().fold(mix(h, bytes.len() as u64), |h, &byte| mix(h, u64::from(byte)))
}

/// The checksum of a page, of its parts one after the other.
pub(super) fn page_checksum<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    parts.into_iter().map(part_checksum).fold(0, mix)
}

/// Four sums like [`checksum`]'s, of every fourth word each, which take a quarter of the time of one, and then the sum
/// of these.
fn part_checksum(bytes: &[u8]) -> u64 {
    let (fours, rest) = bytes.as_chunks::<32>();
    let mut sums = [0, 1, 2, 3];
    for four in fours {
        for (sum, word) in sums.iter_mut().zip(four.as_chunks::<8>().0) {
            *sum = mix(*sum, u64::from_le_bytes(*word));
        }
    }
    checksum(sums.into_iter().fold(bytes.len() as u64, mix), rest)
}

/// What stands before the pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// What keys and values depend on besides the text.
    pub(crate) identity: String,
    /// What else is kept with the text; nothing in a cache.
    pub(crate) state: Vec<u8>,
    pub(crate) text: Vec<u32>,
    /// Tokens of the text whose keys and values there are.
    pub(crate) filled: usize,
    /// The number of the first page.
    pub(crate) first: usize,
    /// Groups of layers: parts of a page.
    pub(crate) groups: usize,
    /// Bytes of a page, of all groups together.
    pub(crate) page_bytes: usize,
    /// The checksum of each page.
    pub(crate) sums: Vec<u64>,
}

/// Why a file holds no pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Foreign,
    Version(u32),
    /// It has another length than it says.
    Length,
    Checksum,
    /// Its numbers contradict each other.
    Numbers,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Foreign => f.write_str("it does not begin with QUIPU-KV"),
            Fault::Version(found) => write!(f, "its format has version {found}, and this program reads {VERSION}"),
            Fault::Length => f.write_str("it is not as long as it says: it was cut off, or something was added"),
            Fault::Checksum => f.write_str("its checksum is wrong: it was damaged"),
            Fault::Numbers => f.write_str("its numbers contradict each other"),
        }
    }
}

impl Head {
    /// Bytes before the pages.
    pub(crate) fn len(&self) -> usize {
        let Head { identity, state, text, sums, .. } = self;
        (FIXED + identity.len() + state.len() + 4 * text.len() + 8 * sums.len()).next_multiple_of(ALIGNMENT)
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let Head { identity, state, text, sums, .. } = self;
        let mut bytes = Vec::with_capacity(self.len());
        bytes.extend_from_slice(MAGIC);
        let numbers = [identity.len(), state.len(), text.len(), self.filled, self.first, sums.len(), self.groups];
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        numbers.iter().for_each(|&n| bytes.extend_from_slice(&(n as u32).to_le_bytes()));
        bytes.extend_from_slice(&(self.page_bytes as u64).to_le_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(identity.as_bytes());
        bytes.extend_from_slice(state);
        text.iter().for_each(|token| bytes.extend_from_slice(&token.to_le_bytes()));
        sums.iter().for_each(|sum| bytes.extend_from_slice(&sum.to_le_bytes()));
        bytes.resize(self.len(), 0);
        let sum = checksum(0, &bytes);
        bytes[SUM..FIXED].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// The head of a whole file and its pages, whose checksums are yet to be looked at. Nothing is allocated for what
    /// the file does not have.
    pub(crate) fn parse(file: &[u8]) -> Result<(Head, &[u8]), Fault> {
        let Some(fixed) = file.first_chunk::<FIXED>().filter(|fixed| fixed.starts_with(MAGIC)) else {
            return Err(Fault::Foreign);
        };
        let word = |at: usize| u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
        if word(8) != VERSION {
            return Err(Fault::Version(word(8)));
        }
        let [identity, state, text, filled, first, pages, groups] =
            [12, 16, 20, 24, 28, 32, 36].map(|at| word(at) as usize);
        let page_bytes = u64::from(word(40)) | u64::from(word(44)) << 32;
        // Numbers of 32 bits, of which few are multiplied: no sum of these overflows.
        let head = (FIXED + identity + state + 4 * text + 8 * pages).next_multiple_of(ALIGNMENT);
        let all = (pages as u64).checked_mul(page_bytes).and_then(|bytes| bytes.checked_add(head as u64));
        if all != Some(file.len() as u64) {
            return Err(Fault::Length);
        }
        let (head, data) = file.split_at(head);
        let mut zeroed = head.to_vec();
        let sum = u64::from_le_bytes(fixed[SUM..].try_into().unwrap_or_default());
        zeroed[SUM..FIXED].fill(0);
        if checksum(0, &zeroed) != sum {
            return Err(Fault::Checksum);
        }
        let mut rest = &head[FIXED..];
        let mut take = |n: usize| {
            let (part, others) = rest.split_at(n);
            rest = others;
            part
        };
        let identity = String::from_utf8(take(identity).to_vec()).map_err(|_| Fault::Numbers)?;
        let state = take(state).to_vec();
        let text: Vec<u32> = take(4 * text).as_chunks().0.iter().map(|token| u32::from_le_bytes(*token)).collect();
        let sums = take(8 * pages).as_chunks().0.iter().map(|sum| u64::from_le_bytes(*sum)).collect();
        if filled > text.len() || filled.div_ceil(PAGE) != first + pages {
            return Err(Fault::Numbers);
        }
        let page_bytes = usize::try_from(page_bytes).map_err(|_| Fault::Length)?;
        Ok((Head { identity, state, text, filled, first, groups, page_bytes, sums }, data))
    }
}
