//! The crates of the workspace and their files.

use std::fs;
use std::path::{Path, PathBuf};

/// The workspace's root directory.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("tests/house lies two levels down").to_path_buf()
}

/// A member of the workspace.
#[derive(Debug)]
pub struct Member {
    /// The package's name.
    pub name: String,
    /// Its directory, from the workspace's root.
    pub directory: String,
    /// The members of the workspace that it depends on, for tests and building too.
    pub depends_on: Vec<String>,
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The strings of the array `key` of a manifest.
fn array(manifest: &str, key: &str) -> Vec<String> {
    let Some((_, rest)) = manifest.split_once(&format!("\n{key} = [")) else { return Vec::new() };
    let list = rest.split(']').next().unwrap_or_default();
    list.split('"').skip(1).step_by(2).map(str::to_string).collect()
}

/// The package's name and the dependencies of `manifest` whose names begin with `quipu`.
fn member(directory: &str, manifest: &str) -> Member {
    let (mut section, mut name, mut depends_on) = ("", String::new(), Vec::new());
    for line in manifest.lines() {
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']');
            continue;
        }
        let key = line.split(['.', '=', ' ']).next().unwrap_or_default();
        if section == "package" && key == "name" {
            name = line.split('"').nth(1).unwrap_or_default().into();
        }
        if section.ends_with("dependencies") && (key == "quipu" || key.starts_with("quipu-")) {
            depends_on.push(key.into());
        }
    }
    Member { name, directory: directory.into(), depends_on }
}

/// All members.
pub fn members(root: &Path) -> Vec<Member> {
    let directories = array(&read(&root.join("Cargo.toml")), "members");
    directories.iter().map(|dir| member(dir, &read(&root.join(dir).join("Cargo.toml")))).collect()
}

/// The files under `directory` whose names end in one of `endings`, ascending; not those that are built, nor hidden.
pub fn files(directory: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                directories.push(path);
            } else if path.is_file() && endings.iter().any(|ending| name.ends_with(ending)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The root files of a package's crates: its library, its programs, its build script, its tests, benches and examples.
pub fn crate_roots(package: &Path) -> Vec<PathBuf> {
    let mut roots: Vec<_> = ["src/lib.rs", "src/main.rs", "build.rs"].map(|path| package.join(path)).into();
    for directory in ["src/bin", "tests", "benches", "examples"] {
        for entry in fs::read_dir(package.join(directory)).into_iter().flatten().flatten() {
            let path = entry.path();
            match path.extension() {
                Some(extension) if extension == "rs" => roots.push(path),
                _ => roots.push(path.join("main.rs")),
            }
        }
    }
    roots.retain(|path| path.is_file());
    roots.sort();
    roots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_read() {
        let manifest = "[package]\nname = \"quipu-x\"\nversion.workspace = true\n[features]\nquipu-z = []\n\
                        [dependencies]\nquipu-quant.workspace = true\nhalf = \"2\"\n\
                        [target.'cfg(unix)'.dev-dependencies]\nquipu-y = { path = \"y\" }\n";
        let member = member("x", manifest);
        assert_eq!(member.name, "quipu-x");
        assert_eq!(member.depends_on, ["quipu-quant", "quipu-y"]);
        assert_eq!(array("[workspace]\nmembers = [\"a\", \n  \"b/c\"]\n", "members"), ["a", "b/c"]);
    }
}
