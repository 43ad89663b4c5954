//! Options that name LoRA adapters.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, ensure};
use quipu_formats::lora::Adapter;
use quipu_formats::output::Inputs;
use quipu_formats::source::Source;
use quipu_runtime::{AdapterId, Adapters, Engine};
use quipu_server::lora::Lora;

use crate::out;

/// An adapter as it is written in an argument: `[NAME=]FILE[:SCALE]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// What it is called, if that is said.
    pub name: Option<String>,
    /// A directory by PEFT, or a GGUF by llama.cpp.
    pub path: PathBuf,
    /// Times what it is added.
    pub scale: f32,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Named, String> {
        let scaled = text.rsplit_once(':').and_then(|(rest, scale)| Some((rest, scale.parse().ok()?)));
        let (rest, scale) = scaled.unwrap_or((text, 1.0));
        // A file's name may have the sign in it.
        let named = rest.split_once('=').filter(|_| !Path::new(rest).exists());
        let (name, path) = named.map_or((None, rest), |(name, path)| (Some(name.to_string()), path));
        if !f32::is_finite(scale) {
            return Err("the scale is no finite number".into());
        }
        if path.is_empty() || name.as_ref().is_some_and(String::is_empty) {
            return Err("expected [NAME=]FILE[:SCALE], such as style.gguf, style.gguf:0.5 or style=adapter/:0.5".into());
        }
        Ok(Named { name, path: path.into(), scale })
    }
}

impl Named {
    /// Reads it for `model`.
    pub fn open(&self, model: &dyn Source) -> Result<Adapter> {
        let adapter = Adapter::open(&self.path, model).context("cannot use the adapter")?;
        out::apart_from(&Inputs::of(adapter.files()), &self.path)?;
        Ok(adapter)
    }

    /// What requests call it: its name, or else its file's without the ending.
    fn title(&self) -> String {
        let stem = if self.path.is_dir() { self.path.file_name() } else { self.path.file_stem() };
        self.name.clone().unwrap_or_else(|| stem.unwrap_or_default().to_string_lossy().into_owned())
    }

    /// Loads it into `engine`, whose model stays as it is.
    pub fn load(&self, engine: &mut Engine) -> Result<AdapterId> {
        let adapter = self.open(engine.source())?;
        engine.load_adapter(&adapter).context("cannot use the adapter")
    }
}

/// LoRA adapters for all that is written.
#[derive(Clone, clap::Args)]
pub struct LoraArgs {
    /// A LoRA adapter: the directory that PEFT writes, or llama.cpp's GGUF; with a factor behind it, another scale. May
    /// be given several times
    #[arg(long = "lora", value_name = "FILE[:SCALE]")]
    lora: Vec<Named>,
}

impl LoraArgs {
    /// Loads them.
    pub fn load(&self, engine: &mut Engine) -> Result<Adapters> {
        let loaded = self.lora.iter().map(|named| Ok((named.load(engine)?, named.scale)));
        let loaded = loaded.collect::<Result<Vec<_>>>()?;
        Adapters::new(loaded).context("--lora: the scales of an adapter are too large")
    }

    /// Their files and scales.
    pub fn files(&self) -> Vec<(PathBuf, f32)> {
        self.lora.iter().map(|named| (named.path.clone(), named.scale)).collect()
    }

    /// The adapters' files, which no output may be.
    pub fn inputs(&self) -> impl Iterator<Item = &Path> {
        self.lora.iter().map(|named| named.path.as_path())
    }
}

/// LoRA adapters among which requests choose.
#[derive(Clone, clap::Args)]
pub struct NamedLoraArgs {
    /// A LoRA adapter: the directory that PEFT writes, or llama.cpp's GGUF; with a factor behind it, another scale. A
    /// request names it as its model; without NAME it is also applied to requests that name none. May be given several
    /// times
    #[arg(long = "lora", value_name = "[NAME=]FILE[:SCALE]")]
    lora: Vec<Named>,
}

impl NamedLoraArgs {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lora.is_empty()
    }

    /// What requests call them, all different, and none of them what the model is called.
    pub fn names(&self, model: &[String]) -> Result<Vec<String>> {
        let names: Vec<String> = self.lora.iter().map(Named::title).collect();
        for (i, name) in names.iter().enumerate() {
            ensure!(!names[..i].contains(name), "--lora: two adapters are called {name}; write NAME=FILE");
            ensure!(!model.contains(name), "--lora: {name} is the model's own name; write NAME=FILE");
        }
        Ok(names)
    }

    /// Loads them.
    pub fn load(&self, engine: &mut Engine) -> Result<Vec<Lora>> {
        let load = |named: &Named| {
            let (path, applied) = (named.path.display().to_string(), named.name.is_none());
            Ok(Lora { name: named.title(), path, id: named.load(engine)?, scale: named.scale, applied })
        };
        self.lora.iter().map(load).collect()
    }

    /// The adapters' files, which no output may be.
    pub fn inputs(&self) -> impl Iterator<Item = &Path> {
        self.lora.iter().map(|named| named.path.as_path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_scales_are_optional() {
        let named = |name: Option<&str>, path: &str, scale| {
            Ok(Named { name: name.map(str::to_string), path: path.into(), scale })
        };
        for (text, expected) in [
            ("a.gguf", named(None, "a.gguf", 1.0)),
            ("a.gguf:0.5", named(None, "a.gguf", 0.5)),
            ("x=dir/a:-2", named(Some("x"), "dir/a", -2.0)),
            ("C:\\a.gguf", named(None, "C:\\a.gguf", 1.0)),
            ("x=C:\\a:1e-3", named(Some("x"), "C:\\a", 1e-3)),
        ] {
            assert_eq!(text.parse(), expected, "{text}");
        }
        for bad in ["", "=a", "x=", ":0.5", "a:inf", "a:NaN"] {
            assert!(bad.parse::<Named>().is_err(), "{bad}");
        }
    }
}
