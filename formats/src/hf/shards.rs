//! Which files of weights a directory has, and which weights are in which.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use super::error::{HfError, WeightsFault};
use super::json::{MAX_SMALL_BYTES, read_json};
use super::native;
use super::stored::{Place, Stored};
use super::weight::Weight;
use crate::map::MappedFile;
use crate::oddity::Oddity;
use crate::safetensors::{SafeTensor, SafetensorsFile, StringPairs};
use crate::torch::{Numbers, TorchFile, TorchTensor};

/// How the weights of a directory are kept.
#[derive(Clone, Copy)]
enum Kind {
    Safetensors,
    Torch,
}

impl Kind {
    /// In the order in which they are looked for, which is transformers'.
    const ALL: [Kind; 2] = [Kind::Safetensors, Kind::Torch];

    /// The file that has all weights.
    fn single(self) -> &'static str {
        match self {
            Kind::Safetensors => "model.safetensors",
            Kind::Torch => "pytorch_model.bin",
        }
    }

    /// The list of files that have a part each.
    fn index(self) -> &'static str {
        match self {
            Kind::Safetensors => "model.safetensors.index.json",
            Kind::Torch => "pytorch_model.bin.index.json",
        }
    }
}

/// The open files of a directory, and where each weight is.
#[derive(Debug, Default)]
pub(super) struct Shards {
    pub files: Vec<MappedFile>,
    pub weights: Vec<Weight>,
    /// By name: the number of the weight, and that of the file that has it.
    pub index: HashMap<String, (usize, usize)>,
    /// The tensors that an index lists in a file that does not have them, each with that file. Nothing is wrong as long
    /// as the model does not have them either, such as the output matrix where it is the embedding.
    pub absent: HashMap<String, String>,
    pub oddities: Vec<Oddity>,
    /// The rows of q and k are in the order in which RoPE turns neighbours, as GGUF has them.
    pub neighbours: bool,
}

#[derive(serde::Deserialize)]
struct IndexJson {
    weight_map: StringPairs,
}

impl Shards {
    /// Opens the one file of weights, or else the files that an index names, or else all files that their names count.
    pub fn open(dir: &Path) -> Result<Shards, HfError> {
        for kind in Kind::ALL {
            let single = dir.join(kind.single());
            if single.exists() {
                let mut shards = Shards::default();
                shards.add(dir, kind, &single)?;
                return Ok(shards);
            }
            let index_path = dir.join(kind.index());
            if let Some(index) = read_json::<IndexJson>(&index_path, MAX_SMALL_BYTES)? {
                return Shards::open_listed(dir, kind, &index_path, index.weight_map.0);
            }
        }
        for kind in Kind::ALL {
            let Some(names) = numbered(dir, kind) else { continue };
            let mut shards = Shards::default();
            for name in &names {
                shards.add(dir, kind, &dir.join(name))?;
            }
            shards.oddities.push(Oddity::NoIndex { files: names.len() });
            return Ok(shards);
        }
        match native::files(dir).as_slice() {
            [] => Err(HfError::weights(dir, WeightsFault::NoWeights { found: what_instead(dir) })),
            files => Shards::open_native(dir, files),
        }
    }

    /// Opens files of Meta's or Mistral's layout, each with a part of every matrix.
    fn open_native(dir: &Path, paths: &[PathBuf]) -> Result<Shards, HfError> {
        let mut shards = Shards { neighbours: true, ..Shards::default() };
        let mut parts: BTreeMap<String, Vec<Weight>> = BTreeMap::new();
        for (number, path) in paths.iter().enumerate() {
            let kind = if path.extension().is_some_and(|e| e == "pth") { Kind::Torch } else { Kind::Safetensors };
            let (map, weights) = open_file(kind, path, number)?;
            shards.files.push(map);
            for (name, weight) in weights {
                parts.entry(native::hugging_face_name(&name)).or_default().push(weight);
            }
        }
        let width = parts.get("model.norm.weight").and_then(|norm| norm[0].shape.first().copied()).unwrap_or(0);
        for (name, parts) in parts {
            let weight =
                native::join(&name, parts, paths.len(), width).map_err(|fault| HfError::weights(dir, fault))?;
            shards.index.insert(name, (shards.weights.len(), 0));
            shards.weights.push(weight);
        }
        Ok(shards)
    }

    /// The shape of the weight called `name`.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.index.get(name).map(|&(weight, _)| self.weights[weight].shape.clone())
    }

    fn open_listed(
        dir: &Path,
        kind: Kind,
        index_path: &Path,
        listed: Vec<(String, String)>,
    ) -> Result<Shards, HfError> {
        let in_index = |fault| HfError::weights(index_path, fault);
        if listed.is_empty() {
            return Err(in_index(WeightsFault::EmptyIndex));
        }
        let mut shards = Shards::default();
        let mut file_numbers = HashMap::new();
        let mut listed_in: HashMap<&str, &str> = HashMap::with_capacity(listed.len());
        for (tensor, shard) in &listed {
            if listed_in.insert(tensor, shard).is_some() {
                return Err(in_index(WeightsFault::ListedTwice { tensor: tensor.clone() }));
            }
            if file_numbers.contains_key(shard.as_str()) {
                continue;
            }
            if !is_plain_name(shard) {
                return Err(in_index(WeightsFault::ShardName { shard: shard.clone() }));
            }
            if !dir.join(shard).exists() {
                let (tensor, shard) = (tensor.clone(), shard.clone());
                return Err(in_index(WeightsFault::MissingShard { shard, tensor }));
            }
            file_numbers.insert(shard.as_str(), shards.files.len());
            shards.add(dir, kind, &dir.join(shard))?;
        }
        // Where a tensor is, the files themselves say.
        shards.absent = listed.into_iter().filter(|(tensor, _)| !shards.index.contains_key(tensor)).collect();
        Ok(shards)
    }

    /// Adds the file at `path` with all its weights.
    fn add(&mut self, dir: &Path, kind: Kind, path: &Path) -> Result<(), HfError> {
        let number = self.files.len();
        let (map, weights) = open_file(kind, path, number)?;
        self.files.push(map);
        for (name, weight) in weights {
            self.weights.push(weight);
            if let Some((_, other)) = self.index.insert(name.clone(), (self.weights.len() - 1, number)) {
                let file = |i: usize| self.files[i].path().file_name().unwrap_or_default().to_string_lossy().into();
                let fault = WeightsFault::InTwoShards { tensor: name, first: file(other), second: file(number) };
                return Err(HfError::weights(dir, fault));
            }
        }
        Ok(())
    }
}

/// Opens the file at `path`, which becomes file number `file`: its weights by name.
fn open_file(kind: Kind, path: &Path, file: usize) -> Result<(MappedFile, Vec<(String, Weight)>), HfError> {
    Ok(match kind {
        Kind::Safetensors => {
            let (map, tensors) = SafetensorsFile::open(path)?.into_parts();
            let weight = |SafeTensor { name, dtype, shape, range }| {
                (name, Stored { dtype, shape, file, place: Place::Lying(range) }.into())
            };
            (map, tensors.into_iter().map(weight).collect())
        }
        Kind::Torch => {
            let (map, tensors) = TorchFile::open(path)?.into_parts();
            let weight = |TorchTensor { name, dtype, shape, numbers }| {
                let place = match numbers {
                    Numbers::Contiguous(range) => Place::Lying(range),
                    Numbers::Strided(numbers) => Place::Strided(numbers),
                };
                (name, Stored { dtype, shape, file, place }.into())
            };
            (map, tensors.into_iter().map(weight).collect())
        }
    })
}

/// The names of parts `1` to `N` of `N`, as transformers numbers them, when all of these files are there.
fn numbered(dir: &Path, kind: Kind) -> Option<Vec<String>> {
    let (stem, end) = kind.single().rsplit_once('.')?;
    let entries = std::fs::read_dir(dir).ok()?.flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| name.starts_with(&format!("{stem}-")) && name.ends_with(&format!(".{end}")));
    names.sort();
    let count = names.len();
    let expected = (1..=count).map(|number| format!("{stem}-{number:05}-of-{count:05}.{end}"));
    (count > 0 && expected.eq(names.iter().cloned())).then_some(names)
}

/// True when `name` is that of a file in the same directory: an index from outside must not reach elsewhere.
fn is_plain_name(name: &str) -> bool {
    let mut components = Path::new(name).components();
    let only = (components.next(), components.next());
    matches!(only, (Some(Component::Normal(part)), None) if part == OsStr::new(name)) && !name.contains(['\\', '\0'])
}

/// What a directory without weights has in their place, as advice.
fn what_instead(dir: &Path) -> String {
    let ends_with = |end: &str| {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|e| e.file_name().to_string_lossy().into_owned()).filter(|n| n.ends_with(end)).min()
    };
    if let Some(name) = ends_with(".gguf") {
        format!("there is {name}: give that file instead of the directory")
    } else if let Some(name) = ends_with(".safetensors") {
        format!("there is {name}, but no index that says what is in it (an incomplete download?)")
    } else {
        "there are no weights at all (an incomplete download?)".into()
    }
}

#[cfg(test)]
mod tests {
    use super::is_plain_name;

    #[test]
    fn only_plain_names_are_shards() {
        assert!(is_plain_name("model-00001-of-00002.safetensors"));
        for name in ["", ".", "..", "../x", "/x", "a/b", "a\\b", "a/", "./a", "a\0"] {
            assert!(!is_plain_name(name), "{name:?}");
        }
    }
}
