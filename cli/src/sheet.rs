//! `matte sheet`: a contact sheet, to look at a result at a glance.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage, RgbaImage};

use crate::video::{Picture, Reader, Want};

/// Space around the pictures, pixels.
const GAP: u32 = 6;
/// Side of a square of the checkerboard, pixels.
const SQUARE: u32 = 12;

/// Draw a contact sheet of a video with alpha: rows frame, alpha, result over a checkerboard; columns over the time.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A video with alpha, or a folder of RGBA images.
    input: PathBuf,
    /// The video before matting, for the first row; without it that row shows the colours of the result.
    #[arg(long)]
    source: Option<PathBuf>,
    /// The sheet, a PNG file.
    #[arg(short, long)]
    output: PathBuf,
    /// Pictures in a row.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    columns: u32,
    /// Width of a picture, pixels.
    #[arg(long, default_value_t = 320, value_parser = clap::value_parser!(u32).range(16..=4096))]
    width: u32,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let total = count(&args.input)?;
    ensure!(total > 0, "{}: no frames in it", args.input.display());
    let columns = u64::from(args.columns).min(total);
    let wanted: Vec<u64> = (0..columns)
        .map(|i| {
            if columns == 1 {
                0
            } else {
                i * (total - 1) / (columns - 1)
            }
        })
        .collect();
    let results = pick(&args.input, &wanted, args.width)?;
    let sources = match &args.source {
        Some(source) => pick(source, &wanted, args.width)?,
        None => results.clone(),
    };
    ensure!(
        sources.len() == results.len(),
        "{}: frame {} is asked for, but there are fewer",
        args.source.as_ref().unwrap_or(&args.input).display(),
        wanted[sources.len().min(wanted.len() - 1)]
    );
    let height = results[0].height();
    let rows = 3;
    let mut sheet = RgbImage::from_pixel(
        GAP + columns as u32 * (args.width + GAP),
        GAP + rows * (height + GAP),
        Rgb([32, 32, 32]),
    );
    for (column, (source, result)) in sources.iter().zip(&results).enumerate() {
        let x = i64::from(GAP + column as u32 * (args.width + GAP));
        let cells = [colours(source), alpha(result), over_checkerboard(result)];
        for (row, cell) in cells.iter().enumerate() {
            imageops::replace(
                &mut sheet,
                cell,
                x,
                i64::from(GAP + row as u32 * (height + GAP)),
            );
        }
    }
    sheet
        .save(&args.output)
        .with_context(|| args.output.display().to_string())
}

fn count(path: &Path) -> Result<u64> {
    let mut reader = Reader::open(path, Want::Rgba)?;
    let mut frames = 0;
    while reader.read()?.is_some() {
        frames += 1;
    }
    Ok(frames)
}

/// The frames of these ascending numbers, scaled; fewer when the video ends before.
fn pick(path: &Path, wanted: &[u64], width: u32) -> Result<Vec<RgbaImage>> {
    let mut reader = Reader::open(path, Want::Rgba)?;
    let mut picked = Vec::with_capacity(wanted.len());
    let mut number = 0;
    while picked.len() < wanted.len() {
        let Some(picture) = reader.read()? else { break };
        if wanted[picked.len()] == number {
            picked.push(scaled(&picture, width)?);
        }
        number += 1;
    }
    Ok(picked)
}

fn scaled(picture: &Picture, width: u32) -> Result<RgbaImage> {
    let (w, h) = picture.size();
    let full = RgbaImage::from_raw(w, h, picture.rgba()?).context("a frame of the wrong size")?;
    let height = ((u64::from(h) * u64::from(width)) as f64 / f64::from(w))
        .round()
        .max(1.0) as u32;
    Ok(imageops::resize(&full, width, height, FilterType::Triangle))
}

fn colours(picture: &RgbaImage) -> RgbImage {
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let [r, g, b, _] = picture.get_pixel(x, y).0;
        Rgb([r, g, b])
    })
}

fn alpha(picture: &RgbaImage) -> RgbImage {
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        Rgb([picture.get_pixel(x, y).0[3]; 3])
    })
}

fn over_checkerboard(picture: &RgbaImage) -> RgbImage {
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let [r, g, b, a] = picture.get_pixel(x, y).0.map(u32::from);
        let board = if (x / SQUARE + y / SQUARE).is_multiple_of(2) {
            200
        } else {
            140
        };
        Rgb([r, g, b].map(|colour| ((colour * a + board * (255 - a) + 127) / 255) as u8))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sheet_has_three_rows() {
        let dir = tempfile::tempdir().unwrap();
        for i in 0..4_u8 {
            let frame = RgbaImage::from_pixel(64, 32, image::Rgba([255, 0, 0, i * 85]));
            frame.save(dir.path().join(format!("{i:06}.png"))).unwrap();
        }
        let output = dir.path().join("out").with_extension("sheet.png");
        let args = Args {
            input: dir.path().to_owned(),
            source: None,
            output,
            columns: 2,
            width: 32,
        };
        run(&args).unwrap();
        let sheet = image::open(&args.output).unwrap().into_rgb8();
        assert_eq!(sheet.dimensions(), (6 + 2 * 38, 6 + 3 * 22));
        // First and last frame: transparent and opaque, over the board and not.
        assert_eq!(sheet.get_pixel(10, 40).0, [0; 3]);
        assert_eq!(sheet.get_pixel(50, 40).0, [255; 3]);
        assert_eq!(sheet.get_pixel(10, 54).0, [200; 3]);
        assert_eq!(sheet.get_pixel(50, 54).0, [255, 0, 0]);
    }
}
