//! What the filter tells about itself.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use matte_core::Error;
use serde::Serialize;

use crate::ffi::text;

/// What the worker is at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Phase {
    /// No picture has come so far.
    #[default]
    Waiting,
    /// The model is being opened.
    Loading,
    /// There is no target yet.
    Searching,
    /// The target is followed.
    Matting,
    /// Nothing works until a setting changes.
    Failed,
}

impl Phase {
    fn key(self) -> &'static str {
        match self {
            Self::Waiting => "Status.Waiting",
            Self::Loading => "Status.Loading",
            Self::Searching => "Status.Searching",
            Self::Matting => "Status.Matting",
            Self::Failed => "Status.Failed",
        }
    }
}

/// Something that went wrong, and what the user can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Problem {
    /// What happened: the engine's words, in English.
    pub(crate) message: String,
    /// Key of the text that says what to do.
    pub(crate) remedy: &'static str,
}

impl Problem {
    pub(crate) fn of(error: &Error) -> Self {
        let remedy = match error {
            Error::Runtime { .. } => "Remedy.Runtime",
            Error::ModelNotFound { .. } | Error::Model { .. } => "Remedy.Model",
            Error::Backend { .. } => "Remedy.Backend",
            Error::MaskFile { .. } => "Remedy.MaskFile",
            Error::MaskAspect { .. } => "Remedy.MaskAspect",
            Error::MaskEmpty { .. } => "Remedy.MaskEmpty",
            Error::ReferencesFull { .. } => "Remedy.References",
            Error::NotSeeded => "Remedy.NotSeeded",
            Error::Option { .. } => "Remedy.Option",
            _ => "Remedy.Other",
        };
        Self {
            message: error.to_string(),
            remedy,
        }
    }
}

/// What the worker tells.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Worker {
    pub(crate) phase: Phase,
    /// What runs the network, in words; empty before it is open.
    pub(crate) backend: String,
    pub(crate) model: String,
    pub(crate) working_size: (u32, u32),
    /// Frames that the network has seen, since the filter was made.
    pub(crate) frames: u64,
    /// Frames that were answered, among them those that equal the one before and were not computed again.
    pub(crate) answers: u64,
    /// Frames a second over the last two seconds.
    pub(crate) frames_per_second: f64,
    pub(crate) inference_p50_ms: f64,
    pub(crate) inference_p95_ms: f64,
    /// Times that a target was named.
    pub(crate) seeds: u64,
    /// Times that an engine was opened.
    pub(crate) opens: u64,
    /// References that were added since the model was opened.
    pub(crate) references: u64,
    pub(crate) problem: Option<Problem>,
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            phase: Phase::Waiting,
            backend: String::new(),
            model: String::new(),
            working_size: (0, 0),
            frames: 0,
            answers: 0,
            frames_per_second: 0.0,
            inference_p50_ms: 0.0,
            inference_p95_ms: 0.0,
            seeds: 0,
            opens: 0,
            references: 0,
            problem: None,
        }
    }
}

/// What the graphics thread tells.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Render {
    /// How far the picture (aligned) or its matte (lowest latency) is behind the source.
    pub(crate) delay_ms: f64,
    /// Frames captured.
    pub(crate) captured: u64,
    /// The filter's own work on the graphics thread in a frame, uploads included: without the calls that draw, which with
    /// software GL do the GPU's work, and without waiting for the copy from the GPU.
    pub(crate) own_p50_ms: f64,
    pub(crate) own_p95_ms: f64,
    pub(crate) own_max_ms: f64,
    /// The same as time that the thread had the CPU: what another program takes from it in between does not count.
    pub(crate) own_cpu_p95_ms: f64,
    pub(crate) own_cpu_max_ms: f64,
    /// The calls that draw the filter's passes; the source's own drawing is not in it.
    pub(crate) drawing_p95_ms: f64,
    /// Waiting for the copy of the frame before from the GPU.
    pub(crate) readback_p95_ms: f64,
    pub(crate) frozen: bool,
    pub(crate) problem: Option<String>,
}

/// Everything, as `matte_status` gives it.
#[derive(Debug, Serialize)]
pub(crate) struct Status<'a> {
    pub(crate) worker: &'a Worker,
    pub(crate) render: &'a Render,
}

/// The status in words, for the properties.
pub(crate) fn words(worker: &Worker, render: &Render) -> String {
    let mut lines = vec![text(worker.phase.key())];
    if !worker.model.is_empty() {
        lines.push(format!(
            "{}: {} · {} · {}×{}",
            text("Status.Model"),
            worker.model,
            worker.backend,
            worker.working_size.0,
            worker.working_size.1
        ));
    }
    if worker.frames > 0 {
        lines.push(format!(
            "{}: {:.1} · {}: {:.1} ms (p50), {:.1} ms (p95) · {}: {:.0} ms",
            text("Status.FrameRate"),
            worker.frames_per_second,
            text("Status.Inference"),
            worker.inference_p50_ms,
            worker.inference_p95_ms,
            text("Status.Delay"),
            render.delay_ms
        ));
    }
    if render.frozen {
        lines.push(text("Status.Frozen"));
    }
    if let Some(problem) = &worker.problem {
        lines.push(format!("{}: {}", text("Status.LastError"), problem.message));
        lines.push(format!("→ {}", text(problem.remedy)));
    }
    if let Some(problem) = &render.problem {
        lines.push(format!("{}: {problem}", text("Status.LastError")));
        lines.push(format!("→ {}", text("Remedy.Reinstall")));
    }
    lines.join("\n")
}

/// The last times that something took.
#[derive(Debug)]
pub(crate) struct Times {
    micros: VecDeque<u32>,
    pub(crate) longest: Duration,
}

/// Number of times over which percentiles are taken.
const WINDOW: usize = 256;

impl Times {
    pub(crate) fn new() -> Self {
        Self {
            micros: VecDeque::with_capacity(WINDOW),
            longest: Duration::ZERO,
        }
    }

    pub(crate) fn add(&mut self, time: Duration) {
        if self.micros.len() == WINDOW {
            self.micros.pop_front();
        }
        self.micros
            .push_back(u32::try_from(time.as_micros()).unwrap_or(u32::MAX));
        self.longest = self.longest.max(time);
    }

    /// Milliseconds below which this share of the times lies.
    pub(crate) fn percentile(&self, share: f64) -> f64 {
        let mut sorted: Vec<u32> = self.micros.iter().copied().collect();
        if sorted.is_empty() {
            return 0.0;
        }
        sorted.sort_unstable();
        f64::from(sorted[((sorted.len() - 1) as f64 * share).round() as usize]) / 1e3
    }
}

/// Counts events a second.
#[derive(Debug)]
pub(crate) struct Rate {
    times: VecDeque<Instant>,
}

impl Rate {
    const OVER: Duration = Duration::from_secs(2);

    pub(crate) fn new() -> Self {
        Self {
            times: VecDeque::new(),
        }
    }

    /// Counts one and returns the rate.
    pub(crate) fn count(&mut self, now: Instant) -> f64 {
        self.times.push_back(now);
        while self
            .times
            .front()
            .is_some_and(|t| now.duration_since(*t) > Self::OVER)
        {
            self.times.pop_front();
        }
        match (self.times.front(), self.times.len()) {
            (Some(first), n) if n > 1 => {
                (n - 1) as f64 / now.duration_since(*first).as_secs_f64().max(1e-6)
            }
            _ => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_last_times() {
        let mut times = Times::new();
        for ms in 1..=300 {
            times.add(Duration::from_millis(ms));
        }
        // 45 to 300 are kept.
        assert!((times.percentile(0.0) - 45.0).abs() < 1e-9);
        assert!((times.percentile(0.5) - 173.0).abs() < 1.0);
        assert_eq!(times.longest, Duration::from_millis(300));
    }

    #[test]
    fn a_rate_is_events_a_second() {
        let (mut rate, start) = (Rate::new(), Instant::now());
        let mut last = 0.0;
        for i in 0..120u32 {
            last = rate.count(start + Duration::from_millis(40) * i);
        }
        assert!((last - 25.0).abs() < 0.5, "{last}");
    }

    #[test]
    fn every_problem_says_what_to_do() {
        let problem = Problem::of(&Error::NotSeeded);
        assert!(problem.remedy.starts_with("Remedy."));
        assert!(!problem.message.is_empty());
    }
}
