//! Everything on the GPU. It runs on the graphics thread and waits for nobody.

use std::ffi::CStr;
use std::time::{Duration, Instant};

use cpu_time::ThreadTime;
use parking_lot::Mutex;

use crate::ffi::{
    Blend, ColorSpace, Effect, Format, Graphics, Source, StageSurface, TexRender, Texture,
    TextureRef, Value, draw_premultiplied, draw_raw, module_file, video_frame_time,
};
use crate::flat::Parts;
use crate::ring::{Ring, SLOTS, Shown, Verdict};
use crate::settings::{Background, Drawing, Mode, Policy, View};
use crate::status::{self, Phase, Times};
use crate::worker::{Answer, Geometry, Glance, Picture, Shared};

/// What is drawn this time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scene {
    pub(crate) parent: Source,
    pub(crate) target: Source,
    pub(crate) drawing: Drawing,
    pub(crate) frozen: bool,
    /// Ticks of OBS so far.
    pub(crate) tick: u64,
}

/// A picture that was not rendered for so many ticks of OBS was hidden, or the filter was off: what was known of it is
/// out of date. Ticks are counted, not time, because OBS itself may be late.
const GAP: u64 = 8;
/// A matte older than this is not drawn any more, in nanoseconds. In lowest latency the target has moved on, and the room would
/// show; in aligned, nothing would move.
const STALE: f64 = 1_000_000_000.0;
/// How many frames may wait for the network.
const WAITING_LOW: usize = 1;
/// As above; one more than the newest, so that one slow frame does not cost another its turn.
const WAITING_ALIGNED: usize = 2;
/// A picture is scaled down at most so much in one go: the shader's taps reach no further.
const LARGEST_STEP: u32 = 2;
/// Halvings before the blur.
const MAX_LEVELS: usize = 7;

/// Whether what is shown while no frame has an answer is that of a failure. An engine that was opened anew after failures says
/// that it is matting a little before its first matte can be shown: until then it stays as it was.
fn counts_as_failure(phase: Phase, had_target: bool, now: Now) -> bool {
    match phase {
        // The target is looked for again, in pictures of another size say.
        _ if had_target => true,
        Phase::Failed => true,
        // Where nothing is known of the picture, after it was hidden say, there is a target all the same.
        Phase::Matting => !matches!(now, Now::Without { failed: false, .. }),
        Phase::Waiting | Phase::Loading | Phase::Searching => false,
    }
}

/// What the picture shows now.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Now {
    /// The picture in this slot with the matte that lies in `full`.
    Matte { slot: usize },
    /// No matte; the policy decides about the picture in this slot.
    Without { slot: usize, failed: bool },
    /// Nothing was captured.
    Nothing,
}

#[derive(Debug)]
struct Staging {
    surfaces: [StageSurface; 2],
    /// Number, generation of the frame that each was filled with last and that was not read.
    pending: [Option<(u64, u64)>; 2],
    next: usize,
    small: TexRender,
    /// Steps on the way to the small picture, for large ones.
    steps: Vec<TexRender>,
    geometry: Geometry,
}

/// The GPU side of a filter.
#[derive(Debug)]
pub(crate) struct Render {
    effect: Option<Result<Effect, String>>,
    size: (u32, u32),
    space: ColorSpace,
    ring: Ring,
    captures: [Option<TexRender>; SLOTS],
    /// In lowest latency, the slot of the newest picture; a picture that was frozen stays in the other one until the next
    /// has a matte.
    low_slot: usize,
    staging: Option<Staging>,
    /// Mattes that came and are not shown yet.
    answers: Vec<Answer>,
    /// The matte that was uploaded: number and time of its frame, size.
    uploaded: Option<(u64, u64, (u32, u32))>,
    matte: Option<Texture>,
    parts: Parts,
    /// The worker, as it was seen last.
    glance: Glance,
    /// The time between two frames of OBS.
    interval: Duration,
    /// The matte at full size.
    full: Option<TexRender>,
    /// For filters along one axis after the other.
    half_way: Option<TexRender>,
    behind: Vec<TexRender>,
    behind_spare: Option<TexRender>,
    /// Which of `behind` holds the finished blur.
    blurred: Option<usize>,
    wanted: Option<(u32, u32)>,
    last_frame: u64,
    last_tick: u64,
    mode: Mode,
    /// When the frames were captured that are on their way to the network and back: number, time.
    sent: Vec<(u64, u64)>,
    counter: u64,
    now: Now,
    /// The drawing that `full` and `behind` were made for.
    prepared: Option<Drawing>,
    own: Times,
    own_cpu: Times,
    drawing_calls: Times,
    readback: Times,
    delay_ms: f64,
    captured: u64,
    frozen: bool,
    /// When the last freeze ended.
    thawed: u64,
}

/// A texrender of this format, made when it is first needed.
fn ensure<'a>(
    slot: &'a mut Option<TexRender>,
    graphics: &Graphics,
    format: Format,
) -> Option<&'a mut TexRender> {
    if slot.is_none() {
        *slot = TexRender::new(graphics, format);
    }
    slot.as_mut()
}

fn pair((width, height): (u32, u32)) -> [f32; 2] {
    [width as f32, height as f32]
}

/// Time of the wall clock, in which other threads may have had the core, and of this thread on the CPU.
#[derive(Debug, Clone, Copy, Default)]
struct Spent {
    wall: Duration,
    cpu: Duration,
}

/// What `body` takes.
fn timed<R>(body: impl FnOnce() -> R) -> (R, Spent) {
    let (wall, cpu) = (Instant::now(), ThreadTime::try_now().ok());
    let result = body();
    let spent = Spent {
        wall: wall.elapsed(),
        // A system that does not count it reports none.
        cpu: cpu
            .and_then(|start| start.try_elapsed().ok())
            .unwrap_or_default(),
    };
    (result, spent)
}

/// What of the time is not the filter's own work.
#[derive(Debug, Default)]
struct Clock {
    excluded: Spent,
    /// Part of what is excluded: calls that draw the filter's passes.
    drawing: Duration,
}

impl Clock {
    fn drawing<R>(&mut self, body: impl FnOnce() -> R) -> R {
        let (result, spent) = self.leave_out(body);
        self.drawing += spent.wall;
        result
    }

    fn exclude<R>(&mut self, body: impl FnOnce() -> R) -> R {
        self.leave_out(body).0
    }

    fn leave_out<R>(&mut self, body: impl FnOnce() -> R) -> (R, Spent) {
        let (result, spent) = timed(body);
        self.excluded.wall += spent.wall;
        self.excluded.cpu += spent.cpu;
        (result, spent)
    }

    /// The rest of all that was spent.
    fn own(&self, all: Spent) -> Spent {
        Spent {
            wall: all.wall.saturating_sub(self.excluded.wall),
            cpu: all.cpu.saturating_sub(self.excluded.cpu),
        }
    }
}

impl Render {
    pub(crate) fn new() -> Self {
        Self {
            effect: None,
            size: (0, 0),
            space: ColorSpace::Srgb,
            ring: Ring::new(),
            captures: [const { None }; SLOTS],
            low_slot: 0,
            staging: None,
            answers: Vec::with_capacity(SLOTS),
            uploaded: None,
            matte: None,
            parts: Parts::default(),
            glance: Glance::default(),
            interval: Duration::ZERO,
            full: None,
            half_way: None,
            behind: Vec::new(),
            behind_spare: None,
            blurred: None,
            wanted: None,
            last_frame: 0,
            last_tick: 0,
            mode: Mode::Low,
            sent: Vec::with_capacity(SLOTS),
            counter: 0,
            now: Now::Nothing,
            prepared: None,
            own: Times::new(),
            own_cpu: Times::new(),
            drawing_calls: Times::new(),
            readback: Times::new(),
            delay_ms: 0.0,
            captured: 0,
            frozen: false,
            thawed: 0,
        }
    }

    /// Draws the filter once; the first time in a frame of OBS everything is brought up to date.
    pub(crate) fn draw(&mut self, graphics: &Graphics, scene: &Scene, shared: &Shared) {
        let size = scene.target.base_size();
        if size.0 == 0 || size.1 == 0 {
            return;
        }
        // The effect is taken out while it is used, so that the rest of `self` may change.
        let effect = match self.effect.take() {
            None => open_effect(),
            Some(effect) => effect,
        };
        if let Ok(effect) = &effect {
            let time = video_frame_time();
            if time != self.last_frame {
                let mut clock = Clock::default();
                let ((), all) = timed(|| {
                    self.frame(graphics, effect, scene, shared, size, time, &mut clock);
                });
                let own = clock.own(all);
                self.own.add(own.wall);
                self.own_cpu.add(own.cpu);
                self.drawing_calls.add(clock.drawing);
            }
            if self.prepared != Some(scene.drawing) {
                self.prepare(graphics, effect, &scene.drawing);
            }
            self.compose(graphics, effect, &scene.drawing);
        }
        self.effect = Some(effect);
    }

    /// What the status shows.
    pub(crate) fn tell(&self, status: &mut status::Render) {
        // Percentiles sort: not every frame.
        if !self.captured.is_multiple_of(16) && status.captured != 0 {
            status.frozen = self.frozen;
            return;
        }
        *status = status::Render {
            delay_ms: self.delay_ms,
            captured: self.captured,
            own_p50_ms: self.own.percentile(0.5),
            own_p95_ms: self.own.percentile(0.95),
            drawing_p95_ms: self.drawing_calls.percentile(0.95),
            own_max_ms: self.own.longest.as_secs_f64() * 1e3,
            own_cpu_p95_ms: self.own_cpu.percentile(0.95),
            own_cpu_max_ms: self.own_cpu.longest.as_secs_f64() * 1e3,
            readback_p95_ms: self.readback.percentile(0.95),
            frozen: self.frozen,
            problem: match &self.effect {
                Some(Err(e)) => Some(e.clone()),
                _ => None,
            },
        };
    }

    fn forget(&mut self, shared: &Shared) {
        self.ring.clear();
        self.sent.clear();
        for answer in self.answers.drain(..) {
            shared.give_back(answer.picture.rgba);
        }
        self.uploaded = None;
        self.now = Now::Nothing;
        if let Some(staging) = &mut self.staging {
            staging.pending = [None; 2];
        }
    }

    #[allow(clippy::too_many_arguments, reason = "all of them are the one frame")]
    fn frame(
        &mut self,
        graphics: &Graphics,
        effect: &Effect,
        scene: &Scene,
        shared: &Shared,
        size: (u32, u32),
        time: u64,
        clock: &mut Clock,
    ) {
        let gap = scene.tick.saturating_sub(self.last_tick) > GAP;
        self.interval = Duration::from_nanos(time.saturating_sub(self.last_frame));
        (self.last_frame, self.last_tick) = (time, scene.tick);
        let thaws = std::mem::replace(&mut self.frozen, scene.frozen) && !scene.frozen;
        if scene.frozen && self.now != Now::Nothing {
            return;
        }
        if thaws {
            self.thawed = time;
            if self.mode == Mode::Low {
                self.thaw(shared, time);
            }
        }
        let space = scene.target.color_space();
        if size != self.size || space.format() != self.space.format() {
            self.captures = [const { None }; SLOTS];
            (self.full, self.half_way, self.behind_spare) = (None, None, None);
            self.behind.clear();
            if let Some(staging) = &mut self.staging {
                staging.steps.clear();
            }
        }
        if size != self.size || space != self.space || gap || scene.drawing.mode != self.mode {
            self.forget(shared);
            (self.size, self.space, self.mode) = (size, space, scene.drawing.mode);
        }
        if self.wanted != Some(size) {
            self.wanted = shared.want(size).then_some(size);
        }
        self.glance = shared.glance().unwrap_or(self.glance);
        let geometry = self.glance.geometry.filter(|g| g.source == size);
        if geometry.is_none() {
            self.staging = None;
            // Nothing that was made before the model was chosen may be shown.
            self.drop_mattes(shared);
        }
        if let Some(geometry) = geometry
            && self.staging.as_ref().is_none_or(|s| s.geometry != geometry)
        {
            self.drop_mattes(shared);
            self.staging = Staging::new(graphics, geometry);
        }
        self.collect(shared);
        let captured = self.capture(graphics, scene, time, clock);
        if let Some((slot, id)) = captured
            && self.staging.is_some()
        {
            self.send(graphics, effect, shared, slot, id, clock);
        }
        self.choose(graphics, shared, time);
        clock.drawing(|| self.prepare(graphics, effect, &scene.drawing));
    }

    /// Goes on after a freeze: what was on its way to the network is of before, and what is shown stays until the first
    /// picture of after has a matte.
    fn thaw(&mut self, shared: &Shared, time: u64) {
        self.sent.clear();
        for answer in self.answers.drain(..) {
            shared.give_back(answer.picture.rgba);
        }
        if let Some(staging) = &mut self.staging {
            staging.pending = [None; 2];
        }
        if let (Now::Matte { slot }, Some((_, captured, _))) = (self.now, &mut self.uploaded) {
            // It has been shown all the while: only from now on does it grow old.
            *captured = time;
            self.low_slot = 1 - slot;
        }
    }

    fn drop_mattes(&mut self, shared: &Shared) {
        self.uploaded = None;
        for answer in self.answers.drain(..) {
            shared.give_back(answer.picture.rgba);
        }
        if matches!(self.now, Now::Matte { .. }) {
            self.now = Now::Nothing;
        }
        self.ring.clear();
        self.sent.clear();
    }

    /// Takes what the worker has finished.
    fn collect(&mut self, shared: &Shared) {
        let generation = self.staging.as_ref().map(|s| s.geometry.generation);
        while let Some(answer) = shared.take_answer() {
            let id = answer.picture.id;
            let known = Some(answer.picture.generation) == generation
                && match self.mode {
                    Mode::Aligned => self.ring.answered(id, answer.verdict),
                    Mode::Low => self.sent.iter().any(|(sent, _)| *sent == id),
                };
            if !known {
                shared.give_back(answer.picture.rgba);
                continue;
            }
            if self.mode == Mode::Low {
                for old in self.answers.drain(..) {
                    shared.give_back(old.picture.rgba);
                }
            }
            self.answers.push(answer);
        }
    }

    /// The target as it is now, into a slot.
    fn capture(
        &mut self,
        graphics: &Graphics,
        scene: &Scene,
        time: u64,
        clock: &mut Clock,
    ) -> Option<(usize, u64)> {
        let (slot, id) = match self.mode {
            Mode::Aligned => self.ring.capture(time)?,
            Mode::Low => {
                self.counter += 1;
                (self.low_slot, self.counter)
            }
        };
        let (size, space) = (self.size, self.space);
        let target = ensure(&mut self.captures[slot], graphics, space.format())?;
        let drawn = clock.exclude(|| {
            target.draw(graphics, size, space, Blend::Source, || {
                scene.target.draw_as_target(graphics, scene.parent);
            })
        });
        if !drawn {
            self.ring.dropped(id);
            return None;
        }
        self.captured += 1;
        Some((slot, id))
    }

    /// Scales the captured picture down and begins to read it back; hands over the one that was begun a frame ago.
    fn send(
        &mut self,
        graphics: &Graphics,
        effect: &Effect,
        shared: &Shared,
        slot: usize,
        id: u64,
        clock: &mut Clock,
    ) {
        let Some(staging) = &mut self.staging else {
            return;
        };
        let Some(picture) = self.captures[slot].as_ref().and_then(TexRender::texture) else {
            return;
        };
        let previous = 1 - staging.next;
        if let Some((id, generation)) = staging.pending[previous].take() {
            let mut rgba = shared.buffer();
            let (read, spent) =
                clock.leave_out(|| staging.surfaces[previous].read(graphics, &mut rgba));
            self.readback.add(spent.wall);
            if read {
                let picture = Picture {
                    id,
                    generation,
                    size: staging.geometry.picture,
                    rgba,
                    parts: Parts::default(),
                };
                let capacity = match self.mode {
                    Mode::Low => WAITING_LOW,
                    Mode::Aligned => WAITING_ALIGNED,
                };
                if let Some(replaced) = shared.send(picture, capacity) {
                    self.ring.dropped(replaced);
                    self.sent.retain(|(sent, _)| *sent != replaced);
                }
            } else {
                shared.give_back(rgba);
                self.ring.dropped(id);
                self.sent.retain(|(sent, _)| *sent != id);
            }
        }
        // It is read a frame later. In lowest latency only the newest frame counts, so one that would have to wait then
        // need not be made.
        if self.mode == Mode::Low && !self.glance.is_free_in(2 * self.interval) {
            return;
        }
        let (size, space) = (self.size, self.space);
        if clock.drawing(|| staging.shrink(graphics, effect, picture, size, space))
            && let Some(small) = staging.small.texture()
        {
            clock.drawing(|| staging.surfaces[staging.next].stage(graphics, small));
            staging.pending[staging.next] = Some((id, staging.geometry.generation));
            staging.next = previous;
            if self.mode == Mode::Low {
                self.sent.push((id, self.last_frame));
            }
        } else {
            self.ring.dropped(id);
        }
    }

    /// Decides what to show and uploads its matte.
    fn choose(&mut self, graphics: &Graphics, shared: &Shared, time: u64) {
        if self.staging.is_none() {
            let failed = self.glance.phase == Phase::Failed || self.glance.had_target;
            self.now = match self.newest_slot() {
                Some(slot) => Now::Without { slot, failed },
                None => Now::Nothing,
            };
            return;
        }
        match self.mode {
            Mode::Aligned => self.choose_aligned(graphics, shared, time),
            Mode::Low => self.choose_low(graphics, shared, time),
        }
    }

    fn newest_slot(&self) -> Option<usize> {
        match self.mode {
            Mode::Low => self.captures[self.low_slot].as_ref().map(|_| self.low_slot),
            Mode::Aligned => self.ring.newest_slot().map(|(slot, _)| slot),
        }
    }

    fn choose_aligned(&mut self, graphics: &Graphics, shared: &Shared, time: u64) {
        let failed = counts_as_failure(self.glance.phase, self.glance.had_target, self.now);
        let Some(Shown {
            slot,
            id,
            time: captured,
            verdict,
        }) = self.ring.show()
        else {
            self.now = self
                .newest_slot()
                .map_or(Now::Nothing, |slot| Now::Without { slot, failed });
            return;
        };
        self.delay_ms = time.saturating_sub(captured) as f64 / 1e6;
        // What was frozen was to stand still.
        if time.saturating_sub(captured.max(self.thawed)) as f64 > self.oldest() {
            // The network has stopped answering: a picture that stands still is no better than none.
            let slot = self.newest_slot().unwrap_or(slot);
            self.now = Now::Without { slot, failed: true };
            return;
        }
        if let Some(index) = self.answers.iter().position(|a| a.picture.id == id) {
            // Those before it were passed over.
            for mut answer in self.answers.drain(..=index) {
                if answer.picture.id == id && verdict == Verdict::Matte {
                    upload(
                        &mut self.matte,
                        &mut self.parts,
                        &mut self.uploaded,
                        graphics,
                        &mut answer.picture,
                        captured,
                    );
                }
                shared.give_back(answer.picture.rgba);
            }
        }
        self.now = match verdict {
            Verdict::Matte if self.uploaded.is_some_and(|(uploaded, ..)| uploaded == id) => {
                Now::Matte { slot }
            }
            Verdict::Matte | Verdict::Failed => Now::Without { slot, failed: true },
            Verdict::BeforeSeed => Now::Without {
                slot,
                failed: false,
            },
        };
    }

    /// A matte older than this, in nanoseconds, is not drawn.
    fn oldest(&self) -> f64 {
        STALE.max(4e6 * self.glance.inference_p95_ms)
    }

    fn choose_low(&mut self, graphics: &Graphics, shared: &Shared, time: u64) {
        let slot = self.low_slot;
        if let Some(mut answer) = self.answers.pop() {
            let id = answer.picture.id;
            let captured = self
                .sent
                .iter()
                .find(|(sent, _)| *sent == id)
                .map_or(time, |(_, time)| *time);
            self.sent.retain(|(sent, _)| *sent > id);
            match answer.verdict {
                Verdict::Matte => {
                    upload(
                        &mut self.matte,
                        &mut self.parts,
                        &mut self.uploaded,
                        graphics,
                        &mut answer.picture,
                        captured,
                    );
                    self.now = Now::Matte { slot };
                }
                verdict => {
                    self.uploaded = None;
                    self.now = Now::Without {
                        slot,
                        failed: verdict == Verdict::Failed,
                    };
                }
            }
            shared.give_back(answer.picture.rgba);
        }
        match (self.uploaded, self.now) {
            (Some((_, captured, _)), Now::Matte { .. }) => {
                let age = time.saturating_sub(captured) as f64;
                self.delay_ms = age / 1e6;
                if age > self.oldest() {
                    self.uploaded = None;
                    self.now = Now::Without { slot, failed: true };
                }
            }
            (_, Now::Without { .. }) => {}
            _ => {
                let failed = counts_as_failure(self.glance.phase, self.glance.had_target, self.now);
                self.now = Now::Without { slot, failed };
            }
        }
    }

    /// The matte at full size, its edges, and the blurred background.
    fn prepare(&mut self, graphics: &Graphics, effect: &Effect, drawing: &Drawing) {
        self.prepared = Some(*drawing);
        self.blurred = None;
        let Now::Matte { slot } = self.now else {
            return;
        };
        if !self.enlarge(graphics, effect, drawing, slot) {
            self.now = Now::Without { slot, failed: true };
            return;
        }
        let unit = [1.0 / self.size.0 as f32, 1.0 / self.size.1 as f32];
        for (technique, radius) in [
            (c"Shift", drawing.edge_shift),
            (c"Soften", drawing.edge_softness),
        ] {
            if radius != 0.0 {
                for direction in [[unit[0], 0.0], [0.0, unit[1]]] {
                    self.along(graphics, effect, technique, direction, radius);
                }
            }
        }
        if drawing.background == Background::Blur && drawing.view == View::Result {
            self.blur(graphics, effect, drawing, slot);
        }
    }

    fn enlarge(
        &mut self,
        graphics: &Graphics,
        effect: &Effect,
        drawing: &Drawing,
        slot: usize,
    ) -> bool {
        let (size, space) = (self.size, self.space);
        let (Some((_, _, matte_size)), Some(matte)) = (self.uploaded, &self.matte) else {
            return false;
        };
        let Some(picture) = self.captures[slot].as_ref().and_then(TexRender::texture) else {
            return false;
        };
        let refine = match space {
            ColorSpace::Srgb => c"Refine",
            _ => c"RefineLinear",
        };
        let full_alpha = (c"colour", Value::Vector([1.0; 4]));
        let matte = (c"matte", Value::Texture(matte.as_ref()));
        let values = [
            (c"image", Value::Texture(picture)),
            matte,
            (c"matte_size", Value::Pair(pair(matte_size))),
        ];
        let parts = &self.parts;
        let Some(full) = ensure(&mut self.full, graphics, Format::R8) else {
            return false;
        };
        let mut drawn = false;
        draw_raw(graphics, || {
            drawn = full.draw(graphics, size, ColorSpace::Srgb, Blend::Clear, || {
                // A matte of the picture's own size that was made from it has its edges, too: the engine has drawn them.
                let has_edges = drawing.mode == Mode::Aligned && matte_size == size;
                if drawing.refine && !has_edges {
                    // What is in no part is empty, as it was cleared.
                    effect.draw_parts(graphics, c"DrawSolid", &[full_alpha], size, &parts.full);
                    effect.draw_parts(graphics, refine, &values, size, &parts.edges);
                } else {
                    effect.draw(graphics, c"Enlarge", &[matte], size);
                }
            });
        });
        drawn
    }

    /// A filter along one axis over the matte at full size.
    fn along(
        &mut self,
        graphics: &Graphics,
        effect: &Effect,
        technique: &CStr,
        direction: [f32; 2],
        radius: f32,
    ) {
        let size = self.size;
        let Some(source) = self.full.as_ref().and_then(TexRender::texture) else {
            return;
        };
        let Some(target) = ensure(&mut self.half_way, graphics, Format::R8) else {
            return;
        };
        let mut drawn = false;
        draw_raw(graphics, || {
            drawn = target.draw(graphics, size, ColorSpace::Srgb, Blend::Replace, || {
                effect.draw(
                    graphics,
                    technique,
                    &[
                        (c"alpha", Value::Texture(source)),
                        (c"direction", Value::Pair(direction)),
                        (c"radius", Value::Float(radius)),
                    ],
                    size,
                );
            });
        });
        if drawn {
            std::mem::swap(&mut self.full, &mut self.half_way);
        }
    }

    /// Halves the picture without the target until the blur is a few pixels wide, then blurs.
    fn blur(&mut self, graphics: &Graphics, effect: &Effect, drawing: &Drawing, slot: usize) {
        let sigma = drawing.background_blur / 20.0 * self.size.0.max(self.size.1) as f32;
        let (mut levels, mut scaled) = (1, sigma / 2.0);
        while scaled > 4.0 && levels < MAX_LEVELS {
            levels += 1;
            scaled /= 2.0;
        }
        while self.behind.len() < levels {
            match TexRender::new(graphics, Format::Rgba16F) {
                Some(target) => self.behind.push(target),
                None => return,
            }
        }
        let Some(spare) = ensure(&mut self.behind_spare, graphics, Format::Rgba16F) else {
            return;
        };
        let (Some(picture), Some(alpha)) = (
            self.captures[slot].as_ref().and_then(TexRender::texture),
            self.full.as_ref().and_then(TexRender::texture),
        ) else {
            return;
        };
        let (full, space, behind) = (self.size, self.space, &mut self.behind);
        let half = |(w, h): (u32, u32)| ((w / 2).max(1), (h / 2).max(1));
        let mut size = full;
        draw_raw(graphics, || {
            for level in 0..levels {
                size = half(size);
                let (before, rest) = behind.split_at_mut(level);
                let values: [(&CStr, Value<'_>); 2] = match before.last().map(TexRender::texture) {
                    None => [
                        (c"image", light(picture, space)),
                        (c"alpha", Value::Texture(alpha)),
                    ],
                    Some(Some(last)) => [
                        (c"behind", Value::Texture(last)),
                        (c"alpha", Value::Texture(alpha)),
                    ],
                    Some(None) => return,
                };
                let technique = if level == 0 {
                    c"BehindFirst"
                } else {
                    c"BehindHalf"
                };
                rest[0].draw(graphics, size, ColorSpace::Srgb16F, Blend::Replace, || {
                    effect.draw(graphics, technique, &values, size);
                });
            }
            let unit = [1.0 / size.0 as f32, 1.0 / size.1 as f32];
            let last = &mut behind[levels - 1];
            for (direction, there) in [([unit[0], 0.0], true), ([0.0, unit[1]], false)] {
                let (source, target) = if there {
                    (&mut *last, &mut *spare)
                } else {
                    (&mut *spare, &mut *last)
                };
                let Some(texture) = source.texture() else {
                    return;
                };
                target.draw(graphics, size, ColorSpace::Srgb16F, Blend::Replace, || {
                    effect.draw(
                        graphics,
                        c"BehindBlur",
                        &[
                            (c"behind", Value::Texture(texture)),
                            (c"direction", Value::Pair(direction)),
                            (c"radius", Value::Float(scaled.max(0.1))),
                        ],
                        size,
                    );
                });
            }
        });
        self.blurred = Some(levels - 1);
    }

    /// Draws what there is onto what OBS renders.
    fn compose(&self, graphics: &Graphics, effect: &Effect, drawing: &Drawing) {
        let size = self.size;
        let [red, green, blue] = drawing.background_colour.map(to_light);
        let bind = |texture| light(texture, self.space);
        let draw = |technique: &CStr, values: &[(&CStr, Value<'_>)]| {
            draw_premultiplied(graphics, || {
                effect.draw(graphics, technique, values, size);
            });
        };
        let picture = |slot: usize| self.captures[slot].as_ref().and_then(TexRender::texture);
        match self.now {
            Now::Matte { slot } => {
                let (Some(image), Some(alpha)) = (
                    picture(slot),
                    self.full.as_ref().and_then(TexRender::texture),
                ) else {
                    return;
                };
                let technique = match (drawing.view, drawing.background) {
                    (View::Matte, _) => c"DrawMatte",
                    (View::Checkerboard, _) => c"DrawChecker",
                    (View::Result, Background::Transparent) => c"Draw",
                    (View::Result, Background::Colour) => c"DrawColour",
                    (View::Result, Background::Blur) => c"DrawBlur",
                };
                let behind = match technique == c"DrawBlur" {
                    true => match self.blurred.and_then(|level| self.behind[level].texture()) {
                        Some(behind) => behind,
                        None => return,
                    },
                    false => image,
                };
                if technique == c"Draw" && drawing.keeps_edges() {
                    // What is empty need not be drawn.
                    let values = [(c"image", bind(image)), (c"alpha", Value::Texture(alpha))];
                    draw_premultiplied(graphics, || {
                        let (full, edges) = (&self.parts.full, &self.parts.edges);
                        effect.draw_parts(graphics, c"DrawPicture", &values[..1], size, full);
                        effect.draw_parts(graphics, c"Draw", &values, size, edges);
                    });
                    return;
                }
                draw(
                    technique,
                    &[
                        (c"image", bind(image)),
                        (c"alpha", Value::Texture(alpha)),
                        (c"behind", Value::Texture(behind)),
                        (c"image_size", Value::Pair(pair(size))),
                        (c"colour", Value::Vector([red, green, blue, 1.0])),
                    ],
                );
            }
            Now::Without { slot, failed } => {
                let policy = if failed {
                    drawing.on_failure
                } else {
                    drawing.before_seed
                };
                match (policy, drawing.view, drawing.background) {
                    (Policy::Show, View::Result | View::Checkerboard, _) => {
                        if let Some(image) = picture(slot) {
                            draw(c"DrawPicture", &[(c"image", bind(image))]);
                        }
                    }
                    (_, View::Matte, _) => {
                        draw(
                            c"DrawSolid",
                            &[(c"colour", Value::Vector([0.0, 0.0, 0.0, 1.0]))],
                        );
                    }
                    (Policy::Hide, View::Result, Background::Colour) => {
                        draw(
                            c"DrawSolid",
                            &[(c"colour", Value::Vector([red, green, blue, 1.0]))],
                        );
                    }
                    // A blur of all that is there would show the room.
                    (Policy::Hide, ..) => {}
                }
            }
            Now::Nothing => {}
        }
    }
}

/// Why the shaders cannot be used: libobs does not bear a second attempt at a file that failed.
static BROKEN: Mutex<Option<String>> = Mutex::new(None);

fn open_effect() -> Result<Effect, String> {
    let mut broken = BROKEN.lock();
    if let Some(error) = &*broken {
        return Err(error.clone());
    }
    let effect = module_file("matte.effect")
        .ok_or_else(|| "matte.effect is missing from the plugin's data folder".to_owned())
        .and_then(|path| Effect::open(&path));
    if let Err(e) = &effect {
        log::error!("{e}");
        *broken = Some(e.clone());
    }
    effect
}

/// A picture bound so that light is sampled.
fn light(texture: TextureRef<'_>, space: ColorSpace) -> Value<'_> {
    match space {
        ColorSpace::Srgb => Value::TextureSrgb(texture),
        ColorSpace::Srgb16F | ColorSpace::Rec709Extended => Value::Texture(texture),
    }
}

/// An encoded value as light.
fn to_light(value: f32) -> f32 {
    if value <= 0.04045 {
        value / 12.92
    } else {
        ((value + 0.055) / 1.055).powf(2.4)
    }
}

fn upload(
    matte: &mut Option<Texture>,
    parts: &mut Parts,
    uploaded: &mut Option<(u64, u64, (u32, u32))>,
    graphics: &Graphics,
    picture: &mut Picture,
    captured: u64,
) {
    if uploaded.is_none_or(|(.., size)| size != picture.size) {
        *matte = None;
    }
    if matte.is_none() {
        *matte = Texture::new(graphics, picture.size);
    }
    let filled = matte
        .as_mut()
        .is_some_and(|texture| texture.fill(graphics, &picture.rgba));
    *parts = std::mem::take(&mut picture.parts);
    *uploaded = filled.then_some((picture.id, captured, picture.size));
}

impl Staging {
    fn new(graphics: &Graphics, geometry: Geometry) -> Option<Self> {
        let surface = || StageSurface::new(graphics, geometry.picture);
        Some(Self {
            surfaces: [surface()?, surface()?],
            pending: [None; 2],
            next: 0,
            small: TexRender::new(graphics, Format::Rgba)?,
            steps: Vec::new(),
            geometry,
        })
    }

    /// The picture at the size that the worker takes, encoded, in `small`.
    fn shrink(
        &mut self,
        graphics: &Graphics,
        effect: &Effect,
        picture: TextureRef<'_>,
        mut size: (u32, u32),
        space: ColorSpace,
    ) -> bool {
        let wanted = self.geometry.picture;
        let too_large =
            |(w, h): (u32, u32)| w > wanted.0 * LARGEST_STEP || h > wanted.1 * LARGEST_STEP;
        let technique = match space {
            ColorSpace::Srgb => c"Shrink",
            _ => c"ShrinkLinear",
        };
        let (small, steps) = (&mut self.small, &mut self.steps);
        let mut drawn = false;
        draw_raw(graphics, || {
            let mut used = 0;
            while too_large(size) {
                if steps.len() == used {
                    match TexRender::new(graphics, space.format()) {
                        Some(step) => steps.push(step),
                        None => return,
                    }
                }
                let next = (size.0.div_ceil(2), size.1.div_ceil(2));
                let (before, rest) = steps.split_at_mut(used);
                let source = match before.last() {
                    Some(step) => step.texture(),
                    None => Some(picture),
                };
                let Some(source) = source else {
                    return;
                };
                rest[0].draw(graphics, next, space, Blend::Replace, || {
                    effect.draw(
                        graphics,
                        c"BehindHalf",
                        &[(c"behind", Value::Texture(source))],
                        next,
                    );
                });
                size = next;
                used += 1;
            }
            let source = match used.checked_sub(1) {
                Some(last) => steps[last].texture(),
                None => Some(picture),
            };
            let Some(source) = source else {
                return;
            };
            drawn = small.draw(graphics, wanted, ColorSpace::Srgb, Blend::Replace, || {
                effect.draw(
                    graphics,
                    technique,
                    &[
                        (c"image", Value::Texture(source)),
                        (c"image_size", Value::Pair(pair(size))),
                        (c"target_size", Value::Pair(pair(wanted))),
                    ],
                    wanted,
                );
            });
        });
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_opened_anew_shows_what_a_failure_shows() {
        let without = |failed| Now::Without { slot: 0, failed };
        let mut now = without(true);
        // Failing, opened anew, and with a matte that cannot be shown so far.
        for phase in [Phase::Failed, Phase::Failed, Phase::Matting, Phase::Matting] {
            now = without(counts_as_failure(phase, false, now));
            assert_eq!(now, without(true), "{phase:?}");
        }
        // The last matte was dropped before its failure was seen.
        assert!(counts_as_failure(Phase::Failed, false, Now::Nothing));
        // At the start, and where the target has to be taken again.
        for phase in [Phase::Waiting, Phase::Loading, Phase::Searching] {
            assert!(!counts_as_failure(phase, false, without(true)), "{phase:?}");
            assert!(counts_as_failure(phase, true, without(false)), "{phase:?}");
        }
        assert!(!counts_as_failure(Phase::Matting, false, without(false)));
        // A source that comes back has a target, whose matte is still to come.
        assert!(counts_as_failure(Phase::Matting, false, Now::Nothing));
    }
}
