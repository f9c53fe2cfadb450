//! The network and its frame loop against traces of the published implementation under deterministic weights.
//!
//! Every trace in `tests/golden`, or in the folder that `MATTE_GOLDEN_DIR` names, is replayed with the options that its
//! metadata gives, and compared frame by frame: alpha, counters, sums over the memory. The weights go through the same
//! importer as a user's checkpoint.

use std::path::{Path, PathBuf};

use matte_core::import::{Checkpoint, WeightSource, import_package};
use matte_core::{
    Backend, Error, Frame, Mask, Matter, MemoryState, ModelSet, Options, OutputFormat, OutputMut,
    Package, PixelFormat, Policy, Refine, SeedMode,
};
use safetensors::SafeTensors;
use serde_json::Value;

/// Largest difference of a pixel's alpha. The reference differs from itself in double precision by 6e-6.
const ALPHA: f32 = 1e-4;
/// Largest relative difference of sums.
const SUM: f64 = 1e-4;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A skeleton with the deterministic weights.
fn filled(skeleton: &Path, name: &str) -> Package {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("parity")
        .join(name);
    let checkpoint = Checkpoint::deterministic();
    import_package(skeleton, &WeightSource::Checkpoint(&checkpoint), &target).unwrap()
}

struct Trace {
    name: String,
    bytes: Vec<u8>,
    metadata: Value,
}

impl Trace {
    /// Reads a file; `None` if it is not the trace of a sequence.
    fn read(path: &Path) -> Option<Self> {
        let bytes = std::fs::read(path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = serde_json::to_value(header.metadata().as_ref()?).unwrap();
        header.info("frames")?;
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        Some(Self {
            name,
            bytes,
            metadata,
        })
    }

    fn text(&self, key: &str) -> &str {
        self.metadata
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    fn number(&self, key: &str) -> u32 {
        self.text(key)
            .parse()
            .unwrap_or_else(|_| panic!("{}: {key} is {:?}", self.name, self.text(key)))
    }
}

fn f32s(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let data = file
        .tensor(name)
        .unwrap_or_else(|e| panic!("{name}: {e}"))
        .data();
    data.chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect()
}

fn f64s(file: &SafeTensors<'_>, name: &str) -> Vec<f64> {
    let data = file
        .tensor(name)
        .unwrap_or_else(|e| panic!("{name}: {e}"))
        .data();
    data.chunks_exact(8)
        .map(|b| f64::from_le_bytes(b.try_into().unwrap()))
        .collect()
}

fn i32s(file: &SafeTensors<'_>, name: &str) -> Vec<i64> {
    let data = file
        .tensor(name)
        .unwrap_or_else(|e| panic!("{name}: {e}"))
        .data();
    data.chunks_exact(4)
        .map(|b| i64::from(i32::from_le_bytes(b.try_into().unwrap())))
        .collect()
}

fn mean_and_deviation(data: &[f32]) -> (f64, f64) {
    let n = data.len() as f64;
    let mean = data.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
    let variance = data
        .iter()
        .map(|v| (f64::from(*v) - mean).powi(2))
        .sum::<f64>()
        / (n - 1.0);
    (mean, variance.sqrt())
}

/// Sums over the bank's keys, taken out of the key rows again, and over its values; and sums of absolute values.
fn sums(memory: &MemoryState) -> [(f64, f64); 2] {
    const KEY: usize = 64;
    let keys = memory
        .key_rows
        .chunks_exact(memory.key_row)
        .flat_map(|row| {
            // A row is s/√64 · [−k², 2k, −1].
            let scale = -f64::from(row[2 * KEY]);
            row[KEY..2 * KEY]
                .iter()
                .map(move |v| f64::from(*v) / (2.0 * scale))
        });
    let add = |(sum, magnitude): (f64, f64), v: f64| (sum + v, magnitude + v.abs());
    [
        keys.fold((0.0, 0.0), add),
        memory
            .value_rows
            .iter()
            .map(|v| f64::from(*v))
            .fold((0.0, 0.0), add),
    ]
}

struct Replay<'a> {
    trace: &'a Trace,
    file: SafeTensors<'a>,
    matter: Matter,
    size: (u32, u32),
    step: usize,
    worst: f32,
}

impl Replay<'_> {
    fn check_alpha(&mut self, wanted: &[f32], what: &str) {
        let got = self.matter.alpha().unwrap();
        assert_eq!(got.len(), wanted.len());
        let worst = got
            .iter()
            .zip(wanted)
            .map(|(a, b)| (a - b).abs())
            .fold(0f32, f32::max);
        assert!(
            worst <= ALPHA,
            "{}, {what}: alpha differs by {worst:.2e}",
            self.trace.name
        );
        self.worst = self.worst.max(worst);
    }

    /// Counters and sums after a step.
    fn check_state(&mut self, what: &str) {
        let (name, i) = (&self.trace.name, self.step);
        let memory = self.matter.memory().unwrap();
        let (permanent, temporary) = (memory.permanent_frames, memory.temporary_frames);
        let tokens = |frames: usize| (frames * memory.tokens) as i64;
        for (key, got) in [
            ("st_curr_ti", memory.now),
            ("st_last_mem_ti", memory.last_memory),
            ("st_bank_tokens", tokens(permanent + temporary)),
            ("st_perm_tokens", tokens(permanent)),
        ] {
            assert_eq!(got, i32s(&self.file, key)[i], "{name}, {what}: {key}");
        }
        let close = |key: &str, got: f64, magnitude: f64| {
            let wanted = f64s(&self.file, key)[i];
            // A sum of numbers of both signs may come out near 0: what counts then is the rounding of its terms.
            let limit = SUM * wanted.abs() + 1e-7 * magnitude;
            assert!(
                (got - wanted).abs() <= limit,
                "{name}, {what}: {key} is {got}, but it must be {wanted}"
            );
        };
        let [keys, values] = sums(&memory);
        close("st_bank_key_sum", keys.0, keys.1);
        close("st_bank_value_sum", values.0, values.1);
        let (mean, deviation) = mean_and_deviation(&memory.sensory);
        close("st_sensory_mean", mean, deviation);
        close("st_sensory_std", deviation, deviation);
        let (_, deviation) = mean_and_deviation(&memory.last_value);
        close("st_last_msk_value_std", deviation, deviation);
        let wanted = f32s(&self.file, "st_objv_area");
        let queries = wanted.len() / i32s(&self.file, "st_curr_ti").len();
        let width = memory.object_memory.len() / queries;
        for (row, area) in memory
            .object_memory
            .chunks_exact(width)
            .zip(&wanted[i * queries..])
        {
            let got = row[width - 1];
            assert!(
                (got - area).abs() <= 1e-4 * area.abs() + 1e-5,
                "{name}, {what}: area {got}, must be {area}"
            );
        }
        self.step += 1;
    }
}

/// Options that this test knows how to replay; others are told.
fn unknown_option(arguments: &Value) -> Option<String> {
    const KNOWN: [&str; 5] = ["n_warmup", "top_k", "reseed", "mem_every", "max_mem_frames"];
    arguments
        .as_object()?
        .keys()
        .find(|k| !KNOWN.contains(&k.as_str()))
        .cloned()
}

/// The largest difference of alpha; an error where the backend is not here.
fn replay(
    trace: &Trace,
    package: &Package,
    backend: Backend,
    arguments: &Value,
) -> Result<f32, Error> {
    let file = SafeTensors::deserialize(&trace.bytes).unwrap();
    let shape = file.tensor("frames").unwrap().shape().to_vec();
    let (count, height, width) = (shape[0], shape[1], shape[2]);
    let size = (width as u32, height as u32);
    let warm_up = arguments
        .get("n_warmup")
        .and_then(Value::as_u64)
        .unwrap_or(10) as u32;
    let options = Options {
        working_size: Some(size),
        seed: SeedMode::Mask,
        warm_up: Some(warm_up),
        memory_interval: Some(trace.number("mem_every")),
        memory_frames: Some(trace.number("max_mem_frames") - 1),
        lasting_corrections: false,
        refine: Refine::None,
        on_failure: Policy::Error,
        // So that what a provider offers can be tried on the traces.
        provider_options: std::env::var("MATTE_PROVIDER_OPTIONS").ok().map(Into::into),
        ..Options::default()
    };
    let models = ModelSet {
        matting: package.clone(),
        segmentation: None,
    };
    let matter = Matter::open(&models, backend, options, size)?;
    let mut replay = Replay {
        trace,
        file,
        matter,
        size,
        step: 0,
        worst: 0.0,
    };

    let pixels = width * height;
    let frames = replay.file.tensor("frames").unwrap().data().to_vec();
    let frame = |i: usize| {
        Frame::packed(
            PixelFormat::Rgb,
            size.0,
            size.1,
            &frames[i * pixels * 3..],
            width * 3,
        )
        .unwrap()
    };
    let alpha = f32s(&replay.file, "alpha");
    let alpha = |i: usize| &alpha[i * pixels..][..pixels];
    let mask_of = |file: &SafeTensors<'_>, name: &str| file.tensor(name).unwrap().data().to_vec();

    let first = mask_of(&replay.file, "mask");
    let view = Mask::new(size.0, size.1, &first, width).unwrap();
    replay.matter.begin_seed(&frame(0), &view).unwrap();
    replay.check_state("mask");
    let discarded = if warm_up > 0 {
        f32s(&replay.file, "alpha_warmup")
    } else {
        Vec::new()
    };
    for i in 0..=warm_up as usize {
        let what = format!("warm-up {i}");
        replay.matter.refine_seed().unwrap();
        let wanted = discarded
            .chunks_exact(pixels)
            .nth(i)
            .map_or_else(|| alpha(0).to_vec(), <[f32]>::to_vec);
        replay.check_alpha(&wanted, &what);
        replay.check_state(&what);
    }
    let reseeded: Vec<usize> = arguments
        .get("reseed")
        .and_then(Value::as_array)
        .map(|all| all.iter().map(|v| v.as_u64().unwrap() as usize).collect())
        .unwrap_or_default();
    let mut out = vec![0; pixels];
    for i in 1..count {
        let what = format!("frame {i}");
        if reseeded.contains(&i) {
            let mask = mask_of(&replay.file, &format!("reseed_mask_{i}"));
            let view = Mask::new(size.0, size.1, &mask, width).unwrap();
            replay.matter.correct(&frame(i), &view).unwrap();
        } else {
            let mut target = OutputMut::new(
                OutputFormat::Gray8,
                replay.size.0,
                replay.size.1,
                &mut out,
                width,
            )
            .unwrap();
            replay.matter.process(&frame(i), &mut target).unwrap();
            for (byte, wanted) in out.iter().zip(alpha(i)) {
                assert!(
                    (f32::from(*byte) - wanted * 255.0).abs() <= 0.5 + 255.0 * ALPHA,
                    "{}, {what}",
                    trace.name
                );
            }
        }
        replay.check_alpha(alpha(i), &what);
        replay.check_state(&what);
    }
    Ok(replay.worst)
}

#[test]
fn parity_with_the_published_implementation() {
    if let Err(e) = matte_core::runtime::availability(Backend::Cpu) {
        println!("skipped: {e}");
        return;
    }
    let own = root().join("tests/golden");
    let folder = std::env::var_os("MATTE_GOLDEN_DIR").map_or(own, PathBuf::from);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "safetensors"))
        .collect();
    files.sort();
    let softmax = filled(&root().join("models/packages/matanyone2"), "softmax");
    let top_30 = filled(&root().join("tests/data/matanyone2-top30"), "top-30");
    let mut replayed = 0;
    for path in files {
        let Some(trace) = Trace::read(&path) else {
            continue;
        };
        let arguments: Value = serde_json::from_str(trace.text("args")).unwrap();
        if let Some(option) = unknown_option(&arguments) {
            println!(
                "{}: skipped, no counterpart to option `{option}`",
                trace.name
            );
            continue;
        }
        let package = match trace.text("top_k") {
            "None" => &softmax,
            "30" => &top_30,
            other => {
                println!(
                    "{}: skipped, there are graphs for the full softmax and top-30, not top-{other}",
                    trace.name
                );
                continue;
            }
        };
        for backend in [Backend::Cpu, Backend::OpenVino, Backend::Cuda] {
            match replay(&trace, package, backend, &arguments) {
                Ok(worst) => {
                    println!(
                        "{}, {backend}: largest difference of alpha {worst:.1e}",
                        trace.name
                    );
                    replayed += 1;
                }
                // A provider's library may be here and the device, or the driver, not.
                Err(e @ (Error::Backend { .. } | Error::Ort { .. })) if backend != Backend::Cpu => {
                    println!("{}, {backend}: skipped, {e}", trace.name);
                }
                Err(e) => panic!("{}, {backend}: {e}", trace.name),
            }
        }
    }
    assert!(
        replayed > 0,
        "{}: no trace could be replayed",
        folder.display()
    );
}
