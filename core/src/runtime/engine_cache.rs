//! Engines that a provider has built, kept on disk between runs of the program.
//!
//! A provider writes its files in place, so a program that is killed leaves half of one, which may load and compute
//! nonsense. A folder of the cache counts only with a seal: a list of its files with their lengths and SHA-256, written
//! last. One whose seal is missing or does not fit is emptied and built anew.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::model_set::hash_file;

const SEAL: &str = "sealed.json";

/// SHA-256 and length of every file.
type Files = BTreeMap<String, (String, u64)>;

/// A folder of the cache. Until it is dropped, no other program builds in it or empties it; while it is read, others may read it,
/// too.
#[derive(Debug)]
pub(crate) struct EngineCache {
    folder: PathBuf,
    /// It is sealed: a provider finds what it needs, unless it is another than the one that built it.
    complete: bool,
    lock: File,
    /// No other program has a lock.
    alone: bool,
}

impl EngineCache {
    /// The folder `key` under `root`, empty or whole. `None` where it cannot be used now (no room, no permission,
    /// another program builds it): the log tells why, and the provider works without.
    pub(crate) fn open(root: &Path, key: &str) -> Option<Self> {
        match Self::try_open(root, key) {
            Ok(cache) => Some(cache),
            Err(e) => {
                log::warn!("no engine is kept in {}: {e}", root.display());
                None
            }
        }
    }

    fn try_open(root: &Path, key: &str) -> io::Result<Self> {
        let folder = root.join(key);
        fs::create_dir_all(&folder)?;
        let lock = match File::create(root.join(format!("{key}.lock"))) {
            // A sealed folder can be read all the same.
            Err(e)
                if matches!(
                    e.kind(),
                    ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                File::open(&folder)?
            }
            lock => lock?,
        };
        let mut cache = Self {
            folder,
            complete: false,
            lock,
            alone: false,
        };
        if cache.lock.try_lock_shared().is_ok() {
            cache.complete = cache.is_whole()?;
            if cache.complete {
                return Ok(cache);
            }
            cache.lock.unlock()?;
        }
        cache.lock.try_lock().map_err(|e| match e {
            fs::TryLockError::WouldBlock => {
                io::Error::new(ErrorKind::WouldBlock, "another program builds it just now")
            }
            fs::TryLockError::Error(e) => e,
        })?;
        cache.alone = true;
        // Another program may have come in between.
        cache.complete = cache.is_whole()?;
        if !cache.complete {
            cache.clear()?;
        }
        Ok(cache)
    }

    /// Whether there is a sealed folder `key` under `root`. Quick, so its files are not read.
    pub(crate) fn is_sealed(root: &Path, key: &str) -> bool {
        root.join(key).join(SEAL).is_file()
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether there is something to read.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Empties it.
    fn clear(&mut self) -> io::Result<()> {
        self.complete = false;
        fs::remove_dir_all(&self.folder)?;
        fs::create_dir_all(&self.folder)
    }

    /// Where what is built anew waits, until it is known whether the new one is of more use.
    fn aside(&self) -> PathBuf {
        let mut name = self.folder.file_name().unwrap_or_default().to_owned();
        name.push(".old");
        self.folder.with_file_name(name)
    }

    /// Empties it, but for what [`bring_back`](Self::bring_back) would want. It fails while other programs read from it.
    pub(crate) fn set_aside(&mut self) -> io::Result<()> {
        self.hold_alone()?;
        remove(&self.aside())?;
        fs::rename(&self.folder, self.aside())?;
        self.complete = false;
        fs::create_dir_all(&self.folder)
    }

    /// Holds again what was set aside: building anew has failed as well, so the engine may not be what is wrong.
    pub(crate) fn bring_back(&mut self) -> io::Result<()> {
        remove(&self.folder)?;
        fs::rename(self.aside(), &self.folder)?;
        self.complete = true;
        Ok(())
    }

    /// What has been built counts from now on, beside what was sealed before, and others may read it. Where that cannot be written
    /// down, it will be built anew.
    pub(crate) fn seal(&mut self) {
        if let Err(e) = self.try_seal() {
            log::warn!(
                "the engines in {} will be built anew: {e}",
                self.folder.display()
            );
        }
    }

    fn try_seal(&mut self) -> io::Result<()> {
        // Of a sealed folder the names tell whether a provider has added to it: hashes of engines take a while.
        let sealed = self.sealed()?.unwrap_or_default();
        if !self.complete || sealed.len() != self.names()?.len() {
            let files = self.list()?;
            self.hold_alone()?;
            if self.complete && files != self.list()? {
                return Err(io::Error::other("another program has changed them"));
            }
            let temporary = self.folder.join(format!("{SEAL}.tmp"));
            fs::write(&temporary, serde_json::to_vec_pretty(&files)?)?;
            fs::rename(&temporary, self.folder.join(SEAL))?;
            self.complete = true;
            remove(&self.aside())?;
        }
        self.share()
    }

    /// Takes the lock for itself. For a moment it may have none.
    fn hold_alone(&mut self) -> io::Result<()> {
        if !self.alone {
            self.lock.unlock()?;
            if let Err(e) = self.lock.try_lock() {
                self.share()?;
                return Err(e.into());
            }
            self.alone = true;
        }
        Ok(())
    }

    /// Lets other programs read.
    fn share(&mut self) -> io::Result<()> {
        self.lock.unlock()?;
        self.alone = false;
        self.lock.try_lock_shared().map_err(io::Error::from)
    }

    /// What the seal lists.
    fn sealed(&self) -> io::Result<Option<Files>> {
        match fs::read(self.folder.join(SEAL)) {
            Ok(seal) => Ok(serde_json::from_slice(&seal).ok()),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn is_whole(&self) -> io::Result<bool> {
        let sealed = self.sealed()?;
        Ok(sealed.is_some() && sealed == Some(self.list()?))
    }

    /// Names of all files but the seal.
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for item in fs::read_dir(&self.folder)? {
            let name = item?.file_name().to_string_lossy().into_owned();
            if !name.starts_with(SEAL) {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn list(&self) -> io::Result<Files> {
        let hashed = |name: String| {
            let hash = hash_file(&self.folder.join(&name)).map_err(io::Error::other)?;
            Ok((name, hash))
        };
        self.names()?.into_iter().map(hashed).collect()
    }
}

/// Removes a folder, if it is there.
fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(cache: &EngineCache) {
        fs::write(cache.folder().join("a.engine"), [7; 1000]).unwrap();
        fs::write(cache.folder().join("b.timing"), [8; 10]).unwrap();
    }

    /// A folder that has been built and sealed.
    fn sealed(root: &Path) -> EngineCache {
        let mut cache = EngineCache::open(root, "key").unwrap();
        assert!(!cache.is_complete());
        build(&cache);
        cache.seal();
        cache
    }

    fn files(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn what_was_built_to_the_end_is_there_the_next_time() {
        let root = tempfile::tempdir().unwrap();
        drop(sealed(root.path()));
        let cache = EngineCache::open(root.path(), "key").unwrap();
        assert!(cache.is_complete());
        assert_eq!(files(cache.folder()), 3);
    }

    #[test]
    fn what_a_killed_program_left_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let cache = EngineCache::open(root.path(), "key").unwrap();
        build(&cache);
        drop(cache);
        let cache = EngineCache::open(root.path(), "key").unwrap();
        assert!(!cache.is_complete());
        assert_eq!(files(cache.folder()), 0);
    }

    #[test]
    fn what_was_changed_cut_or_added_afterwards_is_removed() {
        let changes: [fn(&Path); 5] = [
            |f| fs::write(f.join("a.engine"), [7; 999]).unwrap(),
            |f| fs::write(f.join("b.timing"), [9; 10]).unwrap(),
            |f| fs::write(f.join("c"), []).unwrap(),
            |f| fs::remove_file(f.join("b.timing")).unwrap(),
            |f| fs::write(f.join(SEAL), "{").unwrap(),
        ];
        for change in changes {
            let root = tempfile::tempdir().unwrap();
            let cache = sealed(root.path());
            change(cache.folder());
            drop(cache);
            let cache = EngineCache::open(root.path(), "key").unwrap();
            assert!(!cache.is_complete());
            assert_eq!(files(cache.folder()), 0);
        }
    }

    #[test]
    fn programs_read_together_and_build_alone() {
        let root = tempfile::tempdir().unwrap();
        let open = || EngineCache::open(root.path(), "key");
        let mut first = open().unwrap();
        assert!(open().is_none(), "two build at once");
        build(&first);
        first.seal();
        let second = open().unwrap();
        assert!(first.is_complete() && second.is_complete());
        assert!(first.set_aside().is_err(), "emptied under a reader");
        assert_eq!(files(second.folder()), 3);
        drop(second);
        first.set_aside().unwrap();
        assert!(open().is_none(), "two build at once");
    }

    #[test]
    fn what_a_provider_adds_to_a_sealed_folder_is_kept() {
        let root = tempfile::tempdir().unwrap();
        let mut cache = sealed(root.path());
        fs::write(cache.folder().join("other_gpu.engine"), [9; 100]).unwrap();
        cache.seal();
        drop(cache);
        let cache = EngineCache::open(root.path(), "key").unwrap();
        assert!(cache.is_complete());
        assert_eq!(files(cache.folder()), 4);
    }

    #[test]
    fn what_was_set_aside_comes_back_or_gives_way() {
        let root = tempfile::tempdir().unwrap();
        let mut cache = sealed(root.path());
        // Neither opens: out of memory, say.
        cache.set_aside().unwrap();
        assert_eq!(files(cache.folder()), 0);
        fs::write(cache.folder().join("half"), []).unwrap();
        cache.bring_back().unwrap();
        drop(cache);
        let mut cache = EngineCache::open(root.path(), "key").unwrap();
        assert!(cache.is_complete());
        // The new one does.
        cache.set_aside().unwrap();
        fs::write(cache.folder().join("new.engine"), [1]).unwrap();
        cache.seal();
        drop(cache);
        let cache = EngineCache::open(root.path(), "key").unwrap();
        assert!(cache.is_complete());
        assert_eq!(files(cache.folder()), 2);
        assert!(!cache.aside().exists());
        // Names have versions in them.
        let aside = |key| EngineCache::open(root.path(), key).unwrap().aside();
        assert_ne!(
            aside("tensorrt-1.31.1-matte"),
            aside("tensorrt-1.31.1-value")
        );
    }

    #[test]
    fn without_a_usable_folder_there_is_no_cache() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, []).unwrap();
        assert!(EngineCache::open(&file, "key").is_none());
        let held = EngineCache::open(root.path(), "key").unwrap();
        assert!(EngineCache::open(root.path(), "key").is_none());
        assert!(EngineCache::open(root.path(), "other").is_some());
        drop(held);
        assert!(EngineCache::open(root.path(), "key").is_some());
    }
}
