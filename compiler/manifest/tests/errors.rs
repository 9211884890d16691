//! Every bad input in `tests/bad`, and what its user reads.
//!
//! The snapshots are the product: read each as the person who made the mistake.
#![allow(clippy::unwrap_used, reason = "functions that only tests call")]

use nfc_manifest::{Document, Settings, load, read_settings, render_all};
use std::fs;
use std::path::{Path, PathBuf};

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let mut files: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn document(path: &Path) -> Document {
    Document {
        name: path.file_name().unwrap().to_str().unwrap().to_owned(),
        text: fs::read_to_string(path).unwrap(),
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().replace('.', "-")
}

#[test]
fn every_bad_input_is_explained() {
    let files = files("bad");
    assert!(files.len() >= 15);
    for file in files {
        let errors = load(&[document(&file)], &Settings::default())
            .expect_err(&format!("{} should be refused", file.display()));
        insta::assert_snapshot!(name(&file), render_all(&errors, false));
    }
}

#[test]
fn every_bad_configuration_is_explained() {
    for file in files("bad-config") {
        let errors = read_settings(&document(&file))
            .expect_err(&format!("{} should be refused", file.display()));
        insta::assert_snapshot!(format!("config-{}", name(&file)), render_all(&errors, false));
    }
}

#[test]
fn colours_are_there_only_when_asked_for() {
    let document = document(&files("bad")[0]);
    let errors = load(&[document], &Settings::default()).unwrap_err();
    assert!(!errors[0].render(false).contains('\u{1b}'));
    assert!(errors[0].render(true).contains('\u{1b}'));
}

#[test]
fn errors_of_all_files_are_given_at_once_in_their_order() {
    let paths = files("bad");
    let documents: Vec<_> = paths.iter().map(|p| document(p)).collect();
    let errors = load(&documents, &Settings::default()).unwrap_err();
    let order = |file: &str| documents.iter().position(|d| d.name == file).unwrap();
    let named: Vec<_> = errors.iter().map(|e| order(&e.place.as_ref().unwrap().file)).collect();
    assert!(named.is_sorted());
    for (i, path) in paths.iter().enumerate() {
        assert!(named.contains(&i), "{} is silent", path.display());
    }
}

#[test]
fn a_setting_out_of_range_needs_no_file_to_point_at() {
    let mut settings = Settings::default();
    settings.iptables.bit = 32;
    settings.families.insert(nfc_ir::Family::Ipv4);
    let errors = load(&[], &settings).unwrap_err();
    assert_eq!(errors[0].place, None);
    insta::assert_snapshot!(render_all(&errors, false));
}
