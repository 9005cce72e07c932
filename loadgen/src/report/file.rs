//! The file of `--html`, opened before the run: an hour of load must not end in "permission denied".
//!
//! Its content is replaced only when there is a page to replace it with.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::Failure;

#[derive(Debug)]
pub(crate) struct PageFile {
    path: PathBuf,
    file: File,
    /// It was not there before.
    is_new: bool,
}

impl PageFile {
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let refused =
            |error: io::Error| Failure::Usage(format!("--html {}: {error}", path.display()));
        let (file, is_new) = match OpenOptions::new().write(true).create_new(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let file = OpenOptions::new().write(true).open(path);
                (file.map_err(refused)?, false)
            }
            other => (other.map_err(refused)?, true),
        };
        Ok(Self {
            path: path.to_owned(),
            file,
            is_new,
        })
    }

    pub(crate) fn write(mut self, page: &str) -> io::Result<()> {
        // A pipe or a device has no older content that could show behind the page.
        if self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
        }
        self.file.write_all(page.as_bytes())
    }

    /// There is no page: what was there stays, what was not is not left behind.
    pub(crate) fn abandon(self) {
        if self.is_new {
            // The run has failed already, and says why.
            drop(fs::remove_file(self.path));
        }
    }
}
