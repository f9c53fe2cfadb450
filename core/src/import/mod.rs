//! Weights into skeletons: a user's checkpoint, files with byte ranges, or the deterministic weights of the tests, all
//! through the same recipes (docs/model-packages.md). No code of a checkpoint is ever run.

mod checkpoint;
mod pickle;
pub mod rule;
mod tensors;

use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

pub use checkpoint::Checkpoint;
pub(crate) use tensors::{SourceTensor, decode};
use tensors::{decode_indices, densify};

use crate::error::{Error, Result};
use crate::runtime::manifest::{Element, FileEntry, Manifest, Rows, WeightSpec};
use crate::runtime::{Package, hash_file, paths};

/// Where the weights come from.
#[derive(Debug)]
#[non_exhaustive]
pub enum WeightSource<'a> {
    /// A checkpoint of MatAnyone or MatAnyone 2.
    Checkpoint(&'a Checkpoint),
    /// The files whose byte ranges the skeleton's manifest lists, by the names that it gives them.
    Files(&'a Path),
}

/// A package whose weights are still to come.
#[derive(Debug, Clone)]
pub struct Skeleton {
    dir: PathBuf,
    manifest: Manifest,
}

impl Skeleton {
    /// Opens the skeleton in a directory.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Model`] when there is none.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join("manifest.json");
        let manifest = Manifest::read(&path)?;
        if manifest.weights.is_none() {
            return Err(Error::model(
                &path,
                "field `weights` is missing: this is no skeleton",
            ));
        }
        Ok(Self {
            dir: dir.to_owned(),
            manifest,
        })
    }

    /// Finds a skeleton by its name, or by that of a variant: the same network with other weights, which then bears
    /// the variant's name.
    ///
    /// # Errors
    /// [`Error::ModelNotFound`] with the places that were searched.
    pub fn find(name: &str) -> Result<Self> {
        Self::find_in(name, &paths::model_dirs())
    }

    fn find_in(name: &str, dirs: &[PathBuf]) -> Result<Self> {
        // What an import has filled still says how: it is no skeleton any more, and may be older or damaged.
        let empty = |dir: &Path| Self::open(dir).ok().filter(|s| s.manifest.is_skeleton());
        if let Some(found) = dirs.iter().find_map(|d| empty(&d.join(name))) {
            return Ok(found);
        }
        let entries = dirs
            .iter()
            .flat_map(|d| std::fs::read_dir(d).into_iter().flatten().flatten());
        for mut skeleton in entries.filter_map(|e| empty(&e.path())) {
            let Some(variant) = skeleton.manifest.variants.remove(name) else {
                continue;
            };
            let manifest = &mut skeleton.manifest;
            name.clone_into(&mut manifest.name);
            manifest.variants.clear();
            manifest.description = variant.description.unwrap_or_default();
            manifest.source = variant.source.unwrap_or_default();
            return Ok(skeleton);
        }
        Err(Error::ModelNotFound {
            name: format!("{name} (a skeleton)"),
            looked: dirs
                .iter()
                .map(|d| d.display().to_string())
                .collect::<Vec<_>>()
                .join(", "),
        })
    }

    /// What it says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Fills it: writes `weights.bin` beside copies of its graphs into `target`, which appears complete or not at all.
    /// What was there before is replaced.
    ///
    /// # Errors
    /// [`Error::Model`] when the skeleton contradicts itself; [`Error::Checkpoint`] when a tensor is missing, has another
    /// shape or is left over; [`Error::Io`] when a file cannot be read or written.
    pub fn import(&self, source: &WeightSource<'_>, target: &Path) -> Result<Package> {
        import(&self.dir, self.manifest.clone(), source, target)
    }
}

/// [`Skeleton::open`] and [`Skeleton::import`].
///
/// # Errors
/// Theirs.
pub fn import_package(
    skeleton: &Path,
    source: &WeightSource<'_>,
    target: &Path,
) -> Result<Package> {
    Skeleton::open(skeleton)?.import(source, target)
}

fn import(
    skeleton: &Path,
    mut manifest: Manifest,
    source: &WeightSource<'_>,
    target: &Path,
) -> Result<Package> {
    let manifest_path = skeleton.join("manifest.json");
    let Some(weights) = manifest.weights.clone() else {
        return Err(Error::model(
            &manifest_path,
            "field `weights` is missing: this is no skeleton",
        ));
    };
    if let WeightSource::Checkpoint(checkpoint) = source {
        let used: Vec<&str> = weights
            .tensors
            .iter()
            .filter_map(|t| t.source.as_deref())
            .collect();
        checkpoint.account_for(&used, &weights.unused)?;
    }

    let parent = target.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(|e| Error::io(parent, e))?;
    remove_leftovers(parent, STAGING);
    let staging = tempfile::Builder::new()
        .prefix(STAGING)
        .tempdir_in(parent)
        .map_err(|e| Error::io(parent, e))?;
    // Of a package that was filled before, all but its weights.
    manifest.files.remove(&weights.file);
    for (file, entry) in &manifest.files {
        let (from, to) = (skeleton.join(file), staging.path().join(file));
        let (hash, _) = hash_file(&from)?;
        if hash != entry.sha256 {
            return Err(Error::model(
                &from,
                format!("SHA-256 {hash}, but the manifest lists {}", entry.sha256),
            ));
        }
        std::fs::copy(&from, &to).map_err(|e| Error::io(&to, e))?;
    }
    let file = staging.path().join(&weights.file);
    write_weights(
        &file,
        &manifest_path,
        &weights.tensors,
        weights.bytes,
        source,
    )?;
    let (sha256, bytes) = hash_file(&file)?;
    manifest
        .files
        .insert(weights.file.clone(), FileEntry { sha256, bytes });
    let text = serde_json::to_string_pretty(&manifest)
        .map_err(|e| Error::model(&manifest_path, e.to_string()))?;
    let path = staging.path().join("manifest.json");
    std::fs::write(&path, text).map_err(|e| Error::io(&path, e))?;
    replace(staging, target)?;
    Package::open(target)
}

/// How the names of folders begin in which a package comes to be.
const STAGING: &str = ".import-";

/// Removes what programs that were killed have left in a folder: items whose names begin so, a day old or older, so that nobody
/// works with them any more. One that cannot be removed stays.
pub fn remove_leftovers(folder: &Path, prefix: &str) {
    const DAY: std::time::Duration = std::time::Duration::from_hours(24);
    for item in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let begins = item.file_name().to_string_lossy().starts_with(prefix);
        let changed = item.metadata().and_then(|m| m.modified()).ok();
        let age = changed.and_then(|time| time.elapsed().ok());
        if begins && age.is_some_and(|age| age >= DAY) {
            let _ = std::fs::remove_dir_all(item.path());
        }
    }
}

/// Puts a finished directory in the place of another one.
fn replace(staging: tempfile::TempDir, target: &Path) -> Result<()> {
    let new = staging.keep();
    let old = new.with_extension("old");
    let had_one = target.exists();
    if had_one {
        std::fs::rename(target, &old).map_err(|e| Error::io(target, e))?;
    }
    if let Err(e) = std::fs::rename(&new, target) {
        if had_one {
            // Back to what was there; the first error is the one to report.
            let _ = std::fs::rename(&old, target);
        }
        let _ = std::fs::remove_dir_all(&new);
        return Err(Error::io(target, e));
    }
    if had_one {
        // A leftover costs space and nothing else.
        let _ = std::fs::remove_dir_all(&old);
    }
    Ok(())
}

fn write_weights(
    path: &Path,
    manifest_path: &Path,
    specs: &[WeightSpec],
    bytes: u64,
    source: &WeightSource<'_>,
) -> Result<()> {
    let io = |e| Error::io(path, e);
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).map_err(io)?);
    let mut files: std::collections::HashMap<PathBuf, Vec<u8>> = std::collections::HashMap::new();
    for spec in specs {
        let wrong = |reason: String| {
            Error::model(
                manifest_path,
                format!("initializer `{}`: {reason}", spec.initializer),
            )
        };
        let tensor = match (source, &spec.source, &spec.bytes) {
            (WeightSource::Checkpoint(checkpoint), Some(name), _) => checkpoint.tensor(name)?,
            (WeightSource::Files(dir), _, Some(range)) => {
                let from = dir.join(&range.file);
                if !files.contains_key(&from) {
                    let data = std::fs::read(&from).map_err(|e| Error::io(&from, e))?;
                    files.insert(from.clone(), data);
                }
                let data = &files[&from];
                let part = |offset: u64, length: u64| {
                    let end = offset.saturating_add(length);
                    data.get(offset as usize..end as usize).ok_or_else(|| {
                        wrong(format!(
                            "bytes {offset}..{end} of {}, which has {}",
                            from.display(),
                            data.len()
                        ))
                    })
                };
                let slice = part(range.offset, range.length)?;
                let element = spec.source_type.unwrap_or(Element::Float32);
                let shape = spec
                    .source_shape
                    .clone()
                    .unwrap_or_else(|| spec.shape.clone());
                let mut values = decode(element, slice);
                if let Some(Rows { ends, columns }) = &spec.rows {
                    let [ends, columns] = [ends, columns].map(|indices| {
                        let bytes = part(indices.offset, indices.length)?;
                        Ok(decode_indices(indices.element, bytes))
                    });
                    values = densify(&values, &ends?, &columns?, &shape).map_err(wrong)?;
                }
                if values.len() != shape.iter().product::<usize>() {
                    return Err(wrong(format!(
                        "{} values for shape {shape:?}",
                        values.len()
                    )));
                }
                SourceTensor {
                    shape,
                    data: values,
                }
            }
            _ => return Err(wrong("its source does not fit what is imported".to_owned())),
        };
        let tensor = tensor.apply(&spec.recipe).map_err(wrong)?;
        if tensor.shape != spec.shape {
            let from = spec.source.as_deref().unwrap_or("its bytes");
            return Err(wrong(format!(
                "`{from}` gives shape {:?}, but it must be {:?}",
                tensor.shape, spec.shape
            )));
        }
        let data = tensor.encode(spec.element).map_err(wrong)?;
        if spec.offset + data.len() as u64 > bytes {
            return Err(wrong(format!(
                "ends at byte {} of {bytes}",
                spec.offset + data.len() as u64
            )));
        }
        file.seek(SeekFrom::Start(spec.offset)).map_err(io)?;
        file.write_all(&data).map_err(io)?;
    }
    let file = file.into_inner().map_err(|e| io(e.into_error()))?;
    file.set_len(bytes).map_err(io)?;
    file.sync_all().map_err(io)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A package that was filled comes first in the search, but may be of older graphs.
    #[test]
    fn what_is_filled_is_filled_anew_from_the_skeleton() {
        let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/packages");
        let cache = tempfile::tempdir().unwrap();
        let skeleton = Skeleton::find_in("matanyone2", std::slice::from_ref(&packages)).unwrap();
        let weights = Checkpoint::deterministic();
        let source = WeightSource::Checkpoint(&weights);
        let filled = cache.path().join("matanyone2");
        skeleton.import(&source, &filled).unwrap();
        let variant = cache.path().join("matanyone");
        std::fs::create_dir(&variant).unwrap();
        std::fs::copy(filled.join("manifest.json"), variant.join("manifest.json")).unwrap();
        let dirs = [cache.path().to_owned(), packages.clone()];
        for name in ["matanyone2", "matanyone"] {
            let found = Skeleton::find_in(name, &dirs).unwrap();
            assert_eq!(found.dir, packages.join("matanyone2"));
        }
        // Asked for by its folder it will do, whatever became of its weights.
        let file = filled.join(&skeleton.manifest.weights.as_ref().unwrap().file);
        std::fs::write(file, b"damaged").unwrap();
        import_package(&filled, &source, &cache.path().join("again")).unwrap();
    }

    #[test]
    fn what_killed_imports_left_is_removed_after_a_day() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str, hours: u64| {
            let path = dir.path().join(name);
            std::fs::create_dir(&path).unwrap();
            let folder = std::fs::File::open(&path).unwrap();
            let age = std::time::Duration::from_hours(hours);
            folder
                .set_modified(std::time::SystemTime::now() - age)
                .unwrap();
        };
        for (name, hours) in [(".import-old", 25), (".import-new", 23), ("lite", 1000)] {
            make(name, hours);
        }
        remove_leftovers(dir.path(), STAGING);
        let mut names: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|item| item.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, [".import-new", "lite"]);
    }

    #[test]
    fn a_variant_bears_its_own_name() {
        let dirs = [Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/packages")];
        let skeleton = Skeleton::find_in("matanyone", &dirs).unwrap();
        assert_eq!(skeleton.manifest().name, "matanyone");
        assert_eq!(
            Skeleton::find_in("matanyone2", &dirs)
                .unwrap()
                .manifest()
                .name,
            "matanyone2"
        );
        let missing = Skeleton::find_in("matanyone3", &dirs)
            .unwrap_err()
            .to_string();
        assert!(
            missing.starts_with("model matanyone3 (a skeleton): not found"),
            "{missing}"
        );
    }
}
