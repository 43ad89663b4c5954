//! Python's own tests of the package (`tests/python`), run by the `python3` that is here against the module that cargo
//! has just built. `QUIPU_PYTHON` names another one.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::{env, fs};

/// The oldest version that the module is for.
const OLDEST: &str = "import sys; sys.exit(sys.version_info < (3, 9))";

fn python() -> PathBuf {
    env::var_os("QUIPU_PYTHON").map_or_else(|| "python3".into(), PathBuf::from)
}

/// The module that was built with this test.
fn module() -> PathBuf {
    let name = format!("{}quipu_python{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX);
    let test = env::current_exe().expect("this test has a path");
    let beside = test.parent().expect("it lies in a directory");
    beside.ancestors().take(2).map(|directory| directory.join(&name)).find(|path| path.exists()).unwrap_or_else(|| {
        panic!("{name} is not beside {}", test.display());
    })
}

/// A directory with the package as it would be installed.
fn package() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
    let package = directory.join("quipu");
    let _ = fs::remove_dir_all(&package);
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("python/quipu"), &package);
    let suffix = if cfg!(windows) { "pyd" } else { "abi3.so" };
    fs::copy(module(), package.join(format!("_quipu.{suffix}"))).expect("the module is copied");
    directory
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory is made");
    for entry in fs::read_dir(from).expect("the package is there") {
        let entry = entry.expect("it can be listed").path();
        let target = to.join(entry.file_name().expect("it has a name"));
        if entry.is_dir() {
            copy(&entry, &target);
        } else {
            fs::copy(&entry, &target).expect("a file is copied");
        }
    }
}

#[test]
fn the_tests_in_python_pass() {
    let works = Command::new(python()).args(["-c", OLDEST]).status().is_ok_and(|status: ExitStatus| status.success());
    if !works {
        println!("SKIPPED: the tests of the Python module: no python3 from 3.9 on");
        return;
    }
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python");
    let mut command = Command::new(python());
    command.args(["-B", "-W", "error", "-m", "unittest", "discover", "-v", "-s"]).arg(&tests);
    let output = command.env("PYTHONPATH", package()).output().expect("python3 runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    println!("{told}");
    assert!(output.status.success(), "{told}");
}
