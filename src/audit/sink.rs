//! What audit records are written into: a file that may be moved away, standard output or standard error.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::PathBuf,
};

use crate::{config::AuditLog, files};

/// An open file, and where it is to be found.
pub(super) struct Sink {
    pub(super) file: File,
    /// Of a file that may be moved away; standard output and error stay where they are.
    path: Option<PathBuf>,
}

impl Sink {
    pub(super) fn open(log: &AuditLog) -> io::Result<Self> {
        let standard = |stream: io::Result<OwnedFd>| Ok(Self { file: stream?.into(), path: None });
        match log {
            AuditLog::Stdout => standard(io::stdout().as_fd().try_clone_to_owned()),
            AuditLog::Stderr => standard(io::stderr().as_fd().try_clone_to_owned()),
            AuditLog::File(path) => Ok(Self { file: files::append_to(path)?, path: Some(path.clone()) }),
        }
    }

    /// Opens the file anew where it is not the one at its path any more; tells whether it did.
    pub(super) fn follow(&mut self) -> io::Result<bool> {
        let Some(path) = &self.path else { return Ok(false) };
        let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        let open = identity(self.file.metadata()?);
        if path.metadata().map(identity).is_ok_and(|there| there == open) {
            return Ok(false);
        }
        self.file = files::append_to(path)?;
        Ok(true)
    }
}
