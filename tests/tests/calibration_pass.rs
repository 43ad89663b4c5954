//! A model that is run with one layer in memory at a time does what the engine does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use quipu_formats::convert::{ConvertOptions, write_gguf};
use quipu_runtime::calibration::{CalibrationError, calibration_pass};
use quipu_runtime::model::{Input, Rows};
use quipu_runtime::{Cancel, EngineError, Isa, LoadError, LoadOptions, WeightsError};
use quipu_tests::{Reference, data, load, open};

/// The inputs of all matrices, of experts by expert, text after text.
#[derive(Debug, Default, PartialEq)]
struct Seen(BTreeMap<String, Vec<f32>>);

impl Seen {
    fn add(&mut self, input: Input, rows: Rows) {
        let seen = self.0.entry(format!("{input:?} {:?}", rows.expert)).or_default();
        (0..rows.count).for_each(|r| seen.extend(&rows.x[r * rows.stride..][..rows.cols]));
    }
}

/// BF16 from a directory, quantised, and packed; then F32; then every family.
fn models(dir: &Path) -> Vec<PathBuf> {
    let models = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../models"));
    let (plain, packed) = (models.join("tales.gguf"), dir.join("tales.quipu"));
    let options = ConvertOptions::default().packed(true);
    write_gguf(&*open(&plain), &options, &packed, &AtomicBool::new(false), &|_| {}).unwrap();
    let families = Reference::fixtures().into_iter().map(|reference| reference.directory);
    [models.join("tales"), plain, packed, data("stories260K/stories260K-f32.gguf")]
        .into_iter()
        .chain(families)
        .collect()
}

#[test]
fn matrices_meet_what_they_meet_in_the_engine() {
    let dir = tempfile::tempdir().unwrap();
    for model in models(dir.path()) {
        let mut engine = load(&model, &LoadOptions::default());
        let tokens = |i: u32| (0..20).map(|k| (7 + 31 * k * (i + 1)) % 250).collect::<Vec<u32>>();
        let texts: Vec<_> = (0..3).map(tokens).collect();
        let mut expected = Seen::default();
        for text in &texts {
            let mut sequence = engine.new_sequence();
            engine.observe(&mut sequence, text, &mut |input, rows| expected.add(input, rows)).unwrap();
        }
        for isa in Isa::available() {
            let (mut seen, mut layers) = (Seen::default(), 0);
            let mut progress = |done, count| {
                layers += 1;
                assert_eq!((done, count), (layers, engine.config().layers));
            };
            let go_on = Cancel::new();
            calibration_pass(open(&model).into(), &texts, isa, &go_on, &mut |i, rows| seen.add(i, rows), &mut progress)
                .unwrap();
            assert!(seen == expected, "{} with {isa}", model.display());
            assert_eq!(layers, engine.config().layers);
        }
    }
}

#[test]
fn what_cannot_be_read_is_refused() {
    let model = data("stories260K/stories260K-f32.gguf");
    let refused = |texts: &[Vec<u32>], stop| {
        let cancel = Cancel::new();
        if stop {
            cancel.cancel();
        }
        calibration_pass(open(&model).into(), texts, Isa::best(), &cancel, &mut |_, _| {}, &mut |_, _| {}).unwrap_err()
    };
    let tokens = |texts: &[Vec<u32>]| match refused(texts, false) {
        CalibrationError::Tokens { error, .. } => error,
        other => panic!("{other}"),
    };
    assert_eq!(tokens(&[vec![1, 2], vec![3, 512]]), EngineError::Token { token: 512, vocabulary: 512 });
    assert_eq!(tokens(&[]), EngineError::Empty);
    assert!(matches!(tokens(&[vec![1], vec![1; 1 << 20]]), EngineError::ContextFull { .. }));
    assert!(matches!(refused(&[vec![1]], true), CalibrationError::Load(LoadError::Weights(WeightsError::Cancelled))));
}
