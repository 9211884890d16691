//! Reading the input: files, directories and standard input.
//!
//! Invariant: the only module here with effects; it looks at names, never at contents.

use std::ffi::OsStr;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// A text and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Name of the file, or `<stdin>`.
    pub name: String,
    /// What is in it: YAML or JSON, one object or many.
    pub text: String,
}

/// Why an input could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The system would not let it be read.
    #[error("cannot read {}: {source}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// The file is not text.
    #[error("{} is not UTF-8 text; expected YAML or JSON", .path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// A directory without any file of the endings that are read.
    #[error("{} holds no file named *.yaml, *.yml or *.json", .path.display())]
    Nothing {
        /// The directory.
        path: PathBuf,
    },
}

const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// Reads `paths`: files whatever their name, directories recursively (`*.yaml`, `*.yml`,
/// `*.json`, sorted by path), and `-` for standard input.
///
/// # Errors
///
/// One [`SourceError`] for each path that could not be read.
pub fn read(paths: &[PathBuf]) -> Result<Vec<Document>, Vec<SourceError>> {
    let mut documents = Vec::new();
    let mut errors = Vec::new();
    for path in paths {
        if path.is_dir() {
            read_directory(path, &mut documents, &mut errors);
        } else {
            keep(read_file(path), &mut documents, &mut errors);
        }
    }
    if errors.is_empty() { Ok(documents) } else { Err(errors) }
}

/// Reads one file, or standard input when `path` is `-`.
///
/// # Errors
///
/// [`SourceError::Io`] or [`SourceError::NotText`].
pub fn read_file(path: &Path) -> Result<Document, SourceError> {
    let stdin = path.as_os_str() == "-";
    let bytes = if stdin {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        fs::read(path)
    };
    let path = if stdin { Path::new("<stdin>") } else { path };
    let bytes = bytes.map_err(|source| SourceError::Io { path: path.to_owned(), source })?;
    let text =
        String::from_utf8(bytes).map_err(|_| SourceError::NotText { path: path.to_owned() })?;
    Ok(Document { name: path.display().to_string(), text })
}

fn keep<T>(result: Result<T, SourceError>, kept: &mut Vec<T>, errors: &mut Vec<SourceError>) {
    match result {
        Ok(value) => kept.push(value),
        Err(error) => errors.push(error),
    }
}

fn read_directory(path: &Path, documents: &mut Vec<Document>, errors: &mut Vec<SourceError>) {
    let mut files = Vec::new();
    let before = errors.len();
    collect_files(path, &mut files, errors);
    files.sort();
    if files.is_empty() && errors.len() == before {
        errors.push(SourceError::Nothing { path: path.to_owned() });
    }
    for file in files {
        keep(read_file(&file), documents, errors);
    }
}

/// Symbolic links to files are followed, those to directories are not: they may lead in
/// circles, and mounted ConfigMaps show every file twice that way.
fn collect_files(directory: &Path, files: &mut Vec<PathBuf>, errors: &mut Vec<SourceError>) {
    let failed = |source| SourceError::Io { path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(source) => return errors.push(failed(source)),
    };
    for entry in entries {
        match entry.and_then(|e| Ok((e.path(), e.file_type()?))) {
            Ok((path, kind)) if kind.is_dir() => collect_files(&path, files, errors),
            Ok((path, _)) if is_manifest(&path) && path.is_file() => files.push(path),
            Ok(_) => {}
            Err(source) => errors.push(failed(source)),
        }
    }
}

fn is_manifest(path: &Path) -> bool {
    let ending = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    ENDINGS.contains(&ending)
}
