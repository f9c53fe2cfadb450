//! A stream from `start` to `stop`: which engine is used, and what each frame shows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gst_video::VideoInfo;
use matte_core::{
    Error, Frame, MaskImage, Matter, Options, OutputMut, Policy, Renderer, SeedMode, Stats,
};

use super::actions::{Action, OwnedMask};
use super::engine::{
    CARRIED, Engine, FAILURES, FIRST_TARGET, Input, Lost, Mattes, News, Opening, Orders, Own,
    Shown, as_mask, boxed, shows_target,
};
use super::errors::{error_message, lost};
use super::frames::{Picture, Stream};
use super::latency::Times;
use super::loader::{Loader, Outcome, Target, Urgency};
use super::properties::{LatencyMode, Seed, Settings};

/// More actions than these wait for no frame.
pub(super) const MOST_ACTIONS: usize = 64;
/// Time until opening the engine anew is tried again; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// A target that was out of the picture is seen for so many frames before another engine takes it over: the first of them
/// show an arm at the border.
const STEADY: u32 = 30;

/// What a frame shows while there is no engine.
pub(super) enum Without {
    /// It waits for this one.
    Wait(Target),
    /// What the policy says.
    Show(Policy),
    /// Nothing; the reason has been told.
    Stop,
}

/// Statistics of the engine, and median, 99th percentile and mean of drawing.
pub(super) type StatsOf = (Stats, [Duration; 3]);

/// The worker has the engine.
#[derive(Debug)]
pub(super) struct Busy;

/// How the last frame went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    /// There has not been one that the engine has looked at.
    None,
    Matted,
    BeforeSeed,
    Failed,
}

/// From `start` to `stop`.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each says something of its own; no two make up one state"
)]
pub(super) struct State {
    pub(super) stream: Option<Arc<Stream>>,
    engine: Option<Engine>,
    /// What the engine has been opened with.
    opened: Option<Target>,
    /// What the loader is opening.
    asked: Option<Target>,
    /// An engine that is open and waits until the one in use has something to hand over.
    ready: Option<(Target, Box<Matter>)>,
    /// Frames, one after the other, since something can be handed over again; none while nothing waits.
    seen_again: Option<u32>,
    /// Engines that are not used any more, to be freed elsewhere.
    unused: Vec<Box<dyn Send>>,
    /// What could not be opened.
    refused: Option<Target>,
    /// An engine has been there since `start`.
    pub(super) ever_opened: bool,
    /// An error has been told that ends the stream.
    pub(super) ended: bool,
    renderer: Renderer,
    drawing: Times,
    /// The newest mattes.
    mattes: Mattes,
    /// The engine in use has taken another's place, and does not know its target yet.
    carries: bool,
    /// The newest matte is of before a flush.
    is_stale: bool,
    last: Last,
    /// Options that engine and renderer have.
    options: Options,
    /// Target that is shown, or all (0).
    show_target: u64,
    /// Options that the engine has not been given yet.
    new_options: bool,
    /// What `mask-location` was when the mask was read.
    mask_location: Option<String>,
    mask: Option<MaskImage>,
    /// The mask is to name the target on the next frame.
    mask_waits: bool,
    /// How the target was named.
    named_by: Option<&'static str>,
    /// There was a target until the frame size changed; whether the frames are of another source is to be seen.
    was_named: bool,
    /// The mask has named the target of another source, and so says nothing about this one.
    mask_spent: bool,
    /// Actions that wait for the engine.
    actions: Vec<Action>,
    /// Further targets that the engine is to add and has told nothing about yet.
    handed: Vec<u64>,
    /// The engine has failed for good; a new one is to come.
    engine_lost: bool,
    /// Why the last frame failed.
    reason: String,
    /// `working-size` is none, which has been told.
    wrong_size: bool,
    /// Frames without a matte, one after the other, because the network failed; the first has been reported.
    failures: u32,
    attempt: u32,
    pause: Duration,
    /// No attempt before.
    not_before: Option<Instant>,
    pub(super) live: Option<bool>,
    news: Vec<News>,
}

impl State {
    pub(super) fn new(
        mask_location: Option<String>,
        mask: Option<MaskImage>,
        options: Options,
    ) -> Result<Self, Error> {
        Ok(Self {
            stream: None,
            engine: None,
            opened: None,
            asked: None,
            ready: None,
            seen_again: None,
            unused: Vec::new(),
            refused: None,
            ever_opened: false,
            ended: false,
            renderer: Renderer::new(&options)?,
            drawing: Times::default(),
            mattes: Mattes::default(),
            carries: false,
            is_stale: false,
            last: Last::None,
            options,
            show_target: 0,
            new_options: false,
            mask_location,
            mask_waits: mask.is_some(),
            mask,
            named_by: None,
            was_named: false,
            mask_spent: false,
            actions: Vec::new(),
            handed: Vec::new(),
            engine_lost: false,
            reason: String::new(),
            wrong_size: false,
            failures: 0,
            attempt: 0,
            pause: FIRST_PAUSE,
            not_before: None,
            live: None,
            news: Vec::new(),
        })
    }

    pub(super) fn has_engine(&self) -> bool {
        self.engine.is_some()
    }

    /// Takes out what may take long to be freed, for that to happen elsewhere.
    pub(super) fn take_slow(&mut self) -> Vec<Box<dyn Send>> {
        let engine = self.engine.take().map(boxed);
        let ready = self.ready.take().map(boxed);
        let begun = self.take_begun().into_iter().map(boxed);
        engine.into_iter().chain(ready).chain(begun).collect()
    }

    /// What there is to tell since this was asked last.
    pub(super) fn take_news(&mut self) -> Vec<News> {
        for news in &self.news {
            if let News::TargetAdded(id) | News::TargetRemoved(id) | News::TargetFailed(id, _) =
                news
            {
                self.handed.retain(|handed| handed != id);
            }
        }
        std::mem::take(&mut self.news)
    }

    /// The engine's statistics, and the times of drawing; none without an engine. While the worker has it, it is
    /// [`Busy`], unless somebody `waits` for it.
    pub(super) fn stats(&mut self, waits: bool) -> Result<Option<StatsOf>, Busy> {
        let Some(engine) = &mut self.engine else {
            return Ok(None);
        };
        if !waits && matches!(engine.is_at_rest(), Ok(false)) {
            return Err(Busy);
        }
        let unit = engine.unit().ok();
        Ok(unit.map(|unit| (unit.matter.stats(), self.drawing.summary())))
    }

    fn frame_size(&self) -> Option<(u32, u32)> {
        self.stream.as_ref().map(|stream| stream.size())
    }

    /// Takes frames of another kind from now on.
    pub(super) fn set_stream(&mut self, info: &VideoInfo, loader: &Loader) {
        let before = self.frame_size();
        let stream = Stream::new(info);
        let size = stream.size();
        self.stream = Some(Arc::new(stream));
        if before == Some(size) {
            return;
        }
        self.begin_anew(loader);
        let Some(engine) = &mut self.engine else {
            self.show_nothing();
            return;
        };
        // Cheap where the graphs stay; otherwise the loader opens new ones.
        let kept = engine.unit().is_ok_and(|unit| unit.resize(size));
        // What the worker has left is of the old size.
        let refused = matches!(
            engine.collect(&mut self.mattes, &mut self.news),
            Some(Err(_))
        );
        self.note_naming();
        self.show_nothing();
        if kept {
            // A mask that did not fit frames of the old size may fit these.
            self.mask_waits |= refused && self.named_by.is_none() && self.has_mask();
            if let Some(opened) = &mut self.opened {
                opened.frame_size = Some(size);
            }
        } else {
            self.drop_engine(loader);
            self.was_named |= self.named_by.take().is_some();
            self.mask_waits = self.has_mask();
        }
    }

    /// Gives up the engines that are being opened for targets to be added: they would not be as the one in use.
    fn begin_anew(&mut self, loader: &Loader) {
        for opening in self.take_begun() {
            loader.discard(Box::new(opening));
        }
    }

    fn take_begun(&mut self) -> Vec<Opening> {
        let begun = |action: &mut Action| match action {
            Action::AddTarget { begun, .. } => begun.take(),
            _ => None,
        };
        self.actions.iter_mut().filter_map(begun).collect()
    }

    fn drop_engine(&mut self, loader: &Loader) {
        self.opened = None;
        if let Some(engine) = self.engine.take() {
            self.discard(engine, loader);
        }
    }

    /// Frees an engine; what only it knows is told to be gone.
    fn discard(&mut self, mut engine: Engine, loader: &Loader) {
        match engine.unit() {
            Ok(unit) => {
                if unit.has_references() {
                    self.news.push(News::ReferencesGone);
                }
                self.news.extend(unit.others().map(News::TargetRemoved));
            }
            Err(Lost) => self.tell_loss(),
        }
        loader.discard(Box::new(engine));
    }

    /// Whatever an engine that is lost knew is gone.
    fn tell_loss(&mut self) {
        let handed = std::mem::take(&mut self.handed);
        self.news
            .extend([News::ReferencesGone, News::TargetsGone(handed)]);
    }

    /// Takes over what the properties say now, and an engine that has become ready.
    pub(super) fn update(&mut self, settings: &Settings, loader: &Loader) {
        self.ask(settings, loader);
        let is_unwanted = |(target, _): &mut (Target, _)| self.asked.as_ref() != Some(target);
        if let Some(unwanted) = self.ready.take_if(is_unwanted) {
            loader.discard(Box::new(unwanted));
        }
        match self.asked.as_ref().and_then(|asked| loader.take(asked)) {
            None => {}
            Some(Outcome::Failed(reason)) => {
                self.refused = self.asked.take();
                if self.engine.is_some() {
                    self.news.push(News::Warning(format!(
                        "the engine stays as it was: {reason}"
                    )));
                }
                self.back_off();
            }
            Some(Outcome::Ready(matter)) => {
                self.ready = self.asked.clone().map(|target| (target, matter));
                self.seen_again = None;
            }
            Some(Outcome::StandIn(backend, matter)) => {
                // What was asked for is still under way.
                let lent = |asked: &Target| Target {
                    backend,
                    ..asked.clone()
                };
                self.opened = self.asked.as_ref().map(lent);
                self.adopt(*matter, loader);
            }
        }
        if self.ready.is_some()
            && self.may_change_engines(settings.latency_mode)
            && let Some((_, matter)) = self.ready.take()
        {
            self.opened = self.asked.take();
            self.adopt(*matter, loader);
        }
        for unused in self.unused.drain(..) {
            loader.discard(unused);
        }
        // After that: what the engine in use was opened with is part of its options.
        self.update_options(settings);
    }

    /// Whether another engine can go on from what the one in use knows. It cannot while the target is out of the picture:
    /// all that is known of it then is in that engine's memory.
    fn may_change_engines(&mut self, mode: LatencyMode) -> bool {
        let Some(engine) = &mut self.engine else {
            return true;
        };
        if mode == LatencyMode::Low && matches!(engine.is_at_rest(), Ok(false)) {
            return false;
        }
        let Ok(unit) = engine.unit() else {
            return true;
        };
        if !unit.matter.is_seeded() || self.failures >= FAILURES {
            return true;
        }
        // What it has found out since is about the newest frame, and would go with it.
        if mode == LatencyMode::Low && self.collect().is_err() {
            return true;
        }
        // After a flush the newest matte is of quite another place.
        if self.is_stale || self.last == Last::None {
            return false;
        }
        if !self.mattes.first().is_some_and(shows_target) {
            self.seen_again = Some(0);
            return false;
        }
        // It has never been out of the picture while the other engine was ready, or is back.
        self.seen_again = self.seen_again.map(|frames| frames + 1);
        self.seen_again.is_none_or(|frames| frames >= STEADY)
    }

    /// Asks the loader for what the properties say, unless that is there, under way, or has been refused.
    fn ask(&mut self, settings: &Settings, loader: &Loader) {
        let size = self.frame_size();
        let is = |target: Option<&Target>, attempt: u32| {
            target.is_some_and(|target| {
                target.frame_size == size && target.attempt == attempt && settings.asks_for(target)
            })
        };
        if is(self.opened.as_ref(), self.attempt) {
            if self.asked.take().is_some() {
                loader.cancel();
            }
            return;
        }
        if is(self.asked.as_ref(), self.attempt) {
            return;
        }
        if is(self.refused.as_ref(), self.attempt) {
            // What has never worked is a mistake, which trying again does not mend.
            let again = self.engine.is_none()
                && self.ever_opened
                && self.not_before.is_none_or(|time| Instant::now() >= time);
            if !again {
                return;
            }
            self.attempt += 1;
        }
        let working_size = match settings.working_size() {
            Ok(size) => size,
            Err(e) => {
                if !std::mem::replace(&mut self.wrong_size, true) {
                    self.news.push(News::Warning(e));
                }
                return;
            }
        };
        self.wrong_size = false;
        let target = settings.target(working_size, size, self.attempt);
        let urgency = match self.engine {
            None => Urgency::NothingServes,
            Some(_) => Urgency::Served,
        };
        loader.want(&target, urgency);
        self.asked = Some(target);
    }

    fn back_off(&mut self) {
        self.not_before = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    fn adopt(&mut self, matter: Matter, loader: &Loader) {
        self.ever_opened = true;
        self.engine_lost = false;
        self.refused = None;
        let nobody_seeds = self.options.seed == SeedMode::Auto && !matter.can_seed_automatically();
        let engine = match Engine::new(matter) {
            Ok(engine) => engine,
            Err(e) => {
                self.news
                    .push(News::Warning(format!("no worker thread: {e}")));
                self.refused = self.opened.take();
                self.back_off();
                return;
            }
        };
        let mut needs_mask = self.has_mask() && self.mattes.shown.is_empty();
        let mut old = self.engine.replace(engine);
        self.carries = match old.as_mut().map(Engine::unit) {
            Some(Ok(unit)) => self.carries || unit.matter.is_seeded(),
            // What it knew is gone with it but for the matte.
            None | Some(Err(Lost)) => self.named_by.is_some(),
        };
        if let Some(mut old) = old {
            needs_mask &= self.named_by.is_none();
            if let (Ok(old), Some(Ok(new))) = (old.unit(), self.engine.as_mut().map(Engine::unit)) {
                new.take_over(old);
                // Whatever waits to name the target is newer.
                needs_mask &= !new.seed_waits();
            }
            self.discard(old, loader);
        }
        self.mask_waits |= needs_mask;
        self.begin_anew(loader);
        self.new_options = true;
        if nobody_seeds && self.mattes.shown.is_empty() {
            self.news.push(News::NobodySeeds);
        }
    }

    /// Options and mask that may change between two frames.
    fn update_options(&mut self, settings: &Settings) {
        self.show_target = settings.show_target;
        let opened = self.opened.as_ref().map(Target::options);
        let mut wanted = settings.live_options(&opened.unwrap_or_default());
        if self.mask_spent && settings.seed == Seed::Auto {
            wanted.seed = SeedMode::Auto;
        }
        if wanted != self.options {
            match self.renderer.set_options(&wanted) {
                Ok(()) => self.new_options = true,
                Err(e) => self.news.push(News::Warning(e.to_string())),
            }
            self.options = wanted;
        }
        if settings.mask_location != self.mask_location {
            let location = settings.mask_location.clone();
            let mask = location.as_ref().map(MaskImage::read).transpose();
            // A file that cannot be read is not tried again with every frame, and the old target stays.
            self.mask_location = location;
            match mask {
                Ok(mask) => {
                    self.mask_waits = mask.is_some();
                    self.mask_spent = false;
                    self.mask = mask;
                }
                Err(e) => self
                    .news
                    .push(News::Warning(format!("the target stays as it was: {e}"))),
            }
        }
    }

    /// What a frame shows as there is no engine. `waits`: frames must not be lost while a model is opened.
    pub(super) fn without_engine(&self, waits: bool) -> Without {
        if self.ended {
            return Without::Stop;
        }
        match &self.asked {
            Some(asked) if waits => Without::Wait(asked.clone()),
            None if self.ever_opened => Without::Show(self.options.on_failure),
            _ if self.engine_lost => Without::Show(self.options.on_failure),
            _ => Without::Show(self.before_first_look()),
        }
    }

    /// Where nobody has looked for a target yet, that there is none is no error.
    fn before_first_look(&self) -> Policy {
        match self.options.before_seed {
            Policy::PassThrough => Policy::PassThrough,
            _ => Policy::Transparent,
        }
    }

    /// Whether the mask that is set may name a target of these frames.
    fn has_mask(&self) -> bool {
        self.mask.is_some() && !self.mask_spent
    }

    /// The next frame may be of quite another place of its stream.
    pub(super) fn flushed(&mut self) {
        self.is_stale = true;
    }

    /// The target is to be named anew.
    fn forget_target(&mut self, another_source: bool) {
        if another_source {
            let named = self.named_by.is_some() || self.was_named;
            self.mask_spent |= named;
            if named {
                self.news.push(News::TargetLost);
            }
        }
        self.mask_waits = self.has_mask();
        (self.named_by, self.was_named) = (None, false);
        self.show_nothing();
    }

    /// Frames show no matte until there is another.
    fn show_nothing(&mut self) {
        self.mattes.shown.clear();
        (self.mattes.own, self.carries) = (Own::None, false);
        self.renderer.reset();
        self.last = Last::None;
    }

    /// Whether the target is to be forgotten as soon as the engine is free.
    fn is_to_forget(&self) -> bool {
        self.actions.iter().any(Action::forgets)
    }

    /// What a frame that has nothing to do with the engine shows: the matte before it, unless that is of before a flush or
    /// is to be `forgotten` with the next frame. `is_same`: it is the picture that the matte is of, once more.
    pub(super) fn repeat(
        &mut self,
        forgotten: bool,
        is_same: bool,
        frame: &Frame,
        output: &mut OutputMut,
    ) -> Result<(), gst::ErrorMessage> {
        if forgotten || self.is_to_forget() || self.is_stale {
            return self.show(self.before_first_look(), frame, output);
        }
        self.draw(frame, output, !is_same)
    }

    /// Takes over what the application asks for. What is too much stays where it is, unless the matte that is shown
    /// depends on it.
    pub(super) fn take_actions(&mut self, asked: &mut Vec<Action>) {
        if self.actions.len() < MOST_ACTIONS || asked.iter().any(Action::forgets) {
            self.actions.append(asked);
        }
    }

    /// Begins to open engines for the targets that are to be added; whether one is not open yet. A frame that must not
    /// be lost waits for them before the engine gets it, so that nothing else has to.
    pub(super) fn opens_targets(&mut self) -> bool {
        let mut added = Vec::new();
        for action in &self.actions {
            match action {
                Action::AddTarget { id, .. } => added.push(*id),
                Action::RemoveTarget { id } => added.retain(|added| added != id),
                Action::Reset | Action::NewSource => added.clear(),
                _ => {}
            }
        }
        let mut opens = false;
        for action in &mut self.actions {
            let Action::AddTarget { id, begun, .. } = action else {
                continue;
            };
            if !added.contains(id) {
                continue;
            }
            if begun.is_none()
                && let Some(Ok(unit)) = self.engine.as_mut().map(Engine::unit)
            {
                // What cannot be begun is told when the frame comes to it.
                *begun = unit.open_other(*id, None).ok();
            }
            opens |= begun.as_ref().is_some_and(|begun| !begun.is_finished());
        }
        opens
    }

    /// Orders for the engine: options that have changed, the mask, and what the application asks for.
    fn orders(&mut self, carried: Option<OwnedMask>, waits: bool) -> Orders {
        let mut actions = std::mem::take(&mut self.actions);
        let mut first = 0;
        for (i, action) in actions.iter().enumerate() {
            match action {
                Action::Reset => self.forget_target(false),
                Action::NewSource => self.forget_target(true),
                Action::AddTarget { id, .. } => {
                    self.handed.push(*id);
                    continue;
                }
                _ => continue,
            }
            first = i + 1;
        }
        let seed = match self.options.seed {
            SeedMode::Mask if self.mask_waits => self.mask.clone().map(|mask| Action::Seed {
                mask: OwnedMask::Image(mask),
                how: "mask",
            }),
            _ if first == 0 => carried.map(|mask| Action::Seed { mask, how: CARRIED }),
            _ => None,
        };
        if let Some(seed) = seed {
            self.mask_waits = false;
            // Whatever else is asked for comes after it.
            actions.insert(first, seed);
        }
        Orders {
            options: std::mem::take(&mut self.new_options).then(|| self.options.clone()),
            actions,
            show: self.show_target,
            is_live: !waits,
        }
    }

    /// The first target's newest matte as a mask, for an engine that has taken the place of one that knew it. Once: a
    /// target that the engine in use has given up is not named again by where it was.
    fn carried(&mut self, frame: &Frame) -> Option<OwnedMask> {
        if !self.carries || self.is_stale {
            return None;
        }
        let unit = self.engine.as_mut()?.unit().ok()?;
        if unit.seed_waits() {
            return None;
        }
        self.carries = false;
        if unit.matter.is_seeded() {
            return None;
        }
        let mask = self.mattes.first().filter(|matte| shows_target(matte));
        let mask = mask.and_then(|matte| as_mask(matte, frame));
        if mask.is_none() {
            // Nobody knows it any more.
            self.named_by = None;
            self.news.push(News::TargetLost);
        }
        mask
    }

    /// One frame, with its own matte or with the newest one. `buffer` is the frame's.
    pub(super) fn process(
        &mut self,
        mode: LatencyMode,
        waits: bool,
        buffer: Option<gst::Buffer>,
        picture: &Picture,
        output: &mut OutputMut,
    ) -> Result<(), gst::ErrorMessage> {
        let frame = &picture.view;
        let result = match (mode, buffer) {
            (LatencyMode::Low, Some(buffer)) => self.newest(waits, buffer, frame),
            _ => self.aligned(waits, picture),
        };
        match result {
            Ok(()) => {}
            Err(Failure::Engine(Lost)) => self.failed(lost(Lost).to_string(), true),
            Err(Failure::Ends(message)) => return Err(message),
        }
        self.draw(frame, output, mode == LatencyMode::Low)?;
        if mode == LatencyMode::Aligned
            && self.last == Last::Matted
            && let Some(engine) = &mut self.engine
        {
            engine.remember();
        }
        Ok(())
    }

    fn aligned(&mut self, waits: bool, picture: &Picture) -> Result<(), Failure> {
        // What is still under way from the other mode.
        if let Some(engine) = &mut self.engine {
            let unit = engine.unit().map_err(Failure::Engine)?;
            self.unused.append(&mut unit.take_unused());
            engine.collect(&mut self.mattes, &mut self.news);
            self.note_naming();
        }
        let carried = self.carried(&picture.view);
        self.is_stale = false;
        let mut orders = self.orders(carried, waits);
        let (Some(engine), Some(stream)) = (&mut self.engine, &self.stream) else {
            return Ok(());
        };
        let unremembered = engine.take_failure();
        let unit = engine.unit().map_err(Failure::Engine)?;
        let shown = unit.step(picture, stream, &mut orders, &mut self.news);
        if let Ok(shown) = &shown {
            shown.hand_over(&mut unit.mattes, &mut self.mattes);
        }
        let shown = shown.map_err(|e| Failure::Ends(error_message(&e)))?;
        self.take(shown, unremembered);
        Ok(())
    }

    fn newest(&mut self, waits: bool, buffer: gst::Buffer, frame: &Frame) -> Result<(), Failure> {
        let forgets = self.is_to_forget();
        let Some(engine) = &mut self.engine else {
            return Ok(());
        };
        let was_stale = self.is_stale;
        if was_stale && !waits && !engine.is_at_rest().map_err(Failure::Engine)? {
            // What it is at work on is of before the flush, too.
            self.last = Last::None;
            return Ok(());
        }
        if waits && (forgets || was_stale) {
            // The frame is to have a matte of the next target, as the first frame has.
            engine.unit().map_err(Failure::Engine)?;
        }
        // Asked before the mail is: who is at rest has written all of it, and nothing comes after the orders below.
        let at_rest = engine.is_at_rest();
        self.collect()?;
        if was_stale {
            self.last = Last::None;
        }
        if at_rest.map_err(Failure::Engine)? {
            let carried = self.carried(frame);
            self.is_stale = false;
            let orders = self.orders(carried, waits);
            if let (Some(engine), Some(stream)) = (&mut self.engine, &self.stream) {
                let unit = engine.unit().map_err(Failure::Engine)?;
                self.unused.append(&mut unit.take_unused());
                engine.predict(Input {
                    buffer,
                    stream: Arc::clone(stream),
                    orders,
                });
            }
        }
        if waits
            && (was_stale || self.mattes.shown.is_empty())
            && let Some(engine) = &mut self.engine
        {
            // The first frame of a file, or after a seek, has no matte before it.
            engine.unit().map_err(Failure::Engine)?;
            self.collect()?;
        }
        Ok(())
    }

    /// What the worker has found out.
    fn collect(&mut self) -> Result<(), Failure> {
        let forgets = self.is_to_forget();
        let Some(engine) = &mut self.engine else {
            return Ok(());
        };
        let result = engine.collect(&mut self.mattes, &mut self.news);
        if forgets {
            // It is about the target before.
            self.note_naming();
            self.show_nothing();
            return Ok(());
        }
        if let Some(result) = result {
            // Not before there is a result: a failure comes after the matte of its frame, and must not be lost.
            let unremembered = engine.take_failure();
            let shown = result.map_err(Failure::Ends)?;
            self.take(shown, unremembered);
        }
        Ok(())
    }

    fn note_naming(&mut self) {
        for news in &self.news {
            if let News::Seeded(how) = news {
                self.named_by = Some(how);
            }
        }
    }

    fn take(&mut self, shown: Shown, unremembered: Option<Error>) {
        self.note_naming();
        match shown {
            Shown::Matte => self.last = Last::Matted,
            Shown::BeforeSeed => self.last = Last::BeforeSeed,
            Shown::Others(e) => {
                self.last = Last::Matted;
                self.count_failure(&format!("target {FIRST_TARGET}: no matte: {e}"), false);
                return;
            }
            Shown::Failed(e) => {
                self.failed(format!("no matte: {e}"), false);
                return;
            }
        }
        if let Some(e) = unremembered {
            // The matte of this frame is there all the same.
            self.count_failure(
                &format!("the last frame could not be remembered: {e}"),
                false,
            );
            return;
        }
        self.failures = 0;
        self.pause = FIRST_PAUSE;
    }

    /// A frame goes without a matte.
    fn failed(&mut self, reason: String, engine_is_lost: bool) {
        self.last = Last::Failed;
        self.count_failure(&reason, engine_is_lost);
        self.reason = reason;
        // A person is found again by looking; what a mask has named is known by its last matte alone.
        if matches!(self.named_by, None | Some("automatic")) {
            self.mattes.shown.clear();
        }
    }

    /// A failure lasts, mostly: one warning for all its frames. If it does last, the engine is opened anew.
    fn count_failure(&mut self, reason: &str, engine_is_lost: bool) {
        self.failures += 1;
        if self.failures == 1 {
            self.news.push(News::Warning(reason.to_owned()));
        }
        if engine_is_lost {
            self.engine = None;
            self.opened = None;
            self.engine_lost = true;
            self.tell_loss();
        }
        let long = engine_is_lost || self.failures >= FAILURES;
        let may = self.not_before.is_none_or(|time| Instant::now() >= time);
        if long && may && self.asked.is_none() {
            self.attempt += 1;
            self.back_off();
        }
    }

    fn draw(
        &mut self,
        frame: &Frame,
        output: &mut OutputMut,
        newer: bool,
    ) -> Result<(), gst::ErrorMessage> {
        let policy = match self.last {
            Last::Matted if !self.mattes.shown.is_empty() => {
                let start = Instant::now();
                let drawn = match newer {
                    true => self
                        .renderer
                        .render_newer(&self.mattes.shown, frame, output),
                    false => self.renderer.render(&self.mattes.shown, frame, output),
                };
                self.drawing.add(start.elapsed());
                match drawn {
                    Ok(()) => return Ok(()),
                    Err(e) => {
                        self.failed(format!("no matte: {e}"), false);
                        self.options.on_failure
                    }
                }
            }
            Last::Failed => self.options.on_failure,
            Last::None => self.before_first_look(),
            _ => self.options.before_seed,
        };
        if policy == Policy::Error {
            return Err(match self.last {
                Last::Failed => gst::error_msg!(gst::LibraryError::Failed, ("{}", self.reason)),
                _ => error_message(&Error::NotSeeded),
            });
        }
        self.show(policy, frame, output)
    }

    /// Draws what a policy says.
    pub(super) fn show(
        &mut self,
        policy: Policy,
        frame: &Frame,
        output: &mut OutputMut,
    ) -> Result<(), gst::ErrorMessage> {
        self.renderer
            .render_without_matte(policy, frame, output)
            .map_err(|e| error_message(&e))
    }
}

enum Failure {
    Engine(Lost),
    Ends(gst::ErrorMessage),
}

#[cfg(test)]
mod tests {
    use matte_core::{Backend, Colorimetry, Matte, ModelSet, OutputFormat, PixelFormat, Plane};

    use super::*;

    const SIZE: (u32, u32) = (64, 48);

    fn opaque() -> Matte {
        Matte::from_alpha(SIZE, (4, 3), &[1.0; 12], &[9; 36]).unwrap()
    }

    /// Before a target is known, a frame ends the stream; after a failure it is transparent.
    fn state() -> State {
        let options = Options {
            before_seed: Policy::Error,
            on_failure: Policy::Transparent,
            ..Options::default()
        };
        State::new(None, None, options).unwrap()
    }

    /// The alpha of a frame.
    fn drawn(state: &mut State) -> Result<u8, gst::ErrorMessage> {
        let (width, height) = SIZE;
        let data = vec![9; (width * height * 3) as usize];
        let plane = Plane {
            data: &data,
            stride: width as usize * 3,
        };
        let colours = Colorimetry::default();
        let frame = Frame::new(PixelFormat::Rgb, width, height, &[plane], colours).unwrap();
        let mut matte = vec![7; (width * height) as usize];
        let format = OutputFormat::Gray8;
        let mut output = OutputMut::new(format, width, height, &mut matte, width as usize).unwrap();
        state.draw(&frame, &mut output, true)?;
        Ok(matte[0])
    }

    fn warnings(state: &State) -> usize {
        let is_warning = |news: &&News| matches!(news, News::Warning(_));
        state.news.iter().filter(is_warning).count()
    }

    #[test]
    fn a_lost_engine_takes_the_targets_along_that_it_was_to_add_and_no_others() {
        let mut state = state();
        let add = |id| Action::AddTarget {
            id,
            mask: OwnedMask::Grey {
                width: 1,
                height: 1,
                data: vec![255],
            },
            begun: None,
        };
        state.actions.extend([add(2), add(3)]);
        assert_eq!(state.orders(None, false).actions.len(), 2);
        state.news.push(News::TargetAdded(2));
        state.take_news();
        state.actions.push(add(4));
        state.failed(String::new(), true);
        let gone = state.take_news().into_iter().find_map(|news| match news {
            News::TargetsGone(handed) => Some(handed),
            _ => None,
        });
        assert_eq!(gone, Some(vec![3]));
    }

    #[test]
    fn a_frame_that_is_not_remembered_shows_its_matte_and_counts_as_a_failure() {
        let mut state = state();
        for failures in 1..=FAILURES {
            state.mattes.shown = opaque();
            state.take(Shown::Matte, Some(Error::NotSeeded));
            assert_eq!(drawn(&mut state), Ok(255));
            assert_eq!((state.failures, warnings(&state)), (failures, 1));
        }
        assert_eq!(state.attempt, 1, "the engine is to be opened anew");
        state.take(Shown::Matte, None);
        assert_eq!((drawn(&mut state), state.failures), (Ok(255), 0));

        state.take(Shown::Failed(Error::NotSeeded), None);
        assert_eq!(drawn(&mut state), Ok(0), "on-failure");
    }

    /// One whose target is not known.
    fn engine() -> Engine {
        let probe = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/probe");
        let options = Options {
            working_size: Some((32, 32)),
            threads: 1,
            ..Options::default()
        };
        let models = ModelSet::find(probe).unwrap();
        let matter = Matter::open(&models, Backend::Cpu, options, SIZE).unwrap();
        Engine::new(matter).unwrap()
    }

    /// Whether the first target would be named by where it was.
    fn carries(state: &mut State) -> bool {
        let (width, height) = SIZE;
        let data = vec![9; (width * height) as usize];
        let plane = Plane {
            data: &data,
            stride: width as usize,
        };
        let colours = Colorimetry::default();
        let frame = Frame::new(PixelFormat::Gray8, width, height, &[plane], colours).unwrap();
        state.carried(&frame).is_some()
    }

    #[test]
    fn what_an_engine_has_given_up_is_not_named_again_by_where_it_was() {
        let mut engine = engine();
        let mut state = state();
        state.mattes.shown = opaque();
        state.mattes.own = Own::Shown;
        engine.pretend(Some(Shown::BeforeSeed), None);
        state.engine = Some(engine);
        assert!(state.collect().is_ok());
        assert!(!carries(&mut state), "a cut to an empty room");

        // Another engine has taken its place.
        for (own, expected) in [
            (Own::Shown, true),
            (Own::None, false),
            (Own::Apart(Matte::new()), false),
            (Own::Apart(opaque()), true),
        ] {
            (state.carries, state.mattes.own) = (true, own);
            state.named_by = Some("mask");
            state.flushed();
            assert!(!carries(&mut state), "that is of before a flush");
            state.is_stale = false;
            assert_eq!(carries(&mut state), expected);
            let told = state.take_news();
            let is_lost = told.iter().any(|news| matches!(news, News::TargetLost));
            assert_eq!((is_lost, state.named_by.is_none()), (!expected, !expected));
            assert!(!carries(&mut state), "once");
        }
    }

    #[test]
    fn the_first_targets_own_matte_is_kept_apart_from_what_is_shown() {
        let mattes = |own| Mattes {
            shown: opaque(),
            own,
        };
        let share = |matte: &Matte| matte.alpha().len();
        let mut to = mattes(Own::Shown);
        Shown::BeforeSeed.hand_over(&mut mattes(Own::None), &mut to);
        assert!(to.first().is_none() && share(&to.shown) == 12);
        Shown::Matte.hand_over(&mut mattes(Own::Shown), &mut to);
        assert_eq!(to.first().map(share), Some(12));
        // The network fails for the first: what is shown is the others', and its own is the one of before.
        let mut others = Mattes {
            shown: Matte::from_alpha(SIZE, (2, 2), &[1.0; 4], &[9; 12]).unwrap(),
            own: Own::None,
        };
        Shown::Others(Error::NotSeeded).hand_over(&mut others, &mut to);
        assert_eq!((share(&to.shown), to.first().map(share)), (4, Some(12)));
        Shown::Failed(Error::NotSeeded).hand_over(&mut mattes(Own::None), &mut to);
        assert_eq!((share(&to.shown), to.first().map(share)), (4, Some(12)));
    }

    #[test]
    fn a_first_target_that_fails_behind_others_is_told_and_gets_another_engine() {
        let mut state = state();
        state.mattes.shown = opaque();
        for failures in 1..=FAILURES {
            state.take(Shown::Others(Error::NotSeeded), None);
            assert_eq!(drawn(&mut state), Ok(255), "the others are shown");
            assert_eq!((state.failures, warnings(&state)), (failures, 1));
        }
        assert_eq!(state.attempt, 1, "the engine is to be opened anew");
    }

    #[test]
    fn that_a_frame_was_not_remembered_is_not_lost_where_no_result_is_there_yet() {
        let mut engine = engine();
        engine.pretend(None, Some(Error::NotSeeded));
        let mut state = state();
        state.engine = Some(engine);
        assert!(state.collect().is_ok());
        assert_eq!(state.failures, 0);
        let engine = state.engine.as_mut().unwrap();
        engine.pretend(Some(Shown::BeforeSeed), None);
        assert!(state.collect().is_ok());
        assert_eq!((state.failures, warnings(&state)), (1, 1));
    }
}
