//! Each part that is released on its own has a changelog that knows of the version in its manifest.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Parts that need no changelog: nobody gets them by a version.
const UNRELEASED: [&str; 2] = ["loadgen", "crates/interleavings"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Folders of all parts: the broker, its crates and its clients.
fn parts() -> Vec<PathBuf> {
    let below = |folder: &str| {
        let entries = fs::read_dir(root().join(folder)).expect("the folder is there");
        entries.map(|entry| entry.expect("it can be listed").path())
    };
    let mut parts: Vec<_> = below("crates").chain(below("clients")).collect();
    parts.extend([root().to_owned(), root().join("loadgen")]);
    parts
}

/// The version in whichever manifest a part has.
fn version(part: &Path) -> String {
    let toml = |name: &str, table: &str| {
        let manifest: toml::Table = read(&part.join(name)).parse().expect("it is TOML");
        manifest[table]["version"].as_str().map(ToOwned::to_owned)
    };
    let version = if part.join("Cargo.toml").exists() {
        toml("Cargo.toml", "package")
    } else if part.join("pyproject.toml").exists() {
        toml("pyproject.toml", "project")
    } else {
        let manifest: Value =
            serde_json::from_str(&read(&part.join("package.json"))).expect("it is JSON");
        manifest["version"].as_str().map(ToOwned::to_owned)
    };
    version.unwrap_or_else(|| panic!("{} has a version", part.display()))
}

#[test]
fn every_changelog_has_the_version_of_its_manifest_first() {
    let mut seen = 0;
    for part in parts() {
        if UNRELEASED.iter().any(|name| part == root().join(name)) {
            continue;
        }
        let (version, changelog) = (version(&part), read(&part.join("CHANGELOG.md")));
        let newest = changelog.lines().find(|line| line.starts_with("## "));
        let heading = format!("## [{version}] - ");
        assert!(
            newest.is_some_and(|newest| newest.starts_with(&heading)),
            "{}: {newest:?} is not '{heading}…'",
            part.display()
        );
        seen += 1;
    }
    assert!(seen >= 4, "{seen} parts");
}
