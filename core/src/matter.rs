//! The engine: a frame's whole path.

use std::time::Instant;

use crate::error::{Error, Result};
use crate::frame::{Frame, Mask, OutputMut, PixelFormat, check_equal};
use crate::matte::{Matte, next_number};
use crate::memory::{Bank, BankShape, Policy as MemoryPolicy, ReferenceId, State};
use crate::options::{Options, Policy, Refine, Region, SeedMode};
use crate::pixel::scale::Scaler;
use crate::pixel::smooth::Fader;
use crate::region::{self, Bounds, Follower, Found};
use crate::repair::{self, Comparison, Fault, Watch};
use crate::runtime::floats::FlushDenormals;
use crate::runtime::manifest::{Element, Manifest};
use crate::runtime::tensor::Tensor;
use crate::runtime::{
    Backend, Engine, Graph, ModelSet, Package, Power, Role, availability, must_build,
};
use crate::seed::{self, Segmenter};
use crate::stages::detail::Detail;
use crate::stages::postprocess::Renderer;
use crate::stages::preprocess::{Geometry, STRIDE, automatic_size, preprocess};
use crate::stats::{Recorder, Stage, Stats};
use crate::strays::Strays;

/// What became of a frame.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct FrameReport {
    /// Where its matte comes from.
    pub matte: MatteState,
    /// The picture has changed altogether since the frame before: a cut. It is looked for with
    /// [`Options::drift_repair`] alone.
    pub scene_cut: bool,
    /// What the drift repair does on this frame.
    pub repair: Option<Repair>,
}

impl FrameReport {
    /// Whether there is a matte for the frame.
    pub fn has_matte(&self) -> bool {
        matches!(self.matte, MatteState::Matted | MatteState::Seeded)
    }

    pub(crate) fn of(matte: MatteState) -> Self {
        Self {
            matte,
            scene_cut: false,
            repair: None,
        }
    }
}

/// A step of the drift repair.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Repair {
    /// The target is named anew, by the person segmentation; the frames that follow complete it.
    Started {
        /// After a cut, not for a matte that went wrong.
        after_cut: bool,
        /// How far matte and segmentation agreed: their intersection over their union, 0 to 1.
        agreement: f32,
    },
    /// The new matte has replaced the old one.
    Finished,
}

/// Where the matte of a frame comes from.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum MatteState {
    /// The target was followed from the frames before.
    Matted,
    /// The target was named on this frame, by the segmentation or by a queued mask; it has a matte.
    Seeded,
    /// There is no target yet: the output shows what [`Options::before_seed`] says.
    BeforeSeed,
    /// After a cut the target has not been found again so far: the output shows what [`Options::before_seed`] says.
    Lost,
    /// The network failed, for the reason given: the output shows what [`Options::on_failure`] says.
    Failed(String),
}

/// What the memory holds, brought to the host: for tests and diagnosis. It allocates.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryState {
    /// Frames since the first one; −1 before it.
    pub now: i64,
    /// When a frame was last stored.
    pub last_memory: i64,
    /// Permanent frames: the first one and references.
    pub permanent_frames: usize,
    /// Temporary frames.
    pub temporary_frames: usize,
    /// Tokens of a frame.
    pub tokens: usize,
    /// Width of a key row.
    pub key_row: usize,
    /// Key rows of the filled slots, one slot after the other.
    pub key_rows: Vec<f32>,
    /// Value rows of the filled slots, likewise.
    pub value_rows: Vec<f32>,
    /// Sensory memory, if the network has one.
    pub sensory: Vec<f32>,
    /// Object memory, if the network has one: sums, with the area in the last column.
    pub object_memory: Vec<f32>,
    /// Value of the last frame, if the network reads it.
    pub last_value: Vec<f32>,
}

/// Graphs and tensors for one working size.
#[derive(Debug)]
struct Network {
    matte: Graph,
    value: Graph,
    memorize: Option<Graph>,
    frame: Tensor,
    alpha: Tensor,
    key_rows: Tensor,
    /// Value rows that are not stored.
    value_scratch: Tensor,
    gate: Tensor,
    keep: Option<Tensor>,
    prior: Option<Tensor>,
    prior_absent: f32,
    /// The hint may serve for so many frames after the one that it was made for.
    prior_lasts: u32,
    /// For how many frames it has served already; `None` where it is none of theirs.
    prior_age: Option<u32>,
    bank: Bank,
    state: State,
}

/// How a run of the graph `matte` is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Read {
    /// The last value passes instead of the bank: first frames and mask steps.
    LastValue,
    /// The bank is read.
    Bank,
}

/// Where value rows go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Store {
    /// Nowhere.
    No,
    /// Into a slot, with the key rows of the last `matte` run; object and sensory memory take the deep update.
    Slot { slot: usize, keep_objects: bool },
}

fn needed(tensor: Option<Tensor>, package: &Package, name: &str) -> Result<Tensor> {
    tensor.ok_or_else(|| {
        Error::model(
            package.dir.join("manifest.json"),
            format!("tensor `{name}` is missing"),
        )
    })
}

impl Network {
    /// Values of the symbolic dimensions of the graphs.
    fn dims(geometry: &Geometry, slots: (usize, usize)) -> [(&'static str, usize); 6] {
        let (w, h) = geometry.grid();
        let (references, temporary) = slots;
        [
            ("H", geometry.padded.1),
            ("W", geometry.padded.0),
            ("h", h),
            ("w", w),
            ("hw", w * h),
            ("N", (1 + references + temporary) * w * h),
        ]
    }

    fn open(
        engine: &Engine,
        package: &Package,
        geometry: &Geometry,
        slots: (usize, usize),
    ) -> Result<Self> {
        let manifest = &package.manifest;
        let dims = manifest.dims.ok_or_else(|| {
            Error::model(package.dir.join("manifest.json"), "field `dims` is missing")
        })?;
        let (w, h) = geometry.grid();
        let tokens = w * h;
        let (references, temporary) = slots;
        let all = Self::dims(geometry, slots);
        let matte = Graph::open(engine, package, "matte", &all, Role::Matting)?;
        let value = Graph::open(engine, package, "value", &all, Role::Matting)?;
        let memorize = match manifest.graphs.contains_key("memorize") {
            true => Some(Graph::open(
                engine,
                package,
                "memorize",
                &all,
                Role::Matting,
            )?),
            false => None,
        };
        let allocator = matte.allocator(engine)?;
        let of_matte = |name| needed(matte.tensor(&allocator, name)?, package, name);
        let exchanged = |name| needed(matte.exchanged(&allocator, name)?, package, name);
        let shape = BankShape {
            tokens,
            key_row: dims.key_row as usize,
            valid: dims.valid as usize,
            place: dims.place.map(|place| place as usize),
            value: dims.value as usize,
            element: matte
                .spec()
                .input("bank_values")
                .map_or(crate::runtime::manifest::Element::Float32, |t| t.element),
            references,
            temporary,
        };
        let prior = matte.exchanged(&allocator, "prior")?;
        let prior_absent = manifest.prior.as_ref().map_or(0.0, |p| p.absent);
        let prior_lasts = manifest.prior.as_ref().map_or(0, |p| p.interval - 1);
        let mut network = Self {
            frame: exchanged("frame")?,
            alpha: exchanged("alpha")?,
            key_rows: of_matte("key_rows")?,
            value_scratch: needed(
                value.tensor(&allocator, "value_rows")?,
                package,
                "value_rows",
            )?,
            gate: exchanged("gate")?,
            keep: match &memorize {
                Some(graph) => graph.exchanged(&allocator, "keep")?,
                None => None,
            },
            prior,
            prior_absent,
            prior_lasts,
            prior_age: None,
            bank: Bank::new(&allocator, shape)?,
            state: State::new(&allocator, &matte)?,
            matte,
            value,
            memorize,
        };
        network.forget_prior()?;
        if engine.backend() != Backend::Cpu {
            network.run_once()?;
        }
        Ok(network)
    }

    /// Runs every graph, on nothing: what a provider does at first (to look for the fastest kernels, take memory, record) does not
    /// hold up a frame later, when a window is seen for the first time, say.
    fn run_once(&mut self) -> Result<()> {
        let _guard = FlushDenormals::new();
        let store = Store::Slot {
            slot: self.bank.begin_first()?,
            keep_objects: false,
        };
        self.run_matte(Read::LastValue)?;
        self.run_value(Which::Other, store, &mut Recorder::new())?;
        self.clear()
    }

    /// Name of the numbers that it computes with.
    fn precision<'a>(&self, engine: &Engine, manifest: &'a Manifest) -> &'a str {
        if self.matte.is_int8() {
            "int8"
        } else if engine.is_bf16() {
            "bf16"
        } else {
            &manifest.precision
        }
    }

    fn clear(&mut self) -> Result<()> {
        self.bank.clear()?;
        self.state.clear()?;
        self.alpha.zero()
    }

    fn forget_prior(&mut self) -> Result<()> {
        self.prior_age = None;
        match &mut self.prior {
            Some(prior) => prior.set(self.prior_absent),
            None => Ok(()),
        }
    }

    /// Graph `matte`. The new sensory memory and feature lie in the other half of their pairs.
    fn run_matte(&mut self, read: Read) -> Result<()> {
        self.gate.set(match read {
            Read::LastValue => 0f32,
            Read::Bank => 1.0,
        })?;
        let state = &mut self.state;
        let (sensory, sensory_out) = state.sensory.split();
        let (last_feature, feature) = state.feature.split();
        self.matte.run(
            &[
                ("frame", Some(&self.frame)),
                ("bank_keys", Some(self.bank.keys())),
                ("bank_values", Some(self.bank.values())),
                ("sensory", sensory),
                ("last_alpha", state.alpha_16.current()),
                ("last_feature", last_feature),
                ("last_value", state.value.current()),
                ("object_memory", state.object_memory.current()),
                ("gate", Some(&self.gate)),
                ("prior", self.prior.as_ref()),
            ],
            &mut [
                ("alpha", Some(&mut self.alpha)),
                ("sensory_out", sensory_out),
                ("feature", feature),
                ("key_rows", Some(&mut self.key_rows)),
            ],
        )
    }

    /// Graph `value` on the current alpha and feature, into the other half of its pairs, and, if the frame is stored,
    /// `memorize` and the bank. The caller decides which of the results become current.
    fn run_value(&mut self, feature: Which, store: Store, stats: &mut Recorder) -> Result<()> {
        let start = Instant::now();
        let state = &mut self.state;
        let feature = match feature {
            Which::Current => state.feature.current(),
            Which::Other => state.feature.other(),
        };
        // Every place that a recorded graph writes to is a recording of its own.
        let direct = match store {
            Store::Slot { slot, .. } if !self.value.records() => Some(slot),
            _ => None,
        };
        let rows = match direct {
            None => &mut self.value_scratch,
            Some(slot) => self.bank.value_slot(slot),
        };
        self.value.run(
            &[
                ("frame", Some(&self.frame)),
                ("feature", feature),
                ("alpha", Some(&self.alpha)),
            ],
            &mut [
                ("value", state.value.other_mut()),
                ("value_rows", Some(rows)),
                ("alpha_16", state.alpha_16.other_mut()),
            ],
        )?;
        stats.record(Stage::Value, start);
        let Store::Slot { slot, keep_objects } = store else {
            return Ok(());
        };
        let start = Instant::now();
        self.bank.key_slot(slot).copy_from(&self.key_rows)?;
        if direct.is_none() {
            self.bank.value_slot(slot).copy_from(&self.value_scratch)?;
        }
        if let Some(memorize) = &mut self.memorize {
            if let Some(keep) = &mut self.keep {
                keep.set(if keep_objects { 1f32 } else { 0.0 })?;
            }
            let (sensory, sensory_out) = state.sensory.split();
            let (objects, objects_out) = state.object_memory.split();
            memorize.run(
                &[
                    ("value", state.value.other()),
                    ("sensory", sensory),
                    ("alpha_16", state.alpha_16.other()),
                    ("object_memory", objects),
                    ("keep", self.keep.as_ref()),
                ],
                &mut [
                    ("sensory_out", sensory_out),
                    ("object_memory_out", objects_out),
                ],
            )?;
        }
        stats.record(Stage::Memorize, start);
        Ok(())
    }

    /// Makes the state of the last frame from its matte and the frame in the tensor `frame`, which is the next one.
    fn adopt(&mut self, alpha: &[f32], stats: &mut Recorder) -> Result<()> {
        self.run_matte(Read::LastValue)?;
        self.state.feature.swap();
        self.alpha.write_f32(alpha)?;
        self.run_value(Which::Current, Store::No, stats)?;
        self.commit(Store::No)
    }

    /// What `run_value` wrote becomes the state.
    fn commit(&mut self, store: Store) -> Result<()> {
        if store != Store::No {
            self.commit_memorize()?;
        }
        self.state.value.swap();
        self.state.alpha_16.swap();
        Ok(())
    }

    /// The halves of the pairs that `memorize` writes do not change places, unlike those of every frame: where they did,
    /// a graph would meet more sets of addresses than two, and record each.
    fn commit_memorize(&mut self) -> Result<()> {
        let Some(memorize) = &self.memorize else {
            return Ok(());
        };
        if memorize.spec().output("sensory_out").is_some() {
            self.state.sensory.settle()?;
        }
        if memorize.spec().output("object_memory_out").is_some() {
            self.state.object_memory.settle()?;
        }
        Ok(())
    }

    /// Puts a mask without padding, 0 to 255, in the place of the matte.
    fn set_alpha(&mut self, mask: &[u8], geometry: &Geometry) -> Result<()> {
        self.alpha
            .write(|alpha: &mut [f32]| pad(mask, geometry, alpha))
    }

    /// Empties the matte beyond a part of the frame.
    fn clear_outside(&mut self, part: &Bounds, geometry: &Geometry) -> Result<()> {
        self.alpha.read::<f32>()?;
        self.alpha.write(|alpha: &mut [f32]| {
            for (y, range) in geometry.inner_rows().enumerate() {
                for (x, a) in alpha[range].iter_mut().enumerate() {
                    if !part.holds(geometry.place(x, y)) {
                        *a = 0.0;
                    }
                }
            }
        })
    }

    /// Empties the matte in the marked cells of the token grid.
    fn clear_cells(&mut self, cells: &[bool], geometry: &Geometry) -> Result<()> {
        let (width, columns) = (geometry.padded.0, geometry.grid().0);
        self.alpha.read::<f32>()?;
        self.alpha.write(|alpha: &mut [f32]| {
            let bands = alpha.chunks_exact_mut(width * STRIDE);
            for (band, cells) in bands.zip(cells.chunks_exact(columns)) {
                for row in band.chunks_exact_mut(width) {
                    let marked = row.chunks_exact_mut(STRIDE).zip(cells);
                    for (pixels, _) in marked.filter(|(_, marked)| **marked) {
                        pixels.fill(0.0);
                    }
                }
            }
        })
    }

    /// The object memory is a running sum. Past this area sums and area are halved together, which leaves their ratio,
    /// the only thing that is read, as it is.
    const LARGEST_AREA: f32 = (1 << 20) as f32;

    fn bound_object_memory(&mut self) -> Result<()> {
        let Some(width) =
            self.matte
                .spec()
                .input("object_memory")
                .and_then(|t| match t.shape.as_slice() {
                    [_, _, crate::runtime::manifest::Dim::Fixed(n)] => Some(*n as usize),
                    _ => None,
                })
        else {
            return Ok(());
        };
        let Some(memory) = self.state.object_memory.current_mut() else {
            return Ok(());
        };
        let largest = memory
            .read::<f32>()?
            .chunks_exact(width)
            .map(|row| row[width - 1])
            .fold(0f32, f32::max);
        if largest > Self::LARGEST_AREA {
            memory.write(|all: &mut [f32]| {
                for row in all.chunks_exact_mut(width) {
                    if row[width - 1] > Self::LARGEST_AREA {
                        for v in row {
                            *v *= 0.5;
                        }
                    }
                }
            })?;
        }
        Ok(())
    }
}

/// What the person segmentation is to look at: where the working size holds enough, the picture that was scaled to it
/// (`rgb`, padded), which saves a second pass over the frame.
fn for_segmentation<'a>(
    segmenter: &Segmenter,
    frame: &Frame<'a>,
    rgb: &'a [u8],
    geometry: &Geometry,
) -> Result<Frame<'a>> {
    if !segmenter.is_served_by(geometry.size) && !geometry.is_window() {
        return Ok(*frame);
    }
    let (width, height) = geometry.size;
    let stride = geometry.padded.0 * 3;
    let start = geometry.offset.1 * stride + geometry.offset.0 * 3;
    let rows = rgb.get(start..).unwrap_or_default();
    Frame::packed(PixelFormat::Rgb, width as u32, height as u32, rows, stride)
}

/// Half of a pair.
#[derive(Debug, Clone, Copy)]
enum Which {
    Current,
    Other,
}

/// A mask that waits for the next frame.
#[derive(Debug)]
enum QueuedSeed {
    /// Width, height and pixels of the caller's.
    Given(u32, u32, Vec<u8>),
    /// Of the whole frame at the working size.
    Found(Vec<u8>),
}

/// What [`Matter::remember`] still has to do.
#[derive(Debug, Clone, Copy)]
struct Pending {
    memorize: bool,
}

/// When the warm-up of a new target is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WarmUp {
    /// On the frame that names it.
    AtOnce,
    /// A step on each of the frames that follow.
    Spread,
}

/// A matting engine for one video.
///
/// Frames go through [`process`](Matter::process) one after the other; after each, [`remember`](Matter::remember)
/// brings the memory up to date, which is left to the next `process` where the caller does not do it. A `Matter` may be
/// moved between threads, so `remember` may run while the frame is already on its way.
#[derive(Debug)]
pub struct Matter {
    models: ModelSet,
    engine: Engine,
    options: Options,
    /// The whole frame at the working size.
    whole: Geometry,
    /// What the network sees.
    geometry: Geometry,
    detail: Option<Detail>,
    network: Network,
    /// For windows while the whole frame is seen, and the other way round; none where one network serves both.
    other: Option<Network>,
    follower: Follower,
    /// Where the last matte was, within what was seen.
    found: Option<Found>,
    /// The last matte, padded, as the window shows it that is seen from now on.
    carried: Option<Vec<f32>>,
    /// Whether the tensor `frame` shows what was seen through another window than the matte.
    lacks_picture: bool,
    /// Number of the target, for what is kept of its mattes elsewhere.
    target: u64,
    /// Where the target was known to end before the window changed: all else is background.
    seen_before: Option<Bounds>,
    segmenter: Option<Segmenter>,
    scaler: Scaler,
    renderer: Renderer,
    /// What the renderer draws.
    matte: Matte,
    policy: MemoryPolicy,
    seeded: bool,
    queued_seed: Option<QueuedSeed>,
    pending: Option<Pending>,
    memory_writes: u64,
    watch: Watch,
    fader: Fader,
    /// First-frame predictions that a repair has still to make.
    warming: u32,
    /// When the warm-up of a mask that was queued or found is done.
    warm_up_is: WarmUp,
    repairing: bool,
    /// The matte on the token grid.
    cells: Vec<f32>,
    strays: Strays,
    /// Cells of the token grid that hold strays.
    stray: Vec<bool>,
    /// The person segmentation on the token grid, where the network does not read it.
    persons: Option<([usize; 4], Tensor)>,
    stats: Recorder,
    frames: u64,
    frames_without_matte: u64,
}

/// Makes a padded matte of a mask without padding, 0 to 255.
fn pad(mask: &[u8], geometry: &Geometry, out: &mut [f32]) {
    out.fill(0.0);
    let rows = mask.chunks_exact(geometry.size.0);
    for (range, row) in geometry.inner_rows().zip(rows) {
        for (a, m) in out[range].iter_mut().zip(row) {
            *a = f32::from(*m) / 255.0;
        }
    }
}

/// The means of a padded matte over the tokens.
fn token_means(alpha: &[f32], geometry: &Geometry, out: &mut Vec<f32>) {
    let (columns, rows) = geometry.grid();
    out.clear();
    out.resize(columns * rows, 0.0);
    for (y, row) in alpha.chunks_exact(geometry.padded.0).enumerate() {
        let cells = &mut out[y / STRIDE * columns..][..columns];
        for (cell, part) in cells.iter_mut().zip(row.chunks_exact(STRIDE)) {
            *cell += part.iter().sum::<f32>() / (STRIDE * STRIDE) as f32;
        }
    }
}

/// The means of a mask over the tokens.
fn mask_means(mask: &[u8], geometry: &Geometry) -> Vec<f32> {
    let (mut padded, mut means) = (vec![0.0; geometry.padded.0 * geometry.padded.1], Vec::new());
    pad(mask, geometry, &mut padded);
    token_means(&padded, geometry, &mut means);
    means
}

/// A map without padding, and what a map of tokens has more: in every pixel the larger of both. An empty map of tokens has nothing.
fn with_cells(map: &[f32], cells: &[f32], geometry: &Geometry) -> Vec<f32> {
    let (width, columns) = (geometry.size.0, geometry.grid().0);
    let (left, top) = geometry.offset;
    let cell = |i: usize| {
        let (x, y) = (i % width + left, i / width + top);
        let cell = cells.get(y / STRIDE * columns + x / STRIDE);
        cell.copied().unwrap_or_default()
    };
    let pixels = map.iter().enumerate();
    pixels.map(|(i, value)| value.max(cell(i))).collect()
}

/// Agreement from which a matte is taken to be right after all.
const AGREES: f32 = 0.6;

/// Whether somebody in a mask is at its left, right or upper edge, in rows of `width`: more of them may be beyond it.
fn touches_edge(mask: &[u8], width: usize) -> bool {
    let is_in = |pixel: &u8| *pixel >= 128;
    let mut rows = mask.chunks_exact(width);
    let sides = |row: &[u8]| row.first().is_some_and(is_in) || row.last().is_some_and(is_in);
    rows.next().is_some_and(|row| row.iter().any(is_in)) || rows.any(sides)
}

/// The object memory is looked at every so many writes: far more often than its area can double.
const OBJECT_MEMORY_CHECK: u64 = 256;

impl Matter {
    /// Opens the graphs for frames of a size.
    ///
    /// # Errors
    /// [`Error::Option`] for an option outside its range; [`Error::Runtime`], [`Error::Backend`], [`Error::Model`] or
    /// [`Error::Ort`] when the network cannot be opened. Only [`Backend::Auto`] tries another backend then.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "the engine keeps its options"
    )]
    pub fn open(
        models: &ModelSet,
        backend: Backend,
        options: Options,
        frame_size: (u32, u32),
    ) -> Result<Self> {
        options.validate()?;
        let candidates = backend.candidates();
        let mut failed = None;
        for (i, candidate) in candidates.iter().enumerate() {
            let geometry = Self::geometry(models, *candidate, &options, frame_size)?;
            match Self::open_on(models, *candidate, &options, geometry) {
                Ok(matter) => {
                    log::info!(
                        "{} {} in {} at {}x{} on {}",
                        models.matting.manifest.name,
                        models.matting.manifest.version,
                        matter
                            .network
                            .precision(&matter.engine, &models.matting.manifest),
                        geometry.size.0,
                        geometry.size.1,
                        matter.engine.describe()
                    );
                    return Ok(matter);
                }
                Err(e) => {
                    if let Some(next) = candidates.get(i + 1) {
                        // That a GPU is not used is worth a warning; OpenVINO is missing on many machines.
                        let level = match candidate {
                            Backend::OpenVino => log::Level::Info,
                            _ => log::Level::Warn,
                        };
                        log::log!(
                            level,
                            "auto: {} cannot be used, trying {}: {e}",
                            candidate.name(),
                            next.name()
                        );
                    }
                    failed = Some(e);
                }
            }
        }
        Err(failed.unwrap_or_else(|| Error::Backend {
            backend: backend.name(),
            reason: "nothing on this machine runs it".to_owned(),
        }))
    }

    /// What can serve frames while [`open`](Self::open) with these arguments builds something for minutes: TensorRT
    /// compiles every graph when it meets it first, CUDA does not. `None` where nothing has to be built, or nothing else
    /// is there. A look at the file system that starts nothing.
    pub fn stand_in(
        models: &ModelSet,
        backend: Backend,
        options: &Options,
        frame_size: (u32, u32),
    ) -> Option<Backend> {
        let geometry = Self::geometry(models, backend, options, frame_size).ok()?;
        let slots = Self::slots(models, options);
        let builds = |geometry: &Geometry| {
            let dims = Network::dims(geometry, slots);
            must_build(backend, options, &models.matting, &dims)
        };
        let window = Self::window_geometry(&geometry, options);
        let stands_in = (builds(&geometry) || window.as_ref().is_some_and(builds))
            && availability(Backend::Cuda).is_ok();
        stands_in.then_some(Backend::Cuda)
    }

    fn geometry(
        models: &ModelSet,
        backend: Backend,
        options: &Options,
        frame: (u32, u32),
    ) -> Result<Geometry> {
        if frame.0 == 0
            || frame.1 == 0
            || frame.0 > crate::frame::MAX_SIDE
            || frame.1 > crate::frame::MAX_SIDE
        {
            return Err(Error::Size {
                what: "frame",
                width: frame.0,
                height: frame.1,
            });
        }
        let manifest = &models.matting.manifest;
        let sizes = manifest.working_size.ok_or_else(|| {
            Error::model(
                models.matting.dir.join("manifest.json"),
                "field `working_size` is missing",
            )
        })?;
        let size = match options.working_size {
            None => {
                let recommended = sizes.recommended(Power::of(backend, options));
                automatic_size(frame, recommended, &sizes)
            }
            Some((w, h)) => {
                let low = 16;
                if !(low..=sizes.max[0]).contains(&w) || !(low..=sizes.max[1]).contains(&h) {
                    return Err(Error::Option {
                        option: "working_size",
                        value: format!("{w}x{h}"),
                        limit: format!(
                            "{} takes from {low}x{low} to {}x{}",
                            manifest.name, sizes.max[0], sizes.max[1]
                        ),
                    });
                }
                (w, h)
            }
        };
        Ok(Geometry::new(frame, size))
    }

    fn geometry_for(&self, options: &Options, frame: (u32, u32)) -> Result<Geometry> {
        Self::geometry(&self.models, self.engine.backend(), options, frame)
    }

    /// Graphs that windows need beside those of the whole frame.
    fn window_geometry(whole: &Geometry, options: &Options) -> Option<Geometry> {
        let frame = (whole.frame.0 as u32, whole.frame.1 as u32);
        let geometry = Geometry::new(frame, region::window_size(whole.size));
        let useful = geometry.size != whole.size && region::may_help(whole, geometry.size);
        (options.region == Region::Target && useful).then_some(geometry)
    }

    /// The network for the whole frame, and the one for windows.
    fn networks(
        engine: &Engine,
        models: &ModelSet,
        options: &Options,
        whole: &Geometry,
    ) -> Result<(Network, Option<Network>)> {
        let slots = Self::slots(models, options);
        let open = |geometry: &Geometry| Network::open(engine, &models.matting, geometry, slots);
        let window = Self::window_geometry(whole, options);
        Ok((open(whole)?, window.as_ref().map(open).transpose()?))
    }

    /// The network that draws edges anew, where it is asked for and the package has it.
    fn open_detail(
        engine: &Engine,
        models: &ModelSet,
        options: &Options,
    ) -> Result<Option<Detail>> {
        match options.refine {
            Refine::None | Refine::Guided => return Ok(None),
            // It is the processor that draws them, whatever runs the matting network.
            Refine::Auto if Power::of(Backend::Cpu, options) == Power::Plain => return Ok(None),
            Refine::Auto | Refine::Detail => {}
        }
        let detail = match Detail::open(engine, &models.matting) {
            Err(e) if options.refine == Refine::Auto => {
                log::warn!("edges are not drawn anew: {e}");
                None
            }
            detail => detail?,
        };
        if detail.is_none() && options.refine == Refine::Detail {
            return Err(Error::Option {
                option: "refine",
                value: "detail".to_owned(),
                limit: format!(
                    "the package {} has no graph `detail`",
                    models.matting.manifest.name
                ),
            });
        }
        Ok(detail)
    }

    fn slots(models: &ModelSet, options: &Options) -> (usize, usize) {
        let temporary = models
            .matting
            .manifest
            .memory
            .map_or(4, |m| m.temporary_frames);
        (
            options.max_references as usize,
            options.memory_frames.unwrap_or(temporary) as usize,
        )
    }

    fn interval(models: &ModelSet, options: &Options) -> u32 {
        options
            .memory_interval
            .unwrap_or(models.matting.manifest.memory.map_or(5, |m| m.interval))
    }

    fn open_on(
        models: &ModelSet,
        backend: Backend,
        options: &Options,
        geometry: Geometry,
    ) -> Result<Self> {
        let engine = Engine::new(backend, options)?;
        let (network, other) = Self::networks(&engine, models, options, &geometry)?;
        let segmenter = match &models.segmentation {
            Some(package) => Some(Segmenter::open(&engine, package)?),
            None => None,
        };
        Ok(Self {
            policy: MemoryPolicy::new(Self::interval(models, options)),
            models: models.clone(),
            detail: Self::open_detail(&engine, models, options)?,
            engine,
            options: options.clone(),
            whole: geometry,
            geometry,
            network,
            other,
            follower: Follower::default(),
            found: None,
            carried: None,
            lacks_picture: false,
            target: 0,
            seen_before: None,
            segmenter,
            scaler: Scaler::new(),
            renderer: Renderer::new(options)?,
            matte: Matte::new(),
            seeded: false,
            queued_seed: None,
            pending: None,
            memory_writes: 0,
            watch: Watch::default(),
            fader: Fader::default(),
            warming: 0,
            warm_up_is: WarmUp::AtOnce,
            repairing: false,
            cells: Vec::new(),
            strays: Strays::default(),
            stray: Vec::new(),
            persons: None,
            stats: Recorder::new(),
            frames: 0,
            frames_without_matte: 0,
        })
    }

    /// Takes frames of another size from now on. Where the working size changes with it, the graphs are opened anew,
    /// the memory is lost and the target has to be named again; otherwise all is kept.
    ///
    /// # Errors
    /// As [`Matter::open`]; the engine stays as it was.
    pub fn resize(&mut self, frame_size: (u32, u32)) -> Result<()> {
        let geometry = self.geometry_for(&self.options, frame_size)?;
        if geometry == self.whole {
            return Ok(());
        }
        if (geometry.size, geometry.padded) == (self.whole.size, self.whole.padded) {
            if let (None, Some(window)) =
                (&self.other, Self::window_geometry(&geometry, &self.options))
            {
                // Frames of the old size had no use for windows.
                let slots = Self::slots(&self.models, &self.options);
                let package = &self.models.matting;
                self.other = Some(Network::open(&self.engine, package, &window, slots)?);
            }
            self.look_at_all()?;
        } else {
            (self.network, self.other) =
                Self::networks(&self.engine, &self.models, &self.options, &geometry)?;
            self.forget();
            self.drop_found_mask();
        }
        (self.whole, self.geometry) = (geometry, geometry);
        Ok(())
    }

    /// Sees the frames through another window from now on. What is known goes along: the bank as it is, the last matte
    /// where it belongs. Beyond what was seen before there is no target.
    fn look_through(&mut self, window: Geometry) -> Result<()> {
        let switches = window.size != self.geometry.size;
        if window == self.geometry || (switches && self.other.is_none()) {
            return Ok(());
        }
        self.remember()?;
        let from = self.geometry;
        let known = match self.seeded {
            true => {
                let alpha = match &self.carried {
                    Some(alpha) => alpha.as_slice(),
                    None => self.network.alpha.read::<f32>()?,
                };
                let alpha = region::carry(alpha, (&from, &window), 1, Some(0.0));
                Some((alpha, self.network.state.carried(&from, &window)?))
            }
            false => None,
        };
        if switches && let Some(other) = &mut self.other {
            other.bank.take(&mut self.network.bank)?;
            std::mem::swap(&mut self.network, other);
        }
        // With the network, so that they belong together even where the rest fails.
        self.geometry = window;
        let (carried, lasting) = known.unzip();
        self.carried = carried;
        self.network
            .bank
            .move_places(|place| region::moved(place, (&from, &window)))?;
        if let (Some(alpha), Some(lasting)) = (&self.carried, lasting) {
            self.network.state.set(lasting)?;
            self.network.alpha.write_f32(alpha)?;
        }
        self.strays.forget();
        self.network.forget_prior()?;
        self.lacks_picture = true;
        self.fader.stop();
        self.watch.forget_picture();
        self.follower.reset();
        log::debug!(
            "the network sees {:?} at {:?} of {:?}",
            window.size,
            window.origin,
            window.canvas
        );
        Ok(())
    }

    /// As [`look_through`](Self::look_through), while the target is followed: what comes into view with the next frame is background,
    /// as far as that is known.
    fn look_on_through(&mut self, window: Geometry) -> Result<()> {
        let known = self.found.map(|found| self.geometry.known(found));
        self.look_through(window)?;
        self.seen_before = known;
        Ok(())
    }

    /// Sees the whole frame again.
    fn look_at_all(&mut self) -> Result<()> {
        match self.geometry == self.whole {
            true => Ok(()),
            false => self.look_on_through(self.whole),
        }
    }

    /// A mask of the caller's, at the working size. Whatever is named is named on the whole frame, so that the memory
    /// knows all of the background; the window follows with the next frame.
    fn whole_mask(&mut self, mask: &Mask<'_>) -> Result<Vec<u8>> {
        let mask = seed::prepare(&mut self.scaler, mask, &self.whole, &self.options)?;
        self.look_at_all()?;
        Ok(mask)
    }

    /// Changes to another window, if it is time.
    fn follow(&mut self) -> Result<()> {
        let settled = self.warming == 0 && !self.fader.is_fading();
        if self.options.region == Region::Frame || !self.seeded || !settled {
            return Ok(());
        }
        let size = region::window_size(self.whole.size);
        match self
            .follower
            .next(&self.whole, &self.geometry, size, self.found)
        {
            Some(window) => self.look_on_through(window),
            None => Ok(()),
        }
    }

    /// Keeps where the target is, for the next frame's window.
    fn note_bounds(&mut self) -> Result<()> {
        if self.options.region == Region::Frame {
            return Ok(());
        }
        let geometry = self.geometry;
        let alpha = self.network.alpha.read::<f32>()?;
        self.found = if geometry.padded == geometry.size {
            Found::of(alpha, geometry.size, |a| a)
        } else {
            let rows = geometry.inner_rows().flat_map(|row| alpha[row].iter());
            Found::of(&rows.copied().collect::<Vec<f32>>(), geometry.size, |a| a)
        };
        Ok(())
    }

    /// Working size for frames of another size; `None` where [`resize`](Matter::resize) would refuse them. Where it is
    /// [`working_size`](Matter::working_size), resizing is quick and loses nothing.
    pub fn working_size_for(&self, frame_size: (u32, u32)) -> Option<(u32, u32)> {
        let geometry = self.geometry_for(&self.options, frame_size).ok()?;
        Some((geometry.size.0 as u32, geometry.size.1 as u32))
    }

    /// Changes options. What the graphs were opened with (working size, region, precision, threads, device, provider
    /// options, cache and profile folders, number of memory frames and references) opens them anew and loses the memory; all
    /// else takes effect with the next frame.
    ///
    /// # Errors
    /// As [`Matter::open`]; the engine stays as it was.
    pub fn set_options(&mut self, options: Options) -> Result<()> {
        options.validate()?;
        let frame = self.geometry.frame;
        let geometry = self.geometry_for(&options, (frame.0 as u32, frame.1 as u32))?;
        let slots = Self::slots(&self.models, &options);
        let same_graphs = geometry == self.whole
            && options.region == self.options.region
            && slots == Self::slots(&self.models, &self.options)
            && options.precision == self.options.precision
            && options.threads == self.options.threads
            && options.device == self.options.device
            && options.provider_options == self.options.provider_options
            && options.model_cache_dir == self.options.model_cache_dir
            && options.profile_dir == self.options.profile_dir;
        if same_graphs {
            if options.refine != self.options.refine {
                self.detail = Self::open_detail(&self.engine, &self.models, &options)?;
            }
            if Self::interval(&self.models, &options) != Self::interval(&self.models, &self.options)
            {
                self.policy
                    .set_interval(Self::interval(&self.models, &options));
            }
            self.renderer.set_options(&options)?;
            self.options = options;
            return Ok(());
        }
        let engine = Engine::new(self.engine.backend(), &options)?;
        let (network, other) = Self::networks(&engine, &self.models, &options, &geometry)?;
        let detail = Self::open_detail(&engine, &self.models, &options)?;
        if options.threads != self.options.threads
            && let Some(package) = &self.models.segmentation
        {
            self.segmenter = Some(Segmenter::open(&engine, package)?);
        }
        (self.network, self.other, self.detail) = (network, other, detail);
        self.engine = engine;
        if geometry.size != self.whole.size {
            self.drop_found_mask();
        }
        (self.whole, self.geometry) = (geometry, geometry);
        self.renderer.set_options(&options)?;
        self.options = options;
        self.forget();
        Ok(())
    }

    /// A mask that was found on a frame is of the working size of then.
    fn drop_found_mask(&mut self) {
        self.queued_seed
            .take_if(|seed| matches!(seed, QueuedSeed::Found(_)));
    }

    fn forget(&mut self) {
        self.seeded = false;
        (self.found, self.carried, self.seen_before) = (None, None, None);
        self.follower.reset();
        self.pending = None;
        self.fader.stop();
        (self.warming, self.repairing, self.watch.lost) = (0, false, false);
        if let Some(segmenter) = &mut self.segmenter {
            segmenter.begin();
        }
        self.policy = MemoryPolicy::new(Self::interval(&self.models, &self.options));
    }

    /// Forgets target and memory, and starts the statistics anew.
    ///
    /// # Errors
    /// [`Error::Ort`] when the device cannot be reached.
    pub fn reset(&mut self) -> Result<()> {
        self.forget();
        self.watch = Watch::default();
        self.renderer.reset();
        self.queued_seed = None;
        self.stats.clear();
        (self.frames, self.frames_without_matte) = (0, 0);
        self.network.clear()
    }

    fn check_size(&self, what: &'static str, size: (u32, u32)) -> Result<()> {
        check_equal(what, size, self.frame_size())
    }

    /// Names the target: what the mask covers on this frame. Everything known before is forgotten, references
    /// included. The frame's own matte is refined by the warm-up; [`render`](Matter::render) gives it, and
    /// [`process`](Matter::process) goes on with the next frame. A caller who wants it all in one call queues the mask
    /// with [`queue_seed`](Matter::queue_seed) instead.
    ///
    /// # Errors
    /// [`Error::FrameSize`], [`Error::MaskAspect`] or [`Error::MaskEmpty`] before anything is changed; [`Error::Ort`]
    /// when the network fails, after which there is no target.
    pub fn seed(&mut self, frame: &Frame<'_>, mask: &Mask<'_>) -> Result<()> {
        self.begin_seed(frame, mask)?;
        for _ in 0..=self.warm_up() {
            self.refine_seed().inspect_err(|_| self.forget())?;
        }
        Ok(())
    }

    /// The first step of [`seed`](Matter::seed) alone, for callers who spread the warm-up over time: the mask is stored
    /// as it is. At least one [`refine_seed`](Matter::refine_seed) should follow.
    ///
    /// # Errors
    /// As [`Matter::seed`].
    pub fn begin_seed(&mut self, frame: &Frame<'_>, mask: &Mask<'_>) -> Result<()> {
        self.check_size("frame", frame.size())?;
        let _guard = FlushDenormals::new();
        let mask = self.whole_mask(mask)?;
        self.look_at(frame)
            .and_then(|()| self.begin_seed_prepared(&mask))
            .and_then(|()| {
                self.watch.named(false);
                self.note_bounds()
            })
            .inspect_err(|_| self.forget())
    }

    /// One more prediction of the frame that was seeded last, from its own value: soft edges grow out of the mask. It
    /// must come before the next frame is processed.
    ///
    /// # Errors
    /// [`Error::NotSeeded`] without a seed, [`Error::Ort`] when the network fails.
    pub fn refine_seed(&mut self) -> Result<()> {
        if !self.seeded {
            return Err(Error::NotSeeded);
        }
        let _guard = FlushDenormals::new();
        self.first_frame_step()
    }

    fn warm_up(&self) -> u32 {
        self.options
            .warm_up
            .or(self.models.matting.manifest.memory.map(|m| m.warm_up))
            .unwrap_or(0)
    }

    /// Keeps a mask for the next [`process`](Matter::process), which then seeds on its frame. It replaces a mask that
    /// waits already. Its size is checked against the frame then.
    pub fn queue_seed(&mut self, mask: &Mask<'_>) {
        let (width, height) = mask.size();
        let data = (0..height as usize)
            .flat_map(|y| mask.row(y).iter().copied())
            .collect();
        self.queued_seed = Some(QueuedSeed::Given(width, height, data));
    }

    /// Names who is at a place of a frame, in pixels, as the target of the next [`process`](Matter::process) or
    /// [`predict`](Matter::predict), which should be of that frame: their mask is queued as by
    /// [`queue_seed`](Matter::queue_seed). Returns whether there is anybody; without the person segmentation there never
    /// is. People who touch each other are taken together where the detector of the segmentation's package does not find each
    /// of them.
    ///
    /// # Errors
    /// [`Error::FrameSize`], and [`Error::Ort`] when the segmentation fails.
    pub fn queue_seed_at(&mut self, frame: &Frame<'_>, (x, y): (f64, f64)) -> Result<bool> {
        self.check_size("frame", frame.size())?;
        let Some(segmenter) = &mut self.segmenter else {
            return Ok(false);
        };
        let place = (x / f64::from(frame.width()), y / f64::from(frame.height()));
        let Some(mask) = segmenter.mask_at(&mut self.scaler, frame, &self.whole, place)? else {
            return Ok(false);
        };
        self.queued_seed = Some(QueuedSeed::Found(mask));
        Ok(true)
    }

    /// Whether the warm-up of a mask that [`queue_seed`](Matter::queue_seed) or
    /// [`queue_seed_at`](Matter::queue_seed_at) queues, or that is found, is spread over the frames that follow, one step
    /// each, as that of a repair is. Otherwise, and at first, all of it is done on the frame that is seeded: a camera's
    /// frames would have to wait for that. It matters for packages whose `memory.warm_up` is not 0.
    pub fn spread_warm_up(&mut self, spreads: bool) {
        self.warm_up_is = match spreads {
            true => WarmUp::Spread,
            false => WarmUp::AtOnce,
        };
    }

    /// Mask step and first-frame predictions on what lies in the tensor `frame`.
    fn seed_prepared(&mut self, mask: &[u8]) -> Result<()> {
        self.begin_seed_prepared(mask)?;
        if self.warm_up_is == WarmUp::Spread {
            self.warming = self.warm_up();
            return self.first_frame_step();
        }
        for _ in 0..=self.warm_up() {
            self.first_frame_step()?;
        }
        Ok(())
    }

    fn begin_seed_prepared(&mut self, mask: &[u8]) -> Result<()> {
        self.forget();
        self.target = next_number();
        self.network.clear()?;
        self.mask_step(mask, false)?;
        self.seeded = true;
        self.strays.target_is_person = self.names_a_person(mask);
        Ok(())
    }

    /// Whether a mask covers what the hint for its frame calls people.
    fn names_a_person(&self, mask: &[u8]) -> bool {
        let network = &self.network;
        let hint = network
            .prior
            .as_ref()
            .filter(|_| network.prior_age.is_some());
        let Some(hint) = hint else {
            return false;
        };
        let means = mask_means(mask, &self.geometry);
        repair::agreement(&means, hint.host_view()).is_some_and(|a| a >= repair::PERSON)
    }

    /// The alpha of this frame is given; it is stored in the slot that is returned. `keep_objects` says whether the object memory goes
    /// on.
    fn mask_step(&mut self, mask: &[u8], keep_objects: bool) -> Result<usize> {
        let first = !keep_objects;
        (self.carried, self.seen_before) = (None, None);
        self.strays.forget();
        let network = &mut self.network;
        network.run_matte(Read::LastValue)?;
        network.state.feature.swap();
        network.set_alpha(mask, &self.geometry)?;
        let slot = match first {
            true => network.bank.begin_first()?,
            false => network.bank.next_temporary(),
        };
        let store = Store::Slot { slot, keep_objects };
        network.run_value(Which::Current, store, &mut self.stats)?;
        network.commit(store)?;
        match first {
            true => self.policy.first_frame(),
            false => self.policy.mask_step(),
        }
        self.follower.hurry();
        Ok(slot)
    }

    /// A prediction for the first frame that reads no memory; it becomes the permanent frame.
    fn first_frame_step(&mut self) -> Result<()> {
        self.carried = None;
        let network = &mut self.network;
        network.run_matte(Read::LastValue)?;
        network.state.feature.swap();
        network.state.sensory.swap();
        let store = Store::Slot {
            slot: network.bank.begin_first()?,
            keep_objects: false,
        };
        network.run_value(Which::Current, store, &mut self.stats)?;
        network.commit(store)?;
        self.policy.first_frame();
        Ok(())
    }

    /// Puts the same target right: the mask is what it covers on this frame. The memory goes on, the frame is stored
    /// at once, for good where [`Options::lasting_corrections`] says so, and the next frames follow the mask.
    ///
    /// # Errors
    /// As [`Matter::seed`], and [`Error::NotSeeded`] when there is no target yet.
    pub fn correct(&mut self, frame: &Frame<'_>, mask: &Mask<'_>) -> Result<()> {
        let mask = self.prepare_addition(frame, mask)?;
        let _guard = FlushDenormals::new();
        self.look_at(frame)?;
        let is_person = self.names_a_person(&mask);
        self.strays.target_is_person &= is_person;
        self.watch.corrected(is_person);
        self.fader.stop();
        let alpha = self.network.alpha.read::<f32>()?;
        token_means(alpha, &self.geometry, &mut self.cells);
        // Where the mask moves an edge alone, the first frame is not wrong, and knows another view of the target.
        let contradicts = repair::contradicts(&mask_means(&mask, &self.geometry), &self.cells);
        let slot = self.mask_step(&mask, true)?;
        if self.options.lasting_corrections && contradicts {
            self.network.bank.copy_to_first(slot)?;
        }
        self.note_bounds()
    }

    /// Stores a frame with its mask for good: another view of the target, other clothes, other light. It may come from
    /// another place or time; what is carried from frame to frame, the matte of the last frame included, is left alone.
    /// With [`Region::Target`] the next frames are seen as a whole.
    ///
    /// # Errors
    /// As [`Matter::correct`], and [`Error::ReferencesFull`].
    pub fn add_reference(&mut self, frame: &Frame<'_>, mask: &Mask<'_>) -> Result<ReferenceId> {
        if self.seeded {
            self.network.bank.check_room()?;
        }
        let mask = self.prepare_addition(frame, mask)?;
        let _guard = FlushDenormals::new();
        let alpha = self.network.alpha.read::<f32>()?.to_vec();
        let (picture, lacks_picture) = (
            self.network.frame.host_view::<u8>().to_vec(),
            self.lacks_picture,
        );
        let (slot, id) = self.network.bank.next_reference()?;
        self.watch.is_complete();
        let stored = self.store_reference(frame, &mask, slot);
        let network = &mut self.network;
        let restored = network.alpha.write_f32(&alpha).and_then(|()| {
            let last = |bytes: &mut [u8]| bytes.copy_from_slice(&picture);
            network.frame.write(last)
        });
        self.lacks_picture = lacks_picture;
        let stored = stored.and(restored);
        if stored.is_err() {
            // The name must not stay taken by an empty slot; the first error is the one to report.
            let _ = self.network.bank.remove_reference(id);
        }
        stored.map(|()| id)
    }

    fn store_reference(&mut self, frame: &Frame<'_>, mask: &[u8], slot: usize) -> Result<()> {
        self.look_at(frame)?;
        self.strays.target_is_person &= self.names_a_person(mask);
        let network = &mut self.network;
        // The reference may come from another place or time, and so does its hint.
        network.prior_age = None;
        network.run_matte(Read::LastValue)?;
        network.set_alpha(mask, &self.geometry)?;
        // Nothing is committed but the object memory, which is about the target, not about time.
        network.run_value(
            Which::Other,
            Store::Slot {
                slot,
                keep_objects: true,
            },
            &mut self.stats,
        )?;
        if network
            .memorize
            .as_ref()
            .is_some_and(|m| m.spec().output("object_memory_out").is_some())
        {
            network.state.object_memory.settle()?;
        }
        Ok(())
    }

    /// Removes a reference; its slot is free again.
    ///
    /// # Errors
    /// [`Error::UnknownReference`].
    pub fn remove_reference(&mut self, id: ReferenceId) -> Result<()> {
        self.network.bank.remove_reference(id)
    }

    /// Checks a frame and a mask that are to be stored beside what is known, and brings that up to date; gives the mask at
    /// the working size.
    fn prepare_addition(&mut self, frame: &Frame<'_>, mask: &Mask<'_>) -> Result<Vec<u8>> {
        self.check_size("frame", frame.size())?;
        if !self.seeded {
            return Err(Error::NotSeeded);
        }
        let _guard = FlushDenormals::new();
        let mask = self.whole_mask(mask)?;
        self.remember()?;
        Ok(mask)
    }

    /// Brings a frame before the network.
    fn scale(&mut self, frame: &Frame<'_>) -> Result<()> {
        self.lacks_picture = false;
        preprocess(
            &mut self.scaler,
            frame,
            &self.geometry,
            &mut self.network.frame,
        )
    }

    /// Brings a frame that a mask belongs to, and its hint, before the network.
    fn look_at(&mut self, frame: &Frame<'_>) -> Result<()> {
        self.scale(frame)?;
        self.prepare_prior(frame, 0)
    }

    /// The hint for this frame. One made for another, at most `oldest` frames ago, serves as well.
    fn prepare_prior(&mut self, frame: &Frame<'_>, oldest: u32) -> Result<()> {
        let Some(prior) = &mut self.network.prior else {
            return Ok(());
        };
        match &mut self.segmenter {
            Some(segmenter) if self.options.prior => {
                if let Some(age) = self.network.prior_age.filter(|age| *age < oldest) {
                    self.network.prior_age = Some(age + 1);
                    return Ok(());
                }
                self.network.prior_age = None;
                let start = Instant::now();
                let scaled = self.network.frame.host_view();
                let small = for_segmentation(segmenter, frame, scaled, &self.geometry)?;
                segmenter.prior(&mut self.scaler, &small, &self.geometry, prior)?;
                self.network.prior_age = Some(0);
                self.stats.record(Stage::Prior, start);
                Ok(())
            }
            _ => self.network.forget_prior(),
        }
    }

    /// Mattes a frame and writes it.
    ///
    /// Without a target it is named here, from a queued mask or, with [`SeedMode::Auto`], by the person segmentation.
    /// Until there is one, and when the network fails, `out` gets what the options say: never the picture by surprise.
    ///
    /// # Errors
    /// [`Error::FrameSize`] for a frame or output of another size; [`Error::MaskAspect`] or [`Error::MaskEmpty`] for a
    /// queued mask, which is dropped; with [`Policy::Error`] also [`Error::NotSeeded`] and what the network failed with.
    pub fn process(&mut self, frame: &Frame<'_>, out: &mut OutputMut<'_>) -> Result<FrameReport> {
        self.check_size("frame", frame.size())?;
        self.check_size("output", out.size())?;
        let (report, policy) = match self.predict(frame) {
            Ok(report) if report.has_matte() => match self.render_matte(frame, out) {
                Ok(()) => return Ok(report),
                Err(e) => {
                    self.frames_without_matte += 1;
                    (Err(e), self.options.on_failure)
                }
            },
            Ok(report) => (Ok(report), self.options.before_seed),
            Err(e @ (Error::MaskAspect { .. } | Error::MaskEmpty { .. })) => return Err(e),
            Err(e) => (Err(e), self.options.on_failure),
        };
        if policy == Policy::Error {
            return Err(report.err().unwrap_or(Error::NotSeeded));
        }
        self.renderer.render_without_matte(policy, frame, out)?;
        Ok(report.unwrap_or_else(|e| {
            log::error!("{e}");
            FrameReport::of(MatteState::Failed(e.to_string()))
        }))
    }

    /// The first half of [`process`](Matter::process): the network's matte of a frame, without drawing it.
    /// [`snapshot`](Matter::snapshot) gives it, for a [`Renderer`]. The state is never [`MatteState::Failed`]: a failure
    /// is an error here, and what is shown is the caller's choice.
    ///
    /// # Errors
    /// [`Error::FrameSize`]; [`Error::MaskAspect`] or [`Error::MaskEmpty`] for a queued mask, which is dropped;
    /// [`Error::Ort`] when the network fails.
    pub fn predict(&mut self, frame: &Frame<'_>) -> Result<FrameReport> {
        self.check_size("frame", frame.size())?;
        self.frames += 1;
        let report = self.step(frame);
        if !report.as_ref().is_ok_and(FrameReport::has_matte) {
            self.frames_without_matte += 1;
        }
        report
    }

    /// Copies the matte of the last frame that was seeded, corrected or predicted, with what a [`Renderer`] needs to
    /// draw it. Once `matte` has been filled, filling it again allocates nothing.
    ///
    /// # Errors
    /// [`Error::NotSeeded`] when there is no matte, [`Error::Ort`] when the device fails; `matte` is then as it was.
    pub fn snapshot(&mut self, matte: &mut Matte) -> Result<()> {
        if !self.seeded {
            return Err(Error::NotSeeded);
        }
        let network = &mut self.network;
        let alpha = network.alpha.read::<f32>()?;
        let picture = network.frame.host_view::<u8>();
        matte.fill(&self.geometry, (alpha, picture));
        matte.target = self.target;
        matte.lacks_picture = self.lacks_picture;
        self.fader.mix(matte);
        Ok(())
    }

    /// Draws the edges of a matte anew, for [`Renderer::render`] with the same frame: the network of
    /// [`Refine::Detail`]. It does nothing where that is not asked for, or of no use. `matte` is
    /// a [`snapshot`](Matter::snapshot) of this frame, or the sum of several.
    ///
    /// # Errors
    /// [`Error::FrameSize`] for a frame of another size than the matte was made for, [`Error::NotSeeded`] for an empty matte,
    /// [`Error::Ort`] when the network fails. The matte is then drawn by the filter.
    pub fn refine(&mut self, frame: &Frame<'_>, matte: &mut Matte) -> Result<()> {
        if !self.draws_detail() {
            return Ok(());
        }
        let geometry = matte.geometry_for(frame, frame.size())?;
        let serves = !matte.lacks_picture && Detail::serves(geometry.size, geometry.frame);
        let Some(detail) = self.detail.as_mut().filter(|_| serves) else {
            return Ok(());
        };
        let start = Instant::now();
        detail.draw(frame, matte)?;
        self.stats.record(Stage::Detail, start);
        Ok(())
    }

    /// As [`refine`](Self::refine); where that fails, the edges are those of the filter, and the log tells once.
    pub(crate) fn refine_if_it_works(&mut self, frame: &Frame<'_>, matte: &mut Matte) {
        let refined = self.refine(frame, matte);
        if let Some(detail) = &mut self.detail {
            detail.note(refined);
        }
    }

    /// The alpha of a frame at the working size, in the tensor `alpha`; `None` without a target.
    fn step(&mut self, frame: &Frame<'_>) -> Result<FrameReport> {
        let report = self.step_with_queued(frame);
        if report.as_ref().is_ok_and(FrameReport::has_matte) {
            self.note_bounds()?;
        }
        report
    }

    /// As [`step_through`](Self::step_through) with the mask that waits. One that is refused is dropped; where something
    /// else fails it waits for the next frame.
    fn step_with_queued(&mut self, frame: &Frame<'_>) -> Result<FrameReport> {
        let queued = self.queued_seed.take();
        let report = self.step_through(frame, queued.as_ref());
        match report {
            Ok(_) | Err(Error::MaskAspect { .. } | Error::MaskEmpty { .. }) => {}
            Err(_) => self.queued_seed = queued,
        }
        report
    }

    fn step_through(
        &mut self,
        frame: &Frame<'_>,
        given: Option<&QueuedSeed>,
    ) -> Result<FrameReport> {
        if let Err(e) = self.remember() {
            log::error!("the frame before is not remembered: {e}");
        }
        let _guard = FlushDenormals::new();
        let queued = match given {
            Some(QueuedSeed::Found(mask)) => Some(mask.clone()),
            Some(QueuedSeed::Given(width, height, data)) => {
                let view = Mask::new(*width, *height, data, *width as usize)?;
                Some(self.whole_mask(&view)?)
            }
            None => None,
        };
        let by_segmentation = queued.is_none();
        let is_found = !matches!(given, Some(QueuedSeed::Given(..)));
        let found = match queued {
            Some(mask) => Some(mask),
            None if self.seeded => {
                self.follow()?;
                None
            }
            None => match self.find_target(frame)? {
                Some(mask) => Some(mask),
                None if self.watch.lost => return Ok(FrameReport::of(MatteState::Lost)),
                None => return Ok(FrameReport::of(MatteState::BeforeSeed)),
            },
        };
        if found.is_some() {
            self.look_through(self.whole)?;
        }
        let start = Instant::now();
        self.scale(frame)?;
        self.stats.record(Stage::Preprocess, start);
        let mut report = FrameReport::of(MatteState::Matted);
        report.scene_cut = self.sees_a_cut();
        if let Some(mask) = found {
            self.prepare_prior(frame, 0)?;
            if by_segmentation && self.watch.lost {
                return self.name_anew(&mask, true, 0.0, report);
            }
            self.seed_prepared(&mask)?;
            self.watch.named(by_segmentation);
            if by_segmentation && touches_edge(&mask, self.geometry.size.0) {
                self.watch.comes();
            }
            self.strays.target_is_person |= is_found;
            report.matte = MatteState::Seeded;
            return Ok(report);
        }
        if report.scene_cut && self.watch.is_person() {
            let Some(mask) = self.find_person(frame, self.whole)? else {
                self.forget();
                self.watch.lost = true;
                report.matte = MatteState::Lost;
                return Ok(report);
            };
            if self.geometry != self.whole {
                self.look_through(self.whole)?;
                self.scale(frame)?;
            }
            self.prepare_prior(frame, 0)?;
            return self.name_anew(&mask, true, 0.0, report);
        }
        self.prepare_prior(frame, self.network.prior_lasts)?;
        let start = Instant::now();
        if let Some(alpha) = &self.carried {
            // Where it fails, the next frame tries again.
            self.network.adopt(alpha, &mut self.stats)?;
            self.carried = None;
        }
        if self.warming > 0 {
            self.warming -= 1;
            self.first_frame_step()?;
        } else {
            self.network.run_matte(Read::Bank)?;
            self.stats.record(Stage::Matte, start);
            let step = self.policy.advance();
            let state = &mut self.network.state;
            state.feature.swap();
            if step.sensory {
                state.sensory.swap();
            }
            // Background that has come into view is remembered at once; left alone, some of it would join the target.
            let seen = self.seen_before.take();
            if let Some(seen) = seen {
                self.network.clear_outside(&seen, &self.geometry)?;
            }
            self.clear_strays(frame)?;
            self.pending = Some(Pending {
                memorize: step.memorize || seen.is_some(),
            });
        }
        let faded = self.fader.advance();
        let complete = self.warming == 0 && !self.fader.is_fading();
        if self.repairing && complete {
            self.repairing = false;
            report.repair = Some(Repair::Finished);
        } else if faded {
            log::debug!("the old matte has gone");
        }
        let is_watched = self.options.drift_repair || self.watch.is_arriving();
        if is_watched && !self.repairing && self.warming == 0 && self.watch.due() {
            return self.repair_drift(frame, report);
        }
        Ok(report)
    }

    /// Whether the frame that has been scaled shows something else than the one before.
    fn sees_a_cut(&mut self) -> bool {
        if !self.options.drift_repair || self.segmenter.is_none() {
            self.watch.forget_picture();
            return false;
        }
        let picture = self.network.frame.host_view::<u8>();
        let rows = self.geometry.inner_rows().map(|range| range.start);
        let cut = self.watch.cut(picture, self.geometry.size, rows);
        cut && self.seeded
    }

    /// Compares the matte with the person segmentation and, where they have disagreed for long, names the target anew.
    fn repair_drift(&mut self, frame: &Frame<'_>, report: FrameReport) -> Result<FrameReport> {
        let comparison = self.compare_with_persons(frame)?;
        let fault = self.watch.compare(comparison, &self.cells);
        let is_asked_for = |fault: &Fault| self.options.drift_repair || *fault == Fault::Arrival;
        let Some(fault) = fault.filter(is_asked_for) else {
            return Ok(report);
        };
        // The hint is coarse; a mask that has been looked for closely decides.
        let found = match fault {
            Fault::Arrival if !self.is_still_lacking(frame)? => None,
            _ => self.find_person(frame, self.geometry)?,
        };
        let Some(mut mask) = found else {
            self.watch.in_vain(fault);
            return Ok(report);
        };
        let alpha = self.network.alpha.read::<f32>()?;
        let geometry = self.geometry;
        let shown: Vec<f32> = geometry
            .inner_rows()
            .flat_map(|row| alpha[row].iter().copied())
            .collect();
        // Somebody else who has come in the meantime is not the target.
        match fault {
            Fault::Arrival => seed::keep_joined(&mut mask, geometry.size, &shown),
            Fault::Disagreement => {
                let mut own = mask.clone();
                let near = with_cells(&shown, self.watch.covered(), &geometry);
                seed::keep_known(&mut own, geometry.size, &near);
                let is_right = || {
                    let means = mask_means(&mask, &geometry);
                    comparison.is_some_and(|c| !c.lacks_what_was())
                        && self.watch.is_as_before(&means, &self.cells)
                };
                if own.iter().any(|pixel| *pixel > 0) {
                    mask = own;
                } else if is_right() {
                    // Somebody larger, who touches the target.
                    self.watch.in_vain(fault);
                    return Ok(report);
                }
                // Otherwise nobody is known, and whoever is there will do.
            }
            // Told by `completes`.
            Fault::MissingPart => {}
        }
        let found: Vec<f32> = mask.iter().map(|m| f32::from(*m) / 255.0).collect();
        let agreement = repair::agreement(&shown, &found).unwrap_or(0.0);
        let is_wrong = match fault {
            Fault::Disagreement => agreement < AGREES,
            Fault::MissingPart => {
                let means = mask_means(&mask, &geometry);
                self.watch.completes(&means, &self.cells, geometry.grid().0)
            }
            Fault::Arrival => repair::has_grown(&found, &shown),
        };
        if !is_wrong {
            self.watch.in_vain(fault);
            return Ok(report);
        }
        // Like every target this one is named on the whole frame; who is beyond the window is not the one who was compared.
        if self.geometry != self.whole {
            let (window, width) = (self.geometry, self.whole.size.0);
            let columns = window.size.0;
            let mut found = self.find_person(frame, self.whole)?.unwrap_or_default();
            let mut compared = vec![0.0; found.len()];
            for (i, pixel) in found.iter_mut().enumerate() {
                let place = self.whole.place(i % width, i / width);
                match window.pixel(place) {
                    Some((x, y)) => compared[i] = f32::from(mask[y * columns + x]) / 255.0,
                    None => *pixel = 0,
                }
            }
            seed::keep_known(&mut found, self.whole.size, &compared);
            if found.iter().all(|pixel| *pixel == 0) {
                self.watch.in_vain(fault);
                return Ok(report);
            }
            self.look_through(self.whole)?;
            self.look_at(frame)?;
            mask = found;
        }
        let geometry = self.geometry;
        let alpha = self.network.alpha.read::<f32>()?;
        let picture = self.network.frame.host_view::<u8>();
        self.fader
            .begin(|old| old.fill(&geometry, (alpha, picture)));
        self.name_anew(&mask, false, agreement, report)
    }

    /// Whether the matte lacks a part of somebody who comes by a hint for this very frame. With a window it is not known: the
    /// window is that of the part.
    fn is_still_lacking(&mut self, frame: &Frame<'_>) -> Result<bool> {
        if self.geometry != self.whole {
            return Ok(false);
        }
        self.prepare_prior(frame, 0)?;
        let comparison = self.compare_with_persons(frame)?;
        Ok(comparison.is_some_and(|comparison| comparison.lacks_a_part()))
    }

    /// Compares the matte of the last frame, which is left in `cells`, and the person segmentation; none where there is
    /// nothing to compare.
    fn compare_with_persons(&mut self, frame: &Frame<'_>) -> Result<Option<Comparison>> {
        let Some(segmenter) = &mut self.segmenter else {
            return Ok(None);
        };
        let network = &mut self.network;
        let (columns, rows) = self.geometry.grid();
        let persons = match &network.prior {
            Some(prior) if self.options.prior => prior,
            _ => {
                let shape = [1, 1, rows, columns];
                if self.persons.as_ref().is_none_or(|(s, _)| *s != shape) {
                    let host = ort::memory::Allocator::default();
                    let tensor = Tensor::new(&host, Element::Float32, &shape)?;
                    self.persons = Some((shape, tensor));
                }
                let Some((_, tensor)) = &mut self.persons else {
                    return Ok(None);
                };
                let scaled = network.frame.host_view();
                let small = for_segmentation(segmenter, frame, scaled, &self.geometry)?;
                segmenter.prior(&mut self.scaler, &small, &self.geometry, tensor)?;
                &*tensor
            }
        };
        let alpha = network.alpha.read::<f32>()?;
        token_means(alpha, &self.geometry, &mut self.cells);
        let persons = persons.host_view::<f32>();
        Ok(self.watch.comparison(&self.cells, persons, columns))
    }

    /// Clears what has joined the matte of a person from nowhere.
    fn clear_strays(&mut self, frame: &Frame<'_>) -> Result<()> {
        let is_person = self.strays.target_is_person && self.watch.sees_a_person() != Some(false);
        if !is_person || self.network.prior_age.is_none() {
            self.strays.forget();
            return Ok(());
        }
        let found = self.find_strays()?;
        // Somebody may have come since the hint was made.
        let is_old = self.network.prior_age.is_some_and(|age| age > 0);
        let found = match found && is_old {
            true => {
                self.prepare_prior(frame, 0)?;
                self.find_strays()?
            }
            false => found,
        };
        self.strays.keep();
        if found {
            self.network.clear_cells(&self.stray, &self.geometry)?;
            log::debug!("something came from nowhere, and is not the target");
        }
        Ok(())
    }

    fn find_strays(&mut self) -> Result<bool> {
        let network = &mut self.network;
        let alpha = network.alpha.read::<f32>()?;
        token_means(alpha, &self.geometry, &mut self.cells);
        let persons = network.prior.as_ref().map(Tensor::host_view::<f32>);
        let (columns, _) = self.geometry.grid();
        Ok(self
            .strays
            .find(&self.cells, persons, columns, &mut self.stray))
    }

    /// Names the same target anew, by a mask that the segmentation has found on the frame in the tensor `frame`.
    /// References stay; the warm-up is spread over the frames that follow.
    fn name_anew(
        &mut self,
        mask: &[u8],
        after_cut: bool,
        agreement: f32,
        mut report: FrameReport,
    ) -> Result<FrameReport> {
        if after_cut {
            self.fader.stop();
        }
        self.pending = None;
        let cleared = self.network.state.clear();
        if let Err(e) = cleared.and_then(|()| self.mask_step(mask, false)) {
            // What is left is no memory of this target: the next frame looks for it again.
            self.forget();
            self.watch.lost = true;
            return Err(e);
        }
        self.seeded = true;
        self.first_frame_step()?;
        self.warming = self.warm_up();
        self.watch.renamed();
        if after_cut && touches_edge(mask, self.geometry.size.0) {
            self.watch.comes();
        }
        self.strays.target_is_person = true;
        self.repairing = true;
        log::info!(
            "the target is named anew{}",
            if after_cut { " after a cut" } else { "" }
        );
        report.repair = Some(Repair::Started {
            after_cut,
            agreement,
        });
        report.matte = MatteState::Seeded;
        Ok(report)
    }

    /// Somebody who is to be taken for the target, found by the person segmentation, as far as a window shows them.
    fn find_person(&mut self, frame: &Frame<'_>, seen: Geometry) -> Result<Option<Vec<u8>>> {
        match &mut self.segmenter {
            Some(segmenter) => segmenter.first_mask(&mut self.scaler, frame, &seen),
            None => Ok(None),
        }
    }

    /// The person segmentation's mask for this frame, if it is to be asked and finds somebody.
    fn find_target(&mut self, frame: &Frame<'_>) -> Result<Option<Vec<u8>>> {
        match &mut self.segmenter {
            Some(segmenter) if self.options.seed == SeedMode::Auto || self.watch.lost => {
                segmenter.wait_for_mask(&mut self.scaler, frame, &self.whole)
            }
            _ => Ok(None),
        }
    }

    /// Writes the matte of the last frame that was seeded, corrected or processed with that frame's colour.
    ///
    /// # Errors
    /// [`Error::FrameSize`], [`Error::NotSeeded`] when there is no matte, [`Error::Ort`] when the device fails.
    pub fn render(&mut self, frame: &Frame<'_>, out: &mut OutputMut<'_>) -> Result<()> {
        self.check_size("frame", frame.size())?;
        self.check_size("output", out.size())?;
        if !self.seeded {
            return Err(Error::NotSeeded);
        }
        self.render_matte(frame, out)
    }

    fn render_matte(&mut self, frame: &Frame<'_>, out: &mut OutputMut<'_>) -> Result<()> {
        let start = Instant::now();
        let mut matte = std::mem::take(&mut self.matte);
        let made = self.snapshot(&mut matte);
        let snapshot = start.elapsed();
        if made.is_ok() {
            self.refine_if_it_works(frame, &mut matte);
        }
        let start = Instant::now();
        let drawn = made.and_then(|()| self.renderer.render(&matte, frame, out));
        self.matte = matte;
        drawn?;
        // What draws edges anew is a stage of its own.
        let start = start.checked_sub(snapshot).unwrap_or(start);
        self.stats.record(Stage::Postprocess, start);
        Ok(())
    }

    /// Brings the memory up to date with the last frame: its value, and on memory frames the bank. Without a frame to
    /// remember it does nothing. It may run on another thread than `process`, before the next `process`.
    ///
    /// # Errors
    /// [`Error::Ort`] when the network fails; the next frame is then matted from what was known before.
    pub fn remember(&mut self) -> Result<()> {
        let Some(Pending { memorize }) = self.pending.take() else {
            return Ok(());
        };
        let _guard = FlushDenormals::new();
        let network = &mut self.network;
        let store = match memorize {
            true => Store::Slot {
                slot: network.bank.next_temporary(),
                keep_objects: true,
            },
            false => Store::No,
        };
        network.run_value(Which::Current, store, &mut self.stats)?;
        network.commit(store)?;
        if memorize {
            self.memory_writes += 1;
            if self.memory_writes.is_multiple_of(OBJECT_MEMORY_CHECK) {
                network.bound_object_memory()?;
            }
        }
        Ok(())
    }

    /// Alpha of the last frame at the working size, row-major, 0 to 1, without padding; with [`Region::Target`] of the
    /// window that the network saw. It allocates.
    ///
    /// # Errors
    /// [`Error::Ort`] when the device fails.
    pub fn alpha(&mut self) -> Result<Vec<f32>> {
        let geometry = self.geometry;
        let alpha = self.network.alpha.read::<f32>()?;
        Ok(geometry
            .inner_rows()
            .flat_map(|r| alpha[r].iter().copied())
            .collect())
    }

    /// What the memory holds now.
    ///
    /// # Errors
    /// [`Error::Ort`] when the device or the network fails.
    pub fn memory(&mut self) -> Result<MemoryState> {
        self.remember()?;
        let shape = self.network.bank.shape();
        let (permanent_frames, temporary_frames) = self.network.bank.frames();
        let slots: Vec<usize> = self.network.bank.filled().collect();
        let (mut key_rows, mut value_rows) = (Vec::new(), Vec::new());
        for slot in slots {
            key_rows.extend(self.network.bank.key_slot(slot).read_f32()?);
            value_rows.extend(self.network.bank.value_slot(slot).read_f32()?);
        }
        let state = &mut self.network.state;
        let read = |tensor: Option<&mut Tensor>| tensor.map_or(Ok(Vec::new()), Tensor::read_f32);
        Ok(MemoryState {
            now: self.policy.now(),
            last_memory: self.policy.last_memory(),
            permanent_frames,
            temporary_frames,
            tokens: shape.tokens,
            key_row: shape.key_row,
            key_rows,
            value_rows,
            sensory: read(state.sensory.current_mut())?,
            object_memory: read(state.object_memory.current_mut())?,
            last_value: read(state.value.current_mut())?,
        })
    }

    /// Whether there is a target.
    pub fn is_seeded(&self) -> bool {
        self.seeded
    }

    /// Whether people can be found automatically: the person segmentation is there.
    pub fn can_seed_automatically(&self) -> bool {
        self.segmenter.is_some()
    }

    /// Options in force.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Whether edges are drawn anew: [`Refine::Detail`] is asked for, or taken by itself, the package has that network, and there
    /// is no temporal smoothing.
    pub fn draws_detail(&self) -> bool {
        self.detail.is_some() && self.options.temporal_smoothing == 0.0
    }

    /// The packages that it was opened with.
    pub fn models(&self) -> &ModelSet {
        &self.models
    }

    /// What runs the network.
    pub fn backend(&self) -> Backend {
        self.engine.backend()
    }

    /// Width and height of the frames, pixels.
    pub fn frame_size(&self) -> (u32, u32) {
        (self.geometry.frame.0 as u32, self.geometry.frame.1 as u32)
    }

    /// Width and height at which the network sees the whole frame, without padding.
    pub fn working_size(&self) -> (u32, u32) {
        (self.whole.size.0 as u32, self.whole.size.1 as u32)
    }

    /// Forgets how long the stages took so far. Frames are counted on.
    pub fn clear_stage_times(&mut self) {
        self.stats.clear();
    }

    /// What was done and how long it took.
    pub fn stats(&self) -> Stats {
        let manifest = &self.models.matting.manifest;
        let (permanent, temporary) = self.network.bank.frames();
        Stats {
            backend: self.engine.describe(),
            model: format!(
                "{} {} {}",
                manifest.name,
                manifest.version,
                self.network.precision(&self.engine, manifest)
            ),
            working_size: self.working_size(),
            frames: self.frames,
            frames_without_matte: self.frames_without_matte,
            memory_frames: (permanent + temporary) as u32,
            stages: self.stats.stages(),
        }
    }
}
