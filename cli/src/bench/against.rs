//! Two ways to do the same, in turn: machines are shared and change their clocks, so that only what ran side by side can be
//! compared.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::Value;

use super::picture::runs_a_frame;

/// One of the two.
pub(super) struct Side<'a> {
    pub(super) program: &'a Path,
    pub(super) options: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Comparison {
    pub(super) machine: String,
    pub(super) command: String,
    pub(super) rounds: u32,
    pub(super) runs: Vec<Compared>,
}

/// One frame size.
#[derive(Debug, Serialize)]
pub(super) struct Compared {
    pub(super) frame_size: [u64; 2],
    /// What ran: model, backend and working size of each side.
    pub(super) what: [String; 2],
    pub(super) stages: Vec<ComparedStage>,
}

/// Milliseconds: medians over the rounds of each round's p50.
#[derive(Debug, Serialize)]
pub(super) struct ComparedStage {
    pub(super) stage: String,
    pub(super) first: f64,
    pub(super) second: f64,
    /// How often each side runs it for a frame.
    pub(super) a_frame: [f64; 2],
    /// Of first and second, in each round; and the median of these.
    pub(super) ratio: f64,
    pub(super) lowest: f64,
    pub(super) highest: f64,
}

/// The report of one run of one side.
fn measure(side: &Side) -> Result<Value> {
    let output = Command::new(side.program)
        .arg("bench")
        .args(&side.options)
        .args(["--json", "--no-memory"])
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}", side.program.display()))?;
    if !output.status.success() {
        bail!(
            "{} bench {}: {}",
            side.program.display(),
            side.options.join(" "),
            output.status
        );
    }
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{} bench --json", side.program.display()))
}

/// Runs both sides in turn.
pub(super) fn compare(sides: &[Side; 2], rounds: u32) -> Result<Vec<Compared>> {
    let mut reports = [Vec::new(), Vec::new()];
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        // Whoever comes first finds the machine cooler: they swap.
        let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        for side in order {
            reports[side].push(measure(&sides[side])?);
        }
    }
    tabulate(&reports)
}

fn tabulate(reports: &[Vec<Value>; 2]) -> Result<Vec<Compared>> {
    let runs = |side: usize, round: usize| reports[side][round]["runs"].as_array();
    let sizes = runs(0, 0).context("a report without runs")?.len();
    (0..sizes)
        .map(|size| {
            let run = |side: usize, round: usize| &reports[side][round]["runs"][size];
            let first = run(0, 0);
            let what = |side: usize| {
                let run = run(side, 0);
                let words = |key: &str| run[key].as_str().unwrap_or("?").to_owned();
                format!(
                    "{}, {}, {}x{}",
                    words("model"),
                    words("backend"),
                    run["working_size"][0],
                    run["working_size"][1]
                )
            };
            let stages = first["stages"].as_array().into_iter().flatten();
            let mut names: Vec<String> = stages
                .filter_map(|s| s["stage"].as_str().map(str::to_owned))
                .collect();
            names.extend(["frame out", "and remembered"].map(str::to_owned));
            let p50 = |side: usize, round: usize, name: &str| {
                let run = run(side, round);
                let found = match name {
                    "frame out" => &run["latency"],
                    "and remembered" => &run["whole"],
                    _ => run["stages"]
                        .as_array()?
                        .iter()
                        .find(|s| s["stage"] == name)?,
                };
                found["p50"].as_f64()
            };
            let often =
                |side: usize, name: &str| runs_a_frame(run(side, 0)["stages"].as_array()?, name);
            let stages = names
                .into_iter()
                .filter_map(|stage| {
                    let of = |side: usize| {
                        (0..reports[side].len())
                            .map(|round| p50(side, round, &stage))
                            .collect::<Option<Vec<f64>>>()
                    };
                    let (first, second) = (of(0)?, of(1)?);
                    let mut ratios: Vec<f64> =
                        first.iter().zip(&second).map(|(a, b)| a / b).collect();
                    ratios.sort_by(f64::total_cmp);
                    Some(ComparedStage {
                        ratio: median(ratios.clone()),
                        lowest: *ratios.first()?,
                        highest: *ratios.last()?,
                        a_frame: [0, 1].map(|side| often(side, &stage).unwrap_or(1.0)),
                        stage,
                        first: median(first),
                        second: median(second),
                    })
                })
                .collect();
            Ok(Compared {
                frame_size: [0, 1].map(|i| first["frame_size"][i].as_u64().unwrap_or(0)),
                what: [what(0), what(1)],
                stages,
            })
        })
        .collect()
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 2).copied().unwrap_or(f64::NAN)
}

pub(super) fn print(comparison: &Comparison) {
    println!("{}", comparison.machine);
    println!("$ {}", comparison.command);
    for run in &comparison.runs {
        println!(
            "\n{}x{} NV12 in, RGBA out, {} rounds in turn\nfirst:  {}\nsecond: {}",
            run.frame_size[0], run.frame_size[1], comparison.rounds, run.what[0], run.what[1]
        );
        println!(
            "{:14} {:>10} {:>10} {:>14} {:>14}",
            "p50", "first ms", "second ms", "first/second", "in the rounds"
        );
        for stage in &run.stages {
            println!(
                "{:14} {:>10.2} {:>10.2} {:>14.2} {:>14}",
                stage.stage,
                stage.first,
                stage.second,
                stage.ratio,
                format!("{:.2} to {:.2}", stage.lowest, stage.highest)
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ratios_are_of_one_round_and_stages_that_only_one_has_are_left_out() {
        let report = |matte: f64, extra: bool| {
            let mut stages = vec![
                json!({"stage": "matte", "p50": matte, "runs": 20}),
                json!({"stage": "memorize", "p50": 1.0, "runs": 4}),
            ];
            if extra {
                stages.push(json!({"stage": "prior", "p50": 1.0}));
            }
            json!({"runs": [{"frame_size": [64, 48], "working_size": [32, 16], "model": "a", "backend": "cpu",
                "latency": {"p50": matte + 1.0}, "whole": {"p50": matte + 2.0}, "stages": stages}]})
        };
        // The machine was twice as slow in the second round.
        let reports = [
            vec![report(2.0, true), report(4.0, true), report(2.2, true)],
            vec![report(4.0, false), report(8.0, false), report(4.0, false)],
        ];
        let runs = tabulate(&reports).unwrap();
        assert_eq!(runs[0].frame_size, [64, 48]);
        assert_eq!(runs[0].what[1], "a, cpu, 32x16");
        let names: Vec<_> = runs[0].stages.iter().map(|s| s.stage.as_str()).collect();
        assert_eq!(names, ["matte", "memorize", "frame out", "and remembered"]);
        let often = |stage: usize| runs[0].stages[stage].a_frame.map(|a| (a * 100.0).round());
        assert_eq!(
            (often(0), often(1), often(3)),
            ([100.0; 2], [20.0; 2], [100.0; 2])
        );
        let matte = &runs[0].stages[0];
        assert!((matte.first - 2.2).abs() < 1e-9 && (matte.second - 4.0).abs() < 1e-9);
        assert!((matte.ratio - 0.5).abs() < 1e-9 && (matte.highest - 0.55).abs() < 1e-9);
    }
}
