//! Files and directories as input.
#![allow(clippy::unwrap_used, reason = "functions that only tests call")]

use nfc_manifest::SourceError;
use nfc_manifest::source::{read, read_file};
use std::fs;
use std::path::PathBuf;

/// A folder of its own for each test, gone when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("nfc-manifest-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(path.join("b/deep")).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn directories_are_read_recursively_and_sorted() {
    let folder = Folder::new("sorted");
    for name in ["c.yaml", "a.json", "b/x.yml", "b/deep/y.yaml", "b/notes.txt", "README.md"] {
        folder.write(name, name.as_bytes());
    }
    let documents = read(std::slice::from_ref(&folder.0)).unwrap();
    let texts: Vec<_> = documents.iter().map(|d| d.text.as_str()).collect();
    assert_eq!(texts, ["a.json", "b/deep/y.yaml", "b/x.yml", "c.yaml"]);
    assert!(documents[0].name.ends_with("/a.json"), "{}", documents[0].name);
}

#[test]
fn a_file_is_read_whatever_its_name() {
    let folder = Folder::new("named");
    let path = folder.write("objects", b"kind: List");
    assert_eq!(read_file(&path).unwrap().text, "kind: List");
}

#[test]
fn everything_that_cannot_be_read_is_named() {
    let folder = Folder::new("broken");
    let binary = folder.write("binary.yaml", &[0xff, 0xfe]);
    let paths = [folder.0.join("gone.yaml"), binary, folder.0.join("b/deep")];
    let errors = read(&paths).unwrap_err();
    assert!(matches!(errors[0], SourceError::Io { .. }), "{}", errors[0]);
    assert!(matches!(errors[1], SourceError::NotText { .. }), "{}", errors[1]);
    assert!(matches!(errors[2], SourceError::Nothing { .. }), "{}", errors[2]);
}
