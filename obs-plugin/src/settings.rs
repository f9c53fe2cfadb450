//! What the user sets.

use std::ffi::CStr;
use std::path::PathBuf;

use matte_core::{Backend, Options, Refine, Region, SeedMode};

use crate::ffi::Data;

/// Names under which OBS keeps the settings. They are part of the interface: scene collections and the websocket use
/// them.
pub(crate) mod keys {
    use std::ffi::CStr;

    pub(crate) const VERSION: &CStr = c"version";
    pub(crate) const MODE: &CStr = c"mode";
    pub(crate) const VIEW: &CStr = c"view";
    pub(crate) const BACKGROUND: &CStr = c"background";
    pub(crate) const BACKGROUND_COLOUR: &CStr = c"background_colour";
    pub(crate) const BACKGROUND_BLUR: &CStr = c"background_blur";
    pub(crate) const BEFORE_SEED: &CStr = c"before_seed";
    pub(crate) const ON_FAILURE: &CStr = c"on_failure";
    pub(crate) const SEED: &CStr = c"seed";
    pub(crate) const MASK_FILE: &CStr = c"mask_file";
    pub(crate) const MASK_ERODE: &CStr = c"mask_erode";
    pub(crate) const MASK_DILATE: &CStr = c"mask_dilate";
    pub(crate) const REFINE: &CStr = c"refine";
    pub(crate) const EDGE_SHIFT: &CStr = c"edge_shift";
    pub(crate) const EDGE_SOFTNESS: &CStr = c"edge_softness";
    pub(crate) const TEMPORAL_SMOOTHING: &CStr = c"temporal_smoothing";
    pub(crate) const REGION: &CStr = c"region";
    pub(crate) const DRIFT_REPAIR: &CStr = c"drift_repair";
    pub(crate) const MODEL: &CStr = c"model";
    pub(crate) const BACKEND: &CStr = c"backend";
    pub(crate) const WORKING_SIZE: &CStr = c"working_size";
    pub(crate) const THREADS: &CStr = c"threads";
    pub(crate) const MAX_REFERENCES: &CStr = c"max_references";
    pub(crate) const MEMORY_INTERVAL: &CStr = c"memory_interval";
    pub(crate) const MEMORY_FRAMES: &CStr = c"memory_frames";
}

/// A choice among a few words.
pub(crate) trait Choice: Copy + PartialEq + 'static {
    /// Every choice with the word under which it is stored, the default first.
    const WORDS: &'static [(Self, &'static str)];

    /// The choice for a stored word; the default, and a line in the log, for one that is unknown.
    fn of(word: &str, setting: &CStr) -> Self {
        if let Some((choice, _)) = Self::WORDS.iter().find(|(_, w)| *w == word) {
            return *choice;
        }
        log::warn!(
            "setting {}: {word:?} is none of {:?}; {:?} is used",
            setting.to_string_lossy(),
            Self::WORDS.iter().map(|(_, w)| *w).collect::<Vec<_>>(),
            Self::WORDS[0].1
        );
        Self::WORDS[0].0
    }
}

macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $name { $($(#[$variant_doc])* $variant),+ }

        impl Choice for $name {
            const WORDS: &'static [(Self, &'static str)] = &[$((Self::$variant, $word)),+];
        }
    };
}

choice!(
    /// Which matte a frame is drawn with.
    Mode {
        /// The newest one, brought onto the picture of now: no delay is added.
        Low = "low",
        /// Its own: the picture is delayed until its matte is there.
        Aligned = "aligned",
    }
);
choice!(
    /// What is drawn.
    View {
        /// The target over the background.
        Result = "result",
        /// The matte in grey.
        Matte = "matte",
        /// The target over a checkerboard.
        Checkerboard = "checkerboard",
    }
);
choice!(
    /// What is behind the target.
    Background {
        /// Nothing: what lies below in the scene is seen.
        Transparent = "transparent",
        /// The picture itself, blurred, without the target.
        Blur = "blur",
        /// One colour.
        Colour = "colour",
    }
);
choice!(
    /// What is shown without a matte.
    Policy {
        /// Nothing of the picture.
        Hide = "hide",
        /// The picture as it is, with the room.
        Show = "show",
    }
);
choice!(
    /// Where the first mask comes from.
    Seed {
        /// A person is found in the picture.
        Automatic = "automatic",
        /// A picture of it.
        MaskFile = "mask",
        /// What is in the middle of the picture when asked.
        Middle = "middle",
    }
);

impl Choice for Region {
    const WORDS: &'static [(Self, &'static str)] =
        &[(Self::Frame, "frame"), (Self::Target, "target")];
}

/// Drawing: it takes effect with the next frame and costs nothing to change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Drawing {
    pub(crate) mode: Mode,
    pub(crate) view: View,
    pub(crate) background: Background,
    /// Red, green, blue, encoded, 0 to 1.
    pub(crate) background_colour: [f32; 3],
    /// Standard deviation in twentieths of the picture's longer side, 0.05 to 1.
    pub(crate) background_blur: f32,
    pub(crate) before_seed: Policy,
    pub(crate) on_failure: Policy,
    pub(crate) refine: bool,
    /// Pixels of the picture, −20 to 20; outwards where positive.
    pub(crate) edge_shift: f32,
    /// Pixels of the picture, 0 to 20.
    pub(crate) edge_softness: f32,
}

impl Drawing {
    /// Whether the matte is drawn as it is, with no edge moved or softened.
    pub(crate) fn keeps_edges(&self) -> bool {
        self.refine && self.edge_shift == 0.0 && self.edge_softness == 0.0
    }
}

/// What the worker needs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Engine {
    pub(crate) model: String,
    pub(crate) backend: Backend,
    /// Longer side at which the network sees the picture, pixels; the package's own size where `None`.
    pub(crate) working_side: Option<u32>,
    pub(crate) seed: Seed,
    pub(crate) mask_file: Option<PathBuf>,
    /// Everything else that the engine takes.
    pub(crate) options: Options,
}

/// All settings.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    pub(crate) drawing: Drawing,
    pub(crate) engine: Engine,
}

/// The format of the settings. A change of a name or a meaning raises it and adds a step to [`migrate`].
const VERSION: i64 = 1;

/// Package that is used when none is chosen.
pub(crate) const DEFAULT_MODEL: &str = "lite";
/// Word for the package's own working size.
pub(crate) const AUTOMATIC_SIZE: &str = "auto";
/// Working sizes that are offered: longer side, pixels.
pub(crate) const WORKING_SIDES: [u32; 6] = [256, 384, 512, 640, 768, 1024];

/// How much larger than the working size pictures are that a window may be taken of, or whose edges are drawn anew. What is
/// read back grows with its square.
const GAIN: u32 = 2;

/// Range of an edge setting, pixels.
pub(crate) const EDGE_SHIFT: (f64, f64) = (-20.0, 20.0);
/// As above.
pub(crate) const EDGE_SOFTNESS: (f64, f64) = (0.0, 20.0);
/// Share of the matte before that stays where nothing moves.
pub(crate) const TEMPORAL_SMOOTHING: (f64, f64) = (0.0, 1.0);
/// Range of the blur.
pub(crate) const BLUR: (f64, f64) = (0.05, 1.0);

/// Range of one of the engine's numeric options.
pub(crate) fn range(option: &str) -> (i32, i32) {
    Options::RANGES
        .iter()
        .find(|(name, ..)| *name == option)
        .map_or((0, 0), |(_, low, high)| (*low as i32, *high as i32))
}

/// Room for references: a hotkey should work without going to the settings first.
const DEFAULT_REFERENCES: u32 = 1;

/// Gives OBS the defaults. With them a person is cut out without anything being set.
pub(crate) fn defaults(data: &Data<'_>) {
    fn word<C: Choice>() -> &'static str {
        C::WORDS[0].1
    }
    let options = Options::default();
    data.default_string(keys::MODE, word::<Mode>());
    data.default_string(keys::VIEW, word::<View>());
    data.default_string(keys::BACKGROUND, word::<Background>());
    // OBS writes colours as 0xAABBGGRR.
    data.default_int(keys::BACKGROUND_COLOUR, 0xFF40_B100);
    data.default_double(keys::BACKGROUND_BLUR, 0.3);
    data.default_string(keys::BEFORE_SEED, word::<Policy>());
    data.default_string(keys::ON_FAILURE, word::<Policy>());
    data.default_string(keys::SEED, word::<Seed>());
    data.default_string(keys::REGION, word::<Region>());
    data.default_int(keys::MASK_ERODE, i64::from(options.mask_erode));
    data.default_int(keys::MASK_DILATE, i64::from(options.mask_dilate));
    data.default_bool(keys::REFINE, true);
    data.default_double(keys::EDGE_SHIFT, 0.0);
    data.default_double(keys::EDGE_SOFTNESS, 0.0);
    data.default_double(
        keys::TEMPORAL_SMOOTHING,
        f64::from(options.temporal_smoothing),
    );
    // A stream runs for hours, and nobody watches the matte.
    data.default_bool(keys::DRIFT_REPAIR, true);
    data.default_string(keys::MODEL, DEFAULT_MODEL);
    data.default_string(keys::BACKEND, Backend::default().name());
    data.default_string(keys::WORKING_SIZE, AUTOMATIC_SIZE);
    data.default_int(keys::THREADS, i64::from(options.threads));
    data.default_int(keys::MAX_REFERENCES, i64::from(DEFAULT_REFERENCES));
    data.default_int(keys::MEMORY_INTERVAL, 0);
    data.default_int(keys::MEMORY_FRAMES, 0);
}

/// Brings settings that an older version saved to the format of this one, and marks them with it.
pub(crate) fn migrate(data: &Data<'_>) {
    if data.is_set(keys::VERSION) {
        let saved = data.int(keys::VERSION);
        if saved > VERSION {
            log::warn!(
                "the settings were saved by a newer version (format {saved}, this one knows {VERSION}): what it does \
                 not know is left alone"
            );
            return;
        }
    }
    data.set_int(keys::VERSION, VERSION);
}

/// A number within its range; the nearest one, and a line in the log, for one that is not.
fn within(data: &Data<'_>, key: &CStr, (low, high): (f64, f64)) -> f32 {
    let value = data.double(key);
    let kept = if value.is_finite() {
        value.clamp(low, high)
    } else {
        low
    };
    if (kept - value).abs() > f64::EPSILON || !value.is_finite() {
        log::warn!(
            "setting {}: {value}, but it must be from {low} to {high}; {kept} is used",
            key.to_string_lossy()
        );
    }
    kept as f32
}

fn option(data: &Data<'_>, key: &CStr) -> u32 {
    let name = key.to_str().unwrap_or_default();
    let (low, high) = range(name);
    // 0 stands for the package's own value where the engine has no 0.
    within(data, key, (f64::from(low.min(0)), f64::from(high))) as u32
}

fn working_side(word: &str) -> Option<u32> {
    if word == AUTOMATIC_SIZE {
        return None;
    }
    let side = word.parse().ok().filter(|side| (64..=2048).contains(side));
    if side.is_none() {
        log::warn!(
            "setting working_size: {word:?} is neither {AUTOMATIC_SIZE:?} nor a side of 64 to 2048 pixels"
        );
    }
    side
}

impl Settings {
    /// Reads all settings; what is out of range is put right and logged.
    pub(crate) fn read(data: &Data<'_>) -> Self {
        fn choice<C: Choice>(data: &Data<'_>, key: &CStr) -> C {
            C::of(&data.string(key), key)
        }
        let colour = data.int(keys::BACKGROUND_COLOUR) as u32;
        let channel = |shift: u32| ((colour >> shift) & 255) as f32 / 255.0;
        let seed = choice(data, keys::SEED);
        let region = choice(data, keys::REGION);
        let mode = choice(data, keys::MODE);
        let temporal_smoothing = within(data, keys::TEMPORAL_SMOOTHING, TEMPORAL_SMOOTHING);
        let backend = data.string(keys::BACKEND);
        let mask_file = data.string(keys::MASK_FILE);
        let model = data.string(keys::MODEL);
        Self {
            drawing: Drawing {
                mode,
                view: choice(data, keys::VIEW),
                background: choice(data, keys::BACKGROUND),
                background_colour: [channel(0), channel(8), channel(16)],
                background_blur: within(data, keys::BACKGROUND_BLUR, BLUR),
                before_seed: choice(data, keys::BEFORE_SEED),
                on_failure: choice(data, keys::ON_FAILURE),
                refine: data.bool(keys::REFINE),
                edge_shift: within(data, keys::EDGE_SHIFT, EDGE_SHIFT),
                edge_softness: within(data, keys::EDGE_SOFTNESS, EDGE_SOFTNESS),
            },
            engine: Engine {
                model: if model.is_empty() {
                    DEFAULT_MODEL.to_owned()
                } else {
                    model
                },
                backend: backend.parse().unwrap_or_else(|e| {
                    log::warn!("{e}; auto is used");
                    Backend::Auto
                }),
                working_side: working_side(&data.string(keys::WORKING_SIZE)),
                seed,
                mask_file: Some(PathBuf::from(mask_file))
                    .filter(|file| !file.as_os_str().is_empty()),
                options: Options {
                    seed: match seed {
                        Seed::Automatic => SeedMode::Auto,
                        Seed::MaskFile | Seed::Middle => SeedMode::Mask,
                    },
                    mask_erode: option(data, keys::MASK_ERODE),
                    mask_dilate: option(data, keys::MASK_DILATE),
                    memory_interval: Some(option(data, keys::MEMORY_INTERVAL)).filter(|n| *n > 0),
                    memory_frames: Some(option(data, keys::MEMORY_FRAMES)).filter(|n| *n > 0),
                    max_references: option(data, keys::MAX_REFERENCES),
                    threads: option(data, keys::THREADS),
                    temporal_smoothing,
                    drift_repair: data.bool(keys::DRIFT_REPAIR),
                    region,
                    // Where what is matted has the working size already, the shader alone brings it to full size. A picture
                    // that is newer than its matte has other edges than those that the engine would draw.
                    refine: match (mode, data.bool(keys::REFINE), region) {
                        (Mode::Aligned, true, _) if temporal_smoothing == 0.0 => Refine::Auto,
                        (_, _, Region::Frame) => Refine::None,
                        (_, _, Region::Target) => Refine::Guided,
                    },
                    ..Options::default()
                },
            },
        }
    }
}

impl Engine {
    /// The size at which the network is to see a picture, if the user chose one: the longer side as chosen, but never
    /// more than the picture's, the aspect ratio kept in multiples of 16.
    pub(crate) fn working_size(&self, (width, height): (u32, u32)) -> Option<(u32, u32)> {
        let longer = width.max(height).max(1);
        let side = self.working_side?.min(longer);
        let scaled = |v: u32| {
            ((f64::from(v) * f64::from(side) / f64::from(longer) / 16.0).round() as u32).max(1) * 16
        };
        Some((scaled(width), scaled(height)))
    }

    /// The size of the pictures that the worker gets, where the network sees the whole of one at `working`: that, and larger
    /// where a window of it may be looked at more closely, or where edges are drawn anew, but never beyond the source.
    pub(crate) fn picture_size(
        &self,
        source: (u32, u32),
        working: (u32, u32),
        draws_detail: bool,
    ) -> (u32, u32) {
        let share = |source: u32, working: u32| f64::from(source) / f64::from(working.max(1));
        let larger = share(source.0, working.0).min(share(source.1, working.1));
        if (self.options.region == Region::Frame && !draws_detail) || larger <= 1.0 {
            working
        } else if larger < f64::from(GAIN) {
            source
        } else {
            (working.0 * GAIN, working.1 * GAIN)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(side: Option<u32>) -> Engine {
        Engine {
            model: DEFAULT_MODEL.to_owned(),
            backend: Backend::Auto,
            working_side: side,
            seed: Seed::Automatic,
            mask_file: None,
            options: Options::default(),
        }
    }

    #[test]
    fn a_chosen_side_keeps_the_aspect_ratio() {
        assert_eq!(engine(None).working_size((1920, 1080)), None);
        assert_eq!(
            engine(Some(512)).working_size((1920, 1080)),
            Some((512, 288))
        );
        assert_eq!(
            engine(Some(512)).working_size((1080, 1920)),
            Some((288, 512))
        );
        assert_eq!(
            engine(Some(1024)).working_size((640, 360)),
            Some((640, 368))
        );
        assert_eq!(engine(Some(256)).working_size((5000, 10)), Some((256, 16)));
    }

    #[test]
    fn windows_and_edges_need_larger_pictures_but_not_larger_than_the_source() {
        let mut engine = engine(None);
        assert_eq!(
            engine.picture_size((1920, 1080), (544, 304), false),
            (544, 304),
            "the whole frame"
        );
        for (source, wanted) in [
            ((1920, 1080), (1280, 736)),
            ((1280, 720), (1280, 720)),
            ((640, 360), (640, 368)),
        ] {
            let got = engine.picture_size(source, (640, 368), true);
            assert_eq!(got, wanted, "{source:?}, edges drawn anew");
        }
        engine.options.region = Region::Target;
        for (source, wanted) in [
            ((1920, 1080), (1088, 608)),
            ((1280, 720), (1088, 608)),
            ((640, 360), (640, 360)),
            ((320, 180), (544, 304)),
            ((0, 0), (544, 304)),
        ] {
            assert_eq!(
                engine.picture_size(source, (544, 304), false),
                wanted,
                "{source:?}"
            );
        }
    }

    #[test]
    fn the_default_of_every_choice_is_the_safe_one() {
        assert_eq!(Policy::of("hide", c"before_seed"), Policy::Hide);
        assert_eq!(Policy::of("nonsense", c"before_seed"), Policy::Hide);
        assert_eq!(Background::of("", c"background"), Background::Transparent);
    }

    #[test]
    fn working_sides_that_are_offered_are_taken() {
        for side in WORKING_SIDES {
            assert_eq!(working_side(&side.to_string()), Some(side));
        }
        assert_eq!(working_side(AUTOMATIC_SIZE), None);
        assert_eq!(working_side("9999"), None);
    }
}
