//! What a frame costs, as a picture: a bar for every run, stages side by side in it.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use svg::Document;
use svg::node::element::{Group, Rectangle, Text};

/// Pixels.
const WIDTH: f64 = 960.0;
const MARGIN: f64 = 20.0;
const BAR: f64 = 22.0;
const PITCH: f64 = 58.0;
const LEGEND: f64 = 46.0;
/// For the number behind the longest bar.
const NUMBER: f64 = 90.0;

/// Stages in the order of a frame, and colours that can be told apart without seeing red or green.
const STAGES: [(&str, &str); 7] = [
    ("preprocess", "#56b4e9"),
    ("prior", "#cc79a7"),
    ("matte", "#0072b2"),
    ("detail", "#f0e442"),
    ("postprocess", "#e69f00"),
    ("value", "#009e73"),
    ("memorize", "#d55e00"),
];

/// One run. Milliseconds of a frame in every stage: the median, times how often the stage runs.
#[derive(Debug, PartialEq)]
struct Bar {
    label: String,
    stages: Vec<(&'static str, f64)>,
}

impl Bar {
    fn total(&self) -> f64 {
        self.stages.iter().map(|(_, time)| time).sum()
    }
}

fn words(of: &Value) -> String {
    of.as_str().unwrap_or("?").to_owned()
}

/// Bars of a report of `matte bench --json`, of one side or two.
fn bars(report: &Value) -> Result<Vec<Bar>> {
    let runs = report["runs"].as_array().context("a report without runs")?;
    let mut bars = Vec::new();
    for run in runs {
        let frame = format!("{}x{}", run["frame_size"][0], run["frame_size"][1]);
        // A comparison names a time for each side, a plain report one.
        let sides: &[(&str, usize)] = match run["what"].is_array() {
            true => &[("first", 0), ("second", 1)],
            false => &[("p50", 0)],
        };
        for &(time, side) in sides {
            let label = match &run["what"][side] {
                Value::Null => format!(
                    "{}, {}, {}x{}",
                    words(&run["model"]),
                    words(&run["backend"]),
                    run["working_size"][0],
                    run["working_size"][1]
                ),
                what => words(what),
            };
            let stages = run["stages"].as_array().context("a run without stages")?;
            let times = STAGES.iter().filter_map(|(name, _)| {
                let stage = stages.iter().find(|s| s["stage"] == *name)?;
                let often = match &stage["a_frame"] {
                    Value::Array(sides) => sides[side].as_f64()?,
                    _ => runs_a_frame(stages, name)?,
                };
                Some((*name, stage[time].as_f64()? * often))
            });
            bars.push(Bar {
                label: format!("{label}, frames of {frame}"),
                stages: times.collect(),
            });
        }
    }
    Ok(bars)
}

/// How often a stage of a report runs for a frame: the network runs once.
pub(super) fn runs_a_frame(stages: &[Value], name: &str) -> Option<f64> {
    let runs = |name: &str| stages.iter().find(|s| s["stage"] == name)?["runs"].as_f64();
    Some(runs(name)? / runs("matte")?)
}

fn text(x: f64, y: f64, of: &str) -> Text {
    Text::new(of)
        .set("x", x)
        .set("y", y)
        .set("fill", "#222222")
        .set("font-family", "sans-serif")
        .set("font-size", 14)
}

fn rectangle(x: f64, y: f64, width: f64, height: f64, colour: &str) -> Rectangle {
    Rectangle::new()
        .set("x", x)
        .set("y", y)
        .set("width", width)
        .set("height", height)
        .set("fill", colour)
}

fn document(bars: &[Bar]) -> Document {
    let height = LEGEND + PITCH * bars.len() as f64 + MARGIN;
    let longest = bars.iter().map(Bar::total).fold(0.0, f64::max);
    let scale = (WIDTH - 2.0 * MARGIN - NUMBER) / longest;
    let mut legend = Group::new();
    let mut x = MARGIN;
    for (name, colour) in STAGES {
        if bars
            .iter()
            .any(|b| b.stages.iter().any(|(n, _)| *n == name))
        {
            legend =
                legend
                    .add(rectangle(x, 16.0, 14.0, 14.0, colour))
                    .add(text(x + 20.0, 28.0, name));
            x += 120.0;
        }
    }
    let mut document = Document::new()
        .set("viewBox", (0.0, 0.0, WIDTH, height))
        .add(rectangle(0.0, 0.0, WIDTH, height, "#ffffff"))
        .add(legend);
    for (i, bar) in bars.iter().enumerate() {
        let y = LEGEND + PITCH * i as f64;
        let mut group = Group::new().add(text(MARGIN, y + 16.0, &bar.label));
        let mut x = MARGIN;
        for (name, time) in &bar.stages {
            let colour = STAGES.iter().find(|(n, _)| n == name).map_or("", |s| s.1);
            group = group.add(rectangle(x, y + 22.0, time * scale, BAR, colour));
            x += time * scale;
        }
        let total = format!("{:.1} ms", bar.total());
        document = document.add(group.add(text(x + 8.0, y + 38.0, &total)));
    }
    document
}

/// Draws reports into an SVG file.
pub(super) fn draw(reports: &[Value], file: &Path) -> Result<()> {
    let mut all = Vec::new();
    for report in reports {
        all.extend(bars(report)?);
    }
    if !all.iter().any(|bar| bar.total() > 0.0) {
        bail!("the reports hold no times to draw");
    }
    svg::save(file, &document(&all)).with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_stage_counts_as_often_as_it_runs() {
        let report = json!({"runs": [{"model": "a", "backend": "cpu", "frame_size": [64, 48],
            "working_size": [32, 16], "stages": [
                {"stage": "matte", "runs": 80, "p50": 3.0}, {"stage": "prior", "runs": 10, "p50": 4.0}]}]});
        let found = bars(&report).unwrap();
        assert_eq!(found[0].label, "a, cpu, 32x16, frames of 64x48");
        assert_eq!(found[0].stages, [("prior", 0.5), ("matte", 3.0)]);
    }

    #[test]
    fn both_sides_of_a_comparison_are_drawn() {
        let report = json!({"runs": [{"what": ["a", "b"], "frame_size": [64, 48], "stages": [
            {"stage": "matte", "first": 3.0, "second": 6.0, "a_frame": [1.0, 1.0]},
            {"stage": "and remembered", "first": 4.0, "second": 7.0, "a_frame": [1.0, 1.0]}]}]});
        let found = bars(&report).unwrap();
        assert_eq!((found.len(), found[1].total()), (2, 6.0));
        let svg = document(&found).to_string();
        // The second bar is the longest and fills the width but for the margins.
        assert!(
            svg.contains("width=\"830\"") && svg.contains("width=\"415\""),
            "{svg}"
        );
        assert!(svg.contains("6.0 ms") && svg.contains("matte"), "{svg}");
    }

    #[test]
    fn nothing_to_draw_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let error = draw(&[json!({"runs": []})], &folder.path().join("a.svg")).unwrap_err();
        assert!(error.to_string().contains("no times"), "{error}");
    }
}
