//! Checkpoints of MatAnyone and MatAnyone 2.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};

use super::tensors::{Float, SourceTensor};
use super::{pickle, rule};
use crate::error::{Error, Result};

/// Tensors of a checkpoint, by their names in the state dict.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    tensors: BTreeMap<String, SourceTensor>,
    /// Names of tensors that hold no floating-point numbers.
    others: Vec<String>,
}

/// How a file begins that PyTorch wrote before it took to zip archives: a pickle of a magic number.
const LEGACY: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";

impl Checkpoint {
    /// Reads a checkpoint: `.safetensors` as published on the model hub, or `.pth` without running what it may carry. A
    /// prefix that all names share is stripped, all precisions become single, and the multi-object form loses its extra
    /// input channels.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read, [`Error::Checkpoint`] when it is no such file, or a tensor is missing
    /// or has another shape than the network's.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let wrong = |reason: String| Error::checkpoint(path, reason);
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        if bytes.starts_with(b"PK\x03\x04") {
            let (tensors, others) = pickle::read(std::io::Cursor::new(&bytes)).map_err(wrong)?;
            return Self {
                path: path.to_owned(),
                tensors: tensors.into_iter().collect(),
                others,
            }
            .normalised();
        }
        if bytes.starts_with(LEGACY) {
            return Err(wrong(
                "a PyTorch checkpoint in the format of before version 1.6: load it and `torch.save` it again".to_owned(),
            ));
        }
        let file = SafeTensors::deserialize(&bytes).map_err(|e| {
            wrong(format!(
                "neither a safetensors file nor a PyTorch checkpoint: {e}"
            ))
        })?;
        let (mut tensors, mut others) = (BTreeMap::new(), Vec::new());
        for (name, view) in file.tensors() {
            let float = match view.dtype() {
                Dtype::F16 => Float::F16,
                Dtype::BF16 => Float::BF16,
                Dtype::F32 => Float::F32,
                Dtype::F64 => Float::F64,
                _ => {
                    others.push(name);
                    continue;
                }
            };
            tensors.insert(
                name,
                SourceTensor {
                    shape: view.shape().to_vec(),
                    data: float.decode(view.data()),
                },
            );
        }
        Self {
            path: path.to_owned(),
            tensors,
            others,
        }
        .normalised()
    }

    /// The deterministic weights of [`rule`]: no one's checkpoint, for tests and benchmarks.
    pub fn deterministic() -> Self {
        let (mut tensors, mut others) = (BTreeMap::new(), Vec::new());
        for info in rule::tensors() {
            if info.integer {
                others.push(info.name.to_owned());
            } else {
                let data = rule::fill(info.name, &info.shape);
                tensors.insert(
                    info.name.to_owned(),
                    SourceTensor {
                        shape: info.shape,
                        data,
                    },
                );
            }
        }
        Self {
            path: "deterministic weights".into(),
            tensors,
            others,
        }
    }

    /// Strips a common prefix and the multi-object form's channels, and compares every tensor with the state dict.
    fn normalised(mut self) -> Result<Self> {
        let expected = rule::tensors();
        let anchor = "pixel_encoder.conv1.weight";
        let prefix = self
            .tensors
            .keys()
            .find_map(|k| k.strip_suffix(anchor))
            .map(str::to_owned);
        let Some(prefix) = prefix else {
            return Err(Error::checkpoint(
                &self.path,
                format!("tensor `{anchor}` is missing: not a MatAnyone network"),
            ));
        };
        let strip = |name: String| {
            name.strip_prefix(&prefix)
                .map_or(name.clone(), str::to_owned)
        };
        self.tensors = self
            .tensors
            .into_iter()
            .map(|(k, v)| (strip(k), v))
            .collect();
        self.others = self.others.into_iter().map(strip).collect();
        // The multi-object form has one more input channel, for the other objects, which a single object does not use.
        for (name, channels) in [
            ("mask_encoder.conv1.weight", 4),
            ("pixel_fuser.sensory_compress.weight", 257),
        ] {
            if let Some(tensor) = self.tensors.remove(name) {
                let tensor = match tensor.shape.get(1) {
                    Some(n) if *n == channels + 1 => tensor
                        .slice(1, 0, channels)
                        .map_err(|e| Error::checkpoint(&self.path, e))?,
                    _ => tensor,
                };
                self.tensors.insert(name.to_owned(), tensor);
            }
        }
        for info in expected.iter().filter(|i| !i.integer) {
            match self.tensors.get(info.name) {
                Some(tensor) if tensor.shape != info.shape => {
                    return Err(Error::checkpoint(
                        &self.path,
                        format!(
                            "tensor `{}` has shape {:?}, but it must be {:?}",
                            info.name, tensor.shape, info.shape
                        ),
                    ));
                }
                _ => {}
            }
        }
        Ok(self)
    }

    /// Checks that all names that are used are there, and that all that are there are used or listed as unused.
    pub(crate) fn account_for(&self, used: &[&str], unused: &[String]) -> Result<()> {
        if let Some(missing) = used.iter().find(|n| !self.tensors.contains_key(**n)) {
            return Err(Error::checkpoint(
                &self.path,
                format!("tensor `{missing}` is missing"),
            ));
        }
        let listed = |name: &str| unused.iter().any(|pattern| glob(pattern, name));
        let mut all = self.tensors.keys().chain(&self.others);
        if let Some(extra) = all.find(|n| !used.contains(&n.as_str()) && !listed(n)) {
            return Err(Error::checkpoint(
                &self.path,
                format!(
                    "tensor `{extra}` is not part of the network: the file belongs to another one"
                ),
            ));
        }
        Ok(())
    }

    pub(crate) fn tensor(&self, name: &str) -> Result<SourceTensor> {
        self.tensors
            .get(name)
            .cloned()
            .ok_or_else(|| Error::checkpoint(&self.path, format!("tensor `{name}` is missing")))
    }
}

/// Whether a name fits a pattern in which one `*` stands for anything.
fn glob(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, end)) => {
            name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::tensor::TensorView;

    #[test]
    fn patterns_stand_for_names() {
        assert!(glob(
            "aux_computer.*",
            "aux_computer.sensory_aux.projection.bias"
        ));
        assert!(glob(
            "*.num_batches_tracked",
            "pixel_encoder.bn1.num_batches_tracked"
        ));
        assert!(!glob("*.num_batches_tracked", "pixel_encoder.bn1.weight"));
        assert!(!glob("ab*ba", "aba"));
    }

    fn write(names: &[(&str, Vec<usize>)]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        let data: Vec<Vec<u8>> = names
            .iter()
            .map(|(_, s)| vec![0; s.iter().product::<usize>() * 2])
            .collect();
        let views = names.iter().zip(&data).map(|((n, s), d)| {
            (
                (*n).to_owned(),
                TensorView::new(Dtype::F16, s.clone(), d).unwrap(),
            )
        });
        safetensors::serialize_to_file(views, None, &path).unwrap();
        (dir, path)
    }

    #[test]
    fn a_prefix_half_precision_and_the_multi_object_form_are_taken() {
        let (_dir, path) = write(&[
            ("model.pixel_encoder.conv1.weight", vec![64, 3, 7, 7]),
            ("model.mask_encoder.conv1.weight", vec![64, 5, 7, 7]),
        ]);
        let checkpoint = Checkpoint::read(&path).unwrap();
        assert_eq!(
            checkpoint
                .tensor("mask_encoder.conv1.weight")
                .unwrap()
                .shape,
            [64, 4, 7, 7]
        );
        let missing = checkpoint
            .account_for(&["key_proj.d_proj.bias"], &[])
            .unwrap_err()
            .to_string();
        assert_eq!(
            missing,
            format!(
                "checkpoint {}: tensor `key_proj.d_proj.bias` is missing",
                path.display()
            )
        );
        let extra = checkpoint
            .account_for(&["pixel_encoder.conv1.weight"], &[])
            .unwrap_err()
            .to_string();
        assert!(
            extra.contains("tensor `mask_encoder.conv1.weight` is not part of the network"),
            "{extra}"
        );
    }

    #[test]
    fn wrong_files_are_told_apart() {
        let (_dir, path) = write(&[("pixel_encoder.conv1.weight", vec![64, 3, 5, 5])]);
        let shape = Checkpoint::read(&path).unwrap_err().to_string();
        assert!(
            shape.ends_with("tensor `pixel_encoder.conv1.weight` has shape [64, 3, 5, 5], but it must be [64, 3, 7, 7]"),
            "{shape}"
        );
        let (_dir, path) = write(&[("fc.weight", vec![2, 2])]);
        let other = Checkpoint::read(&path).unwrap_err().to_string();
        assert!(other.contains("not a MatAnyone network"), "{other}");
        std::fs::write(&path, b"nothing of the kind").unwrap();
        let none = Checkpoint::read(&path).unwrap_err().to_string();
        assert!(
            none.contains("neither a safetensors file nor a PyTorch checkpoint"),
            "{none}"
        );
        std::fs::write(&path, [LEGACY, b"\x2e"].concat()).unwrap();
        let legacy = Checkpoint::read(&path).unwrap_err().to_string();
        assert!(legacy.contains("before version 1.6"), "{legacy}");
    }
}
