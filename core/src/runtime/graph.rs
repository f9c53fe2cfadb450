//! A graph of a package, opened and checked against the manifest.

use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::value::ValueType;

use super::backend::{Backend, Engine, Role};
use super::manifest::{Dim, Element, GraphSpec, TensorSpec};
use super::model_set::Package;
use super::tensor::{BoundSession, Tensor};
use crate::error::{Doing as _, Error, Result};

/// A session of one graph, with static shapes.
#[derive(Debug)]
pub(crate) struct Graph {
    session: BoundSession,
    spec: GraphSpec,
    is_int8: bool,
    name: &'static str,
    dims: Vec<(&'static str, usize)>,
}

impl Graph {
    /// Opens graph `name`, fixes its symbolic dimensions and compares what ONNX Runtime sees with the manifest: an
    /// override with an unknown name would otherwise be ignored without a word.
    pub(crate) fn open(
        engine: &Engine,
        package: &Package,
        name: &'static str,
        dims: &[(&'static str, usize)],
        role: Role,
    ) -> Result<Self> {
        let path = package.dir.join("manifest.json");
        let spec = package
            .manifest
            .graphs
            .get(name)
            .cloned()
            .ok_or_else(|| Error::model(&path, format!("graph `{name}` is missing")))?;
        let int8 = spec.int8.as_ref().filter(|_| engine.takes_int8());
        let file = package.dir.join(int8.unwrap_or(&spec.file));
        let is_int8 = int8.is_some();
        let session = engine.open(&file, &package.hash, dims, role)?;
        let graph = Self {
            session: BoundSession::new(session, engine.records())?,
            spec,
            is_int8,
            name,
            dims: dims.to_vec(),
        };
        let session = graph.session.session();
        for (what, wanted, found) in [
            ("input", &graph.spec.inputs, session.inputs()),
            ("output", &graph.spec.outputs, session.outputs()),
        ] {
            for tensor in wanted {
                let shape = graph.shape_of(tensor).ok_or_else(|| {
                    Error::model(
                        &path,
                        format!(
                            "graph `{name}`: {what} `{}` has an unknown dimension",
                            tensor.name
                        ),
                    )
                })?;
                let outlet = found
                    .iter()
                    .find(|o| o.name() == tensor.name)
                    .ok_or_else(|| {
                        Error::model(
                            &file,
                            format!(
                                "{what} `{}`, which the manifest lists, is missing",
                                tensor.name
                            ),
                        )
                    })?;
                let matches = |t: &ValueType| match t {
                    ValueType::Tensor {
                        ty, shape: have, ..
                    } => {
                        *ty == tensor.element.ort()
                            && have.len() == shape.len()
                            // An output whose size ONNX Runtime cannot infer is -1; the binding checks it in the run.
                            && have.iter().zip(&shape).all(|(h, w)| *h == *w as i64 || (*h == -1 && what == "output"))
                    }
                    _ => false,
                };
                if !matches(outlet.dtype()) {
                    return Err(Error::model(
                        &file,
                        format!(
                            "{what} `{}` is {}, but the manifest makes it {} {shape:?}",
                            tensor.name,
                            outlet.dtype(),
                            tensor.element.name()
                        ),
                    ));
                }
            }
            if let Some(extra) = found
                .iter()
                .find(|o| !wanted.iter().any(|t| t.name == o.name()))
            {
                return Err(Error::model(
                    &file,
                    format!("{what} `{}` is not listed in the manifest", extra.name()),
                ));
            }
        }
        Ok(graph)
    }

    fn shape_of(&self, tensor: &TensorSpec) -> Option<Vec<usize>> {
        tensor
            .shape
            .iter()
            .map(|d| match d {
                Dim::Fixed(n) => usize::try_from(*n).ok(),
                Dim::Symbol(s) => self
                    .dims
                    .iter()
                    .find(|(name, _)| name == s)
                    .map(|(_, n)| *n),
            })
            .collect()
    }

    /// An allocator for tensors where the session computes.
    pub(crate) fn allocator(&self, engine: &Engine) -> Result<Allocator> {
        match engine.backend() {
            Backend::Cuda | Backend::TensorRt => {
                let doing = || "getting device memory".to_owned();
                let info = MemoryInfo::new(
                    AllocationDevice::CUDA,
                    engine.device() as i32,
                    AllocatorType::Device,
                    MemoryType::Default,
                )
                .doing(doing)?;
                Allocator::new(self.session.session(), info).doing(doing)
            }
            _ => Ok(Allocator::default()),
        }
    }

    /// A tensor for an input or output, if the graph has it.
    pub(crate) fn tensor(&self, allocator: &Allocator, name: &str) -> Result<Option<Tensor>> {
        self.made(name, |element, shape| {
            Tensor::new(allocator, element, shape)
        })
    }

    /// As [`tensor`](Self::tensor), for what the host writes or reads for every frame.
    pub(crate) fn exchanged(&self, allocator: &Allocator, name: &str) -> Result<Option<Tensor>> {
        self.made(name, |element, shape| {
            Tensor::exchanged(allocator, element, shape)
        })
    }

    fn made(
        &self,
        name: &str,
        make: impl FnOnce(Element, &[usize]) -> Result<Tensor>,
    ) -> Result<Option<Tensor>> {
        let Some(spec) = self.spec.input(name).or_else(|| self.spec.output(name)) else {
            return Ok(None);
        };
        let shape = self.shape_of(spec).unwrap_or_default();
        make(spec.element, &shape).map(Some)
    }

    /// Whether it is the one in 8-bit integers.
    pub(crate) fn is_int8(&self) -> bool {
        self.is_int8
    }

    /// Whether what it does is recorded for every set of addresses.
    pub(crate) fn records(&self) -> bool {
        self.session.records()
    }

    pub(crate) fn spec(&self) -> &GraphSpec {
        &self.spec
    }

    /// Runs the graph; tensors that it does not have are skipped.
    pub(crate) fn run(
        &mut self,
        inputs: &[(&str, Option<&Tensor>)],
        outputs: &mut [(&str, Option<&mut Tensor>)],
    ) -> Result<()> {
        self.session.run(inputs, outputs, self.name)
    }
}
