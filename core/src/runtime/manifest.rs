//! `manifest.json` of a model package, and the contract that it has to keep (docs/model-packages.md).

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::runtime::Power;

/// Major version of the format that this engine reads.
const FORMAT_MAJOR: u32 = 1;

/// Side of what the graph `detail` sees at once, pixels, and its planes: red, green, blue and the matte.
pub(crate) const DETAIL_TILE: usize = 64;
pub(crate) const DETAIL_PLANES: usize = 4;

/// What a package is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Mattes a target through a video.
    Matting,
    /// Finds people in a picture.
    Segmentation,
}

/// Terms under which a package may be used.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Licence {
    /// SPDX expression or a short name.
    pub id: String,
    /// One line for the user.
    #[serde(default)]
    pub text: String,
    /// Whether commercial use is allowed.
    pub commercial_use: bool,
}

/// A file of a package.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct FileEntry {
    pub(crate) sha256: String,
    pub(crate) bytes: u64,
}

/// Working sizes that a package is made for: width and height in pixels.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct WorkingSizes {
    /// Smallest.
    pub min: [u32; 2],
    /// Largest.
    pub max: [u32; 2],
    /// Recommended: its area is kept, with the aspect ratio of the frame.
    pub default: [u32; 2],
    /// Recommended where there is more to compute with: with two threads on processors that have instructions for sums of
    /// 8-bit products (VNNI, AMX, on ARM dot products) and may use them, with four on others. As `default` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quick: Option<[u32; 2]>,
    /// Recommended on a GPU. As `quick` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<[u32; 2]>,
    /// The padded size is a multiple of this.
    pub multiple: u32,
}

impl WorkingSizes {
    /// What is recommended for so much to compute with.
    pub(crate) fn recommended(&self, power: Power) -> [u32; 2] {
        let quick = self.quick.unwrap_or(self.default);
        match power {
            Power::Plain => self.default,
            Power::Quick => quick,
            Power::Gpu => self.gpu.unwrap_or(quick),
        }
    }
}

/// Widths of what the network carries from frame to frame.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Dims {
    pub(crate) stride: u32,
    pub(crate) key_row: u32,
    pub(crate) valid: u32,
    /// First of three coordinates of a key row that hold the token's place: 2y, 2x, −(y² + x²), from the middle of the
    /// grid, in roots of its area.
    #[serde(default)]
    pub(crate) place: Option<u32>,
    pub(crate) value: u32,
    #[serde(default)]
    pub(crate) sensory: Option<u32>,
    #[serde(default)]
    pub(crate) feature: Option<u32>,
    #[serde(default)]
    pub(crate) queries: Option<u32>,
    #[serde(default)]
    pub(crate) embed: Option<u32>,
}

/// What a package recommends for its memory.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct MemoryDefaults {
    /// A frame is stored every so many frames.
    pub interval: u32,
    /// Temporary frames in the bank.
    pub temporary_frames: u32,
    /// Refinements of the first frame.
    pub warm_up: u32,
}

/// The hint that a network takes from a person segmentation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Prior {
    /// Value everywhere when there is no hint.
    pub(crate) absent: f32,
    /// Package whose output the network was trained with.
    pub(crate) segmentation: String,
    /// The hint is made anew every so many frames, and kept in between.
    #[serde(default = "every_frame")]
    pub(crate) interval: u32,
}

fn every_frame() -> u32 {
    1
}

/// One dimension: a number, or the name of a symbol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Dim {
    Fixed(i64),
    Symbol(String),
}

impl std::fmt::Display for Dim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed(n) => write!(f, "{n}"),
            Self::Symbol(s) => f.write_str(s),
        }
    }
}

/// Element type of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Element {
    Uint8,
    Float16,
    Float32,
}

impl Element {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Uint8 => "uint8",
            Self::Float16 => "float16",
            Self::Float32 => "float32",
        }
    }

    pub(crate) const fn bytes(self) -> usize {
        match self {
            Self::Uint8 => 1,
            Self::Float16 => 2,
            Self::Float32 => 4,
        }
    }
}

/// An input or output of a graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TensorSpec {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) element: Element,
    pub(crate) shape: Vec<Dim>,
}

/// A graph: one ONNX file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct GraphSpec {
    pub(crate) file: String,
    /// The same graph, computed mostly in 8-bit integers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) int8: Option<String>,
    pub(crate) inputs: Vec<TensorSpec>,
    pub(crate) outputs: Vec<TensorSpec>,
}

impl GraphSpec {
    pub(crate) fn input(&self, name: &str) -> Option<&TensorSpec> {
        self.inputs.iter().find(|t| t.name == name)
    }

    pub(crate) fn output(&self, name: &str) -> Option<&TensorSpec> {
        self.outputs.iter().find(|t| t.name == name)
    }
}

/// One step from a checkpoint's tensor to an initializer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub(crate) enum RecipeStep {
    Slice {
        axis: usize,
        start: usize,
        end: usize,
    },
    Transpose {
        perm: Vec<usize>,
    },
    Reshape {
        shape: Vec<usize>,
    },
}

/// Bytes of a file that is not a checkpoint.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ByteRange {
    pub(crate) file: String,
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// Whole numbers of a file that is not a checkpoint.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Indices {
    pub(crate) offset: u64,
    pub(crate) length: u64,
    #[serde(rename = "type")]
    pub(crate) element: IndexElement,
}

/// Type of [`Indices`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum IndexElement {
    Uint8,
    Uint16,
}

/// Which numbers of a matrix are stored; the others are 0.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Rows {
    /// Where each row ends among the stored numbers.
    pub(crate) ends: Indices,
    /// Column of each stored number.
    pub(crate) columns: Indices,
}

/// Where an initializer of a skeleton comes from and where it goes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct WeightSpec {
    pub(crate) initializer: String,
    /// Name in the checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<ByteRange>,
    /// Present where the bytes, in the same file, are those of a sparse matrix: the first axis of the source against the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rows: Option<Rows>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) source_type: Option<Element>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) source_shape: Option<Vec<usize>>,
    #[serde(rename = "type")]
    pub(crate) element: Element,
    pub(crate) shape: Vec<usize>,
    pub(crate) offset: u64,
    #[serde(default)]
    pub(crate) recipe: Vec<RecipeStep>,
}

/// External weights of a skeleton.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Weights {
    pub(crate) file: String,
    pub(crate) bytes: u64,
    pub(crate) tensors: Vec<WeightSpec>,
    #[serde(default)]
    pub(crate) unused: Vec<String>,
}

/// Another name under which a skeleton is imported: the same network, other weights.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Variant {
    #[serde(default)]
    pub(crate) description: Option<String>,
    #[serde(default)]
    pub(crate) source: Option<String>,
}

/// A checked `manifest.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    format: String,
    /// Name of the package.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it is for.
    pub kind: Kind,
    /// One line about it.
    #[serde(default)]
    pub description: String,
    /// Terms of use.
    pub licence: Licence,
    /// Where the weights come from.
    #[serde(default)]
    pub source: String,
    /// `fp32`, `fp16` or `int8`.
    pub precision: String,
    /// Sizes it is made for.
    #[serde(default)]
    pub working_size: Option<WorkingSizes>,
    #[serde(default)]
    pub(crate) dims: Option<Dims>,
    /// Recommendations for the memory.
    #[serde(default)]
    pub memory: Option<MemoryDefaults>,
    /// How the bank is read: `softmax`, or `top-30`.
    #[serde(default = "softmax")]
    pub read: String,
    #[serde(default)]
    pub(crate) prior: Option<Prior>,
    pub(crate) files: BTreeMap<String, FileEntry>,
    pub(crate) graphs: BTreeMap<String, GraphSpec>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) variants: BTreeMap<String, Variant>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) weights: Option<Weights>,
    /// Fields that this version does not know; kept when a package is imported.
    #[serde(flatten)]
    pub(crate) unknown: BTreeMap<String, serde_json::Value>,
}

fn softmax() -> String {
    "softmax".to_owned()
}

fn symbol(s: &str) -> Dim {
    Dim::Symbol(s.to_owned())
}

/// Shape that the contract gives a tensor of a matting graph, and whether its element type is free (`T`).
fn contract(name: &str, dims: &Dims) -> Option<(Vec<Dim>, Option<Element>)> {
    let fixed = |n: u32| Dim::Fixed(i64::from(n));
    let grid = |channels: Dim| vec![Dim::Fixed(1), channels, symbol("h"), symbol("w")];
    let f32_ = Some(Element::Float32);
    let tiles = |planes: usize| {
        let side = Dim::Fixed(DETAIL_TILE as i64);
        vec![symbol("T"), Dim::Fixed(planes as i64), side.clone(), side]
    };
    Some(match name {
        "frame" => (
            vec![Dim::Fixed(1), symbol("H"), symbol("W"), Dim::Fixed(3)],
            Some(Element::Uint8),
        ),
        "bank_keys" => (vec![symbol("N"), fixed(dims.key_row)], f32_),
        "bank_values" => (vec![symbol("N"), fixed(dims.value)], None),
        "key_rows" => (vec![symbol("hw"), fixed(dims.key_row)], f32_),
        "value_rows" => (vec![symbol("hw"), fixed(dims.value)], None),
        "sensory" | "sensory_out" => (grid(fixed(dims.sensory?)), f32_),
        "last_feature" | "feature" => (grid(fixed(dims.feature?)), None),
        "last_value" | "value" => (grid(fixed(dims.value)), None),
        "last_alpha" | "alpha_16" | "prior" => (grid(Dim::Fixed(1)), f32_),
        "object_memory" | "object_memory_out" => (
            vec![
                Dim::Fixed(1),
                fixed(dims.queries?),
                fixed(dims.embed?.checked_add(1)?),
            ],
            f32_,
        ),
        "gate" | "keep" => (vec![], f32_),
        "alpha" => (
            vec![Dim::Fixed(1), Dim::Fixed(1), symbol("H"), symbol("W")],
            f32_,
        ),
        "tiles" => (tiles(DETAIL_PLANES), Some(Element::Uint8)),
        "tile_alpha" => (tiles(1), f32_),
        _ => return None,
    })
}

/// Graphs of the contract: required ones, their required inputs and outputs, and all that are allowed.
struct GraphContract {
    name: &'static str,
    required: bool,
    inputs: (&'static [&'static str], &'static [&'static str]),
    outputs: (&'static [&'static str], &'static [&'static str]),
}

const MATTING: [GraphContract; 4] = [
    GraphContract {
        name: "matte",
        required: true,
        inputs: (
            &["frame", "bank_keys", "bank_values", "last_alpha", "gate"],
            &[
                "sensory",
                "last_feature",
                "last_value",
                "object_memory",
                "prior",
            ],
        ),
        outputs: (&["alpha", "key_rows"], &["sensory_out", "feature"]),
    },
    GraphContract {
        name: "value",
        required: true,
        inputs: (&["alpha"], &["frame", "feature"]),
        outputs: (&["value_rows", "alpha_16"], &["value"]),
    },
    GraphContract {
        name: "memorize",
        required: false,
        inputs: (
            &[],
            &["value", "sensory", "alpha_16", "object_memory", "keep"],
        ),
        outputs: (&[], &["sensory_out", "object_memory_out"]),
    },
    GraphContract {
        name: "detail",
        required: false,
        inputs: (&["tiles"], &[]),
        outputs: (&["tile_alpha"], &[]),
    },
];

/// What is carried over: an input of the left name needs an output of the right name in one of the graphs.
const CARRIED: [(&str, &str); 5] = [
    ("sensory", "sensory_out"),
    ("last_feature", "feature"),
    ("feature", "feature"),
    ("last_value", "value"),
    ("object_memory", "object_memory_out"),
];

fn show(shape: &[Dim]) -> String {
    let all: Vec<String> = shape.iter().map(ToString::to_string).collect();
    format!("[{}]", all.join(","))
}

impl Manifest {
    /// Reads and checks a manifest. The files that it names are not opened.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read, [`Error::Model`] with the field that is missing or wrong.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
        // The version comes first: a later format may have other fields altogether.
        let value: serde_json::Value = serde_json::from_str(&text)
            .map_err(|e| Error::model(path, format!("not JSON: {e}")))?;
        let format = value
            .get("format")
            .and_then(|v| v.as_str())
            .unwrap_or_default();
        let major = format.split('.').next().and_then(|m| m.parse::<u32>().ok());
        if major != Some(FORMAT_MAJOR) {
            return Err(Error::model(
                path,
                format!("field `format` is {format:?}, but this version reads {FORMAT_MAJOR}.x"),
            ));
        }
        let manifest: Self =
            serde_json::from_value(value).map_err(|e| Error::model(path, e.to_string()))?;
        manifest
            .check()
            .map_err(|reason| Error::model(path, reason))?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), String> {
        if self.name.is_empty() || self.name.contains(['/', '\\']) {
            return Err(format!(
                "field `name` is {:?}, but it must be a plain, non-empty name",
                self.name
            ));
        }
        for (name, graph) in &self.graphs {
            for file in std::iter::once(&graph.file).chain(&graph.int8) {
                if !self.files.contains_key(file) {
                    return Err(format!(
                        "graph `{name}` is in file {file:?}, which `files` does not list"
                    ));
                }
            }
        }
        let weights = self.weights.as_ref().map(|w| &w.file);
        for file in self.files.keys().chain(weights) {
            if file.is_empty() || Path::new(file).components().count() != 1 || file.contains("..") {
                return Err(format!(
                    "file name {file:?}: it must lie in the package's directory"
                ));
            }
        }
        match self.kind {
            Kind::Matting => self.check_matting(),
            Kind::Segmentation => self.check_segmentation(),
        }
    }

    fn check_matting(&self) -> Result<(), String> {
        let dims = self.dims.as_ref().ok_or("field `dims` is missing")?;
        let size = self
            .working_size
            .as_ref()
            .ok_or("field `working_size` is missing")?;
        let memory = self.memory.as_ref().ok_or("field `memory` is missing")?;
        if dims.stride != 16 || size.multiple != 16 {
            return Err(format!(
                "fields `dims.stride` and `working_size.multiple` are {} and {}, but both must be 16",
                dims.stride, size.multiple
            ));
        }
        for power in [Power::Plain, Power::Quick, Power::Gpu] {
            let recommended = size.recommended(power);
            for axis in 0..2 {
                if !(1 <= size.min[axis]
                    && size.min[axis] <= recommended[axis]
                    && recommended[axis] <= size.max[axis])
                {
                    return Err(format!(
                        "field `working_size`: min {:?}, recommended {recommended:?}, max {:?} are not in ascending order from 1",
                        size.min, size.max
                    ));
                }
            }
        }
        if dims.key_row == 0
            || dims.key_row % 8 != 0
            || dims.valid >= dims.key_row
            || dims.value == 0
        {
            return Err(format!(
                "field `dims`: key_row {} must be a positive multiple of 8, valid {} below it, value {} positive",
                dims.key_row, dims.valid, dims.value
            ));
        }
        for (name, size) in [
            ("sensory", dims.sensory),
            ("feature", dims.feature),
            ("queries", dims.queries),
            ("embed", dims.embed),
        ] {
            if size == Some(0) {
                return Err(format!("field `dims`: {name} 0 must be positive"));
            }
        }
        if let Some(place) = dims.place
            && place > dims.key_row.saturating_sub(3)
        {
            return Err(format!(
                "field `dims`: place {place} must leave room for three coordinates below key_row {}",
                dims.key_row
            ));
        }
        if !(1..=1000).contains(&memory.interval)
            || !(1..=64).contains(&memory.temporary_frames)
            || memory.warm_up > 100
        {
            return Err(format!(
                "field `memory`: interval {} must be from 1 to 1000, temporary_frames {} from 1 to 64, warm_up {} at \
                 most 100",
                memory.interval, memory.temporary_frames, memory.warm_up
            ));
        }
        for graph in &MATTING {
            match self.graphs.get(graph.name) {
                Some(spec) => graph.check(spec, dims)?,
                None if graph.required => return Err(format!("graph `{}` is missing", graph.name)),
                None => {}
            }
        }
        let produced = |name: &str| self.graphs.values().any(|g| g.output(name).is_some());
        for (taken, given) in CARRIED {
            let by = self.graphs.iter().find(|(_, g)| g.input(taken).is_some());
            if let Some((graph, _)) = by.filter(|_| !produced(given)) {
                return Err(format!(
                    "graph `{graph}` takes `{taken}`, but no graph gives `{given}`"
                ));
            }
        }
        // The state that `memorize` reads is that of the graph `matte`.
        for (taken, held) in [
            ("sensory", "sensory"),
            ("object_memory", "object_memory"),
            ("value", "last_value"),
        ] {
            let memorize = self.graphs.get("memorize").and_then(|g| g.input(taken));
            if memorize.is_some() && self.graphs["matte"].input(held).is_none() {
                return Err(format!(
                    "graph `memorize` takes `{taken}`, but graph `matte` does not take `{held}`"
                ));
            }
        }
        let open = |name: &str| contract(name, dims).is_some_and(|(_, element)| element.is_none());
        let tensors = self
            .graphs
            .values()
            .flat_map(|g| g.inputs.iter().chain(&g.outputs));
        let mut features = tensors.filter(|t| open(&t.name));
        if let Some(first) = features.next()
            && let Some(other) = features.find(|t| t.element != first.element)
        {
            return Err(format!(
                "`{}` has type {} and `{}` {}, but all features and values must have one",
                first.name,
                first.element.name(),
                other.name,
                other.element.name()
            ));
        }
        let has_prior = self.graphs["matte"].input("prior").is_some();
        if has_prior && self.prior.is_none() {
            return Err("graph `matte` takes `prior`, but the field `prior` is missing".to_owned());
        }
        if let Some(prior) = self
            .prior
            .as_ref()
            .filter(|p| !(1..=60).contains(&p.interval))
        {
            return Err(format!(
                "field `prior`: interval {} must be from 1 to 60",
                prior.interval
            ));
        }
        Ok(())
    }

    fn check_segmentation(&self) -> Result<(), String> {
        const DETECT: &str = "graph `detect` must take `frame` [1,S,S,3] and give `people` [1,N,9] with the same number S, N \
                              up to 65536";
        if !self.graphs.contains_key("segment") {
            return Err("graph `segment` is missing".to_owned());
        }
        for (name, graph) in &self.graphs {
            // Later packages may have more.
            if !["segment", "segment_wide", "segment_body", "detect"].contains(&name.as_str()) {
                continue;
            }
            if let Some(other) = graph.inputs.iter().find(|t| t.name != "frame") {
                return Err(format!(
                    "graph `{name}`: input `{}` is not known",
                    other.name
                ));
            }
            for (tensor, element) in [
                ("frame", Element::Uint8),
                ("person", Element::Float32),
                ("people", Element::Float32),
            ] {
                let spec = graph.input(tensor).or(graph.output(tensor));
                if let Some(spec) = spec.filter(|spec| spec.element != element) {
                    return Err(format!(
                        "graph `{name}`: `{tensor}` has type {}, but it must be {}",
                        spec.element.name(),
                        element.name()
                    ));
                }
            }
            let size = |t: Option<&TensorSpec>, channels_last: bool| -> Option<(i64, i64)> {
                match (t?.shape.as_slice(), channels_last) {
                    ([Dim::Fixed(1), Dim::Fixed(h), Dim::Fixed(w), Dim::Fixed(3)], true)
                    | ([Dim::Fixed(1), Dim::Fixed(1), Dim::Fixed(h), Dim::Fixed(w)], false)
                        if (1..=4096).contains(h) && (1..=4096).contains(w) =>
                    {
                        Some((*h, *w))
                    }
                    _ => None,
                }
            };
            let frame = size(graph.input("frame"), true);
            if name == "detect" {
                let people = graph.output("people").map(|t| t.shape.as_slice());
                let is_square = frame.is_some_and(|(h, w)| h == w);
                let are_people = matches!(
                    people,
                    Some([Dim::Fixed(1), Dim::Fixed(1..=65536), Dim::Fixed(9)])
                );
                if !is_square || !are_people {
                    return Err(DETECT.to_owned());
                }
                continue;
            }
            if frame.is_none() || frame != size(graph.output("person"), false) {
                return Err(format!(
                    "graph `{name}` must take `frame` [1,H,W,3] and give `person` [1,1,H,W] with the same numbers"
                ));
            }
        }
        Ok(())
    }
}

impl GraphContract {
    fn check(&self, spec: &GraphSpec, dims: &Dims) -> Result<(), String> {
        let graph = self.name;
        for (what, specs, (required, optional)) in [
            ("input", &spec.inputs, self.inputs),
            ("output", &spec.outputs, self.outputs),
        ] {
            for name in required {
                if !specs.iter().any(|t| t.name == *name) {
                    return Err(format!("graph `{graph}`: {what} `{name}` is missing"));
                }
            }
            for tensor in specs {
                let name = tensor.name.as_str();
                if !required.contains(&name) && !optional.contains(&name) {
                    return Err(format!("graph `{graph}`: {what} `{name}` is not known"));
                }
                let Some((shape, element)) = contract(name, dims) else {
                    return Err(format!(
                        "graph `{graph}`: {what} `{name}` needs a dimension that `dims` does not give"
                    ));
                };
                if tensor.shape != shape {
                    return Err(format!(
                        "graph `{graph}`: {what} `{name}` has shape {}, but it must be {}",
                        show(&tensor.shape),
                        show(&shape)
                    ));
                }
                let allowed = match element {
                    Some(e) => tensor.element == e,
                    None => tensor.element != Element::Uint8,
                };
                if !allowed {
                    return Err(format!(
                        "graph `{graph}`: {what} `{name}` has type {}, but it must be {}",
                        tensor.element.name(),
                        element.map_or("float32 or float16", Element::name)
                    ));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// What is wrong with the manifest of a package that has been changed.
    fn refused(package: &str, change: impl Fn(&mut Value)) -> String {
        let packages = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/packages");
        let path = Path::new(packages).join(package).join("manifest.json");
        let mut manifest: Value =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        change(&mut manifest);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("manifest.json");
        std::fs::write(&path, manifest.to_string()).unwrap();
        Manifest::read(&path).unwrap_err().to_string()
    }

    fn tensor<'a>(manifest: &'a mut Value, graph: &str, side: &str, name: &str) -> &'a mut Value {
        let all = manifest["graphs"][graph][side].as_array_mut().unwrap();
        all.iter_mut().find(|t| t["name"] == name).unwrap()
    }

    #[test]
    fn what_would_fail_on_a_frame_is_refused_when_a_package_is_read() {
        for (dim, wanted) in [
            ("feature", "feature 0 must be positive"),
            ("queries", "queries 0 must be positive"),
        ] {
            let error = refused("matanyone2", |m| m["dims"][dim] = json!(0));
            assert!(error.ends_with(wanted), "{error}");
        }
        let error = refused("matanyone2", |m| m["dims"]["embed"] = json!(u32::MAX));
        assert!(error.contains("`object_memory"), "{error}");
        let error = refused("matanyone2", |m| {
            tensor(m, "value", "outputs", "value_rows")["type"] = json!("float16");
        });
        assert!(error.contains("must have one"), "{error}");
        let error = refused("matanyone2", |m| {
            let inputs = m["graphs"]["matte"]["inputs"].as_array_mut().unwrap();
            inputs.retain(|t| t["name"] != "object_memory");
        });
        let wanted = "graph `memorize` takes `object_memory`, but graph `matte` does not take `object_memory`";
        assert!(error.ends_with(wanted), "{error}");
        for (graph, side, name, kind) in [
            ("segment", "inputs", "frame", "uint8"),
            ("segment_body", "outputs", "person", "float32"),
            ("detect", "outputs", "people", "float32"),
        ] {
            let error = refused("selfie", |m| {
                tensor(m, graph, side, name)["type"] = json!("float16");
            });
            let wanted =
                format!("graph `{graph}`: `{name}` has type float16, but it must be {kind}");
            assert!(error.ends_with(&wanted), "{error}");
        }
        let error = refused("selfie", |m| {
            let inputs = m["graphs"]["segment"]["inputs"].as_array_mut().unwrap();
            inputs.push(json!({"name": "gain", "type": "float32", "shape": []}));
        });
        assert!(error.ends_with("input `gain` is not known"), "{error}");
    }
}
