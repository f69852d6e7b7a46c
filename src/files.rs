//! Values that come from files and follow them: certificates and secrets are renewed while the process runs.
//!
//! Content is compared, not times or inodes: a projected volume swaps a symbolic link, and a copy keeps its time.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use ring::digest;

/// Certificates, keys and secrets are a few KiB.
const MOST_BYTES: u64 = 1024 * 1024;

/// A value read from files.
pub struct FromFiles<T> {
    what: &'static str,
    paths: Vec<PathBuf>,
    parse: Box<Parse<T>>,
    current: ArcSwap<T>,
    state: Mutex<State>,
}

/// What the files say, from their contents in order.
type Parse<T> = dyn Fn(&[Vec<u8>]) -> Result<T, String> + Send + Sync;

struct State {
    /// Of the contents last tried, good or bad.
    tried: Option<digest::Digest>,
    failure: Option<String>,
}

/// What became of reading the files again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// They say what they said before.
    Unchanged,
    /// There is a new value.
    Renewed,
    /// They cannot be used; the value before is kept.
    Refused,
}

impl<T> FromFiles<T> {
    /// Reads the files for the first time; `what` names the value in the log.
    ///
    /// # Errors
    ///
    /// Why a file cannot be read, or why its content cannot be used.
    pub fn load(
        what: &'static str,
        paths: Vec<PathBuf>,
        parse: impl Fn(&[Vec<u8>]) -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, String> {
        let contents = read_all(&paths)?;
        let current = ArcSwap::from_pointee(parse(&contents)?);
        let state = Mutex::new(State { tried: Some(digest_of(&contents)), failure: None });
        Ok(Self { what, paths, parse: Box::new(parse), current, state })
    }

    /// The value, as of the last time the files were good.
    pub fn current(&self) -> Arc<T> {
        self.current.load_full()
    }

    /// Why the files, as they are now, cannot be used.
    pub fn failure(&self) -> Option<String> {
        self.state().failure.clone()
    }

    /// Reads the files again, now: small files of a local or memory file system, not worth a thread.
    pub fn refresh(&self) -> Refreshed {
        let contents = read_all(&self.paths);
        let mut state = self.state();
        // Unreadable files have no digest: trying again costs little, and the log is not filled (see below).
        let tried = contents.as_deref().ok().map(digest_of);
        if tried.is_some() && tried.as_ref().map(AsRef::as_ref) == state.tried.as_ref().map(AsRef::as_ref) {
            return if state.failure.is_some() { Refreshed::Refused } else { Refreshed::Unchanged };
        }
        match contents.and_then(|contents| (self.parse)(&contents)) {
            Ok(value) => {
                self.current.store(Arc::new(value));
                *state = State { tried, failure: None };
                tracing::info!(what = self.what, "read again");
                Refreshed::Renewed
            }
            Err(failure) => {
                if state.failure.as_ref() != Some(&failure) {
                    tracing::error!(
                        what = self.what,
                        failure,
                        "cannot be read again; the one before is kept"
                    );
                }
                *state = State { tried, failure: Some(failure) };
                Refreshed::Refused
            }
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // A panicking parser leaves the state as it was.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Without the value: it may be a secret.
impl<T> fmt::Debug for FromFiles<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("FromFiles")
            .field("what", &self.what)
            .field("paths", &self.paths)
            .finish_non_exhaustive()
    }
}

/// Reads one file whole.
///
/// # Errors
///
/// Why not, without its content.
pub fn read(path: &Path) -> Result<Vec<u8>, String> {
    let unreadable = |error| format!("{}: {error}", path.display());
    let mut content = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(MOST_BYTES + 1).read_to_end(&mut content).map_err(unreadable)?;
    if content.len() as u64 > MOST_BYTES {
        return Err(format!("{}: longer than {MOST_BYTES} bytes", path.display()));
    }
    Ok(content)
}

/// Opens a file to append to it; makes it where there is none.
///
/// # Errors
///
/// Why not.
pub fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

fn read_all(paths: &[PathBuf]) -> Result<Vec<Vec<u8>>, String> {
    paths.iter().map(|path| read(path)).collect()
}

fn digest_of(contents: &[Vec<u8>]) -> digest::Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    for content in contents {
        context.update(&(content.len() as u64).to_be_bytes());
        context.update(content);
    }
    context.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &tempfile::TempDir, name: &str, content: &str) -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, content).expect("written");
        path
    }

    fn number(contents: &[Vec<u8>]) -> Result<u64, String> {
        std::str::from_utf8(&contents.concat())
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| "no number".to_owned())
    }

    #[test]
    fn a_value_follows_its_files_and_outlives_their_bad_times() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = vec![write(&folder, "a", "1"), write(&folder, "b", "2")];
        let value = FromFiles::load("a number", paths, number).expect("it is one");
        assert_eq!((*value.current(), value.refresh()), (12, Refreshed::Unchanged));
        write(&folder, "b", "3");
        assert_eq!((value.refresh(), *value.current()), (Refreshed::Renewed, 13));
        write(&folder, "b", "x");
        assert_eq!((value.refresh(), *value.current()), (Refreshed::Refused, 13));
        assert_eq!((value.refresh(), value.failure().as_deref()), (Refreshed::Refused, Some("no number")));
        std::fs::remove_file(folder.path().join("b")).expect("removed");
        assert_eq!((value.refresh(), *value.current()), (Refreshed::Refused, 13));
        write(&folder, "b", "3");
        assert_eq!((value.refresh(), value.failure()), (Refreshed::Renewed, None));
    }

    #[test]
    fn what_cannot_be_read_at_first_is_an_error_with_its_path() {
        let folder = tempfile::tempdir().expect("a folder");
        let missing = folder.path().join("missing");
        let error = FromFiles::load("a number", vec![missing], number).expect_err("there is none");
        assert!(error.contains("missing: "), "{error}");
        let long = write(&folder, "long", &"1".repeat(1024 * 1024 + 1));
        let error = FromFiles::load("a number", vec![long], number).expect_err("too long");
        assert!(error.contains("longer than"), "{error}");
    }
}
