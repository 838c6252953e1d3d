//! The folder through which a worker gets the files of its input. It is empty between calls.
//!
//! A plugin sees this folder and no other one of the engine's, so that the images of other patients
//! are not merely hidden from it: they are not there. A file is a link to the one of the archive,
//! which costs next to nothing; `sandbox` keeps the plugin from changing what it links to.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use domain::SopInstanceUid;
use uuid::Uuid;

/// How a file gets into the folder of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lending {
    /// As a link to the file of the archive; as a copy where the file system has no links.
    Link,
    /// As a copy, for a plugin that nothing keeps from writing to its input.
    Copy,
}

/// The folder of one worker. Dropping it removes it.
pub(crate) struct InputFolder {
    path: PathBuf,
    lending: Lending,
    /// Number of the next file. No path is used twice, so that a plugin that remembers one from an
    /// earlier call finds nothing there.
    next: AtomicU64,
}

impl InputFolder {
    /// Makes an empty folder below `parent`.
    pub(crate) fn new(parent: &Path, lending: Lending) -> io::Result<Self> {
        let path = parent.join(Uuid::now_v7().to_string());
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path, lending, next: AtomicU64::new(0) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the files of a call into the folder, and returns their paths there. A file that does
    /// not exist has a path, too: the plugin asks for it in vain, as for one that was removed
    /// meanwhile.
    pub(crate) fn lend(
        &self,
        files: BTreeMap<SopInstanceUid, PathBuf>,
    ) -> io::Result<BTreeMap<SopInstanceUid, PathBuf>> {
        let mut lent = BTreeMap::new();
        for (instance, source) in files {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let path = self.path.join(format!("{number}.dcm"));
            match self.lend_file(&source, &path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => _ = lent.insert(instance, path),
            }
        }
        Ok(lent)
    }

    fn lend_file(&self, source: &Path, path: &Path) -> io::Result<()> {
        match self.lending {
            Lending::Link => fs::hard_link(source, path).or_else(|_| copy(source, path)),
            Lending::Copy => copy(source, path),
        }
    }

    /// Removes the files of a call.
    pub(crate) fn take_back(&self) -> io::Result<()> {
        fs::read_dir(&self.path)?.try_for_each(|it| fs::remove_file(it?.path()))
    }
}

impl Drop for InputFolder {
    fn drop(&mut self) {
        // What cannot be removed is removed at the next start of the engine.
        _ = fs::remove_dir_all(&self.path);
    }
}

/// Copies a file to a path where nothing is yet: what is there might be a link to the archive.
fn copy(source: &Path, path: &Path) -> io::Result<()> {
    let mut original = File::open(source)?;
    let mut copy = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    io::copy(&mut original, &mut copy)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::package::tests::Scratch;

    /// An image in an archive, as the input of a call.
    fn image(scratch: &Scratch, name: &str) -> BTreeMap<SopInstanceUid, PathBuf> {
        let path = scratch.0.join(name);
        fs::write(&path, name).unwrap();
        BTreeMap::from([("1.2.1".parse().unwrap(), path)])
    }

    fn entries(folder: &InputFolder) -> usize {
        fs::read_dir(folder.path()).unwrap().count()
    }

    #[test]
    fn sec_31_a_worker_has_the_files_of_its_call_and_none_before_and_after() {
        let scratch = Scratch::new();
        let folder = InputFolder::new(&scratch.0, Lending::Link).unwrap();
        assert_eq!(entries(&folder), 0);
        let first = folder.lend(image(&scratch, "first")).unwrap().into_values().next().unwrap();
        assert_eq!(fs::read(&first).unwrap(), b"first");
        folder.take_back().unwrap();
        assert_eq!(entries(&folder), 0);
        let second = folder.lend(image(&scratch, "second")).unwrap().into_values().next().unwrap();
        assert_eq!((fs::read(&second).unwrap().as_slice(), entries(&folder)), (&b"second"[..], 1));
        assert!(!first.exists(), "a path of the call before leads nowhere");
        assert_eq!(fs::read(scratch.0.join("first")).unwrap(), b"first");
        let path = folder.path().to_owned();
        drop(folder);
        assert!(!path.exists());
        assert_eq!(fs::read(scratch.0.join("second")).unwrap(), b"second");
    }

    #[test]
    fn a_plugin_that_can_write_gets_copies_and_any_other_links() {
        let scratch = Scratch::new();
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        for (lending, is_the_same) in [(Lending::Link, true), (Lending::Copy, false)] {
            let folder = InputFolder::new(&scratch.0, lending).unwrap();
            let path = folder.lend(image(&scratch, "x")).unwrap().into_values().next().unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"x");
            assert_eq!(inode(&path) == inode(&scratch.0.join("x")), is_the_same, "{lending:?}");
        }
    }

    #[test]
    fn a_file_that_is_gone_has_a_path_that_leads_nowhere() {
        let scratch = Scratch::new();
        let folder = InputFolder::new(&scratch.0, Lending::Link).unwrap();
        let files = image(&scratch, "gone");
        fs::remove_file(scratch.0.join("gone")).unwrap();
        let lent = folder.lend(files).unwrap();
        assert!(lent.values().all(|it| it.starts_with(folder.path()) && !it.exists()), "{lent:?}");
        assert_eq!(lent.len(), 1);
    }

    #[test]
    fn nothing_is_copied_over_a_file_that_is_there() {
        let scratch = Scratch::new();
        let original = image(&scratch, "original").into_values().next().unwrap();
        let link = scratch.0.join("link");
        fs::hard_link(&original, &link).unwrap();
        let other = image(&scratch, "other").into_values().next().unwrap();
        assert!(copy(&other, &link).is_err());
        assert_eq!(fs::read(&original).unwrap(), b"original");
    }
}
