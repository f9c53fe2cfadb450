//! What the user may set.

use crate::error::{Error, Result};

/// Where the first mask comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SeedMode {
    /// A person segmentation finds it, as soon as a person is there.
    #[default]
    Auto,
    /// The caller gives one with [`Matter::seed`](crate::Matter::seed).
    Mask,
    /// There is none; nothing is matted.
    None,
}

/// What a frame shows while there is no matte for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// Nothing: alpha 0 and black everywhere. The room is never shown by surprise.
    #[default]
    Transparent,
    /// The frame as it is, opaque. It shows the room.
    PassThrough,
    /// An error, so that the caller decides.
    Error,
}

/// How the matte gets from the working size to the size of the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Refine {
    /// Bilinear interpolation.
    None,
    /// Fast guided filter (He and Sun 2015) with the luma of the full-size frame as guide: edges of the matte follow
    /// the edges of the picture.
    #[default]
    Guided,
}

/// Options of a [`Matter`](crate::Matter). `None` takes what the model package recommends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Width and height at which the network sees the frame, pixels, from 16 to the package's limit. The frame is
    /// scaled to exactly this and padded to multiples of 16. Default: an area as the package recommends it, with the
    /// aspect ratio of the frame; never more than the frame.
    pub working_size: Option<(u32, u32)>,
    /// Where the first mask comes from.
    pub seed: SeedMode,
    /// Refinements of the first frame after a mask has been given, 0 to 100: one more prediction than this is made.
    pub warm_up: Option<u32>,
    /// Erosion of a given mask in working-size pixels, 0 to 64; 0 leaves it as it is. Otherwise only mask pixels of
    /// exactly 255 count.
    pub mask_erode: u32,
    /// Dilation of a given mask, before the erosion, in working-size pixels, 0 to 64; 0 leaves it as it is. Otherwise
    /// every mask pixel above 0 counts.
    pub mask_dilate: u32,
    /// A frame is stored in the memory bank every so many frames, 1 to 1000.
    pub memory_interval: Option<u32>,
    /// Temporary frames that the memory bank holds, beside the permanent first one, 1 to 64. Each costs time.
    pub memory_frames: Option<u32>,
    /// Slots reserved for reference frames, 0 to 64. Each costs time, also while it is empty.
    pub max_references: u32,
    /// Use the person segmentation of every frame as a hint, where the package takes one and the segmentation is
    /// there.
    pub prior: bool,
    /// Threads of the CPU backend, 0 to 256. 0 takes the pool that all engines of the process share, with a thread for
    /// every core; any other number gives this engine threads of its own.
    pub threads: u32,
    /// How the matte gets to the size of the frame.
    pub refine: Refine,
    /// What a frame shows before there is a target.
    pub before_seed: Policy,
    /// What a frame shows when the network fails.
    pub on_failure: Policy,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            working_size: None,
            seed: SeedMode::default(),
            warm_up: None,
            mask_erode: 0,
            mask_dilate: 0,
            memory_interval: None,
            memory_frames: None,
            max_references: 0,
            prior: true,
            threads: 0,
            refine: Refine::default(),
            before_seed: Policy::default(),
            on_failure: Policy::default(),
        }
    }
}

impl Options {
    /// Ranges of the numeric options, in the order `(name, lowest, highest)`; adapters take theirs from here.
    pub const RANGES: [(&'static str, u32, u32); 7] = [
        ("warm_up", 0, 100),
        ("mask_erode", 0, 64),
        ("mask_dilate", 0, 64),
        ("memory_interval", 1, 1000),
        ("memory_frames", 1, 64),
        ("max_references", 0, 64),
        ("threads", 0, 256),
    ];

    /// Checks every option against its range.
    ///
    /// # Errors
    /// [`Error::Option`] that names the first one outside its range.
    pub fn validate(&self) -> Result<()> {
        let values = [
            self.warm_up,
            Some(self.mask_erode),
            Some(self.mask_dilate),
            self.memory_interval,
            self.memory_frames,
            Some(self.max_references),
            Some(self.threads),
        ];
        for ((option, low, high), value) in Self::RANGES.into_iter().zip(values) {
            if let Some(value) = value.filter(|v| !(low..=high).contains(v)) {
                return Err(Error::Option {
                    option,
                    value: value.to_string(),
                    limit: format!("it must be from {low} to {high}"),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        Options::default().validate().unwrap();
    }

    #[test]
    fn an_option_outside_its_range_is_named() {
        let options = Options {
            memory_interval: Some(0),
            ..Options::default()
        };
        assert_eq!(
            options.validate().unwrap_err().to_string(),
            "option memory_interval: 0, but it must be from 1 to 1000"
        );
    }
}
