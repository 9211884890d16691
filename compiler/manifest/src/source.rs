//! Reading the input: files, directories and standard input.
//!
//! Invariant: the only module here with effects; it looks at names, never at contents.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// A text and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Name of the file, or `<stdin>`.
    pub name: String,
    /// What is in it: YAML or JSON, one object or many.
    pub text: String,
}

/// Something to read objects from. Unlike a [`Document`], it need not fit into memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source<'s> {
    name: String,
    from: From<'s>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum From<'s> {
    Text(&'s str),
    File(PathBuf),
    Stdin,
}

impl<'s> Source<'s> {
    /// The file at `path`, or standard input when that is `-`.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        if path.as_os_str() == "-" {
            return Self { name: STDIN.to_owned(), from: From::Stdin };
        }
        Self { name: path.display().to_string(), from: From::File(path.to_owned()) }
    }

    /// The text of `document`.
    #[must_use]
    pub fn of(document: &'s Document) -> Self {
        Self { name: document.name.clone(), from: From::Text(&document.text) }
    }

    /// Name of the file, or `<stdin>`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many bytes there are, when that can be known before they are read.
    #[must_use]
    pub fn size_bytes(&self) -> Option<u64> {
        match &self.from {
            From::Text(text) => Some(text.len() as u64),
            From::File(path) => {
                fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|m| m.len())
            }
            From::Stdin => None,
        }
    }

    pub(crate) fn open(&self) -> Result<Box<dyn Read + '_>, SourceError> {
        match &self.from {
            From::Text(text) => Ok(Box::new(text.as_bytes())),
            From::File(path) => match File::open(path) {
                Ok(file) => Ok(Box::new(file)),
                Err(error) => Err(self.failed(error)),
            },
            // A second reader would find it empty, and take that for an input without objects.
            From::Stdin if STDIN_TAKEN.swap(true, Ordering::Relaxed) => Err(SourceError::Taken),
            From::Stdin => Ok(Box::new(io::stdin())),
        }
    }

    /// Whether it can be read a second time. A pipe cannot.
    pub(crate) fn is_lasting(&self) -> bool {
        self.size_bytes().is_some()
    }

    /// The same text again, if it is lasting.
    pub(crate) fn open_again(&self) -> Option<Box<dyn Read + '_>> {
        self.is_lasting().then(|| self.open().ok()).flatten()
    }

    pub(crate) fn failed(&self, source: io::Error) -> SourceError {
        SourceError::Io { path: PathBuf::from(&self.name), source }
    }
}

const STDIN: &str = "<stdin>";

const BYTE_ORDER_MARK: char = '\u{feff}';

/// Whether standard input was opened.
static STDIN_TAKEN: AtomicBool = AtomicBool::new(false);

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
    /// `-` stands twice.
    #[error("standard input can be read once, and `-` stands twice; give one of them as a file")]
    Taken,
    /// A directory without any file of the endings that are read.
    #[error("{} holds no file named *.yaml, *.yml or *.json", .path.display())]
    Nothing {
        /// The directory.
        path: PathBuf,
    },
}

const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// What `paths` name: files whatever their name, directories recursively (`*.yaml`,
/// `*.yml`, `*.json`, sorted by path), and `-` for standard input. Files are not opened.
///
/// # Errors
///
/// One [`SourceError`] for each directory that could not be read or has no such file.
pub fn list(paths: &[PathBuf]) -> Result<Vec<Source<'static>>, Vec<SourceError>> {
    let mut files = Vec::new();
    let mut errors = Vec::new();
    for path in paths {
        if path.is_dir() {
            list_directory(path, &mut files, &mut errors);
        } else {
            files.push(path.clone());
        }
    }
    if errors.is_empty() { Ok(files.iter().map(|f| Source::at(f)).collect()) } else { Err(errors) }
}

/// Reads what `paths` name, as [`list`] has it, into memory.
///
/// # Errors
///
/// One [`SourceError`] for each path that could not be read.
pub fn read(paths: &[PathBuf]) -> Result<Vec<Document>, Vec<SourceError>> {
    let mut documents = Vec::new();
    let mut errors = Vec::new();
    for path in paths {
        let mut files = Vec::new();
        if path.is_dir() {
            list_directory(path, &mut files, &mut errors);
        } else {
            files.push(path.clone());
        }
        for file in files {
            match read_file(&file) {
                Ok(document) => documents.push(document),
                Err(error) => errors.push(error),
            }
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
    let source = Source::at(path);
    let mut bytes = Vec::new();
    source.open()?.read_to_end(&mut bytes).map_err(|error| source.failed(error))?;
    let mut text = String::from_utf8(bytes)
        .map_err(|_| SourceError::NotText { path: PathBuf::from(source.name()) })?;
    // Some editors put this in front; in the columns of a line it counts for nothing.
    if text.starts_with(BYTE_ORDER_MARK) {
        text.remove(0);
    }
    Ok(Document { name: source.name, text })
}

fn list_directory(path: &Path, files: &mut Vec<PathBuf>, errors: &mut Vec<SourceError>) {
    let mut found = Vec::new();
    let before = errors.len();
    collect_files(path, &mut found, errors);
    found.sort();
    if found.is_empty() && errors.len() == before {
        errors.push(SourceError::Nothing { path: path.to_owned() });
    }
    files.extend(found);
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
