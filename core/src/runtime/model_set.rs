//! Model packages on disk.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::manifest::{Kind, Manifest};
use super::paths;
use crate::error::{Error, Result};

/// A package whose manifest and files have been checked.
#[derive(Debug, Clone)]
pub struct Package {
    /// Its directory.
    pub dir: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
    /// Hash over the hashes of all its files: what caches are keyed by.
    pub hash: String,
}

/// SHA-256 of a file in hexadecimal digits, and its length.
pub(crate) fn hash_file(path: &Path) -> Result<(String, u64)> {
    let mut file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut total = 0;
    loop {
        let n = file.read(&mut buffer).map_err(|e| Error::io(path, e))?;
        if n == 0 {
            break;
        }
        total += n as u64;
        hasher.update(&buffer[..n]);
    }
    Ok((hex(&hasher.finalize()), total))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut s, b| {
            let _ = write!(s, "{b:02x}");
            s
        })
}

impl Package {
    /// Opens a package and checks its manifest and the length and hash of every file.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Model`], with the file, the field or the tensor that is missing or wrong.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        let manifest_path = dir.join("manifest.json");
        let manifest = Manifest::read(&manifest_path)?;
        if let Some(weights) = &manifest.weights
            && !manifest.files.contains_key(&weights.file)
        {
            return Err(Error::model(
                &manifest_path,
                format!(
                    "{} is a skeleton without weights: `matte models import {} FILE` fills it from your own \
                         download",
                    manifest.name, manifest.name
                ),
            ));
        }
        let mut all = Sha256::new();
        for (name, entry) in &manifest.files {
            let path = dir.join(name);
            let (hash, bytes) = hash_file(&path)?;
            if bytes != entry.bytes {
                return Err(Error::model(
                    &path,
                    format!("{bytes} bytes, but the manifest lists {}", entry.bytes),
                ));
            }
            if !hash.eq_ignore_ascii_case(&entry.sha256) {
                return Err(Error::model(
                    &path,
                    format!("SHA-256 {hash}, but the manifest lists {}", entry.sha256),
                ));
            }
            all.update(hash);
        }
        let hash = hex(&all.finalize());
        Ok(Self {
            dir: dir.to_owned(),
            manifest,
            hash,
        })
    }

    /// Finds a package by name, or opens the directory of that path.
    ///
    /// # Errors
    /// [`Error::ModelNotFound`] with the places that were searched, and those of [`Package::open`].
    pub fn find(name: &str) -> Result<Self> {
        Self::find_in(name, &paths::model_dirs())
    }

    /// Finds a package in these directories.
    ///
    /// # Errors
    /// As [`Package::find`].
    pub fn find_in(name: &str, dirs: &[PathBuf]) -> Result<Self> {
        let looks_like_a_path = name.contains(['/', '\\']) || name == ".";
        if looks_like_a_path {
            return Self::open(name);
        }
        let candidates = || {
            dirs.iter()
                .map(|d| d.join(name))
                .filter(|d| d.join("manifest.json").is_file())
        };
        // A skeleton in the source tree must not hide behind or before an imported package.
        let mut skeleton = None;
        for dir in candidates() {
            match Self::open(&dir) {
                Ok(package) => return Ok(package),
                Err(e)
                    if Manifest::read(&dir.join("manifest.json"))
                        .is_ok_and(|m| m.is_skeleton()) =>
                {
                    skeleton.get_or_insert(e);
                }
                Err(e) => return Err(e),
            }
        }
        // A folder here that is called by its name alone.
        if skeleton.is_none() && Path::new(name).join("manifest.json").is_file() {
            return Self::open(name);
        }
        Err(skeleton.unwrap_or_else(|| Error::ModelNotFound {
            name: name.to_owned(),
            looked: dirs
                .iter()
                .map(|d| d.display().to_string())
                .collect::<Vec<_>>()
                .join(", "),
        }))
    }

    /// Every package that can be found, with the error of those that cannot be used; the first of a name wins.
    pub fn list() -> Vec<(PathBuf, Result<Self>)> {
        let mut names = std::collections::BTreeSet::new();
        let mut all = Self::folders();
        all.retain(|(name, _)| names.insert(name.clone()));
        let open = |(_, path): (String, PathBuf)| {
            let package = Self::open(&path);
            (path, package)
        };
        all.into_iter().map(open).collect()
    }

    /// Name and path of every folder with a manifest where packages are looked for, in the order in which they are found. Nothing
    /// is opened; a name may be there more than once.
    pub fn folders() -> Vec<(String, PathBuf)> {
        let mut all = Vec::new();
        for dir in paths::model_dirs() {
            let entries = std::fs::read_dir(&dir).into_iter().flatten().flatten();
            let mut found: Vec<(String, PathBuf)> = entries
                .map(|e| (e.file_name().to_string_lossy().into_owned(), e.path()))
                // What an import that was cut off has left behind begins with a dot.
                .filter(|(name, p)| !name.starts_with('.') && p.join("manifest.json").is_file())
                .collect();
            found.sort();
            all.append(&mut found);
        }
        all
    }
}

impl Manifest {
    /// Whether the weights still have to be imported.
    pub fn is_skeleton(&self) -> bool {
        self.weights
            .as_ref()
            .is_some_and(|w| !self.files.contains_key(&w.file))
    }
}

/// The packages that an engine uses together.
#[derive(Debug, Clone)]
pub struct ModelSet {
    /// Mattes.
    pub matting: Package,
    /// Finds people: for automatic first masks and as a hint. Without it everything else works.
    pub segmentation: Option<Package>,
}

impl ModelSet {
    /// Package of the person segmentation.
    pub const SEGMENTATION: &'static str = "selfie";

    /// A matting package, by name or directory, with the person segmentation where that is installed.
    ///
    /// # Errors
    /// Those of [`Package::find`] for the matting package. A person segmentation that cannot be used is logged.
    pub fn find(model: &str) -> Result<Self> {
        let matting = Package::find(model)?;
        if matting.manifest.kind != Kind::Matting {
            return Err(Error::model(
                matting.dir.join("manifest.json"),
                format!(
                    "field `kind` of {} is `segmentation`, but a `matting` package is needed",
                    matting.manifest.name
                ),
            ));
        }
        let segmentation = match Package::find(Self::SEGMENTATION) {
            Ok(package) if package.manifest.kind == Kind::Segmentation => Some(package),
            Ok(package) => {
                log::warn!(
                    "package {} is no segmentation: no automatic seeding",
                    package.dir.display()
                );
                None
            }
            Err(e) => {
                log::warn!("no automatic seeding, no person hint: {e}");
                None
            }
        };
        Ok(Self {
            matting,
            segmentation,
        })
    }
}
