//! A file that is read again when it changes.
//!
//! A change is one of what a link leads to, too: Kubernetes swaps a link. A file that is being
//! rewritten in its place could be read half, and half a file of keys may be a legal one. So it is
//! left alone until two looks in a row have found it the same.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The largest file that is read. Ten thousand keys are a tenth of it.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// What differs when a file has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    place: (u64, u64),
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(of: &Metadata) -> Self {
        Self {
            place: (of.dev(), of.ino()),
            bytes: of.size(),
            modified: (of.mtime(), of.mtime_nsec()),
            changed: (of.ctime(), of.ctime_nsec()),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Watched {
    path: PathBuf,
    /// How it was when it was read last, and when it was looked at last. `None` is absent.
    read: Option<Stamp>,
    seen: Option<Stamp>,
}

impl Watched {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.into(),
            read: None,
            seen: None,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it has changed since it was read, and is not being changed at this moment.
    pub(super) fn has_changed(&mut self) -> bool {
        let now = std::fs::metadata(&self.path).ok().as_ref().map(Stamp::of);
        let is_settled = self.seen == now;
        self.seen = now;
        is_settled && self.read != now
    }

    /// Its content.
    pub(super) fn read(&mut self) -> io::Result<Vec<u8>> {
        self.read = None;
        let file = File::open(&self.path)?;
        let stamp = Stamp::of(&file.metadata()?);
        self.read = Some(stamp);
        self.seen = Some(stamp);
        let mut content = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut content)?;
        if content.len() as u64 > FILE_BYTES_MAX {
            return Err(io::Error::other(format!(
                "it is longer than {FILE_BYTES_MAX} bytes"
            )));
        }
        Ok(content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_once_it_has_settled() {
        let folder = std::env::temp_dir().join(format!("shardcast-watched-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for temporary files");
        let path = folder.join("file");
        std::fs::write(&path, "one").expect("a writable folder");
        let mut file = Watched::new(&path);
        assert_eq!(file.read().expect("it is there"), b"one");
        assert!(!file.has_changed() && !file.has_changed());
        std::fs::write(&path, "two!").expect("a writable folder");
        assert!(!file.has_changed(), "it may still be written");
        assert!(file.has_changed());
        assert_eq!(file.read().expect("it is there"), b"two!");
        assert!(!file.has_changed());

        // Another file of the same size behind the same name.
        let other = folder.join("other");
        std::fs::write(&other, "2222").expect("a writable folder");
        std::fs::rename(&other, &path).expect("a writable folder");
        assert!(!file.has_changed() && file.has_changed());
        assert_eq!(file.read().expect("it is there"), b"2222");

        std::fs::remove_file(&path).expect("it is there");
        assert!(!file.has_changed() && file.has_changed());
        assert!(file.read().is_err());
        assert!(!file.has_changed(), "it is told once that it is gone");
        std::fs::remove_dir(&folder).expect("it is empty");
    }
}
