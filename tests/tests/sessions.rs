//! A session goes on as if there had been no pause, and is used only where it belongs and as it was written.

use std::fs;
use std::path::{Path, PathBuf};

use quipu_formats::output::{Inputs, OutputFile};
use quipu_runtime::generate::{GenerateOptions, Request, Scheduler, prompt_tokens};
use quipu_runtime::sampler::{DryOptions, MirostatOptions, SamplerOptions};
use quipu_runtime::session::{Session, SessionError};
use quipu_runtime::{Engine, KvType, LoadOptions};
use quipu_test_random::Random;
use quipu_tests::{data, load};

fn stories() -> PathBuf {
    data("stories260K/stories260K-f32.gguf")
}

fn engine_of(path: &Path, kv_type: KvType) -> Engine {
    load(path, &LoadOptions::default().threads(Some(1)).kv_type(kv_type))
}

/// Ways to draw that remember different things of a text.
fn samplers() -> Vec<SamplerOptions> {
    let any = || SamplerOptions::default().seed(11);
    let mirostat = |version| any().mirostat(MirostatOptions::default().version(version));
    vec![
        SamplerOptions::greedy(),
        any().temperature(1.3),
        any().repeat_penalty(1.2).frequency_penalty(0.3),
        any().dry(DryOptions::default().multiplier(0.8)).no_repeat_ngram(4),
        any().xtc_probability(0.5).xtc_threshold(0.1),
        mirostat(1),
        mirostat(2),
    ]
}

/// Writes `n` tokens after `tokens`, and what belongs to them into a file.
fn write(scheduler: &mut Scheduler, path: &Path, tokens: Vec<u32>, options: &GenerateOptions, n: usize) -> Vec<u32> {
    let request = Request::new(tokens, options.clone().max_tokens(n));
    let (_, end) = scheduler.complete(request).unwrap();
    let state = serde_json::to_value(&end.sampler).unwrap();
    let session = Session { tokens: end.tokens.clone(), sequence: end.sequence, state };
    session.save(scheduler.engine(), path, &Inputs::new()).unwrap();
    end.tokens
}

#[test]
fn a_text_goes_on_as_if_there_had_been_no_pause() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("session");
    for (sampler, kv_type) in samplers().into_iter().zip(KvType::ALL.into_iter().cycle()) {
        let (name, options) = (format!("{sampler:?}, {kv_type}"), GenerateOptions::new(sampler));
        let prompt = |engine: &Engine| prompt_tokens(engine.tokenizer(), "Once upon a time", true);
        let mut scheduler = Scheduler::new(engine_of(&stories(), kv_type));
        let tokens = prompt(scheduler.engine());
        let whole = scheduler.complete(Request::new(tokens.clone(), options.clone().max_tokens(180))).unwrap().1.tokens;
        // Within a page, at the end of one, in the next.
        for n in [1, 60, 128 - tokens.len(), 129 - tokens.len(), 150] {
            let before = write(&mut scheduler, &path, tokens.clone(), &options, n);
            assert_eq!(whole[..tokens.len() + n], before, "{name}");
            // Another process.
            let mut later = Scheduler::new(engine_of(&stories(), kv_type));
            let Session { tokens: so_far, sequence, state } = Session::open(later.engine(), &path).unwrap();
            assert_eq!((so_far.len(), sequence.len()), (before.len(), before.len() - 1));
            let resume = serde_json::from_value(state).unwrap();
            let options = options.clone().resume(Some(resume)).max_tokens(180 - n);
            let request = Request::new(so_far, options).sequence(sequence);
            let (_, end) = later.complete(request).unwrap();
            assert_eq!((end.tokens == whole, end.prefill.tokens), (true, 1), "{name}, {n} tokens before");
        }
    }
}

/// Saves one, and returns its bytes.
fn session(path: &Path, engine: Engine) -> (Vec<u8>, Engine) {
    let mut scheduler = Scheduler::new(engine);
    let tokens = prompt_tokens(scheduler.engine().tokenizer(), &"Tom had a big red ball. ".repeat(20), true);
    write(&mut scheduler, path, tokens, &GenerateOptions::new(SamplerOptions::greedy()), 4);
    (fs::read(path).unwrap(), scheduler.into_engine())
}

#[test]
fn what_was_cut_off_or_damaged_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("session");
    let (whole, engine) = session(&path, engine_of(&stories(), KvType::F16));
    let mut random = Random::new(3);
    let refused = |bytes: &[u8], what: &str| {
        fs::write(&path, bytes).unwrap();
        match Session::open(&engine, &path) {
            Err(SessionError::Invalid { path: named, .. } | SessionError::Other { path: named, .. })
                if named == path => {}
            other => panic!("{what}: {other:?}"),
        }
        assert_eq!(fs::read(&path).unwrap(), bytes, "it stays as it is");
    };
    let cuts = (0..150).chain((0..40).map(|_| random.below(whole.len()))).chain([whole.len() - 1]);
    cuts.collect::<Vec<_>>().into_iter().for_each(|n| refused(&whole[..n], &format!("{n} bytes")));
    refused(&[&whole[..], &[0]].concat(), "one more byte");
    let places = (0..300).chain((0..100).map(|_| random.below(whole.len()))).collect::<Vec<_>>();
    for at in places {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << random.below(8);
        refused(&bytes, &format!("byte {at}"));
    }
    refused(&fs::read(stories()).unwrap(), "a model");
    refused(b"Once upon a time", "a text");
    fs::write(&path, &whole).unwrap();
    assert!(Session::open(&engine, &path).is_ok());
}

#[test]
fn another_model_cache_or_rope_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let (path, copy) = (directory.path().join("session"), directory.path().join("model.gguf"));
    fs::copy(stories(), &copy).unwrap();
    let refused = |engine: Engine, word: &str| match Session::open(&engine, &path) {
        Err(SessionError::Other { what, .. }) => assert!(what.contains(word), "{what}"),
        other => panic!("{word}: {other:?}"),
    };
    drop(session(&path, engine_of(&copy, KvType::F16)));
    assert!(Session::open(&engine_of(&copy, KvType::F16), &path).is_ok());
    refused(engine_of(&copy, KvType::F32), "keys and values in F16, not F32");
    refused(engine_of(&data("tiny-llama2-f16"), KvType::F16), "another model");
    let mut bytes = fs::read(&copy).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    fs::write(&copy, bytes).unwrap();
    refused(engine_of(&copy, KvType::F16), "another model");
    // Beyond the model's context, dynamic scaling turns keys by the limit.
    let dynamic = data("tiny-dynamic-beyond-bf16");
    let at = |context| load(&dynamic, &LoadOptions::default().threads(Some(1)).context(Some(context)));
    drop(session(&path, at(2400)));
    assert!(Session::open(&at(2400), &path).is_ok());
    refused(at(2500), "RoPE");
}

#[test]
fn what_is_read_is_not_written_over_and_a_failure_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("session");
    let (whole, engine) = session(&path, engine_of(&stories(), KvType::F16));
    let session = Session::open(&engine, &path).unwrap();
    let refused = session.save(&engine, &path, &Inputs::of([&path])).unwrap_err();
    assert!(matches!(refused, SessionError::Output(_)), "{refused}");
    // Another engine's numbers.
    let other = engine_of(&stories(), KvType::F16);
    assert!(matches!(session.save(&other, &path, &Inputs::new()), Err(SessionError::Engine(_))));
    // Nothing is finished that is dropped.
    drop(OutputFile::create(&path, &Inputs::new()).unwrap());
    assert_eq!(fs::read(&path).unwrap(), whole);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    #[cfg(target_os = "linux")]
    {
        let full = session.save(&engine, Path::new("/dev/full"), &Inputs::new()).unwrap_err().to_string();
        assert!(full.starts_with("/dev/full: cannot write"), "{full}");
    }
}
