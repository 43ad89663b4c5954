//! Engines that tune themselves, in every state that the file with the findings can be in.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use quipu_kernels::Ahead;
use quipu_quant::TensorType;
use tempfile::TempDir;

use super::*;
use crate::tuning::Found;

/// As an engine that looks at any model, however small.
fn engine(tuning: TuningChoice) -> Engine {
    let options = LoadOptions::default().threads(1).tuning(tuning);
    let mut engine = Engine::load(crate::open("demo").unwrap(), &options, &|_, _| {}).unwrap();
    if let Some(tuner) = &mut engine.tuner {
        tuner.look_at_small_models();
    }
    engine
}

/// Bits of the logits of some tokens.
fn logits(engine: &mut Engine) -> Vec<u32> {
    let mut sequence = engine.new_sequence();
    let token =
        |token: u32| -> Vec<u32> { engine.decode(&mut sequence, token).unwrap().iter().map(|x| x.to_bits()).collect() };
    (1..80).flat_map(token).collect()
}

fn measured(directory: &Path) -> TuningChoice {
    TuningChoice::Measured(Some(directory.to_path_buf()))
}

/// The type that most of the demo model's weights have.
fn main_type(engine: &Engine) -> TensorType {
    engine.model.weights.products().next().unwrap().ty()
}

/// Whether `found` are values that a look may find.
fn check_candidates(engine: &Engine, found: &Found) {
    let default = engine.isa().tuning();
    for found in &found.types {
        let distances = [0, 2048, 4096, 8192, 16384];
        let candidate = distances.map(|codes| Ahead { codes, scales: codes / 8 }).contains(&found.ahead);
        assert!(candidate || found.ahead == default.ahead(found.ty), "{found:?}");
    }
}

fn directory() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache/quipu");
    (directory, path)
}

#[test]
fn a_cold_cache_is_filled_and_a_warm_one_used() {
    let expected = logits(&mut engine(TuningChoice::Defaults));
    let (_keep, path) = directory();
    let mut looks = 0;
    let found = loop {
        let mut engine = engine(measured(&path));
        assert_eq!(logits(&mut engine), expected);
        let found = Found::read(&path, engine.isa(), 1);
        check_candidates(&engine, &found);
        assert!(!found.types.is_empty() && engine.tuner.is_none(), "two looks are taken, then no more");
        looks += 2;
        if found.types.iter().all(|ty| ty.is_final) {
            break found;
        }
        assert!(looks < 8, "after 8 looks there is nothing left to find");
    };
    // The next start changes nothing and is tuned as was found.
    let before = std::fs::read(&found.file).unwrap();
    let mut warm = engine(measured(&path));
    assert_eq!(logits(&mut warm), expected);
    assert_eq!(std::fs::read(&found.file).unwrap(), before);
    for found in &found.types {
        assert_eq!(warm.tuning().ahead(found.ty), found.ahead);
    }
}

#[test]
fn what_a_file_says_is_used_after_the_first_token() {
    let (_keep, path) = directory();
    let mut cold = engine(measured(&path));
    logits(&mut cold);
    let (ty, file) = (main_type(&cold), Found::read(&path, cold.isa(), 1).file);
    let mut text: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    for found in text["found"].as_array_mut().unwrap() {
        for (field, value) in [("codes_ahead", 4096), ("scales_ahead", 512), ("looks", 5), ("agreeing_looks", 2)] {
            found[field] = value.into();
        }
    }
    std::fs::write(&file, text.to_string()).unwrap();
    let mut warm = engine(measured(&path));
    let mut sequence = warm.new_sequence();
    warm.prefill(&mut sequence, &[1, 2, 3]).unwrap();
    assert_eq!(*warm.tuning(), warm.isa().tuning(), "nothing is asked before the first token is out");
    warm.decode(&mut sequence, 4).unwrap();
    assert_eq!(warm.tuning().ahead(ty), Ahead { codes: 4096, scales: 512 });
    assert!(warm.tuner.is_none());
    assert_eq!(logits(&mut warm), logits(&mut engine(TuningChoice::Defaults)));

    // A distance that is no candidate was found by no look.
    std::fs::write(&file, text.to_string().replace("4096", "4095")).unwrap();
    assert!(Found::read(&path, warm.isa(), 1).types.is_empty());
    let mut warm = engine(measured(&path));
    logits(&mut warm);
    assert_ne!(warm.tuning().ahead(ty).codes, 4095);
    check_candidates(&warm, &Found::read(&path, warm.isa(), 1));
}

#[test]
fn nothing_comes_of_files_that_cannot_be_read_or_written() {
    let expected = logits(&mut engine(TuningChoice::Defaults));
    let (keep, path) = directory();
    std::fs::create_dir_all(&path).unwrap();
    let mut first = engine(measured(&path));
    logits(&mut first);
    let file = Found::read(&path, first.isa(), 1).file;
    // Damaged, of no machine; the first look replaces it.
    for text in ["", "{", "{\"machine\": {}, \"found\": []}", "null"] {
        std::fs::write(&file, text).unwrap();
        assert_eq!(logits(&mut engine(measured(&path))), expected);
        assert!(!Found::read(&path, first.isa(), 1).types.is_empty(), "{text}");
    }
    // A directory that is a file, and none.
    let no_directory = keep.path().join("file");
    std::fs::write(&no_directory, "text").unwrap();
    for choice in [measured(&no_directory), measured(&no_directory.join("below")), TuningChoice::Measured(None)] {
        assert_eq!(logits(&mut engine(choice)), expected);
    }
    assert_eq!(std::fs::read_to_string(&no_directory).unwrap(), "text");
}

#[cfg(unix)]
#[test]
fn a_directory_that_is_read_only_stays_as_it_is() {
    use std::os::unix::fs::PermissionsExt;
    let (_keep, path) = directory();
    std::fs::create_dir_all(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o555)).unwrap();
    if std::fs::write(path.join("probe"), "").is_ok() {
        return eprintln!("SKIPPED: a read-only directory: this user may write everywhere");
    }
    assert_eq!(logits(&mut engine(measured(&path))), logits(&mut engine(TuningChoice::Defaults)));
    assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
}

/// Whatever is set: the same bits.
#[test]
fn no_tuning_changes_a_bit_of_the_logits() {
    let source: Arc<dyn Source> = crate::open("demo").unwrap().into();
    let logits = |threads: usize, tuning: TuningChoice| -> Vec<u32> {
        let options = LoadOptions::default().threads(threads).tuning(tuning).batch(70);
        let mut engine = Engine::load_shared(source.clone(), &options, &|_, _| {}).unwrap();
        let (mut sequence, mut bits) = (engine.new_sequence(), Vec::new());
        let tokens: Vec<u32> = (1..100).collect();
        engine.score(&mut sequence, &tokens, |_, logits| bits.extend(logits.iter().map(|x| x.to_bits()))).unwrap();
        bits
    };
    let expected = logits(1, TuningChoice::Defaults);
    let isa = Isa::best();
    for n in ["0", "1", "3", "64", "4000", "4294967295"] {
        let names = isa.tuning().parameters().into_iter().map(|(name, _)| name);
        let settings: Vec<String> =
            names.chain(["codes_ahead", "scales_ahead"]).map(|name| format!("{name}={n}")).collect();
        let choice = TuningChoice::parse(&settings.join(","), isa).unwrap();
        for threads in 1..=2.min(Cores::here().allowed_threads()) {
            assert!(logits(threads, choice.clone()) == expected, "all settings {n}, {threads} threads");
        }
    }
}
