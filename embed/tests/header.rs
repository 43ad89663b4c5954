//! The header in the repository is the one that cbindgen makes from the source.

use std::path::Path;

#[test]
fn the_header_is_what_cbindgen_makes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).unwrap();
    let mut made = Vec::new();
    let sources = [root.join("src/types.rs"), root.join("src/lib.rs")];
    let builder = sources.iter().fold(cbindgen::Builder::new().with_config(config), |b, path| b.with_src(path));
    builder.generate().unwrap().write(&mut made);
    let made = String::from_utf8(made).unwrap();
    let path = root.join("include/quipu.h");
    if std::env::var_os("QUIPU_WRITE_HEADER").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == made, "{} is out of date: run this test with QUIPU_WRITE_HEADER=1", path.display());
}
