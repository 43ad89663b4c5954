//! The modules of a crate, and which of its files takes something from which other.
//!
//! A path leads to the file of the deepest module on it. So whoever takes an item from a parent that re-exports it
//! depends on the parent, and the parent depends on the child that it re-exports from. A child that takes its sister's
//! item from their common parent therefore closes a circle: it should take it from the sister.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::circles::Graph;
use crate::imports::{Items, PathUse, items};
use crate::lexer::lex;

/// A module's path from the root of its crate; the root's is empty.
type ModulePath = Vec<String>;

/// Where a file takes something from another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Import {
    /// The line, counted from 1.
    pub line: usize,
    /// The path that is written there.
    pub path: String,
}

/// A crate's files and the arrows between them.
#[derive(Debug, Default)]
pub struct Imports {
    /// The first import for each arrow, by the file that imports and the one that it imports from.
    pub arrows: BTreeMap<(String, String), Import>,
    /// Every file of the crate.
    pub files: Vec<String>,
}

impl Imports {
    /// The arrows alone.
    pub fn graph(&self) -> Graph {
        let mut graph: Graph = self.files.iter().map(|file| (file.clone(), Default::default())).collect();
        for (from, to) in self.arrows.keys() {
            graph.entry(from.clone()).or_default().insert(to.clone());
        }
        graph
    }
}

struct Tree<'a> {
    read: &'a dyn Fn(&Path) -> Option<String>,
    /// The file of each module.
    modules: BTreeMap<ModulePath, String>,
    /// Each file with its module and what it says.
    files: Vec<(String, ModulePath, Items)>,
    /// The modules that a `use` gives another name, by the module with the `use` and the name.
    aliases: BTreeMap<(ModulePath, String), ModulePath>,
}

fn join(module: &[String], more: &[String]) -> ModulePath {
    [module, more].concat()
}

impl Tree<'_> {
    /// Reads the file of `module` and those of its modules; files of children lie in `directory`.
    fn load(&mut self, file: &Path, module: ModulePath, directory: &Path) {
        let Some(text) = (self.read)(file) else { return };
        let items = items(&lex(&text));
        let name = file.display().to_string();
        self.modules.insert(module.clone(), name.clone());
        for child in &items.declarations {
            let path = join(&join(&module, &child.scope), std::slice::from_ref(&child.name));
            if child.inline {
                self.modules.insert(path, name.clone());
                continue;
            }
            let directory = child.scope.iter().fold(directory.to_path_buf(), |dir, name| dir.join(name));
            let own = directory.join(&child.name);
            let candidates: [PathBuf; 2] = [own.with_extension("rs"), own.join("mod.rs")];
            for file in candidates {
                self.load(&file, path.clone(), &own);
            }
        }
        self.files.push((name, module, items));
    }

    /// The deepest module on a path that is written in `module`; `None` if it leads out of the crate.
    fn resolve(&self, module: &[String], path: &PathUse) -> Option<ModulePath> {
        let segments = &path.segments[..path.segments.len() - usize::from(!path.may_be_module)];
        let (first, mut rest) = segments.split_first()?;
        let mut at = match first.as_str() {
            "crate" => Vec::new(),
            "self" => module.to_vec(),
            "super" => module.split_last()?.1.to_vec(),
            name => {
                let child = join(module, &[name.to_string()]);
                let alias = self.aliases.get(&(module.to_vec(), name.to_string()));
                if self.modules.contains_key(&child) { child } else { alias?.clone() }
            }
        };
        while let Some((segment, after)) = rest.split_first() {
            if segment == "super" {
                at.pop()?;
            } else {
                at.push(segment.clone());
                if !self.modules.contains_key(&at) {
                    at.pop();
                    break;
                }
            }
            rest = after;
        }
        Some(at)
    }

    /// Notes which names stand for modules because of a `use`; names of names need several passes.
    fn find_aliases(&mut self) {
        loop {
            let mut found = Vec::new();
            for (_, module, items) in &self.files {
                for path in &items.paths {
                    let scope = join(module, &path.scope);
                    let Some(name) = &path.binds else { continue };
                    let key = (scope.clone(), name.clone());
                    let Some(target) = self.resolve(&scope, path) else { continue };
                    // The whole path must be the module: an item of a module has the module as its deepest, too.
                    let whole = path.segments.last() == target.last();
                    if whole && target != join(&scope, std::slice::from_ref(name)) && !self.aliases.contains_key(&key) {
                        found.push((key, target));
                    }
                }
            }
            if found.is_empty() {
                return;
            }
            self.aliases.extend(found);
        }
    }
}

/// The imports of the crate whose root is `root`. `read` gives a file's text, if there is such a file.
pub fn imports(root: &Path, read: &dyn Fn(&Path) -> Option<String>) -> Imports {
    let mut tree = Tree { read, modules: BTreeMap::new(), files: Vec::new(), aliases: BTreeMap::new() };
    tree.load(root, Vec::new(), root.parent().unwrap_or(Path::new("")));
    tree.find_aliases();
    let mut imports =
        Imports { files: tree.files.iter().map(|(file, ..)| file.clone()).collect(), ..Default::default() };
    for (file, module, items) in &tree.files {
        for path in &items.paths {
            let Some(target) = tree.resolve(&join(module, &path.scope), path) else { continue };
            let Some(to) = tree.modules.get(&target) else { continue };
            if to != file {
                let import = Import { line: path.line, path: path.segments.join("::") };
                imports.arrows.entry((file.clone(), to.clone())).or_insert(import);
            }
        }
    }
    imports
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::circles::circles;

    /// The circles of a made-up crate.
    fn circles_of(files: &[(&str, &str)]) -> Vec<String> {
        let files: BTreeMap<_, _> = files.iter().map(|(path, text)| (Path::new(*path), *text)).collect();
        let imports = imports(Path::new("src/lib.rs"), &|path| files.get(path).map(|text| text.to_string()));
        assert_eq!(imports.files.len(), files.len(), "every file is reached");
        circles(&imports.graph()).iter().map(|circle| circle.join(" → ").replace("src/", "")).collect()
    }

    #[test]
    fn a_tree_without_circles() {
        let files = [
            ("src/lib.rs", "mod a; pub mod b; pub use a::A; pub use b::c::C;"),
            ("src/a.rs", "use crate::b::c::C; pub struct A(C); #[cfg(test)] mod tests { use crate::A; }"),
            ("src/b/mod.rs", "pub mod c; mod d; fn x() { d::y(c::C) }"),
            ("src/b/c.rs", "//! See [`crate::a`].\npub(in crate::b) struct C; // crate::A"),
            ("src/b/d.rs", "use super::c::C; pub(super) fn y(_: C) { std::mem::drop(\"crate::A\") }"),
        ];
        assert!(circles_of(&files).is_empty());
    }

    #[test]
    fn a_parent_that_re_exports_and_a_child_that_takes_from_it() {
        let lib = ("src/lib.rs", "mod a; mod b; pub use a::A; pub use b::B;");
        let files = [lib, ("src/a.rs", "pub struct A;"), ("src/b.rs", "use crate::A; pub struct B(A);")];
        assert_eq!(circles_of(&files), ["b.rs → lib.rs → b.rs"]);
        let globbed = [lib, ("src/a.rs", "pub struct A;"), ("src/b.rs", "use super::*; pub struct B(A);")];
        assert_eq!(circles_of(&globbed), ["b.rs → lib.rs → b.rs"]);
    }

    #[test]
    fn a_circle_round_three_corners() {
        let files = [
            ("src/lib.rs", "mod a; mod b; mod c;"),
            ("src/a.rs", "fn f() { crate::b::g::<u8>() }"),
            ("src/b.rs", "pub fn g<T>() -> crate::c::C { todo!() }"),
            ("src/c.rs", "use super::{a, b as _}; pub struct C; fn h() { a::f() }"),
        ];
        assert_eq!(circles_of(&files), ["a.rs → b.rs → c.rs → a.rs"].map(String::from).as_slice().to_vec());
    }

    #[test]
    fn names_that_a_use_gave_to_modules() {
        let files = [
            ("src/lib.rs", "mod a; mod b;"),
            ("src/a.rs", "use crate::b as other; fn f() { other::inner::g() }"),
            ("src/b/mod.rs", "pub mod inner;"),
            ("src/b/inner.rs", "pub fn g() { super::super::a::f() }"),
        ];
        assert_eq!(circles_of(&files), ["a.rs → b/inner.rs → a.rs"]);
    }

    #[test]
    fn modules_within_a_file_and_macros() {
        let files = [
            ("src/lib.rs", "mod a; mod b; pub mod c { pub use crate::a::A; }"),
            ("src/a.rs", "pub struct A; macro_rules! m { ($n:ident) => { mod $n { use super::A; } $crate::b::g() } }"),
            ("src/b.rs", "mod deep { fn h() { super::super::c::A; } }"),
        ];
        assert_eq!(circles_of(&files), ["a.rs → b.rs → lib.rs → a.rs"]);
    }
}
