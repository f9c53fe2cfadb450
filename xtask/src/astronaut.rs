//! The clip of the demonstration: a moving camera over the portrait of the astronaut Eileen Collins (NASA, public
//! domain), as it lies in scikit-image's wheel.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use image::RgbImage;

const WIDTH: u32 = 1280;
const HEIGHT: u32 = 720;
const FRAMES: u32 = 150;
const FRAMES_A_SECOND: u32 = 30;

/// Part of the photograph that the camera sees: the middle and the width, in its pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
struct View {
    x: f32,
    y: f32,
    width: f32,
}

/// From head and shoulders with the room around them to the head alone, with the tremble of a hand.
fn view(frame: u32) -> View {
    let t = frame as f32 / (FRAMES - 1) as f32;
    let ease = t * t * (3.0 - 2.0 * t);
    let tremble = |period: f32| (frame as f32 / period).sin();
    View {
        x: 262.0 - 28.0 * ease + 2.0 * tremble(7.0),
        y: 150.0 - 40.0 * ease + 1.5 * tremble(5.3),
        width: 490.0 - 150.0 * ease,
    }
}

/// Encodes the clip.
pub(crate) fn write_clip(photograph: &Path, clip: &Path) -> Result<()> {
    let photograph = image::open(photograph)
        .with_context(|| photograph.display().to_string())?
        .into_rgb8();
    let mut encoder = Command::new("gst-launch-1.0");
    encoder.args(["-q", "fdsrc", "fd=0", "!", "rawvideoparse", "format=rgb"]);
    encoder.args([
        format!("width={WIDTH}"),
        format!("height={HEIGHT}"),
        format!("framerate={FRAMES_A_SECOND}/1"),
    ]);
    encoder.args(
        "! videoconvert ! x264enc speed-preset=veryfast quantizer=18 pass=quant ! h264parse"
            .split(' '),
    );
    encoder
        .args(["!", "mp4mux", "!", "filesink"])
        .arg(format!("location={}", clip.display()));
    let mut child = encoder
        .stdin(Stdio::piped())
        .spawn()
        .context("gst-launch-1.0")?;
    let mut pipe = child.stdin.take().context("a pipe to gst-launch-1.0")?;
    let mut row = vec![0; WIDTH as usize * 3];
    let mut frame = Vec::with_capacity((WIDTH * HEIGHT * 3) as usize);
    for number in 0..FRAMES {
        frame.clear();
        for y in 0..HEIGHT {
            draw_row(&photograph, view(number), y, &mut row);
            frame.extend_from_slice(&row);
        }
        pipe.write_all(&frame)
            .context("gst-launch-1.0 takes no more frames")?;
    }
    drop(pipe);
    let status = child.wait()?;
    ensure!(status.success(), "gst-launch-1.0: {status}");
    Ok(())
}

/// One row of the picture that the camera sees, bilinear; the photograph's border is replicated.
fn draw_row(photograph: &RgbImage, view: View, y: u32, row: &mut [u8]) {
    let scale = view.width / WIDTH as f32;
    let at = |x: i64, y: i64| {
        let x = x.clamp(0, i64::from(photograph.width()) - 1) as u32;
        let y = y.clamp(0, i64::from(photograph.height()) - 1) as u32;
        photograph.get_pixel(x, y).0.map(f32::from)
    };
    let source_y = view.y + (y as f32 + 0.5 - HEIGHT as f32 / 2.0) * scale - 0.5;
    let (y0, fy) = (source_y.floor(), source_y - source_y.floor());
    for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
        let source_x = view.x + (x as f32 + 0.5 - WIDTH as f32 / 2.0) * scale - 0.5;
        let (x0, fx) = (source_x.floor(), source_x - source_x.floor());
        let (left, top) = (x0 as i64, y0 as i64);
        let corners = [
            at(left, top),
            at(left + 1, top),
            at(left, top + 1),
            at(left + 1, top + 1),
        ];
        for (channel, out) in pixel.iter_mut().enumerate() {
            let [a, b, c, d] = corners.map(|corner| corner[channel]);
            let (upper, lower) = (a + (b - a) * fx, c + (d - c) * fx);
            *out = (upper + (lower - upper) * fy).round() as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_camera_stays_within_a_photograph_of_512() {
        for frame in 0..FRAMES {
            let View { x, y, width } = view(frame);
            let height = width * HEIGHT as f32 / WIDTH as f32;
            assert!(
                x - width / 2.0 >= 0.0 && x + width / 2.0 <= 512.0,
                "frame {frame}: {x} ± {width}/2"
            );
            assert!(
                y - height / 2.0 >= 0.0 && y + height / 2.0 <= 512.0,
                "frame {frame}: {y} ± {height}/2"
            );
        }
    }

    #[test]
    fn a_photograph_of_one_colour_stays_so() {
        let photograph = RgbImage::from_pixel(512, 512, image::Rgb([10, 200, 30]));
        let mut row = vec![0; WIDTH as usize * 3];
        draw_row(&photograph, view(75), 0, &mut row);
        assert!(row.chunks_exact(3).all(|pixel| pixel == [10, 200, 30]));
    }
}
