//! Models in several files, as `llama-gguf-split` makes them.
//!
//! Part `n` of `m` is called `NAME-0000n-of-0000m.gguf`. The first has the model's keys; each has tensors of its own,
//! and the keys [`NUMBER_KEY`] (from 0), [`COUNT_KEY`] and [`TENSORS_KEY`] (of all parts together).

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use super::fault::GgufFault;
use super::value::{Metadata, Required, Value};

/// The number of this part, from 0.
pub(crate) const NUMBER_KEY: &str = "split.no";
/// The number of parts.
pub(crate) const COUNT_KEY: &str = "split.count";
/// The tensors in all parts.
pub(crate) const TENSORS_KEY: &str = "split.tensors.count";

/// What a part says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Split {
    /// From 0.
    pub number: usize,
    pub count: usize,
    pub tensors: Option<usize>,
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "part {} of {}", self.number + 1, self.count)
    }
}

impl Split {
    /// `None` for a model in one file, which may say so.
    pub fn read(metadata: &Metadata) -> Result<Option<Split>, GgufFault> {
        let Some(count @ 2..) = metadata.usize_opt(COUNT_KEY)? else { return Ok(None) };
        let number = metadata.usize_opt(NUMBER_KEY).required(NUMBER_KEY)?;
        Ok(Some(Split { number, count, tensors: metadata.usize_opt(TENSORS_KEY)? }))
    }
}

/// The keys of part `number`, from 0, of `count` with `tensors` tensors together, of llama-gguf-split's types.
pub(super) fn set_keys(metadata: &mut Metadata, number: usize, count: usize, tensors: usize) {
    // Whoever writes them has checked that they are small.
    metadata.set(NUMBER_KEY, Value::U16(number as u16));
    metadata.set(COUNT_KEY, Value::U16(count as u16));
    metadata.set(TENSORS_KEY, Value::I32(tensors as i32));
}

/// Removes these keys: what is made of a model in parts is no part of it.
pub(crate) fn remove_keys(metadata: &mut Metadata) {
    [NUMBER_KEY, COUNT_KEY, TENSORS_KEY].into_iter().for_each(|key| drop(metadata.remove(key)));
}

/// The parts of a model of `count`, one of which has the path `path`: its number by its name, from 0, and the paths of
/// all. `None` if the name does not say that it is one of so many.
pub(super) fn parts_beside(path: &Path, count: usize) -> Option<(usize, impl Fn(usize) -> PathBuf)> {
    let (name, extension) = (path.file_stem()?.to_str()?, path.extension());
    // NAME-00001-of-00003
    let (rest, total) = name.rsplit_once("-of-")?;
    let (stem, own) = rest.rsplit_once('-')?;
    let number = |digits: &str| digits.parse::<usize>().ok().filter(|_| digits.len() >= 5 && !digits.starts_with('+'));
    let own = number(own)?.checked_sub(1)?;
    let path_of = move |number| path.with_file_name(part_name(OsStr::new(stem), extension, number, count));
    (number(total)? == count).then_some((own, path_of))
}

/// `STEM-00001-of-00003.EXTENSION` for part 0 of 3.
pub(super) fn part_name(stem: &OsStr, extension: Option<&OsStr>, number: usize, count: usize) -> OsString {
    let mut name = stem.to_owned();
    name.push(format!("-{:05}-of-{count:05}", number + 1));
    if let Some(extension) = extension {
        name.push(".");
        name.push(extension);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_by_their_names() {
        let third = |path: &str| {
            let (number, path_of) = parts_beside(Path::new(path), 3)?;
            Some((number, path_of(2).display().to_string()))
        };
        let found = |number: usize, path: &str| Some((number, path.to_string()));
        assert_eq!(third("d/m-00001-of-00003.gguf"), found(0, "d/m-00003-of-00003.gguf"));
        assert_eq!(third("a-b.c-00002-of-00003.quipu"), found(1, "a-b.c-00003-of-00003.quipu"));
        assert_eq!(third("-00001-of-00003"), found(0, "-00003-of-00003"));
        for other in [
            "m.gguf",
            "m-1-of-3.gguf",
            "m-00001-of-00004.gguf",
            "m-0000x-of-00003.gguf",
            "00001-of-00003.gguf",
            "m-00000-of-00003.gguf",
        ] {
            assert_eq!(third(other), None, "{other}");
        }
    }
}
