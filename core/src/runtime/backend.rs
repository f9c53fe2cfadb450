//! What runs the network.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use ort::environment::{Environment, GlobalThreadPoolOptions};
use ort::ep::{self, ArbitrarilyConfigurableExecutionProvider};
use ort::logging::LogLevel;
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use super::ending;
use super::engine_cache::EngineCache;
use super::gpu;
use super::model_set::Package;
use super::paths::{self, ONNXRUNTIME_VERSION};
use crate::error::{Doing as _, Error, Result};
use crate::options::{Options, Precision};

/// What runs the network. All of them are reached through ONNX Runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Backend {
    /// The fastest that works here; the only one that falls back, and it logs what it chose and why.
    #[default]
    Auto,
    /// NVIDIA TensorRT, with CUDA for what it does not take.
    TensorRt,
    /// NVIDIA TensorRT for RTX, a plugin provider.
    TensorRtRtx,
    /// NVIDIA CUDA.
    Cuda,
    /// Intel OpenVINO on the CPU, a plugin provider.
    OpenVino,
    /// ONNX Runtime's own kernels for the CPU.
    Cpu,
}

impl Backend {
    /// All backends.
    pub const ALL: [Self; 6] = [
        Self::Auto,
        Self::TensorRt,
        Self::TensorRtRtx,
        Self::Cuda,
        Self::OpenVino,
        Self::Cpu,
    ];

    /// Name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::TensorRt => "tensorrt",
            Self::TensorRtRtx => "tensorrt-rtx",
            Self::Cuda => "cuda",
            Self::OpenVino => "openvino",
            Self::Cpu => "cpu",
        }
    }

    /// What is tried, in order: the backend itself, or for `Auto` all that this machine may be able to run.
    pub(crate) fn candidates(self) -> Vec<Self> {
        if self != Self::Auto {
            return vec![self];
        }
        let mut all = Vec::new();
        for backend in [Self::Cuda, Self::OpenVino, Self::Cpu] {
            match availability(backend) {
                Ok(_) => all.push(backend),
                Err(e) => log::debug!("auto: without {}: {e}", backend.name()),
            }
        }
        if all.is_empty() {
            // Its error tells what is missing.
            all.push(Self::Cpu);
        }
        all
    }
}

impl FromStr for Backend {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|b| b.name() == s)
            .ok_or_else(|| Error::Option {
                option: "backend",
                value: format!("{s:?}"),
                limit: format!("it must be one of {}", Self::ALL.map(Self::name).join(", ")),
            })
    }
}

impl std::fmt::Display for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether the files that a backend needs are there, and which: a look at the file system that starts nothing, so the
/// backend may still fail when it is opened.
///
/// # Errors
/// [`Error::Runtime`] or [`Error::Backend`] with what is missing.
pub fn availability(backend: Backend) -> Result<String> {
    let runtime =
        paths::find_onnxruntime().ok_or_else(|| not_found("its shared library is missing"))?;
    let missing = |reason: String| Error::Backend {
        backend: backend.name(),
        reason,
    };
    let beside = |file: &str| {
        let path = runtime.with_file_name(file);
        match path.is_file() {
            true => Ok(path.display().to_string()),
            false if paths::named_onnxruntime().is_some() => Err(missing(format!(
                "{} is missing beside the ONNX Runtime that MATTE_ONNXRUNTIME or ORT_DYLIB_PATH names",
                path.display()
            ))),
            false => Err(missing(format!(
                "{} is missing: `cargo xtask setup --gpu` installs the ONNX Runtime that has it, which is then found first",
                path.display()
            ))),
        }
    };
    match backend {
        Backend::Auto | Backend::Cpu => Ok(runtime.display().to_string()),
        Backend::Cuda => beside("libonnxruntime_providers_cuda.so"),
        Backend::TensorRt => beside("libonnxruntime_providers_tensorrt.so"),
        Backend::TensorRtRtx => Err(missing(
            "this plugin provider is not supported by this version".to_owned(),
        )),
        Backend::OpenVino => paths::find_openvino()
            .map(|p| p.display().to_string())
            .ok_or_else(|| {
                missing(format!(
                    "{} is missing; `cargo xtask setup` installs it where the processor is Intel's",
                    paths::openvino_cache()
                        .join(paths::openvino_file_name())
                        .display()
                ))
            }),
    }
}

fn not_found(reason: &str) -> Error {
    let looked: Vec<String> = paths::onnxruntime_candidates()
        .iter()
        .map(|p| p.display().to_string())
        .collect();
    Error::Runtime {
        reason: reason.to_owned(),
        looked: looked.join(", "),
    }
}

/// Threads that all sessions of the process share: one for every core. With pools of their own the sessions of one frame
/// would keep spinning against each other. Here nothing spins: the cores are also the decoder's and the encoder's.
fn thread_pool() -> ort::Result<GlobalThreadPoolOptions> {
    GlobalThreadPoolOptions::default()
        .with_intra_threads(cores())?
        .with_spin_control(false)?
        .with_flush_to_zero()
}

/// Whether the processor multiplies 8-bit integers several at a time, so that they are faster than `f32`.
fn has_int8() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx2");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("dotprod");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

/// Whether the processor sums 8-bit products with instructions of their own.
fn has_quick_int8() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx512vnni")
        || std::arch::is_x86_feature_detected!("avxvnni");
    #[cfg(not(target_arch = "x86_64"))]
    return has_int8();
}

/// How much there is to compute with, as far as a working size depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Power {
    /// Camera rate asks for a small one.
    Plain,
    /// Two threads that sum 8-bit products quickly, or four.
    Quick,
    Gpu,
}

impl Power {
    pub(crate) fn of(backend: Backend, options: &Options) -> Self {
        let threads = cpu_threads(options.threads as usize);
        let quick = options.precision == Precision::Auto && has_quick_int8() && threads >= 2;
        match backend {
            Backend::TensorRt | Backend::TensorRtRtx | Backend::Cuda => Self::Gpu,
            _ if quick || threads >= 4 => Self::Quick,
            _ => Self::Plain,
        }
    }
}

/// Whether the processor has instructions for `bfloat16`; all that have AMX for it have these too.
fn has_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Threads that a number asked for stands for: 0 is one for every core.
fn cpu_threads(asked: usize) -> usize {
    match asked {
        0 => cores(),
        threads => threads,
    }
}

/// ONNX Runtime allows one environment per process. It is never dropped: plugin providers that were registered with it
/// do not survive its end.
fn environment() -> Result<Environment> {
    static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);
    let mut environment = ENVIRONMENT.lock();
    if let Some(environment) = &*environment {
        return Ok(environment.clone());
    }
    let path =
        paths::find_onnxruntime().ok_or_else(|| not_found("its shared library is missing"))?;
    let cannot = |reason: String| Error::Runtime {
        reason,
        looked: path.display().to_string(),
    };
    let built = ort::init_from(&path)
        .map_err(|e| cannot(format!("{}: {e}", path.display())))?
        .with_name("matte")
        .with_telemetry(false)
        .with_global_thread_pool(thread_pool().map_err(|e| cannot(e.to_string()))?)
        .with_logger(Arc::new(
            |level: LogLevel, category: &str, _: &str, _: &str, message: &str| {
                let level = match level {
                    LogLevel::Verbose => log::Level::Trace,
                    LogLevel::Info => log::Level::Debug,
                    LogLevel::Warning => log::Level::Warn,
                    LogLevel::Error | LogLevel::Fatal => log::Level::Error,
                };
                log::log!(target: "onnxruntime", level, "{category}: {message}");
            },
        ))
        .build()
        .map_err(|e| cannot(e.to_string()))?;
    built.set_log_level(LogLevel::Warning);
    ending::watch();
    log::info!("ONNX Runtime from {}", path.display());
    Ok(environment.insert(built).clone())
}

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The matting network.
    Matting,
    /// Small, always on the CPU: the person segmentation, and what draws edges anew.
    Small,
}

/// Opens sessions on one backend. 0 threads stand for the pool that all share.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    environment: Environment,
    backend: Backend,
    threads: usize,
    device: u32,
    precision: Precision,
    /// For the provider, keys and values.
    tuning: Arc<[(String, String)]>,
    /// Where engines are kept.
    cache: Arc<Path>,
    /// Where profiles go.
    profiles: Option<Arc<Path>>,
}

/// Where engines are kept.
fn cache_folder(options: &Options) -> Arc<Path> {
    match &options.model_cache_dir {
        Some(folder) => Arc::clone(folder),
        None => paths::cache_dir().join("engines").into(),
    }
}

/// An option of the provider, if it is switched on.
fn switched_on<'a>(tuning: &'a [(String, String)], option: &str) -> Option<&'a (String, String)> {
    let is_on = |value: &str| value == "1" || value.eq_ignore_ascii_case("true");
    tuning
        .iter()
        .find(|(key, value)| key == option && is_on(value))
}

/// Options for the provider.
fn tuning(options: &Options) -> Arc<[(String, String)]> {
    options
        .provider_options_parts()
        .flatten()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// Names everything that an engine depends on; the provider itself adds the kind of GPU.
fn cache_key(
    backend: Backend,
    device: u32,
    tuning: &[(String, String)],
    path: &Path,
    hash: &str,
    dims: &[(&str, usize)],
) -> String {
    let graph = path.file_stem().unwrap_or_default().to_string_lossy();
    let sizes: Vec<String> = dims.iter().map(|(n, size)| format!("{n}{size}")).collect();
    let (hash, sizes) = (hash.get(..16).unwrap_or(hash), sizes.join("-"));
    let backend = backend.name();
    let mut key = format!("{backend}-{ONNXRUNTIME_VERSION}-{device}-{hash}-{graph}-{sizes}");
    if !tuning.is_empty() {
        let digest = Sha256::digest(format!("{tuning:?}"));
        key.push('-');
        key.extend(digest.iter().take(4).map(|byte| format!("{byte:02x}")));
    }
    key
}

/// Whether a graph of a matting package runs on the CPU, whatever runs the others ([`Role::Small`]).
fn is_small(graph: &str) -> bool {
    graph == "detail"
}

/// Whether opening a package builds engines first, which takes minutes: they are not in the cache. A look at the file
/// system; what is there may still turn out to be damaged.
pub(crate) fn must_build(
    backend: Backend,
    options: &Options,
    package: &Package,
    dims: &[(&str, usize)],
) -> bool {
    let cache = cache_folder(options);
    backend == Backend::TensorRt
        && package.manifest.graphs.iter().any(|(name, graph)| {
            if is_small(name) {
                return false;
            }
            let key = cache_key(
                backend,
                options.device,
                &tuning(options),
                Path::new(&graph.file),
                &package.hash,
                dims,
            );
            !EngineCache::is_sealed(&cache, &key)
        })
}

const OPENVINO_REGISTRATION: &str = "matte_openvino";
const OPENVINO_PROVIDER: &str = "OpenVINOExecutionProvider";

impl Engine {
    /// Gets a backend ready, with what the options say of threads, device and cache.
    pub(crate) fn new(backend: Backend, options: &Options) -> Result<Self> {
        availability(backend)?;
        if options.precision == Precision::Bf16 {
            let limit = match backend {
                Backend::OpenVino if has_bf16() => None,
                Backend::OpenVino => Some("this processor has no bfloat16 (AVX-512 BF16)".into()),
                _ => Some(format!(
                    "only the backend openvino computes in it, not {backend}"
                )),
            };
            if let Some(limit) = limit {
                return Err(Error::Option {
                    option: "precision",
                    value: "bf16".to_owned(),
                    limit,
                });
            }
        }
        let tuning = tuning(options);
        if backend == Backend::TensorRt
            && let Some((key, value)) = switched_on(&tuning, "trt_cuda_graph_enable")
        {
            return Err(Error::Option {
                option: "provider_options",
                value: format!("{key}={value}"),
                limit: "the provider replays one recording, whatever the addresses: state and memory, which take turns, \
                        would be those of the frame that was recorded"
                    .to_owned(),
            });
        }
        let _inside = ending::enter_for(|| format!("starting {}", backend.name()))?;
        let environment = environment()?;
        if backend == Backend::OpenVino {
            register_openvino(&environment)?;
        }
        Ok(Self {
            environment,
            backend,
            threads: options.threads as usize,
            device: options.device,
            precision: options.precision,
            tuning,
            cache: cache_folder(options),
            profiles: options.profile_dir.clone(),
        })
    }

    /// Whether graphs in 8-bit integers are taken where there are some.
    pub(crate) fn takes_int8(&self) -> bool {
        self.precision == Precision::Auto
            && matches!(self.backend, Backend::Cpu | Backend::OpenVino)
            && has_int8()
    }

    /// Whether graphs are computed in `bfloat16`, whatever they say.
    pub(crate) fn is_bf16(&self) -> bool {
        self.precision == Precision::Bf16
    }

    pub(crate) fn backend(&self) -> Backend {
        self.backend
    }

    /// One for sessions on the CPU that compute on the thread that runs them.
    pub(crate) fn on_one_thread(&self) -> Self {
        Self {
            backend: Backend::Cpu,
            threads: 1,
            precision: match self.precision {
                Precision::Auto => Precision::Auto,
                Precision::Full | Precision::Bf16 => Precision::Full,
            },
            ..self.clone()
        }
    }

    /// How many threads compute.
    pub(crate) fn threads(&self) -> usize {
        cpu_threads(self.threads)
    }

    /// Whether sessions record what they do as CUDA graphs.
    pub(crate) fn records(&self) -> bool {
        self.backend == Backend::Cuda && switched_on(&self.tuning, "enable_cuda_graph").is_some()
    }

    /// Number of the GPU.
    pub(crate) fn device(&self) -> u32 {
        self.device
    }

    /// In words, for logs and statistics.
    pub(crate) fn describe(&self) -> String {
        match self.backend {
            Backend::Cuda | Backend::TensorRt | Backend::TensorRtRtx => {
                format!("{}, device {}", self.backend.name(), self.device)
            }
            _ => {
                format!(
                    "{}, {} threads",
                    self.backend.name(),
                    cpu_threads(self.threads)
                )
            }
        }
    }

    /// Opens a graph of a package, whose hash is given, with its symbolic dimensions fixed.
    pub(crate) fn open(
        &self,
        path: &Path,
        hash: &str,
        dims: &[(&str, usize)],
        role: Role,
    ) -> Result<Session> {
        if role != Role::Matting || self.backend != Backend::TensorRt {
            return self.commit(path, dims, role, None);
        }
        let key = cache_key(self.backend, self.device, &self.tuning, path, hash, dims);
        let Some(mut cache) = EngineCache::open(&self.cache, &key) else {
            return self.commit(path, dims, role, None);
        };
        let mut session = self.commit(path, dims, role, Some(cache.folder()));
        if let Err(e) = &session
            && cache.is_complete()
        {
            // Whole, but not for this driver, say. Or nothing opens now: then it is kept.
            log::warn!(
                "the engine in {} is built anew: {e}",
                cache.folder().display()
            );
            if cache.set_aside().is_ok() {
                session = self.commit(path, dims, role, Some(cache.folder()));
                if session.is_err() {
                    let kept = cache.bring_back();
                    kept.unwrap_or_else(|e| log::warn!("the engine from before is lost: {e}"));
                }
            }
        }
        if session.is_ok() {
            cache.seal();
        }
        session
    }

    fn commit(
        &self,
        path: &Path,
        dims: &[(&str, usize)],
        role: Role,
        cache: Option<&Path>,
    ) -> Result<Session> {
        let session = self.try_commit(path, dims, role, cache);
        session.map_err(|e| gpu::explained(self.backend, e))
    }

    fn try_commit(
        &self,
        path: &Path,
        dims: &[(&str, usize)],
        role: Role,
        cache: Option<&Path>,
    ) -> Result<Session> {
        let doing = || format!("opening {} on {}", path.display(), self.backend.name());
        let _inside = ending::enter_for(doing)?;
        let mut builder = Session::builder(&self.environment).doing(doing)?;
        for (name, size) in dims {
            builder = builder
                .with_dimension_override(name, *size as i64)
                .doing(doing)?;
        }
        let mut builder = match role {
            Role::Small => self.cpu(builder),
            Role::Matting => self.provider(builder, cache),
        }
        .doing(doing)?;
        if let (Role::Matting, Some(folder), Some(graph)) = (role, &self.profiles, path.file_stem())
        {
            builder = builder.with_profiling(folder.join(graph)).doing(doing)?;
        }
        let session = builder.commit_from_file(path).doing(doing);
        ending::watch();
        session
    }

    fn cpu(&self, builder: SessionBuilder) -> ort::Result<SessionBuilder> {
        // Without a provider ONNX Runtime picks one itself: OpenVINO, once some session of the process has asked for it.
        let devices = self.environment.devices().filter(is_own_cpu);
        let builder = builder
            .with_devices(devices, None)?
            .with_optimization_level(GraphOptimizationLevel::All)?;
        if self.threads == 0 {
            return Ok(builder);
        }
        Ok(builder
            .with_independent_thread_pool()?
            .with_intra_threads(self.threads)?
            .with_intra_op_spinning(false)?
            .with_flush_to_zero()?)
    }

    /// With the options that were asked for, over those that are set here.
    fn tuned<P: ArbitrarilyConfigurableExecutionProvider>(&self, provider: P) -> P {
        self.tuning.iter().fold(provider, |provider, (key, value)| {
            provider.with_arbitrary_config(key, value)
        })
    }

    fn provider(
        &self,
        builder: SessionBuilder,
        cache: Option<&Path>,
    ) -> ort::Result<SessionBuilder> {
        // TF32 rounds to 10 bits of mantissa, which the goldens would show.
        let cuda = ep::CUDA::default()
            .with_device_id(self.device as i32)
            .with_tf32(false);
        Ok(match self.backend {
            Backend::Cuda => builder
                .with_optimization_level(GraphOptimizationLevel::All)?
                .with_execution_providers([self.tuned(cuda).build().error_on_failure()])?,
            Backend::TensorRt => {
                let mut tensorrt = ep::TensorRT::default().with_device_id(self.device as i32);
                if let Some(folder) = cache {
                    tensorrt = tensorrt
                        .with_engine_cache(true)
                        .with_engine_cache_path(folder.display())
                        .with_timing_cache(true)
                        .with_timing_cache_path(folder.display());
                }
                builder.with_execution_providers([
                    self.tuned(tensorrt).build().error_on_failure(),
                    cuda.build().error_on_failure(),
                ])?
            }
            Backend::OpenVino => {
                // Without the hint a CPU with AMX computes in bf16 unasked.
                let precision = match self.precision {
                    Precision::Bf16 => "bf16",
                    Precision::Auto | Precision::Full => "f32",
                };
                let config = format!(
                    r#"{{"CPU":{{"INFERENCE_PRECISION_HINT":"{precision}","INFERENCE_NUM_THREADS":"{}"}}}}"#,
                    cpu_threads(self.threads)
                );
                // An option of a device begins with its provider's name; others are passed over without a word.
                let devices = self.environment.devices().filter(is_openvino_cpu);
                let key = format!("{OPENVINO_PROVIDER}.load_config");
                builder.with_devices(devices, Some(&[(key, config)]))?
            }
            _ => self.cpu(builder)?,
        })
    }
}

/// The processor as ONNX Runtime's own kernels use it.
fn is_own_cpu(device: &ort::device::Device<'_>) -> bool {
    device
        .ep()
        .is_ok_and(|name| name == <ep::CPU as ep::ExecutionProvider>::NAME)
}

/// The library offers the processor twice: by itself, and as what `AUTO` may choose. Sessions take devices of one provider
/// only.
fn is_openvino_cpu(device: &ort::device::Device<'_>) -> bool {
    device.ep().is_ok_and(|name| name == OPENVINO_PROVIDER)
        && device.hardware_device().ty() == ort::memory::DeviceType::CPU
}

fn register_openvino(environment: &Environment) -> Result<()> {
    static REGISTERED: Mutex<bool> = Mutex::new(false);
    let cannot = |reason: String| Error::Backend {
        backend: Backend::OpenVino.name(),
        reason,
    };
    let path = paths::find_openvino().ok_or_else(|| cannot("its library is missing".to_owned()))?;
    let mut registered = REGISTERED.lock();
    if !*registered {
        environment
            .register_ep_library(OPENVINO_REGISTRATION, &path)
            .map_err(|e| cannot(format!("{}: {e}", path.display())))?;
        *registered = true;
    }
    // It registers on any x86-64 processor, but offers itself on Intel's only.
    if environment.devices().any(|d| is_openvino_cpu(&d)) {
        Ok(())
    } else {
        Err(cannot("it does not support this processor".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_are_built_once_for_every_size() {
        let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/packages/lite");
        let package = Package::open(package).unwrap();
        let cache = tempfile::tempdir().unwrap();
        let options = Options {
            model_cache_dir: Some(cache.path().into()),
            ..Options::default()
        };
        let small = [("H", 304), ("W", 544)];
        let must = |backend, dims: &[_]| must_build(backend, &options, &package, dims);
        assert!(must(Backend::TensorRt, &small));
        assert!(!must(Backend::Cuda, &small));
        let graphs = package.manifest.graphs.iter();
        for (_, graph) in graphs.filter(|(name, _)| *name != "detail") {
            assert!(must(Backend::TensorRt, &small), "one of them is missing");
            let (path, hash) = (package.dir.join(&graph.file), &package.hash);
            let key = cache_key(Backend::TensorRt, options.device, &[], &path, hash, &small);
            EngineCache::open(cache.path(), &key).unwrap().seal();
        }
        assert!(!must(Backend::TensorRt, &small));
        assert!(must(Backend::TensorRt, &[("H", 368), ("W", 640)]));
        let tuned = Options {
            provider_options: Some("trt_builder_optimization_level=5".into()),
            ..options
        };
        assert!(must_build(Backend::TensorRt, &tuned, &package, &small));
    }

    #[test]
    fn four_threads_or_a_gpu_take_larger_pictures() {
        let of = |backend, threads| {
            let precision = Precision::Full;
            Power::of(
                backend,
                &Options {
                    precision,
                    threads,
                    ..Options::default()
                },
            )
        };
        assert_eq!(of(Backend::Cpu, 1), Power::Plain);
        // In floats there are no quick integers.
        assert_eq!(of(Backend::OpenVino, 3), Power::Plain);
        assert_eq!(of(Backend::OpenVino, 4), Power::Quick);
        assert_eq!(of(Backend::Cuda, 1), Power::Gpu);
    }

    #[test]
    fn backends_are_named_on_the_command_line() {
        for backend in Backend::ALL {
            assert_eq!(backend.name().parse::<Backend>().unwrap(), backend);
        }
        assert_eq!(
            "gpu".parse::<Backend>().unwrap_err().to_string(),
            "option backend: \"gpu\", but it must be one of auto, tensorrt, tensorrt-rtx, cuda, openvino, cpu"
        );
    }
}
