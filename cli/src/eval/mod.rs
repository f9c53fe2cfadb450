//! `matte eval`: how far a prediction is from the true alpha.

pub(crate) mod composite;
mod metrics;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use crate::video::{Reader, Want, image_files, name_of};
use metrics::{FrameScore, Plane};

/// Compare predicted alpha with the true one.
///
/// Each of PRED and GT is a video, a folder of images, or a folder of clips. A clip is a video (`syn01.mkv`) or a folder
/// (`syn01/`) with images or an `alpha.*` video; clips are matched by name. The alpha channel is compared where there
/// is one, otherwise the luma.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Predicted alpha.
    pred: PathBuf,
    /// True alpha.
    gt: PathBuf,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// Scores of a clip: means over its frames.
#[derive(Clone, Debug, Default, Serialize)]
struct ClipScore {
    clip: String,
    frames: usize,
    /// × 10³.
    mad: f64,
    /// × 10³.
    mse: f64,
    /// / 1000.
    grad: f64,
    /// / 1000.
    conn: f64,
    /// × 10²; the first frame counts as 0.
    dtssd: f64,
    /// × 10³, in the unknown band; over the frames that have one.
    mad_t: Option<f64>,
    /// × 10³, outside the unknown band.
    mad_core: Option<f64>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let clips = clips(&args.pred, &args.gt)?;
    let mut scores = Vec::with_capacity(clips.len());
    for (name, pred, gt) in &clips {
        scores.push(score_clip(name, pred, gt).with_context(|| format!("clip {name}"))?);
    }
    if scores.len() > 1 {
        scores.push(mean_of(&scores));
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&scores)?);
    } else {
        print!("{}", table(&scores));
    }
    Ok(())
}

/// Name, prediction and truth of every clip.
fn clips(pred: &Path, gt: &Path) -> Result<Vec<(String, PathBuf, PathBuf)>> {
    let name = |path: &Path| name_of(path).unwrap_or_default();
    if let (Some(pred), Some(truth)) = (pictures(pred)?, pictures(gt)?) {
        return Ok(vec![(name(gt), pred, truth)]);
    }
    ensure!(
        pred.is_dir() && gt.is_dir(),
        "{} and {} must both be clips, or both be folders of clips",
        pred.display(),
        gt.display()
    );
    let mut clips: Vec<(String, PathBuf, PathBuf)> = Vec::new();
    for truth in entries(gt)? {
        let name = name(&truth);
        if !is_clip(&truth) {
            continue;
        }
        let Some(truth) = pictures(&truth)? else {
            continue;
        };
        ensure!(
            !clips.iter().any(|(other, ..)| *other == name),
            "{}: two clips are called {name}",
            gt.display()
        );
        let found = entries(pred)?
            .into_iter()
            .find(|path| name_of(path).as_ref() == Some(&name) && is_clip(path));
        let Some(found) = found else {
            bail!("{}: there is no prediction called {name}", pred.display());
        };
        let found = pictures(&found)?.with_context(|| {
            format!(
                "{}: neither images nor an alpha video in it",
                found.display()
            )
        })?;
        clips.push((name, found, truth));
    }
    ensure!(
        !clips.is_empty(),
        "{}: no clips in this folder",
        gt.display()
    );
    Ok(clips)
}

/// What holds the pictures of a clip: the path itself, or the `alpha.*` video in it.
fn pictures(path: &Path) -> Result<Option<PathBuf>> {
    if !path.is_dir() {
        ensure!(path.exists(), "{}: no such file or folder", path.display());
        return Ok(Some(path.to_owned()));
    }
    let alpha = entries(path)?
        .into_iter()
        .find(|entry| entry.is_file() && entry.file_stem() == Some("alpha".as_ref()));
    if alpha.is_some() {
        return Ok(alpha);
    }
    Ok((!image_files(path)?.is_empty()).then(|| path.to_owned()))
}

/// Whether it may hold pictures: what is written down beside clips does not.
fn is_clip(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    path.is_dir()
        || !matches!(
            extension,
            None | Some("json" | "txt" | "md" | "csv" | "yaml")
        )
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut entries = read
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<Vec<_>>>()?;
    entries.sort();
    Ok(entries)
}

fn score_clip(name: &str, pred: &Path, gt: &Path) -> Result<ClipScore> {
    let mut preds = Reader::open(pred, Want::Alpha)?;
    let mut truths = Reader::open(gt, Want::Alpha)?;
    let mut before: Option<(Plane, Plane)> = None;
    let mut scores = Vec::new();
    loop {
        let (p, t) = match (read(&mut preds)?, read(&mut truths)?) {
            (Some(p), Some(t)) => (p, t),
            (None, None) => break,
            (None, Some(_)) => bail!(
                "{} ends after {} frames, the truth goes on",
                pred.display(),
                scores.len()
            ),
            (Some(_), None) => bail!(
                "{} goes on, the truth ends after {} frames",
                pred.display(),
                scores.len()
            ),
        };
        ensure!(
            (p.width, p.height) == (t.width, t.height),
            "frame {}: the prediction is {}x{}, the truth {}x{}",
            scores.len(),
            p.width,
            p.height,
            t.width,
            t.height
        );
        scores.push(metrics::score(&p, &t, before.as_ref().map(|(p, t)| (p, t))));
        before = Some((p, t));
    }
    Ok(summary(name, &scores))
}

fn read(reader: &mut Reader) -> Result<Option<Plane>> {
    let Some(picture) = reader.read()? else {
        return Ok(None);
    };
    let (width, height) = picture.size();
    Ok(Some(Plane::from_u8(
        width as usize,
        height as usize,
        &picture.alpha()?,
    )))
}

fn summary(name: &str, scores: &[FrameScore]) -> ClipScore {
    let mean = |value: fn(&FrameScore) -> f64| {
        scores.iter().map(value).sum::<f64>() / scores.len().max(1) as f64
    };
    ClipScore {
        clip: name.to_owned(),
        frames: scores.len(),
        mad: mean(|s| s.mad),
        mse: mean(|s| s.mse),
        grad: mean(|s| s.grad),
        conn: mean(|s| s.conn),
        dtssd: mean(|s| s.dtssd),
        mad_t: mean_of_some(scores.iter().map(|s| s.mad_t)),
        mad_core: mean_of_some(scores.iter().map(|s| s.mad_core)),
    }
}

/// Every clip weighs the same, however long.
fn mean_of(scores: &[ClipScore]) -> ClipScore {
    let mean =
        |value: fn(&ClipScore) -> f64| scores.iter().map(value).sum::<f64>() / scores.len() as f64;
    ClipScore {
        clip: "mean".to_owned(),
        frames: scores.iter().map(|s| s.frames).sum(),
        mad: mean(|s| s.mad),
        mse: mean(|s| s.mse),
        grad: mean(|s| s.grad),
        conn: mean(|s| s.conn),
        dtssd: mean(|s| s.dtssd),
        mad_t: mean_of_some(scores.iter().map(|s| s.mad_t)),
        mad_core: mean_of_some(scores.iter().map(|s| s.mad_core)),
    }
}

fn mean_of_some(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let values: Vec<f64> = values.flatten().collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn table(scores: &[ClipScore]) -> String {
    use std::fmt::Write;
    let width = scores
        .iter()
        .map(|s| s.clip.chars().count())
        .max()
        .unwrap_or(0)
        .max(4);
    let mut out = format!(
        "{:width$} {:>6} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}\n",
        "clip", "frames", "MAD", "MSE", "Grad", "Conn", "dtSSD", "MAD-T", "MAD-core"
    );
    let optional = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.2}"));
    for s in scores {
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{:width$} {:>6} {:>8.2} {:>8.2} {:>8.2} {:>8.2} {:>8.2} {:>8} {:>8}",
            s.clip,
            s.frames,
            s.mad,
            s.mse,
            s.grad,
            s.conn,
            s.dtssd,
            optional(s.mad_t),
            optional(s.mad_core)
        );
    }
    out.push_str("MAD, MSE, MAD-T, MAD-core x 1e3; dtSSD x 1e2; Grad, Conn / 1000\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, frames: &[&[u8]]) {
        std::fs::create_dir_all(folder).unwrap();
        for (i, frame) in frames.iter().enumerate() {
            let path = folder.join(format!("{i:06}.png"));
            image::save_buffer(path, frame, 2, 1, image::ColorType::L8).unwrap();
        }
    }

    #[test]
    fn folders_of_images_are_scored() {
        let dir = tempfile::tempdir().unwrap();
        let (pred, gt) = (dir.path().join("pred"), dir.path().join("gt"));
        write(&pred, &[&[0, 255], &[255, 255]]);
        write(&gt, &[&[0, 255], &[0, 255]]);
        let clips = clips(&pred, &gt).unwrap();
        assert_eq!(clips.len(), 1);
        let score = score_clip(&clips[0].0, &clips[0].1, &clips[0].2).unwrap();
        assert_eq!(score.frames, 2);
        assert!((score.mad - 250.0).abs() < 1e-9, "{score:?}");
        // The second frame alone changes, by 1 in one of two pixels: sqrt(1/2) · 100, halved by the first frame.
        assert!(
            (score.dtssd - 0.5_f64.sqrt() * 50.0).abs() < 1e-9,
            "{score:?}"
        );
    }

    #[test]
    fn clips_are_matched_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let (pred, gt) = (dir.path().join("pred"), dir.path().join("gt"));
        for name in ["shot.v1", "shot.v2"] {
            write(&gt.join(name), &[&[0, 255]]);
        }
        write(&pred.join("shot.v1"), &[&[0, 255]]);
        // What is said about a clip is none.
        for folder in [&pred, &gt] {
            std::fs::write(folder.join("shot.v1.json"), b"{}").unwrap();
        }
        let missing = clips(&pred, &gt).unwrap_err().to_string();
        assert!(
            missing.ends_with("there is no prediction called shot.v2"),
            "{missing}"
        );
        write(&pred.join("shot.v2"), &[&[0, 0]]);
        let found = clips(&pred, &gt).unwrap();
        let wanted = ["shot.v1", "shot.v2"].map(|n| (n.to_owned(), pred.join(n), gt.join(n)));
        assert_eq!(found, wanted);
    }

    #[test]
    fn a_shorter_prediction_is_an_error_that_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (pred, gt) = (dir.path().join("pred"), dir.path().join("gt"));
        write(&pred, &[&[0, 255]]);
        write(&gt, &[&[0, 255], &[0, 255]]);
        let error = score_clip("clip", &pred, &gt).unwrap_err().to_string();
        assert!(
            error.ends_with("ends after 1 frames, the truth goes on"),
            "{error}"
        );
    }
}
