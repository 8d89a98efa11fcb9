//! Whether copies can take the place of a VM's drives: the same files by name, each of the same length.

use std::ffi::OsString;
use std::io;
use std::path::Path;

/// The files of a VM's drives, as far as copies have to be like them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DriveFiles(Vec<(OsString, u64)>);

impl DriveFiles {
    /// Returns what files there are, in any order: their names, and how long they are in bytes.
    pub(crate) fn new(files: impl IntoIterator<Item = (OsString, u64)>) -> Self {
        let mut files: Vec<(OsString, u64)> = files.into_iter().collect();
        files.sort();
        Self(files)
    }

    /// Looks at files. Fails where one can't be looked at.
    pub(crate) fn at<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> io::Result<Self> {
        let look = |path: P| {
            let path = path.as_ref();
            Ok((path.file_name().unwrap_or_default().to_owned(), path.metadata()?.len()))
        };
        Ok(Self::new(paths.into_iter().map(look).collect::<io::Result<Vec<_>>>()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drives_are_alike_when_all_files_are_by_name_and_length() {
        let files = |files: &[(&str, u64)]| {
            DriveFiles::new(files.iter().map(|(name, bytes)| (OsString::from(name), *bytes)))
        };
        let own = files(&[("disk.cow", 4096), ("disk-d.img", 8192)]);
        assert_eq!(own, files(&[("disk-d.img", 8192), ("disk.cow", 4096)]), "in any order");
        assert_ne!(own, files(&[("disk.cow", 4096)]), "one is missing");
        assert_ne!(own, files(&[("disk.cow", 4096), ("disk-e.img", 8192)]), "another one");
        assert_ne!(own, files(&[("disk.cow", 8192), ("disk-d.img", 8192)]), "it has grown");
    }
}
