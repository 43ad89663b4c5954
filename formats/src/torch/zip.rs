//! The zip archive of a checkpoint: its central directory, and where each entry lies (PKWARE's APPNOTE 6.3.10, 4.3).
//!
//! PyTorch stores entries as they are, so that they can be mapped; that is all that is read here. Archives above 4 GiB
//! have their sizes in zip64's fields.

use std::collections::HashMap;
use std::ops::Range;

use super::fault::TorchFault;

/// An entry of the archive.
#[derive(Debug)]
pub(super) struct Entry {
    pub name: String,
    /// Its bytes in the file.
    pub range: Range<usize>,
    /// Of its bytes.
    pub crc: u32,
    /// Its bytes are not stored as they are.
    compressed: bool,
}

/// The entries of an archive.
#[derive(Debug)]
pub(super) struct Archive {
    entries: Vec<Entry>,
    index: HashMap<String, usize>,
}

/// The central directory: where it is, and how many entries it has.
struct Directory {
    range: Range<usize>,
    entries: u64,
}

const LOCAL: &[u8] = b"PK\x03\x04";
const LOCAL_LEN: usize = 30;
const CENTRAL: &[u8] = b"PK\x01\x02";
const CENTRAL_LEN: usize = 46;
const END: &[u8] = b"PK\x05\x06";
const END_LEN: usize = 22;
const END64: &[u8] = b"PK\x06\x06";
const END64_LEN: usize = 56;
const LOCATOR: &[u8] = b"PK\x06\x07";
const LOCATOR_LEN: usize = 20;
/// In place of a number that zip64's fields have.
const IN_ZIP64: u64 = 0xffff_ffff;

/// The number of `N` bytes at `at`, which the caller has checked to be there.
fn number<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + N].iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte))
}

/// `len` bytes of `file` from `start`, if they are there.
fn slice(file: &[u8], start: u64, len: usize) -> Option<&[u8]> {
    file.get(usize::try_from(start).ok()?..)?.get(..len)
}

impl Archive {
    /// Reads the directory of the archive `file`.
    pub fn read(file: &[u8]) -> Result<Archive, TorchFault> {
        let directory = find_directory(file)?;
        let mut archive = Archive { entries: Vec::new(), index: HashMap::new() };
        let mut rest = &file[directory.range.clone()];
        // Each takes 46 bytes at least, so that a count which lies ends here, too.
        for _ in 0..directory.entries {
            let entry;
            (entry, rest) = read_entry(file, rest, directory.range.start)?;
            let name = entry.name.clone();
            if archive.index.insert(name.clone(), archive.entries.len()).is_some() {
                return Err(TorchFault::Entry { entry: name, what: "is there twice" });
            }
            archive.entries.push(entry);
        }
        archive.check_overlaps()?;
        Ok(archive)
    }

    /// The entry called `name`.
    ///
    /// # Errors
    /// When it is compressed.
    pub fn find(&self, name: &str) -> Result<Option<&Entry>, TorchFault> {
        let Some(entry) = self.index.get(name).map(|&at| &self.entries[at]) else { return Ok(None) };
        if entry.compressed {
            let what = "is compressed; torch.save stores entries as they are";
            return Err(TorchFault::Entry { entry: name.into(), what });
        }
        Ok(Some(entry))
    }

    /// The names of all entries.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.name.as_str())
    }

    fn check_overlaps(&self) -> Result<(), TorchFault> {
        let mut order: Vec<&Entry> = self.entries.iter().filter(|e| !e.range.is_empty()).collect();
        order.sort_by_key(|entry| entry.range.start);
        for pair in order.windows(2) {
            if pair[0].range.end > pair[1].range.start {
                let (first, second) = (pair[0].name.clone(), pair[1].name.clone());
                return Err(TorchFault::Overlap { first, second });
            }
        }
        Ok(())
    }
}

fn find_directory(file: &[u8]) -> Result<Directory, TorchFault> {
    const NO_END: TorchFault = TorchFault::NoZip { what: "its end is missing" };
    if !file.starts_with(LOCAL) {
        return Err(TorchFault::NoZip { what: "it does not begin like one" });
    }
    // The end is the last 22 bytes, and a comment of up to 64 KiB.
    let last = file.len().checked_sub(END_LEN).ok_or(NO_END)?;
    let is_end = |at: &usize| {
        let comment = number::<2>(file, at + 20) as usize;
        file[*at..].starts_with(END) && at + END_LEN + comment == file.len()
    };
    let end = (last.saturating_sub(0xffff)..=last).rev().find(is_end).ok_or(NO_END)?;
    let (mut entries, mut bytes) = (number::<2>(file, end + 10), number::<4>(file, end + 12));
    let mut start = number::<4>(file, end + 16);
    let locator = end.checked_sub(LOCATOR_LEN).filter(|&at| file[at..].starts_with(LOCATOR));
    if let Some(locator) = locator {
        let at = number::<8>(file, locator + 8);
        let end64 = slice(file, at, END64_LEN).filter(|end| end.starts_with(END64));
        let end64 = end64.ok_or(TorchFault::NoZip { what: "its zip64 end is not where it should be" })?;
        (entries, bytes, start) = (number::<8>(end64, 32), number::<8>(end64, 40), number::<8>(end64, 48));
    }
    let outside = TorchFault::NoZip { what: "its directory lies outside of the file" };
    match usize::try_from(start).ok().zip(start.checked_add(bytes)) {
        // Up to the end record, so both fit usize.
        Some((start, stop)) if stop <= end as u64 => Ok(Directory { range: start..stop as usize, entries }),
        _ => Err(outside),
    }
}

/// Reads the first entry of `rest`, a part of the directory; `limit` is where the directory begins, up to which entries
/// may reach.
fn read_entry<'a>(file: &[u8], rest: &'a [u8], limit: usize) -> Result<(Entry, &'a [u8]), TorchFault> {
    const CUT: TorchFault = TorchFault::NoZip { what: "its directory ends early" };
    let head = rest.get(..CENTRAL_LEN).filter(|head| head.starts_with(CENTRAL)).ok_or(CUT)?;
    let lengths = [28, 30, 32].map(|at| number::<2>(head, at) as usize);
    let rest = &rest[CENTRAL_LEN..];
    let (name, after_name) = rest.split_at_checked(lengths[0]).ok_or(CUT)?;
    let (extra, _) = after_name.split_at_checked(lengths[1]).ok_or(CUT)?;
    let next = rest.get(lengths.iter().sum::<usize>()..).ok_or(CUT)?;

    let name = String::from_utf8_lossy(name).into_owned();
    let fault = |what| TorchFault::Entry { entry: name.clone(), what };
    if number::<2>(head, 8) & 1 != 0 {
        return Err(fault("is encrypted"));
    }
    let compressed = number::<2>(head, 10) != 0;
    // Zip64 has the numbers that do not fit, in this order.
    let mut fields = [number::<4>(head, 24), number::<4>(head, 20), number::<4>(head, 42)];
    let mut wide = zip64_field(extra);
    for field in fields.iter_mut().filter(|field| **field == IN_ZIP64) {
        let (value, others) = wide.split_at_checked(8).ok_or_else(|| fault("has no zip64 sizes"))?;
        (*field, wide) = (number::<8>(value, 0), others);
    }
    let [whole, bytes, local] = fields;
    if whole != bytes && !compressed {
        return Err(fault("has two sizes"));
    }
    let outside = || fault("lies outside of the file");
    let head_there = slice(file, local, LOCAL_LEN).filter(|local| local.starts_with(LOCAL)).ok_or_else(outside)?;
    let before = LOCAL_LEN as u64 + number::<2>(head_there, 26) + number::<2>(head_there, 28);
    let start = local.checked_add(before).ok_or_else(outside)?;
    let end = start.checked_add(bytes).filter(|&end| end <= limit as u64).ok_or_else(outside)?;
    let crc = number::<4>(head, 16) as u32;
    Ok((Entry { name, range: start as usize..end as usize, crc, compressed }, next))
}

/// The data of zip64's extra field; empty when there is none.
fn zip64_field(mut extra: &[u8]) -> &[u8] {
    while let Some((head, rest)) = extra.split_at_checked(4) {
        let (id, len) = (number::<2>(head, 0), number::<2>(head, 2) as usize);
        let Some((data, rest)) = rest.split_at_checked(len) else { break };
        if id == 1 {
            return data;
        }
        extra = rest;
    }
    &[]
}

/// The checksum of zip archives: CRC-32 (ISO 3309).
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let (mut value, mut bit) = (byte as u32, 0);
            while bit < 8 {
                value = if value & 1 == 1 { value >> 1 ^ 0xedb8_8320 } else { value >> 1 };
                bit += 1;
            }
            table[byte] = value;
            byte += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |crc, &byte| crc >> 8 ^ TABLE[(crc as u8 ^ byte) as usize])
}

#[cfg(test)]
mod tests {
    use super::crc32;

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
    }
}
