//! What keys and values depend on besides the tokens of their text.

use std::time::SystemTime;

use quipu_formats::source::Source;

use crate::kv::checksum;

/// Rows of each tensor that are looked at.
const ROWS: usize = 5;

/// A number for the weights. It looks at the names and shapes of all tensors and at some rows of each, and at the size
/// and time of each file: reading all of them would take as long as the first token.
pub(super) fn fingerprint(source: &dyn Source) -> u64 {
    let mut sum = checksum(0, b"quipu");
    for (index, info) in source.tensors().iter().enumerate() {
        let shape = format!("{} {} {} {}", info.name, info.ty().name(), info.rows(), info.cols());
        sum = checksum(sum, shape.as_bytes());
        let last = info.rows() - 1;
        let mut rows: Vec<usize> = (0..ROWS).map(|i| last * i / (ROWS - 1)).collect();
        rows.dedup();
        for row in rows {
            sum = checksum(sum, &source.rows(index, row..row + 1));
        }
    }
    for path in source.files() {
        // A model that is no file has no time.
        let Ok(status) = std::fs::metadata(path) else { continue };
        let changed = status.modified().ok().and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        let changed = changed.map_or(0, |time| time.as_nanos() as u64);
        sum = checksum(checksum(sum, &status.len().to_le_bytes()), &changed.to_le_bytes());
    }
    sum
}
