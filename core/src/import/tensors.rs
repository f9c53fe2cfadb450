//! Tensors on their way from a checkpoint to an initializer.

use half::{bf16, f16};

use crate::runtime::manifest::{Element, IndexElement, RecipeStep};

/// A dense, row-major tensor.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SourceTensor {
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Vec<f32>,
}

/// Floating-point numbers as checkpoints have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Float {
    F16,
    BF16,
    F32,
    F64,
}

impl Float {
    /// Little-endian bytes to numbers; bytes behind the last whole one are left out.
    pub(super) fn decode(self, bytes: &[u8]) -> Vec<f32> {
        fn each<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f32) -> Vec<f32> {
            let whole = bytes.as_chunks::<N>().0;
            whole.iter().map(|b| number(*b)).collect()
        }
        match self {
            Self::F16 => each(bytes, |b| f16::from_le_bytes(b).to_f32()),
            Self::BF16 => each(bytes, |b| bf16::from_le_bytes(b).to_f32()),
            Self::F32 => each(bytes, f32::from_le_bytes),
            Self::F64 => each(bytes, |b| f64::from_le_bytes(b) as f32),
        }
    }
}

/// Little-endian bytes to numbers; bytes behind the last whole one are left out.
pub(crate) fn decode(element: Element, bytes: &[u8]) -> Vec<f32> {
    match element {
        Element::Uint8 => bytes.iter().map(|b| f32::from(*b)).collect(),
        Element::Float16 => Float::F16.decode(bytes),
        Element::Float32 => Float::F32.decode(bytes),
    }
}

/// Little-endian bytes to whole numbers, as [`decode`].
pub(crate) fn decode_indices(element: IndexElement, bytes: &[u8]) -> Vec<usize> {
    match element {
        IndexElement::Uint8 => bytes.iter().map(|b| usize::from(*b)).collect(),
        IndexElement::Uint16 => bytes
            .as_chunks::<2>()
            .0
            .iter()
            .map(|b| usize::from(u16::from_le_bytes(*b)))
            .collect(),
    }
}

/// All numbers of a sparse matrix, the first axis of a shape against the last, the others being 1: `ends` tells where each row ends among the stored numbers, `columns` the
/// column of each.
pub(crate) fn densify(
    stored: &[f32],
    ends: &[usize],
    columns: &[usize],
    shape: &[usize],
) -> Result<Vec<f32>, String> {
    let [rows, between @ .., width] = shape else {
        return Err(format!("a sparse matrix of shape {shape:?}"));
    };
    let is_matrix = between.iter().all(|n| *n == 1) && (1..=1 << 16).contains(width);
    if !is_matrix || *rows != ends.len() {
        return Err(format!("{} rows for shape {shape:?}", ends.len()));
    }
    if columns.len() != stored.len() || ends.last() != Some(&stored.len()) {
        return Err(format!(
            "{} stored numbers, but {} columns and rows to {:?}",
            stored.len(),
            columns.len(),
            ends.last()
        ));
    }
    let mut dense = vec![0.0; rows * width];
    let mut start = 0;
    for (row, end) in dense.chunks_exact_mut(*width).zip(ends) {
        let (Some(columns), Some(stored)) = (columns.get(start..*end), stored.get(start..*end))
        else {
            return Err(format!("a row from {start} to {end} of {}", stored.len()));
        };
        for (column, value) in columns.iter().zip(stored) {
            match row.get_mut(*column) {
                Some(to) => *to = *value,
                None => return Err(format!("column {column} of {width}")),
            }
        }
        start = *end;
    }
    Ok(dense)
}

impl SourceTensor {
    /// Applies the steps of a recipe; the error tells what does not fit.
    pub(crate) fn apply(mut self, recipe: &[RecipeStep]) -> Result<Self, String> {
        for step in recipe {
            self = match step {
                RecipeStep::Slice { axis, start, end } => self.slice(*axis, *start, *end)?,
                RecipeStep::Transpose { perm } => self.transpose(perm)?,
                RecipeStep::Reshape { shape } => {
                    if shape.iter().product::<usize>() != self.data.len() {
                        return Err(format!("shape {:?} cannot become {shape:?}", self.shape));
                    }
                    Self {
                        shape: shape.clone(),
                        data: self.data,
                    }
                }
            };
        }
        Ok(self)
    }

    pub(crate) fn slice(self, axis: usize, start: usize, end: usize) -> Result<Self, String> {
        let Some(length) = self
            .shape
            .get(axis)
            .copied()
            .filter(|n| start < end && end <= *n)
        else {
            return Err(format!(
                "{start}..{end} of axis {axis} does not lie in shape {:?}",
                self.shape
            ));
        };
        let inner: usize = self.shape[axis + 1..].iter().product();
        // A tensor without elements has no blocks.
        let block = (length * inner).max(1);
        let data = self
            .data
            .chunks_exact(block)
            .flat_map(|block| &block[start * inner..end * inner])
            .copied()
            .collect();
        let mut shape = self.shape;
        shape[axis] = end - start;
        Ok(Self { shape, data })
    }

    fn transpose(self, perm: &[usize]) -> Result<Self, String> {
        let rank = self.shape.len();
        let mut sorted = perm.to_vec();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..rank) {
            return Err(format!(
                "{perm:?} is no permutation of the axes of shape {:?}",
                self.shape
            ));
        }
        let mut strides = vec![1; rank];
        for i in (1..rank).rev() {
            strides[i - 1] = strides[i] * self.shape[i];
        }
        let shape: Vec<usize> = perm.iter().map(|p| self.shape[*p]).collect();
        let steps: Vec<usize> = perm.iter().map(|p| strides[*p]).collect();
        let mut index = vec![0; rank];
        let mut at = 0;
        let data = (0..self.data.len())
            .map(|_| {
                let value = self.data[at];
                for axis in (0..rank).rev() {
                    index[axis] += 1;
                    at += steps[axis];
                    if index[axis] < shape[axis] {
                        break;
                    }
                    at -= steps[axis] * shape[axis];
                    index[axis] = 0;
                }
                value
            })
            .collect();
        Ok(Self { shape, data })
    }

    /// Little-endian bytes of the element type. A number that is not finite, or that half precision cannot hold, is an error.
    pub(crate) fn encode(&self, element: Element) -> Result<Vec<u8>, String> {
        if let Some(v) = self.data.iter().find(|v| !v.is_finite()) {
            return Err(format!("{v} is among its numbers, which must be finite"));
        }
        match element {
            Element::Float32 => Ok(self.data.iter().flat_map(|v| v.to_le_bytes()).collect()),
            Element::Float16 => {
                if let Some(v) = self.data.iter().find(|v| f16::from_f32(**v).is_infinite()) {
                    return Err(format!("{v} is beyond the range of half precision"));
                }
                Ok(self
                    .data
                    .iter()
                    .flat_map(|v| f16::from_f32(*v).to_le_bytes())
                    .collect())
            }
            Element::Uint8 => Err("weights of type uint8 are not supported".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "numbers are moved, not computed")]

    use super::*;

    #[test]
    fn a_tensor_without_elements_is_sliced_to_one() {
        let empty = SourceTensor {
            shape: vec![2, 5, 0, 7],
            data: Vec::new(),
        };
        let part = empty.slice(1, 1, 3).unwrap();
        assert_eq!((part.shape, part.data), (vec![2, 2, 0, 7], Vec::new()));
    }

    fn counting(shape: &[usize]) -> SourceTensor {
        SourceTensor {
            shape: shape.to_vec(),
            data: (0..shape.iter().product::<usize>())
                .map(|v| v as f32)
                .collect(),
        }
    }

    #[test]
    fn slices_and_transposes_move_what_they_should() {
        let t = counting(&[2, 3, 2]).slice(1, 1, 3).unwrap();
        assert_eq!(
            (t.shape, t.data),
            (
                vec![2, 2, 2],
                vec![2.0, 3.0, 4.0, 5.0, 8.0, 9.0, 10.0, 11.0]
            )
        );
        let t = counting(&[2, 3]).transpose(&[1, 0]).unwrap();
        assert_eq!(
            (t.shape, t.data),
            (vec![3, 2], vec![0.0, 3.0, 1.0, 4.0, 2.0, 5.0])
        );
        let t = counting(&[2, 3, 4]);
        let moved = t.clone().transpose(&[2, 0, 1]).unwrap();
        for (i, j, k) in [(0, 0, 0), (1, 2, 3), (1, 0, 2), (0, 2, 1)] {
            assert_eq!(moved.data[k * 6 + i * 3 + j], t.data[i * 12 + j * 4 + k]);
        }
    }

    #[test]
    fn a_sparse_matrix_becomes_a_dense_one() {
        let columns = decode_indices(IndexElement::Uint16, &[1, 0, 0, 0, 2, 0]);
        let ends = decode_indices(IndexElement::Uint8, &[1, 1, 3]);
        let dense = densify(&[5.0, 6.0, 7.0], &ends, &columns, &[3, 1, 3]).unwrap();
        assert_eq!(dense, [0.0, 5.0, 0.0, 0.0, 0.0, 0.0, 6.0, 0.0, 7.0]);
        let wrong = |ends: &[usize], columns: &[usize]| {
            densify(&[5.0, 6.0, 7.0], ends, columns, &[ends.len(), 3]).unwrap_err()
        };
        assert_eq!(wrong(&[1, 3], &[0, 3, 1]), "column 3 of 3");
        assert_eq!(wrong(&[2, 1, 3], &[0, 1, 1]), "a row from 2 to 1 of 3");
        assert_eq!(wrong(&[4, 3], &[0, 1, 2]), "a row from 0 to 4 of 3");
        for shape in [&[2, 3][..], &[3, 2, 3], &[3], &[3, 1, 1 << 17], &[3, 0]] {
            densify(&[5.0, 6.0, 7.0], &ends, &columns, shape).unwrap_err();
        }
        for (ends, columns) in [
            (&[1, 2][..], &[0, 1, 2][..]),
            (&[1, 3], &[0, 1]),
            (&[], &[0, 1, 2]),
        ] {
            wrong(ends, columns);
        }
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let error = counting(&[2, 3]).slice(1, 2, 4).unwrap_err();
        assert_eq!(error, "2..4 of axis 1 does not lie in shape [2, 3]");
        let error = counting(&[2, 3]).transpose(&[0, 0]).unwrap_err();
        assert_eq!(
            error,
            "[0, 0] is no permutation of the axes of shape [2, 3]"
        );
        let error = counting(&[2, 3])
            .apply(&[RecipeStep::Reshape { shape: vec![4] }])
            .unwrap_err();
        assert_eq!(error, "shape [2, 3] cannot become [4]");
        let error = SourceTensor {
            shape: vec![1],
            data: vec![1e6],
        }
        .encode(Element::Float16)
        .unwrap_err();
        assert_eq!(error, "1000000 is beyond the range of half precision");
        for (element, wrong) in [
            (Element::Float32, f32::NAN),
            (Element::Float16, f32::INFINITY),
        ] {
            let tensor = SourceTensor {
                shape: vec![2],
                data: vec![1.0, wrong],
            };
            let error = tensor.encode(element).unwrap_err();
            assert!(error.ends_with("must be finite"), "{error}");
        }
    }
}
