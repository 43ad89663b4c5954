//! llama.cpp's importance matrices from before they were GGUFs: `imatrix.dat`.
//!
//! All numbers are little-endian: an i32 with the number of entries; of each entry an i32 with the length of a matrix's
//! name, the name, an i32 with the number of calls, an i32 with the number of values, and these as f32: for each input
//! column the mean square times the calls; of experts, whose matrices are one tensor, the columns of each, one after
//! the other. Later files end with an i32, the number of chunks, and the length and name of the text
//! (`save_legacy_imatrix` in llama.cpp's tools/imatrix/imatrix.cpp).

/// The longest name of a matrix or a text; real ones have some dozens of bytes.
const MAX_NAME_BYTES: usize = 4096;

/// What such a file says.
pub(crate) struct LegacyImatrix {
    pub entries: Vec<LegacyEntry>,
    /// Chunks of text, 0 where the file does not say.
    pub chunks: u32,
    /// The text, where the file says which.
    pub dataset: Option<String>,
}

/// The inputs of a matrix.
pub(crate) struct LegacyEntry {
    pub name: String,
    /// How many times they were looked at.
    pub calls: u32,
    /// For each column the sum over the calls of its mean square.
    pub sums: Vec<f32>,
}

/// Reads such a file; the error says where `bytes` are none, or `None` when nothing in them looks like one.
pub(crate) fn read(bytes: &[u8]) -> Result<LegacyImatrix, Option<String>> {
    let mut cursor = Cursor { bytes, at: 0 };
    let count = cursor.number().filter(|count| *count > 0).ok_or(None)?;
    let mut entries = Vec::new();
    for number in 0..count {
        let at = cursor.at;
        let wrong = |what: &str| Some(format!("entry {} of {count}, at byte {at}: {what}", number + 1));
        // Whether it is such a file at all shows in the first name.
        let name = cursor.text().ok_or_else(|| if number == 0 { None } else { wrong("no name") })?;
        let calls = cursor.number().ok_or_else(|| wrong("no number of calls"))?;
        let values = cursor.number().filter(|values| *values > 0).ok_or_else(|| wrong("no number of values"))?;
        let sums = cursor.floats(values as usize).ok_or_else(|| wrong("its values go beyond the end of the file"))?;
        entries.push(LegacyEntry { name, calls, sums });
    }
    let (chunks, dataset) = (cursor.number().unwrap_or(0), cursor.text());
    Ok(LegacyImatrix { entries, chunks, dataset })
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..)?.get(..len)?;
        self.at += len;
        Some(taken)
    }

    /// A number that is not negative.
    fn number(&mut self) -> Option<u32> {
        let bytes = self.take(4)?;
        u32::try_from(i32::from_le_bytes(bytes.try_into().ok()?)).ok()
    }

    /// A length and so many bytes of text.
    fn text(&mut self) -> Option<String> {
        let len = self.number()? as usize;
        let bytes = self.take(len).filter(|_| (1..=MAX_NAME_BYTES).contains(&len))?;
        std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0')).map(str::to_owned)
    }

    fn floats(&mut self, count: usize) -> Option<Vec<f32>> {
        let bytes = self.take(count.checked_mul(4)?)?;
        Some(bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect())
    }
}
