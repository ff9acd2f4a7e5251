//! `include/aftermach.h` is what cbindgen makes of the source today.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::path::Path;

/// Writes the header anew, instead of comparing: for whoever changed the API.
const WRITE: &str = "AFTERMACH_WRITE_HEADER";

fn generated(root: &Path) -> String {
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).unwrap();
    let sources = ["codes.rs", "c_api.rs"].map(|name| root.join("src").join(name));
    let builder = sources.into_iter().fold(cbindgen::Builder::new().with_config(config), cbindgen::Builder::with_src);
    let mut text = Vec::new();
    builder.generate().unwrap().write(&mut text);
    String::from_utf8(text).unwrap()
}

#[test]
fn the_committed_header_is_the_one_that_the_source_makes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (path, text) = (root.join("include/aftermach.h"), generated(root));
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, text).unwrap();
    } else {
        let committed = std::fs::read_to_string(&path).unwrap();
        assert!(
            committed == text,
            "the API has changed: {WRITE}=1 cargo test -p aftermach-client --test header writes the header"
        );
    }
}
