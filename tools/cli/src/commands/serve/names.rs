//! What the models of a server are called.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use quipu_formats::stores::name_in_store;
use quipu_server::models::offer::Offer;

use crate::model;

/// A name that is for the model with another name.
pub type Alias = (String, String);

/// The models that are given, with what they are called, and the aliases that are for others.
pub fn offers(models: &[PathBuf], aliases: &[String]) -> Result<(Vec<Offer>, Vec<Alias>)> {
    let mut others = Vec::new();
    let mut names: Vec<Vec<String>> = vec![Vec::new(); models.len()];
    let defaults = models.iter().map(|model| default_name(model)).collect::<Result<Vec<_>>>()?;
    for alias in aliases {
        let (name, target) = match alias.split_once('=') {
            Some((name, target)) => (name, Some(target)),
            None => (alias.as_str(), None),
        };
        ensure!(!name.is_empty() && target != Some(""), "--alias {alias}: expected NAME or NAME=MODEL");
        let meant = match target {
            None if models.len() == 1 => Some(0),
            None => bail!("--alias {alias}: which model? Say {name}=MODEL"),
            Some(target) => (0..models.len()).find(|&i| target == defaults[i] || Path::new(target) == models[i]),
        };
        match (meant, target) {
            (Some(i), _) => names[i].push(name.into()),
            (None, target) => others.push((name.into(), target.unwrap_or_default().into())),
        }
    }
    let mut offers: Vec<Offer> = Vec::new();
    for ((path, default), mut names) in models.iter().zip(defaults).zip(names) {
        if names.is_empty() {
            names.push(default);
        }
        for name in &names {
            let taken = offers.iter().any(|other| other.names.contains(name));
            ensure!(!taken, "two models are called {name}; --alias NAME=FILE gives one another name");
        }
        offers.push(Offer::new(names, model::name(path)?));
    }
    Ok((offers, others))
}

/// Whether there are models for all `aliases`, among `offers`.
pub fn check(aliases: &[Alias], offers: &[Offer]) -> Result<()> {
    for (alias, target) in aliases {
        if !offers.iter().any(|offer| offer.names.contains(alias)) {
            let there: Vec<&str> = offers.iter().map(Offer::id).collect();
            bail!("--alias {alias}={target}: there is no model {target}; there are {}", there.join(", "));
        }
    }
    Ok(())
}

/// A file's name without its ending, a directory's name, a name in a store.
fn default_name(model: &Path) -> Result<String> {
    let name = model::name(model)?;
    if !model.exists()
        && let Some(name) = name_in_store(name)
    {
        return Ok(name.to_string());
    }
    let own = if model.is_dir() { model.file_name() } else { model.file_stem() };
    Ok(own.and_then(|own| own.to_str()).unwrap_or(name).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(models: &[&str], aliases: &[&str]) -> Result<Vec<Vec<String>>, String> {
        let models: Vec<PathBuf> = models.iter().map(PathBuf::from).collect();
        let aliases: Vec<String> = aliases.iter().map(|alias| alias.to_string()).collect();
        let (offers, others) = offers(&models, &aliases).map_err(|error| error.to_string())?;
        check(&others, &offers).map_err(|error| error.to_string())?;
        Ok(offers.into_iter().map(|offer| offer.names).collect())
    }

    #[test]
    fn models_are_called_as_their_files_unless_they_have_aliases() {
        assert_eq!(named(&["a/x.Q4_0.gguf", "demo"], &[]).unwrap(), [["x.Q4_0"], ["demo"]]);
        assert_eq!(named(&["ollama:llama3.2", "hf:o/r:Q8_0"], &[]).unwrap(), [["llama3.2"], ["o/r:Q8_0"]]);
        assert_eq!(named(&["x.gguf"], &["a", "b"]).unwrap(), [["a", "b"]]);
        let both = named(&["1/x.gguf", "2/x.gguf"], &["a=1/x.gguf", "b=2/x.gguf"]).unwrap();
        assert_eq!(both, [["a"], ["b"]]);
        assert_eq!(named(&["x.gguf", "y.gguf"], &["a=y"]).unwrap(), [["x"], ["a"]]);
        for (models, aliases, expected) in [
            (&["1/x.gguf", "2/x.gguf"][..], &[][..], "two models are called x"),
            (&["x.gguf", "y.gguf"], &["x=y"], "two models are called x"),
            (&["x.gguf", "y.gguf"], &["a"], "which model"),
            (&["x.gguf"], &["a=z"], "no model z; there are x"),
            (&["x.gguf"], &["=x"], "expected NAME"),
            (&["x.gguf"], &["a="], "expected NAME"),
        ] {
            let error = named(models, aliases).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
