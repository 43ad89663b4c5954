//! Outputs appear where their names lead, replace no input, and leave nothing behind.

use std::io::Write;
use std::path::Path;

use quipu_formats::output::{Inputs, OutputError, OutputFile, check, unfinished};

fn write(path: &Path, text: &str) -> Result<(), OutputError> {
    let mut file = OutputFile::create(path, &Inputs::new())?;
    file.write_all(text.as_bytes()).unwrap();
    file.finish()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_name_may_be_as_long_as_the_system_takes() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a".repeat(255), format!("{}é", "a".repeat(253)), "a".into()] {
        let path = dir.path().join(name);
        write(&path, "new").unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), "new");
    }
    assert_eq!(names(dir.path()).len(), 3);
}

#[test]
fn what_is_asked_beforehand_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    std::fs::write(&old, "precious").unwrap();
    check(&old, &Inputs::new()).unwrap();
    check(&new, &Inputs::new()).unwrap();
    assert!(matches!(check(&old, &Inputs::of([&old])), Err(OutputError::SameAsInput { .. })));
    assert!(matches!(check(&dir.path().join("no/a"), &Inputs::new()), Err(OutputError::NoDirectory { .. })));
    for directory in ["", "new/", ".", ".."] {
        let result = check(&dir.path().join(directory), &Inputs::new());
        assert!(matches!(result, Err(OutputError::IsDirectory { .. })), "{directory:?}: {result:?}");
    }
    assert_eq!((names(dir.path()), std::fs::read_to_string(&old).unwrap()), (vec!["old".into()], "precious".into()));
}

#[test]
fn temporary_files_are_known_while_they_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let known = || -> Vec<String> {
        let all = unfinished::names().map(|name| String::from_utf8(name.bytes()).unwrap());
        // Other tests write, too.
        all.filter(|path| Path::new(path).starts_with(dir.path())).collect()
    };
    let one = OutputFile::create(&dir.path().join("one"), &Inputs::new()).unwrap();
    let two = OutputFile::create(&dir.path().join("two"), &Inputs::new()).unwrap();
    assert!(known().len() == 2 && known().iter().all(|path| Path::new(path).exists()), "{:?}", known());
    drop(one);
    assert_eq!(known().len(), 1);
    two.finish().unwrap();
    assert_eq!((known().len(), names(dir.path())), (0, vec!["two".to_string()]));
}

/// Files beside a checkpoint's, and below it, are read; what was converted before is not.
#[test]
fn of_a_directory_every_file_is_an_input_but_earlier_outputs() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("original")).unwrap();
    for name in ["config.json", "original/params.json", "old.gguf"] {
        std::fs::write(dir.path().join(name), "precious").unwrap();
    }
    let inputs = Inputs::of([dir.path()]);
    let refused = |name: &str| matches!(check(&dir.path().join(name), &inputs), Err(OutputError::SameAsInput { .. }));
    assert!(refused("config.json") && refused("original/params.json") && refused("original/../config.json"));
    assert!(!refused("old.gguf") && !refused("new.safetensors"));
    std::fs::hard_link(dir.path().join("config.json"), dir.path().join("hard.gguf")).unwrap();
    assert!(refused("hard.gguf"));
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn links_are_followed_and_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir(path("below")).unwrap();
        symlink("second", path("first")).unwrap();
        symlink("below/../below/there", path("second")).unwrap();
        for text in ["when nothing is there", "when it is"] {
            write(&path("first"), text).unwrap();
            assert_eq!(std::fs::read_to_string(path("below/there")).unwrap(), text);
            assert!(path("first").is_symlink() && path("second").is_symlink());
        }
        assert_eq!(names(&path("below")), ["there"]);
        symlink("b", path("a")).unwrap();
        symlink("a", path("b")).unwrap();
        assert!(matches!(write(&path("a"), ""), Err(OutputError::Create { .. })), "a circle");
        symlink("no/such/file", path("far")).unwrap();
        assert!(
            matches!(write(&path("far"), ""), Err(OutputError::NoDirectory { dir, .. }) if dir.ends_with("no/such"))
        );
    }

    #[test]
    fn permissions_are_those_of_what_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        for mode in [0o600, 0o640, 0o666, 0o755] {
            std::fs::write(&path, "old").unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            let mut file = OutputFile::create(&path, &Inputs::new()).unwrap();
            // What others may not read they may not read meanwhile.
            let temporary = names(dir.path()).into_iter().find(|name| name != "file").unwrap();
            let now = std::fs::metadata(dir.path().join(temporary)).unwrap().permissions().mode();
            assert_eq!(now & 0o777, mode);
            file.write_all(b"new").unwrap();
            file.finish().unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
        }
    }

    #[test]
    fn what_may_not_be_written_to_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "precious").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o444)).unwrap();
        if std::fs::File::options().append(true).open(&path).is_ok() {
            return eprintln!("SKIPPED: this user may write to everything");
        }
        assert!(matches!(write(&path, "new"), Err(OutputError::Create { .. })));
        assert_eq!((names(dir.path()).len(), std::fs::read_to_string(&path).unwrap()), (1, "precious".into()));
    }

    #[test]
    fn a_pipe_is_written_to_and_stays_one() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        match std::process::Command::new("mkfifo").arg(&pipe).status() {
            Ok(status) if status.success() => {}
            _ => return eprintln!("SKIPPED: no mkfifo here"),
        }
        // Asking waits for nobody, and is not the pipe's end.
        check(&pipe, &Inputs::of([&pipe])).unwrap();
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || std::fs::read_to_string(pipe).unwrap()
        });
        write(&pipe, "text").unwrap();
        assert_eq!(reader.join().unwrap(), "text");
        assert_eq!(names(dir.path()), ["pipe"]);
    }
}

/// A process that is killed removes nothing; the next one that writes to the same target does, unless somebody is still
/// writing.
#[test]
fn what_a_killed_process_left_is_removed_by_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("out");
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(100);
    let make = |name: &str, changed| {
        let file = std::fs::File::create(dir.path().join(name)).unwrap();
        file.set_modified(changed).unwrap();
        file
    };
    let now = std::time::SystemTime::now();
    make(".out.AbCdEf.quipu-tmp", old);
    let locked = make(".out.locked.quipu-tmp", old);
    locked.try_lock().unwrap();
    make(".out.newone.quipu-tmp", now);
    make(".out.AbCdEf.tmp", old);
    make(".other.AbCdEf.quipu-tmp", old);
    // One that is being written, for so long that it looks old.
    let mut written = OutputFile::create(&target, &Inputs::new()).unwrap();
    written.write_all(b"the first").unwrap();
    let is_written = |name: &String| std::fs::read(dir.path().join(name)).is_ok_and(|bytes| bytes == b"the first");
    let temporary = names(dir.path()).into_iter().find(is_written).unwrap();
    std::fs::File::options().write(true).open(dir.path().join(&temporary)).unwrap().set_modified(old).unwrap();
    write(&target, "the second").unwrap();
    let mut expected = [
        ".other.AbCdEf.quipu-tmp",
        ".out.AbCdEf.tmp",
        ".out.locked.quipu-tmp",
        ".out.newone.quipu-tmp",
        &temporary,
        "out",
    ];
    expected.sort_unstable();
    assert_eq!(names(dir.path()), expected);
    written.finish().unwrap();
    assert_eq!(std::fs::read(&target).unwrap(), b"the first");
}
