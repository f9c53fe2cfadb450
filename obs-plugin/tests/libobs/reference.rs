//! Clips with a true alpha, and what the engine alone makes of them.

use std::path::{Path, PathBuf};
use std::process::Command;

use matte_core::{Backend, Frame, Matter, ModelSet, Options, OutputFormat, OutputMut, PixelFormat};

use crate::ffi::Picture;

/// A clip, decoded.
pub(crate) struct Clip {
    size: (u32, u32),
    rgba: Vec<u8>,
    alpha: Vec<u8>,
    folder: tempfile::TempDir,
}

/// Decodes a video into raw frames.
fn decode(
    file: &Path,
    format: &str,
    (width, height): (u32, u32),
    frames: usize,
    out: &Path,
) -> bool {
    Command::new("gst-launch-1.0")
        .args(["-q", "filesrc"])
        .arg(format!("location={}", file.display()))
        .args([
            "!",
            "decodebin",
            "!",
            "videoconvert",
            "!",
            "videoscale",
            "!",
        ])
        .arg(format!(
            "video/x-raw,format={format},width={width},height={height}"
        ))
        .args(["!", "identity"])
        .arg(format!("eos-after={}", frames + 1))
        .args(["!", "filesink"])
        .arg(format!("location={}", out.display()))
        .status()
        .is_ok_and(|s| s.success())
}

impl Clip {
    /// Reads the first frames of a clip of the shared media; `None`, with the reason printed, where it is not there.
    pub(crate) fn read(name: &str, size: (u32, u32), frames: usize) -> Option<Self> {
        let shared = std::env::var_os("MATTE_SHARED").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
            PathBuf::from,
        );
        let clip = shared.join("media").join(name);
        if !clip.is_dir() {
            println!(
                "  skipped: {} does not exist; MATTE_SHARED names the folder of the shared media",
                clip.display()
            );
            return None;
        }
        if !ModelSet::find("lite").is_ok_and(|set| set.segmentation.is_some()) {
            println!(
                "  skipped: the person segmentation is not installed; `cargo xtask setup` installs it"
            );
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let (video, truth) = (folder.path().join("rgba"), folder.path().join("alpha"));
        assert!(
            decode(&clip.join("video.mp4"), "RGBA", size, frames, &video),
            "the clip is decoded"
        );
        assert!(
            decode(&clip.join("alpha.mkv"), "GRAY8", size, frames, &truth),
            "its alpha is decoded"
        );
        let (mut rgba, mut alpha) = (
            std::fs::read(video).expect("frames"),
            std::fs::read(truth).expect("frames"),
        );
        let pixels = size.0 as usize * size.1 as usize;
        // The decoders run ahead of the element that ends the stream.
        rgba.truncate(pixels * 4 * frames);
        alpha.truncate(pixels * frames);
        assert_eq!(rgba.len() / 4, alpha.len());
        assert!(alpha.len() >= pixels * frames.min(10));
        Some(Self {
            size,
            rgba,
            alpha,
            folder,
        })
    }

    pub(crate) fn frames(&self) -> Vec<Picture> {
        let (width, height) = self.size;
        self.rgba
            .chunks_exact(width as usize * height as usize * 4)
            .map(|data| Picture {
                width,
                height,
                data: data.to_vec(),
                space: 0,
            })
            .collect()
    }

    /// True alpha of a frame.
    pub(crate) fn truth(&self, frame: usize) -> &[u8] {
        let pixels = self.size.0 as usize * self.size.1 as usize;
        &self.alpha[frame * pixels..][..pixels]
    }

    /// What `matte run` makes of the clip: in a process of its own, because the plugin has its own copy of ONNX Runtime's
    /// environment in this one.
    pub(crate) fn matte_with_the_engine(&self) -> Vec<Vec<u8>> {
        let (input, output) = (
            self.folder.path().join("rgba"),
            self.folder.path().join("matte"),
        );
        let program = std::env::current_exe().expect("this program has a file");
        let done = Command::new(program)
            .arg("--reference")
            .args([&input, &output])
            .args([self.size.0.to_string(), self.size.1.to_string()])
            .status();
        assert!(
            done.is_ok_and(|s| s.success()),
            "the engine mattes the clip"
        );
        let pixels = self.size.0 as usize * self.size.1 as usize;
        std::fs::read(output)
            .expect("mattes")
            .chunks_exact(pixels)
            .map(<[u8]>::to_vec)
            .collect()
    }
}

/// The process of its own: arguments input, output, width, height.
pub(crate) fn main(args: &[String]) {
    let [input, output, width, height] = args else {
        panic!("--reference INPUT OUTPUT WIDTH HEIGHT");
    };
    let (width, height): (u32, u32) = (
        width.parse().expect("width"),
        height.parse().expect("height"),
    );
    let models = ModelSet::find("lite").expect("the model is there");
    let mut matter = Matter::open(&models, Backend::Cpu, Options::default(), (width, height))
        .expect("the engine opens");
    let (row, pixels) = (width as usize, width as usize * height as usize);
    let mut all = Vec::new();
    for data in std::fs::read(input)
        .expect("frames")
        .chunks_exact(pixels * 4)
    {
        let frame =
            Frame::packed(PixelFormat::Rgba, width, height, data, row * 4).expect("a frame");
        let mut matte = vec![0; pixels];
        let mut out =
            OutputMut::new(OutputFormat::Gray8, width, height, &mut matte, row).expect("an output");
        matter
            .process(&frame, &mut out)
            .expect("the frame is matted");
        all.extend_from_slice(&matte);
    }
    std::fs::write(output, all).expect("mattes are written");
}
