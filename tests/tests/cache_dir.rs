//! Pages on disk outlive the program, are never believed when they are not exactly right, and stay within their bytes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use quipu_runtime::generate::{Finished, GenerateOptions, Request, Scheduler, SchedulerOptions, prompt_tokens};
use quipu_runtime::sampler::SamplerOptions;
use quipu_runtime::{Engine, KvType, LoadOptions};
use quipu_test_random::Random;
use quipu_tests::{data, load};

fn stories() -> PathBuf {
    data("stories260K/stories260K-f32.gguf")
}

fn engine() -> Engine {
    load(&stories(), &LoadOptions::default().threads(Some(1)))
}

const MANY: u64 = 1 << 30;

/// A scheduler that keeps up to `bytes` in `directory`.
fn scheduler(engine: Engine, directory: &Path, bytes: u64) -> Scheduler {
    let mut scheduler = Scheduler::with_options(engine, SchedulerOptions::default().kv_memory(200_000_000));
    scheduler.keep_on_disk(directory, bytes).unwrap();
    scheduler
}

fn request(tokens: &[u32]) -> Request {
    Request::new(tokens.to_vec(), GenerateOptions::new(SamplerOptions::default().seed(7)).max_tokens(10))
}

fn tale(engine: &Engine, n: usize) -> Vec<u32> {
    let text = "Once upon a time there was a big red ball. Tom and Lily ran to the park with it. ";
    prompt_tokens(engine.tokenizer(), &text.repeat(60), true)[..n].to_vec()
}

fn complete(scheduler: &mut Scheduler, tokens: &[u32]) -> (String, Finished) {
    scheduler.complete(request(tokens)).unwrap()
}

/// The files of pages, with their lengths.
fn files(directory: &Path) -> Vec<(PathBuf, u64)> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let mut files: Vec<_> = entries
        .filter(|entry| entry.path().extension().is_some_and(|e| e == "quipu-kv"))
        .map(|entry| (entry.path(), entry.metadata().unwrap().len()))
        .collect();
    files.sort();
    files
}

#[test]
fn a_restart_reads_only_what_is_no_full_page() {
    let directory = tempfile::tempdir().unwrap();
    let mut first = scheduler(engine(), directory.path(), MANY);
    let prompt = tale(first.engine(), 400);
    let (text, end) = complete(&mut first, &prompt);
    assert_eq!((end.cached_tokens, first.stats().restored_tokens), (0, 0));
    drop(first);
    assert_eq!(files(directory.path()).len(), 3);
    for _ in 0..2 {
        let mut second = scheduler(engine(), directory.path(), MANY);
        // Something else first, that begins with the same token.
        complete(&mut second, &prompt[..1]);
        let (again, end) = complete(&mut second, &prompt);
        assert_eq!((&again, end.cached_tokens, second.stats().restored_tokens), (&text, 384, 384));
    }
    assert_eq!(files(directory.path()).len(), 3);
}

/// What keys and values depend on: the weights, the type of the cache, the way of turning keys.
#[test]
fn pages_of_another_model_or_cache_are_not_used() {
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("model.gguf");
    fs::copy(stories(), &copy).unwrap();
    let at = |kv_type| load(&copy, &LoadOptions::default().threads(Some(1)).kv_type(kv_type));
    let cached = |engine| {
        let mut scheduler = scheduler(engine, directory.path(), MANY);
        let prompt = tale(scheduler.engine(), 300);
        complete(&mut scheduler, &prompt).1.cached_tokens
    };
    assert_eq!([cached(at(KvType::F16)), cached(at(KvType::F16))], [0, 256]);
    assert_eq!([cached(at(KvType::F32)), cached(at(KvType::F32)), cached(at(KvType::F16))], [0, 256, 256]);
    // Another weight somewhere.
    let mut bytes = fs::read(&copy).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    fs::write(&copy, bytes).unwrap();
    assert_eq!(cached(at(KvType::F16)), 0);

    // Dynamic scaling: beyond the model's context, keys turn by the limit.
    let dynamic = data("tiny-dynamic-beyond-bf16");
    let at = |context| load(&dynamic, &LoadOptions::default().threads(Some(1)).context(Some(context)));
    assert_eq!([cached(at(2400)), cached(at(2400)), cached(at(2500))], [0, 256, 0]);
}

#[test]
fn files_stay_within_their_bytes_and_those_of_others_stay() {
    let directory = tempfile::tempdir().unwrap();
    let theirs = ["notes.txt", "0123456789abcdef.txt", "0123.quipu-kv", ".hidden"].map(|n| directory.path().join(n));
    let mut first = scheduler(engine(), directory.path(), MANY);
    let (mut long, other) = (tale(first.engine(), 300), tale(first.engine(), 200));
    complete(&mut first, &long);
    drop(first);
    let one = files(directory.path())[0].1;
    theirs.iter().for_each(|path| fs::write(path, "theirs").unwrap());
    let limit = 3 * one + one / 2;
    let mut second = scheduler(engine(), directory.path(), limit);
    for first in 10..20 {
        long[0] = first;
        complete(&mut second, &long);
    }
    complete(&mut second, &other);
    drop(second);
    let left = files(directory.path());
    let bytes: u64 = left.iter().filter(|(path, _)| *path != theirs[2]).map(|(_, bytes)| bytes).sum();
    assert!(left.len() == 4 && bytes <= limit, "{left:?}");
    assert!(theirs.iter().all(|path| fs::read(path).unwrap() == b"theirs"));
    // The latest one is among them.
    assert_eq!(complete(&mut scheduler(engine(), directory.path(), limit), &other).1.cached_tokens, 128);
}

/// Wherever a file is damaged, it is not used.
#[test]
fn a_damaged_file_is_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut first = scheduler(engine(), directory.path(), MANY);
    let prompt = tale(first.engine(), 200);
    let (text, _) = complete(&mut first, &prompt);
    drop(first);
    let (path, len) = files(directory.path())[0].clone();
    let whole = fs::read(&path).unwrap();
    let (mut engine, mut random) = (engine(), Random::new(1));
    let places = (0..200).chain((0..60).map(|_| random.below(len as usize))).chain([len as usize - 1]);
    for at in places.collect::<Vec<_>>() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << random.below(8);
        fs::write(&path, &bytes).unwrap();
        let mut scheduler = scheduler(engine, directory.path(), MANY);
        let (again, end) = complete(&mut scheduler, &prompt);
        assert_eq!((&again, end.cached_tokens), (&text, 0), "byte {at}");
        engine = scheduler.into_engine();
    }
    fs::write(&path, &whole).unwrap();
    assert_eq!(complete(&mut scheduler(engine, directory.path(), MANY), &prompt).1.cached_tokens, 128);
}

/// The name of a file says where to look, and nothing else: another text's page, or another model's, may have it.
#[test]
fn a_page_under_the_name_of_another_is_not_used() {
    let place = tempfile::tempdir().unwrap();
    let other_model = place.path().join("other.gguf");
    let mut bytes = fs::read(stories()).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 0x10;
    fs::write(&other_model, bytes).unwrap();
    let load = |path: &Path| load(path, &LoadOptions::default().threads(Some(1)));
    // One page each: of two texts of a model, and of the first text of the other.
    let page = |path: &Path, first: u32| {
        let directory = tempfile::tempdir().unwrap();
        let mut scheduler = scheduler(load(path), directory.path(), MANY);
        let mut prompt = tale(scheduler.engine(), 150);
        prompt[0] = first;
        let (text, _) = complete(&mut scheduler, &prompt);
        drop(scheduler);
        let (file, _) = files(directory.path())[0].clone();
        (prompt, text, file.file_name().unwrap().to_owned(), fs::read(file).unwrap())
    };
    let (prompt, text, name, own) = page(&stories(), 5);
    let others = [page(&stories(), 6), page(&other_model, 5)];
    for (bytes, cached) in [(own, 128), (others[0].3.clone(), 0), (others[1].3.clone(), 0)] {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(&name), bytes).unwrap();
        let mut scheduler = scheduler(load(&stories()), directory.path(), MANY);
        let (again, end) = complete(&mut scheduler, &prompt);
        assert_eq!((again, end.cached_tokens), (text.clone(), cached));
    }
}

#[test]
fn a_directory_that_cannot_be_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let mut scheduler = Scheduler::with_options(engine(), SchedulerOptions::default().kv_memory(200_000_000));
    let error = scheduler.keep_on_disk(&file.join("cache"), MANY).unwrap_err();
    assert!(error.to_string().starts_with(&format!("{}: pages", file.join("cache").display())), "{error}");
}

/// Not a test: what the one below starts and kills.
#[test]
#[ignore = "runs until it is killed"]
fn write_pages_until_killed() {
    let Some(directory) = std::env::var_os("QUIPU_TEST_CACHE_DIR") else { return };
    let mut scheduler = scheduler(engine(), Path::new(&directory), 40 * 140_000);
    let mut prompt = tale(scheduler.engine(), 300);
    for step in 0u32.. {
        prompt[step as usize % 2 * 128] = 3 + step % 400;
        complete(&mut scheduler, &prompt);
    }
}

/// Processes that are killed while they write leave nothing that is wrong and believed, and nothing that stays for
/// ever.
#[cfg(unix)]
#[test]
fn a_killed_process_leaves_whole_pages_or_none() {
    let directory = tempfile::tempdir().unwrap();
    let mut random = Random::new(9);
    for _ in 0..12 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "write_pages_until_killed", "--ignored"])
            .env("QUIPU_TEST_CACHE_DIR", directory.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(100 + random.below(200) as u64));
        // SIGKILL.
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let mut plain = Scheduler::new(engine());
    let mut restarted = scheduler(engine(), directory.path(), MANY);
    let mut prompt = tale(plain.engine(), 300);
    for first in 3..403 {
        prompt[0] = first;
        let (expected, _) = complete(&mut plain, &prompt);
        assert_eq!(complete(&mut restarted, &prompt).0, expected);
    }
    assert!(restarted.stats().restored_tokens > 128, "{:?}", restarted.stats());
    drop(restarted);
    // What was being written is removed when it is old.
    let temporary = |_| {
        let entries = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|e| e == "quipu-kv-tmp")).collect::<Vec<_>>()
    };
    fs::write(directory.path().join(".0123456789abcdef.1.quipu-kv-tmp"), "half").unwrap();
    let old = std::time::SystemTime::now() - Duration::from_secs(3600);
    for path in temporary(()) {
        fs::File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
    }
    drop(scheduler(engine(), directory.path(), MANY));
    assert!(temporary(()).is_empty());
}
