//! The engine on a thread of its own.
//!
//! The graphics thread leaves frames in a mailbox that keeps only the newest ones, and takes mattes out of another; each
//! is locked for a few moves of pointers. Buffers go around: the graphics thread fills one with the network's picture,
//! the worker writes the matte into its alpha, the graphics thread uploads it and gives it back.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use matte_core::{
    Error, Frame, Mask, MatteState, Matter, ModelSet, Options, OutputFormat, OutputMut,
    PixelFormat, has_substance,
};
use parking_lot::{Condvar, Mutex};

use crate::ffi::{panic_message, step_back};
use crate::flat::{Flat, Parts};
use crate::hotkeys::Action;
use crate::mask;
use crate::ring::Verdict;
use crate::settings::{Engine as EngineSettings, Seed};
use crate::status::{Phase, Problem, Rate, Times, Worker as Status};

/// Sizes that go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// The source, pixels.
    pub(crate) source: (u32, u32),
    /// The pictures for the worker, pixels: what the network sees, or larger where it may see a part of them.
    pub(crate) picture: (u32, u32),
    /// Differs whenever frames sent before make no sense any more.
    pub(crate) generation: u64,
}

/// A frame for the network, or with its matte.
#[derive(Debug)]
pub(crate) struct Picture {
    pub(crate) id: u64,
    pub(crate) generation: u64,
    pub(crate) size: (u32, u32),
    /// RGBA, rows without padding. The alpha is the matte once the network has answered, as [`crate::flat`] writes it.
    pub(crate) rgba: Vec<u8>,
    /// The parts of the matte.
    pub(crate) parts: Parts,
}

/// What came of a frame.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) picture: Picture,
    pub(crate) verdict: Verdict,
}

/// Answers that wait for the graphics thread: one that does not come for them must not cost memory.
const MAX_ANSWERS: usize = 8;
/// Buffers that are kept for later.
const MAX_SPARE: usize = 8;

#[derive(Debug, Default)]
struct Mail {
    quit: bool,
    settings: Option<Arc<EngineSettings>>,
    source: Option<(u32, u32)>,
    actions: Vec<Action>,
    frames: VecDeque<Picture>,
}

/// What the graphics thread has to know of the worker.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Glance {
    /// Sizes for the frames to send; `None` while the model is not open.
    pub(crate) geometry: Option<Geometry>,
    pub(crate) phase: Phase,
    /// A target has been seen since it was named: what shows no matte is not before a target.
    pub(crate) had_target: bool,
    /// Percentiles of the inference, ms.
    inference_p50_ms: f64,
    pub(crate) inference_p95_ms: f64,
    /// Since when the network has been at work on a frame.
    busy_since: Option<Instant>,
}

impl Glance {
    /// Whether the network will have done with what it is at in so much time.
    pub(crate) fn is_free_in(&self, time: Duration) -> bool {
        self.busy_since.is_none_or(|since| {
            (since.elapsed() + time).as_secs_f64() * 1e3 >= self.inference_p50_ms
        })
    }
}

/// What both threads see.
///
/// The graphics thread never waits for a lock: the worker, which only runs where a core is idle, may lose its core while it
/// holds one.
#[derive(Debug)]
pub(crate) struct Shared {
    mail: Mutex<Mail>,
    wake: Condvar,
    answers: Mutex<VecDeque<Answer>>,
    spare: Mutex<Vec<Vec<u8>>>,
    glance: Mutex<Glance>,
    status: Mutex<Status>,
}

impl Shared {
    fn new(settings: EngineSettings) -> Self {
        Self {
            mail: Mutex::new(Mail {
                settings: Some(Arc::new(settings)),
                ..Mail::default()
            }),
            wake: Condvar::new(),
            answers: Mutex::new(VecDeque::with_capacity(MAX_ANSWERS + 1)),
            spare: Mutex::new(Vec::with_capacity(MAX_SPARE)),
            glance: Mutex::new(Glance::default()),
            status: Mutex::new(Status::default()),
        }
    }

    /// What the worker is at; `None` where it is just being changed.
    pub(crate) fn glance(&self) -> Option<Glance> {
        self.glance.try_lock().map(|glance| *glance)
    }

    pub(crate) fn status(&self) -> Status {
        self.status.lock().clone()
    }

    /// An empty buffer.
    pub(crate) fn buffer(&self) -> Vec<u8> {
        let spare = self.spare.try_lock().and_then(|mut spare| spare.pop());
        spare.unwrap_or_default()
    }

    /// Takes a buffer back.
    pub(crate) fn give_back(&self, buffer: Vec<u8>) {
        if let Some(mut spare) = self.spare.try_lock()
            && spare.len() < MAX_SPARE
        {
            spare.push(buffer);
        }
    }

    /// Leaves a frame for the network; at most `capacity` wait. Returns the number of the one that gave way, which may be
    /// this one.
    pub(crate) fn send(&self, picture: Picture, capacity: usize) -> Option<u64> {
        let replaced = if let Some(mut mail) = self.mail.try_lock() {
            let replaced = match mail.frames.len() >= capacity.max(1) {
                true => mail.frames.pop_front(),
                false => None,
            };
            mail.frames.push_back(picture);
            self.wake.notify_one();
            replaced
        } else {
            Some(picture)
        };
        replaced.map(|old| {
            self.give_back(old.rgba);
            old.id
        })
    }

    /// The oldest answer that was not taken.
    pub(crate) fn take_answer(&self) -> Option<Answer> {
        self.answers.try_lock()?.pop_front()
    }

    /// Tells the size of the source; whether it could.
    pub(crate) fn want(&self, source: (u32, u32)) -> bool {
        let Some(mut mail) = self.mail.try_lock() else {
            return false;
        };
        mail.source = Some(source);
        self.wake.notify_one();
        true
    }

    /// Leaves new settings; gives them back where it could not: OBS changes those of a video filter on the graphics thread.
    pub(crate) fn set(&self, settings: EngineSettings) -> Option<EngineSettings> {
        let Some(mut mail) = self.mail.try_lock() else {
            return Some(settings);
        };
        mail.settings = Some(Arc::new(settings));
        self.wake.notify_one();
        None
    }

    pub(crate) fn act(&self, action: Action) {
        self.mail.lock().actions.push(action);
        self.wake.notify_one();
    }

    fn answer(&self, answer: Answer) {
        let dropped = {
            let mut answers = self.answers.lock();
            answers.push_back(answer);
            match answers.len() > MAX_ANSWERS {
                true => answers.pop_front(),
                false => None,
            }
        };
        if let Some(old) = dropped {
            self.give_back(old.picture.rgba);
        }
    }
}

/// Handle of the thread. Dropping it ends the thread without waiting for it: a model that is being opened cannot be
/// interrupted, and whoever removes the filter should not wait for it.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Threads whose filter is gone.
static RETIRED: Mutex<Vec<JoinHandle<()>>> = Mutex::new(Vec::new());

/// How long the end of OBS may wait for models that are being opened. What takes longer (engines built for a GPU) goes
/// on until the process ends; the library stays in memory for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waits for the threads of filters that are gone.
pub(crate) fn wait_for_retired() {
    let deadline = Instant::now() + PATIENCE;
    let threads = std::mem::take(&mut *RETIRED.lock());
    for thread in threads {
        while !thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        if thread.is_finished() {
            let _ = thread.join();
        } else {
            log::warn!("a model is still being opened; OBS does not wait for it");
        }
    }
}

impl Worker {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(settings: EngineSettings) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::new(settings));
        let thread = std::thread::Builder::new()
            .name("matte".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || run(&shared)
            })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.shared.mail.lock().quit = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            let mut retired = RETIRED.lock();
            retired.retain(|thread| !thread.is_finished());
            retired.push(thread);
        }
    }
}

/// The engine and what it was opened for.
#[derive(Debug)]
struct Open {
    matter: Matter,
    settings: Arc<EngineSettings>,
    source: (u32, u32),
}

/// So many frames without a matte, one after the other, and the engine is opened anew.
const FAILURES: u32 = 3;
/// How long it then has before it is opened anew once more; twice as long each time, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// When an engine that keeps failing is opened anew.
#[derive(Debug)]
struct Recovery {
    failures: u32,
    pause: Duration,
    not_before: Option<Instant>,
    /// The engine has been opened anew, and no frame has shown yet that it works.
    under_way: bool,
}

impl Recovery {
    fn new() -> Self {
        Self {
            failures: 0,
            pause: FIRST_PAUSE,
            not_before: None,
            under_way: false,
        }
    }

    /// Counts a frame; whether the engine is to be opened anew after it.
    fn is_due(&mut self, verdict: Verdict, now: Instant) -> bool {
        match verdict {
            Verdict::Matte => {
                *self = Self::new();
                return false;
            }
            // It says nothing of the network, which may fail again with the next target: the pause stays.
            Verdict::BeforeSeed => {
                self.failures = 0;
                self.under_way = false;
                return false;
            }
            Verdict::Failed => self.failures += 1,
        }
        if self.failures < FAILURES || self.not_before.is_some_and(|time| now < time) {
            return false;
        }
        self.begin(now);
        true
    }

    /// The engine is opened anew now, or has just not come back; the pause until it is tried again begins.
    fn begin(&mut self, now: Instant) {
        self.failures = 0;
        self.not_before = Some(now + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        self.under_way = true;
    }
}

/// The last picture on which the target was seen, and its matte: another engine goes on from them.
#[derive(Debug, Default)]
struct Known {
    size: (u32, u32),
    rgba: Vec<u8>,
    alpha: Vec<u8>,
}

impl Known {
    /// Names the target of an engine by where it was.
    fn seed(&self, matter: &mut Matter) -> Result<(), Error> {
        let (width, height) = self.size;
        let mask = Mask::new(width, height, &self.alpha, width as usize)?;
        matter.seed(&view(self.size, &self.rgba)?, &mask)
    }
}

/// What the thread keeps from frame to frame.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each says something of its own; no two make up one state"
)]
struct Desk<'a> {
    shared: &'a Shared,
    settings: Option<Arc<EngineSettings>>,
    source: Option<(u32, u32)>,
    open: Option<Open>,
    /// Opening failed: it is not tried again until something changes, or a recovery tries it.
    failed: bool,
    recovery: Recovery,
    generation: u64,
    /// What waits for the next frame.
    seed_middle: bool,
    add_reference: bool,
    /// The frame before and its matte: a source that stands still is not computed again.
    before: Vec<u8>,
    before_verdict: Option<Verdict>,
    alpha: Vec<u8>,
    /// Where a person was found, another look finds them again; what was named otherwise is known by this alone.
    known: Option<Known>,
    /// A target has been seen since it was named as the settings say.
    had_target: bool,
    flat: Flat,
    times: Times,
    rate: Rate,
}

/// Whether settings name another target than those before.
fn names_another(before: &EngineSettings, now: &EngineSettings) -> bool {
    before.seed != now.seed || before.mask_file != now.mask_file
}

fn run(shared: &Shared) {
    // The threads that ONNX Runtime starts from this one inherit it.
    if let Err(e) = step_back() {
        log::info!("the worker's priority stays as it is: {e}");
    }
    let mut desk = Desk::new(shared);
    loop {
        let (actions, frame) = {
            let mut mail = shared.mail.lock();
            while !mail.quit
                && mail.settings.is_none()
                && mail.source.is_none()
                && mail.actions.is_empty()
                && mail.frames.is_empty()
            {
                // Without an engine no frames come that could ask for one.
                match desk.next_attempt() {
                    None => shared.wake.wait(&mut mail),
                    Some(time) if shared.wake.wait_until(&mut mail, time).timed_out() => break,
                    Some(_) => {}
                }
            }
            if mail.quit {
                return;
            }
            if let Some(settings) = mail.settings.take() {
                // What is only drawn differently is no reason to open an engine that cannot be opened.
                if desk.settings.as_ref() != Some(&settings) {
                    desk.failed = false;
                    desk.recovery = Recovery::new();
                }
                // An engine may not be open that would notice.
                if (desk.settings.as_ref()).is_some_and(|before| names_another(before, &settings)) {
                    desk.forget();
                }
                desk.settings = Some(settings);
            }
            if let Some(source) = mail.source.take() {
                desk.source = Some(source);
                desk.failed = false;
            }
            (std::mem::take(&mut mail.actions), mail.frames.pop_front())
        };
        shared.glance.lock().busy_since = frame.as_ref().map(|_| Instant::now());
        let worked = catch_unwind(AssertUnwindSafe(|| {
            desk.prepare();
            for action in actions {
                desk.act(action);
            }
            if let Some(frame) = frame {
                desk.matte(frame);
            }
        }));
        if let Err(panic) = worked {
            desk.open = None;
            desk.known = None;
            desk.failed = true;
            desk.recovery = Recovery::new();
            desk.fail(Problem {
                message: format!("internal error: {}", panic_message(&*panic)),
                remedy: "Remedy.Other",
            });
        }
        shared.glance.lock().busy_since = None;
    }
}

impl<'a> Desk<'a> {
    fn new(shared: &'a Shared) -> Self {
        Self {
            shared,
            settings: None,
            source: None,
            open: None,
            failed: false,
            recovery: Recovery::new(),
            generation: 0,
            seed_middle: false,
            add_reference: false,
            before: Vec::new(),
            before_verdict: None,
            alpha: Vec::new(),
            known: None,
            had_target: false,
            flat: Flat::default(),
            times: Times::new(),
            rate: Rate::new(),
        }
    }

    fn status(&self, change: impl FnOnce(&mut Status)) {
        let (phase, p50, p95) = {
            let mut status = self.shared.status.lock();
            change(&mut status);
            // Nobody asked for it to be opened anew: what is shown without a matte stays what it is on failure.
            if self.recovery.under_way && matches!(status.phase, Phase::Loading | Phase::Searching)
            {
                status.phase = Phase::Failed;
            }
            (
                status.phase,
                status.inference_p50_ms,
                status.inference_p95_ms,
            )
        };
        let mut glance = self.shared.glance.lock();
        (glance.phase, glance.had_target) = (phase, self.had_target);
        (glance.inference_p50_ms, glance.inference_p95_ms) = (p50, p95);
    }

    fn fail(&self, problem: Problem) {
        log::error!("{}", problem.message);
        self.shared.glance.lock().geometry = None;
        self.status(|s| {
            s.phase = Phase::Failed;
            s.problem = Some(problem);
        });
    }

    fn complain(&self, problem: Problem) {
        log::warn!("{}", problem.message);
        self.status(|s| s.problem = Some(problem));
    }

    /// Frames that were sent before make no sense any more.
    fn publish(&mut self, geometry: Option<((u32, u32), (u32, u32))>) {
        self.generation += 1;
        self.before_verdict = None;
        self.shared.glance.lock().geometry = geometry.map(|(source, picture)| Geometry {
            source,
            picture,
            generation: self.generation,
        });
    }

    /// When opening, which has failed during a recovery, is tried again.
    fn next_attempt(&self) -> Option<Instant> {
        match self.failed && self.recovery.under_way {
            true => self.recovery.not_before,
            false => None,
        }
    }

    /// Brings the engine to what the settings and the source ask for.
    fn prepare(&mut self) {
        let (Some(settings), Some(source)) = (self.settings.clone(), self.source) else {
            return;
        };
        let waits = |time| Instant::now() < time;
        if self.failed && self.next_attempt().is_none_or(waits) {
            return;
        }
        let Some(open) = &mut self.open else {
            self.open(settings, source);
            return;
        };
        let target_changes = names_another(&open.settings, &settings);
        let same_model = open.settings.model == settings.model
            && open.settings.backend == settings.backend
            && open.settings.working_side == settings.working_side
            // The pictures are of another size then.
            && open.settings.options.region == settings.options.region;
        if !same_model || open.source != source {
            self.open(settings, source);
            return;
        }
        if *open.settings == *settings {
            return;
        }
        let before = open.matter.is_seeded();
        let picture = open.matter.frame_size();
        let changed = adapt(&mut open.matter, &settings, source);
        open.settings = settings;
        if let Err(e) = changed {
            self.failed = true;
            self.open = None;
            self.fail(Problem::of(&e));
            return;
        }
        let lost = before && !open.matter.is_seeded();
        let (resized, waits) = (open.matter.frame_size(), !open.matter.is_seeded());
        // A picture that stands still may look different now.
        self.before_verdict = None;
        if resized != picture {
            self.publish(Some((source, resized)));
        }
        self.status(|s| s.problem = None);
        // A mask that waits is one for pictures of the size before.
        if target_changes || lost || (waits && resized != picture) {
            self.name_target();
        }
    }

    fn open(&mut self, settings: Arc<EngineSettings>, source: (u32, u32)) {
        // Until the new one is open nothing is matted: what the old one made is not what the user asked for.
        self.publish(None);
        self.status(|s| {
            s.phase = Phase::Loading;
            s.problem = None;
        });
        self.open = None;
        self.failed = false;
        let opened = open_engine(&settings, source);
        match opened {
            Ok(matter) => {
                let (stats, working) = (matter.stats(), matter.working_size());
                let picture = matter.frame_size();
                self.times = Times::new();
                self.open = Some(Open {
                    matter,
                    settings,
                    source,
                });
                self.status(|s| {
                    s.backend = stats.backend;
                    s.model = stats.model;
                    s.working_size = working;
                    s.references = 0;
                    s.opens += 1;
                    s.phase = Phase::Searching;
                });
                self.name_target();
                self.publish(Some((source, picture)));
            }
            Err(e) => {
                self.failed = true;
                if self.recovery.under_way {
                    self.recovery.begin(Instant::now());
                }
                self.fail(Problem::of(&e));
            }
        }
    }

    /// The target is to be another one, as the settings say.
    fn forget(&mut self) {
        self.known = None;
        self.had_target = false;
    }

    /// Names the target: the known one, in an engine that has been opened anew, where it was, because a mask file is of the
    /// picture at the start and would cut another piece out of the room; otherwise the next frames do, as the settings say.
    fn name_target(&mut self) {
        self.before_verdict = None;
        // What the user asked of an engine that failed is asked of the next one.
        self.seed_middle &= self.recovery.under_way;
        let Some(open) = &mut self.open else {
            return;
        };
        if let Err(e) = open.matter.reset() {
            let problem = Problem::of(&e);
            self.complain(problem);
            return;
        }
        // Pictures of another size are as at the start.
        let size = open.matter.frame_size();
        let known = self.known.take().filter(|known| known.size == size);
        if let Some(known) = known {
            let named = known.seed(&mut open.matter);
            self.known = Some(known);
            self.status(|s| s.phase = Phase::Searching);
            if let Err(e) = named {
                let problem = Problem::of(&e);
                self.complain(problem);
            }
            return;
        }
        let problem = match (open.settings.seed, &open.settings.mask_file) {
            (Seed::Automatic, _) if !open.matter.can_seed_automatically() => Some(Problem {
                message: format!(
                    "no person can be found: the package {} is missing",
                    ModelSet::SEGMENTATION
                ),
                remedy: "Remedy.Segmentation",
            }),
            (Seed::Automatic | Seed::Middle, _) => None,
            (Seed::MaskFile, None) => Some(Problem {
                message: "no mask file is set".to_owned(),
                remedy: "Remedy.ChooseMask",
            }),
            (Seed::MaskFile, Some(file)) => mask::queue(&mut open.matter, file, open.source)
                .err()
                .map(|e| Problem::of(&e)),
        };
        self.status(|s| s.phase = Phase::Searching);
        if let Some(problem) = problem {
            self.complain(problem);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Reseed => {
                self.forget();
                let recovering = std::mem::replace(&mut self.recovery, Recovery::new()).under_way;
                // A device that is lost, for one, does not come back to the engine that had it.
                if self.failed || self.shared.status.lock().phase == Phase::Failed {
                    self.failed = false;
                    self.open = None;
                    self.prepare();
                    if self.failed && recovering {
                        self.recovery.begin(Instant::now());
                    }
                } else {
                    self.status(|s| s.problem = None);
                    self.name_target();
                }
                self.seed_middle = self
                    .settings
                    .as_ref()
                    .is_some_and(|s| s.seed == Seed::Middle);
            }
            Action::SeedMiddle => {
                self.seed_middle = true;
                self.before_verdict = None;
            }
            Action::AddReference => {
                self.add_reference = true;
                self.before_verdict = None;
            }
            // These are the graphics thread's.
            Action::Toggle | Action::Freeze => {}
        }
    }

    /// Answers for a frame.
    fn matte(&mut self, mut picture: Picture) {
        let generation = self.generation;
        let Some(open) = &mut self.open else {
            self.shared.give_back(picture.rgba);
            return;
        };
        if picture.generation != generation || picture.size != open.matter.frame_size() {
            self.shared.give_back(picture.rgba);
            return;
        }
        let verdict = match self.before_verdict {
            Some(verdict) if self.before == picture.rgba => verdict,
            _ => {
                self.before.clone_from(&picture.rgba);
                let middle = self.seed_middle;
                let verdict = self.compute(&picture);
                self.seed_middle |= middle && verdict == Verdict::Failed;
                // What has failed once may work the next time.
                self.before_verdict = Some(verdict).filter(|v| *v != Verdict::Failed);
                verdict
            }
        };
        let width = picture.size.0 as usize;
        self.flat
            .write(&self.alpha, width, &mut picture.rgba, &mut picture.parts);
        self.had_target |= verdict == Verdict::Matte;
        self.status(|s| s.answers += 1);
        let shown = match verdict {
            Verdict::BeforeSeed if self.had_target => Verdict::Failed,
            verdict => verdict,
        };
        let answer = Answer {
            picture,
            verdict: shown,
        };
        self.shared.answer(answer);
        if self.recovery.is_due(verdict, Instant::now()) {
            log::warn!("no matte for {FAILURES} frames: the engine is opened anew");
            self.open = None;
            self.prepare();
            return;
        }
        if let Some(open) = &mut self.open
            && let Err(e) = open.matter.remember()
        {
            let problem = Problem::of(&e);
            self.complain(problem);
        }
    }

    /// Runs the engine on a frame; the matte goes to `alpha`.
    fn compute(&mut self, picture: &Picture) -> Verdict {
        let Some(open) = &mut self.open else {
            return Verdict::Failed;
        };
        let started = Instant::now();
        let done = matte_frame(
            &mut open.matter,
            picture,
            &mut self.alpha,
            std::mem::take(&mut self.seed_middle),
        );
        let took = started.elapsed();
        let state = match done {
            Ok(state) => state,
            Err(e) => {
                let problem = Problem::of(&e);
                // A mask that does not fit is no failure of the network: there is no target, as before.
                let verdict = match e {
                    Error::MaskAspect { .. } | Error::MaskEmpty { .. } | Error::NotSeeded => {
                        Verdict::BeforeSeed
                    }
                    _ => Verdict::Failed,
                };
                self.alpha.fill(0);
                self.complain(problem);
                if verdict == Verdict::Failed {
                    self.status(|s| s.phase = Phase::Failed);
                }
                return verdict;
            }
        };
        self.times.add(took);
        let rate = self.rate.count(Instant::now());
        let (p50, p95) = (self.times.percentile(0.5), self.times.percentile(0.95));
        let (phase, verdict) = match &state {
            MatteState::Matted | MatteState::Seeded => (Phase::Matting, Verdict::Matte),
            MatteState::Failed(_) => (Phase::Failed, Verdict::Failed),
            _ => (Phase::Searching, Verdict::BeforeSeed),
        };
        self.recovery.under_way &= verdict == Verdict::Failed;
        self.status(|s| {
            s.phase = phase;
            s.frames += 1;
            s.frames_per_second = rate;
            s.inference_p50_ms = p50;
            s.inference_p95_ms = p95;
            match state {
                MatteState::Seeded => {
                    s.seeds += 1;
                    s.problem = None;
                }
                MatteState::Failed(message) => {
                    s.problem = Some(Problem {
                        message,
                        remedy: "Remedy.Other",
                    });
                }
                _ => {}
            }
        });
        self.note_known(picture, verdict);
        if verdict == Verdict::Matte && std::mem::take(&mut self.add_reference) {
            self.reference(picture);
        }
        verdict
    }

    /// Keeps what another engine would go on from.
    fn note_known(&mut self, picture: &Picture, verdict: Verdict) {
        let is_found = |open: &Open| open.settings.seed == Seed::Automatic;
        if self.open.as_ref().is_some_and(is_found) {
            self.known = None;
        } else if verdict == Verdict::Matte && has_substance(&self.alpha, 25) {
            let known = self.known.get_or_insert_default();
            known.size = picture.size;
            known.rgba.clone_from(&picture.rgba);
            known.alpha.clone_from(&self.alpha);
        }
    }

    fn reference(&mut self, picture: &Picture) {
        let Some(open) = &mut self.open else {
            return;
        };
        let added = view(picture.size, &picture.rgba).and_then(|frame| {
            let (width, height) = picture.size;
            let mask = Mask::new(width, height, &self.alpha, width as usize)?;
            open.matter.add_reference(&frame, &mask)
        });
        match added {
            Ok(_) => self.status(|s| s.references += 1),
            Err(e) => {
                let problem = Problem::of(&e);
                self.complain(problem);
            }
        }
    }
}

fn view((width, height): (u32, u32), rgba: &[u8]) -> Result<Frame<'_>, Error> {
    Frame::packed(PixelFormat::Rgba, width, height, rgba, width as usize * 4)
}

fn matte_frame(
    matter: &mut Matter,
    picture: &Picture,
    alpha: &mut Vec<u8>,
    seed_middle: bool,
) -> Result<MatteState, Error> {
    let (width, height) = picture.size;
    alpha.resize(width as usize * height as usize, 0);
    let frame = view(picture.size, &picture.rgba)?;
    if seed_middle {
        let mask = matte_core::middle_mask(&frame);
        matter.queue_seed(&mask.as_mask());
    }
    let mut out = OutputMut::new(OutputFormat::Gray8, width, height, alpha, width as usize)?;
    Ok(matter.process(&frame, &mut out)?.matte)
}

/// Opens the engine for pictures that the GPU has scaled to the working size, or to what windows or edges need: of the source's
/// own size the engine is told only until its working size is known.
fn open_engine(settings: &EngineSettings, source: (u32, u32)) -> Result<Matter, Error> {
    let models = ModelSet::find(&settings.model)?;
    let options = Options {
        working_size: settings.working_size(source),
        ..settings.options.clone()
    };
    let mut matter = Matter::open(&models, settings.backend, options, source)?;
    adapt(&mut matter, settings, source)?;
    Ok(matter)
}

/// Gives an engine the options of the settings, and pictures of the size that these ask for. Its working size stays, whatever
/// it would be for them by itself.
fn adapt(matter: &mut Matter, settings: &EngineSettings, source: (u32, u32)) -> Result<(), Error> {
    let working = matter.working_size();
    matter.set_options(Options {
        working_size: Some(working),
        ..settings.options.clone()
    })?;
    matter.resize(settings.picture_size(source, working, matter.draws_detail()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use matte_core::Backend;

    fn settings(model: &str) -> EngineSettings {
        EngineSettings {
            model: model.to_owned(),
            backend: Backend::Auto,
            working_side: None,
            seed: Seed::Automatic,
            mask_file: None,
            options: Options::default(),
        }
    }

    #[test]
    fn settings_do_not_wait_for_the_worker() {
        let shared = Shared::new(settings("one"));
        let mail = shared.mail.lock();
        let kept = shared.set(settings("two"));
        assert_eq!(kept, Some(settings("two")), "to be tried again");
        drop(mail);
        assert_eq!(shared.set(settings("three")), None);
        let newest = shared.mail.lock().settings.clone();
        assert_eq!(newest.as_deref(), Some(&settings("three")));
    }

    #[test]
    fn an_engine_is_opened_anew_after_some_failures_and_then_less_and_less_often() {
        let mut recovery = Recovery::new();
        let mut now = Instant::now();
        let mut fails = |recovery: &mut Recovery, later: Duration| {
            now += later;
            recovery.is_due(Verdict::Failed, now)
        };
        let moment = Duration::from_millis(10);
        assert!(!fails(&mut recovery, moment) && !fails(&mut recovery, moment));
        assert!(fails(&mut recovery, moment));
        for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
            let most = Duration::from_millis(pause * 1000 - 110);
            for _ in 0..5 {
                assert!(!fails(&mut recovery, moment), "pause of {pause} s");
            }
            assert!(!fails(&mut recovery, most), "pause of {pause} s");
            assert!(fails(&mut recovery, 10 * moment), "pause of {pause} s");
        }
        // Without a target there is no matte that shows that it works.
        assert!(!recovery.is_due(Verdict::BeforeSeed, now));
        assert_eq!(recovery.pause, LONGEST_PAUSE);
        assert!(!recovery.is_due(Verdict::Matte, now));
        assert_eq!((recovery.pause, recovery.failures), (FIRST_PAUSE, 0));
    }

    #[test]
    fn a_recovery_goes_on_after_an_engine_that_cannot_be_opened() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("model");
        let shared = Shared::new(settings("unused"));
        let mut desk = Desk::new(&shared);
        desk.settings = Some(Arc::new(settings(&model.display().to_string())));
        desk.source = Some((128, 96));
        desk.seed_middle = true;
        // What the status says is new where opening was tried.
        let tries = |desk: &mut Desk<'_>| {
            desk.status(|s| s.problem = None);
            desk.prepare();
            shared.status().problem.is_some()
        };
        let pass = |desk: &mut Desk<'_>| desk.recovery.not_before = Some(Instant::now());

        desk.recovery.begin(Instant::now());
        assert!(tries(&mut desk));
        for pause in [4, 8, 16, 32, 60, 60] {
            assert_eq!(desk.recovery.pause, Duration::from_secs(pause));
            assert!(!tries(&mut desk) && desk.next_attempt().is_some());
            assert_eq!(shared.status().phase, Phase::Failed);
            pass(&mut desk);
            assert!(tries(&mut desk));
        }
        // The button tries it at once, and what was under way goes on.
        desk.act(Action::Reseed);
        assert!(!tries(&mut desk) && desk.next_attempt().is_some());

        if matte_core::runtime::paths::find_onnxruntime().is_some() {
            let probe = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/probe");
            desk.settings = Some(Arc::new(settings(probe)));
            desk.seed_middle = true;
            pass(&mut desk);
            desk.prepare();
            assert!(desk.open.is_some(), "{:?}", shared.status().problem);
            assert!(desk.next_attempt().is_none() && desk.seed_middle);
            assert_eq!(shared.status().phase, Phase::Failed, "until a frame works");
        }

        // Where nothing has worked so far it is for the user to change something.
        let mut desk = Desk::new(&shared);
        desk.settings = Some(Arc::new(settings(&model.display().to_string())));
        desk.source = Some((128, 96));
        assert!(tries(&mut desk));
        assert!(!tries(&mut desk) && desk.next_attempt().is_none());
    }
}
