//! The engine and its worker: the steps of a frame that need not, or must not, hold the stream up.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use gst_video::VideoFrame;
use matte_core::{
    Backend, Error, Frame, Mask, Matte, MatteState, Matter, ModelSet, Options, OutputFormat,
    OutputMut, ReferenceId, Refine, Renderer, Repair, SeedMode, has_substance,
};

use super::actions::{Action, OwnedMask, converted, kept, kept_sample};
use super::frames::{Picture, Stream, input};

/// The worker panicked, and the engine with it.
#[derive(Debug)]
pub(super) struct Lost;

/// What there is to tell about a frame.
#[derive(Debug)]
pub(super) enum News {
    Seeded(&'static str),
    Drift(Repair),
    SceneCut,
    /// The target is gone.
    TargetLost,
    ReferenceAdded(u64),
    ReferenceRemoved(u64),
    ReferencesGone,
    ReferenceFailed(u64, String),
    TargetAdded(u64),
    /// It is followed by an engine of the model in use.
    TargetRenewed(u64),
    TargetRemoved(u64),
    /// All are gone, those as well that were to be added.
    TargetsGone(Vec<u64>),
    TargetFailed(u64, String),
    Warning(String),
    /// A person is to be found, but there is nothing that finds one.
    NobodySeeds,
}

/// What is to be done with a frame beside matting it.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// Options that have changed.
    pub(super) options: Option<Options>,
    pub(super) actions: Vec<Action>,
    /// What is shown: one target, or all (0).
    pub(super) show: u64,
    /// No frame waits: what refines a new target is spread over the frames that follow.
    pub(super) is_live: bool,
}

/// How a target was named that was taken over from the engine before.
pub(super) const CARRIED: &str = "carried";

/// Number of the target that the properties and the seeding signals name; others count on from here.
pub(super) const FIRST_TARGET: u64 = 1;

/// So many frames without a matte, one after the other, and an engine is opened anew.
pub(super) const FAILURES: u32 = 3;

/// Where the first target's own matte is.
#[derive(Debug, Default)]
pub(super) enum Own {
    /// It is what is shown.
    Shown,
    /// More is shown, or less.
    Apart(Matte),
    /// It has none.
    #[default]
    None,
}

/// The mattes of a frame.
#[derive(Debug, Default)]
pub(super) struct Mattes {
    /// What is shown, of all targets.
    pub(super) shown: Matte,
    pub(super) own: Own,
}

impl Mattes {
    /// The first target's.
    pub(super) fn first(&self) -> Option<&Matte> {
        match &self.own {
            Own::Shown => Some(&self.shown),
            Own::Apart(matte) => Some(matte),
            Own::None => None,
        }
    }
}

/// What a frame is to show.
#[derive(Debug)]
pub(super) enum Shown {
    /// The matte.
    Matte,
    /// The matte of others; the network has failed for the first target.
    Others(Error),
    /// There is no target.
    BeforeSeed,
    /// The network has failed.
    Failed(Error),
}

impl Shown {
    /// Hands mattes on: what is shown, and the first target's own, which stays what it was where the network has failed
    /// for it.
    pub(super) fn hand_over(&self, from: &mut Mattes, to: &mut Mattes) {
        match self {
            Self::Matte => {
                std::mem::swap(&mut from.shown, &mut to.shown);
                to.own = std::mem::take(&mut from.own);
            }
            Self::BeforeSeed => to.own = std::mem::take(&mut from.own),
            Self::Others(_) => {
                if matches!(to.own, Own::Shown) {
                    to.own = Own::Apart(std::mem::take(&mut to.shown));
                }
                std::mem::swap(&mut from.shown, &mut to.shown);
            }
            Self::Failed(_) => {}
        }
    }
}

/// A [`Matter`] with what belongs to it.
pub(super) struct Unit {
    pub(super) matter: Matter,
    /// Those of the last frame.
    pub(super) mattes: Mattes,
    /// What the engine's queued mask is; where the network fails, it waits for the next frame.
    waiting: Option<Waiting>,
    references: Vec<Reference>,
    /// References of the engine before, to be remembered as soon as its target is known here.
    inherited: Vec<Reference>,
    /// Targets beside the first.
    others: Vec<Other>,
    /// Engines for others, which are being opened.
    opening: Vec<Opening>,
    /// Engines that nobody wants any more, until they are open: who drops one before that waits for it.
    abandoned: Vec<Opening>,
    /// Engines that are not used any more: freeing them takes time, which the frame at hand has not.
    unused: Vec<Box<dyn Send>>,
    /// What others are opened with.
    models: ModelSet,
    backend: Backend,
    /// Edges of the last frame could not be drawn anew.
    refine_fails: bool,
    /// The frame at hand is to be remembered.
    remember: bool,
}

/// A mask that is to name the target.
struct Waiting {
    how: &'static str,
    /// None where it was found on a frame: another engine has no use for it.
    mask: Option<OwnedMask>,
    /// There was no target before.
    is_first: bool,
}

/// A frame that is remembered for good, by the name that the application knows, and what it takes to remember it once
/// more in another engine.
struct Reference {
    id: u64,
    handle: ReferenceId,
    mask: OwnedMask,
    frame: gst::Sample,
}

/// A target beside the first, with an engine and a memory of its own.
struct Other {
    id: u64,
    matter: Matter,
    matte: Matte,
    /// Frames without a matte, one after the other, because the network failed.
    failures: u32,
    renewal: Renewal,
}

/// Whether an engine is one of the model before, in whose place another is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Renewal {
    /// It is as the first target's.
    None,
    Due,
    /// Another is being opened, or could not be.
    Begun,
}

/// An engine that is being opened for another target.
#[derive(Debug)]
pub(super) struct Opening {
    id: u64,
    /// What names the target; none where one that is followed already gets another engine.
    mask: Option<OwnedMask>,
    /// The target is named while the engine is being opened, on the frame that its mask was given for.
    is_named: bool,
    /// What becomes of the engine that is being opened.
    renewal: Renewal,
    /// Dropping it waits: ONNX Runtime must not be at work when the program ends.
    thread: Option<JoinHandle<Result<Matter, String>>>,
}

/// What another target is named by: a mask, and the frame that it was given for.
pub(super) struct Named {
    mask: OwnedMask,
    frame: gst::Sample,
    stream: Stream,
}

impl Named {
    fn seed(&self, matter: &mut Matter) -> Result<(), String> {
        looked_at(&self.mask, &self.frame, &self.stream, |frame, mask| {
            matter.seed(frame, mask)
        })
    }
}

/// Does something with a mask and a frame that was kept, as the stream's frames are.
fn looked_at<R>(
    mask: &OwnedMask,
    frame: &gst::Sample,
    stream: &Stream,
    body: impl FnOnce(&Frame<'_>, &Mask<'_>) -> Result<R, Error>,
) -> Result<R, String> {
    let mask = mask.view().map_err(|e| e.to_string())?;
    let converted = converted(frame, &stream.info)?;
    let picture = converted.as_video_frame_ref();
    let view = input(&picture, stream).map_err(|e| e.to_string())?;
    body(&view, &mask).map_err(|e| e.to_string())
}

/// Something of any kind that is to be freed elsewhere.
pub(super) fn boxed(thing: impl Send + 'static) -> Box<dyn Send> {
    Box::new(thing)
}

impl Opening {
    pub(super) fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Unit {
    pub(super) fn new(matter: Matter) -> Self {
        Self {
            models: matter.models().clone(),
            backend: matter.backend(),
            matter,
            mattes: Mattes::default(),
            waiting: None,
            references: Vec::new(),
            inherited: Vec::new(),
            others: Vec::new(),
            opening: Vec::new(),
            abandoned: Vec::new(),
            unused: Vec::new(),
            remember: false,
            refine_fails: false,
        }
    }

    /// Takes over the references, the other targets and the waiting mask of the engine whose place this one takes. Other
    /// targets are followed by their engines until new ones are open.
    pub(super) fn take_over(&mut self, before: &mut Self) {
        self.inherited = std::mem::take(&mut before.references);
        self.inherited.append(&mut before.inherited);
        self.others = std::mem::take(&mut before.others);
        self.opening = std::mem::take(&mut before.opening);
        if let Some(waiting) = before.waiting.take()
            && let Some(Ok(mask)) = waiting.mask.as_ref().map(OwnedMask::view)
        {
            self.matter.queue_seed(&mask);
            self.waiting = Some(waiting);
        }
        for other in &mut self.others {
            other.renewal = Renewal::Due;
        }
        for opening in &mut self.opening {
            opening.renewal = Renewal::Due;
        }
    }

    /// Takes frames of another size; whether that is quick and has worked. Otherwise it must not be used any more.
    pub(super) fn resize(&mut self, size: (u32, u32)) -> bool {
        let working = self.matter.working_size();
        // What is being opened is opened for the old size.
        self.opening.is_empty()
            && self.matter.working_size_for(size) == Some(working)
            && self.matter.resize(size).is_ok()
            && self
                .others
                .iter_mut()
                .all(|other| other.matter.resize(size).is_ok())
    }

    /// Whether a mask waits to name the target.
    pub(super) fn seed_waits(&self) -> bool {
        self.waiting.is_some()
    }

    fn wait_to_seed(&mut self, how: &'static str, mask: Option<OwnedMask>) {
        // A seed that failed half-way has forgotten the target already.
        let is_first = match &self.waiting {
            Some(before) => before.is_first,
            None => !self.matter.is_seeded(),
        };
        self.waiting = Some(Waiting {
            how,
            mask,
            is_first,
        });
    }

    /// Names of the targets beside the first.
    pub(super) fn others(&self) -> impl Iterator<Item = u64> + '_ {
        let new = self.opening.iter().filter(|opening| opening.mask.is_some());
        let opening = new.map(|opening| opening.id);
        self.others.iter().map(|other| other.id).chain(opening)
    }

    pub(super) fn has_references(&self) -> bool {
        !(self.references.is_empty() && self.inherited.is_empty())
    }

    /// Does what is asked for, and predicts the matte of a frame.
    ///
    /// # Errors
    /// When the mask that the first target was to come from does not fit: without it all frames would be empty, and the
    /// reason would be easy to miss.
    pub(super) fn step(
        &mut self,
        picture: &Picture<'_>,
        stream: &Stream,
        orders: &mut Orders,
        news: &mut Vec<News>,
    ) -> Result<Shown, Error> {
        let frame = &picture.view;
        self.remember = false;
        self.mattes.own = Own::Shown;
        self.matter.spread_warm_up(orders.is_live);
        if let Some(options) = orders.options.take() {
            let of_others = of_other(&options);
            let all = self
                .others
                .iter_mut()
                .filter(|other| other.renewal == Renewal::None)
                .try_for_each(|other| other.matter.set_options(of_others.clone()));
            if let Err(e) = all.and_then(|()| self.matter.set_options(options.clone())) {
                news.push(News::Warning(e.to_string()));
                if options.refine == Refine::Detail {
                    // What the package does not have must not cost the other options.
                    let guided = Options {
                        refine: Refine::Guided,
                        ..options
                    };
                    if let Err(e) = self.matter.set_options(guided) {
                        news.push(News::Warning(e.to_string()));
                    }
                }
            }
        }
        self.remember_inherited(stream, news);
        let mut corrected = false;
        for action in orders.actions.drain(..) {
            match self.act(action, picture, stream, news) {
                Ok(Acted::Corrected) => corrected = true,
                Ok(Acted::Done) => {}
                Err(e) => news.push(News::Warning(e)),
            }
        }
        let first = if corrected && self.waiting.is_none() {
            // The matte is the mask itself; to predict it would let the frame count twice.
            match self.matter.snapshot(&mut self.mattes.shown) {
                Ok(()) => Shown::Matte,
                Err(e) => Shown::Failed(e),
            }
        } else {
            self.first(frame, news)?
        };
        self.take_opened(frame, orders.is_live, news);
        self.renew_outdated(news);
        let shown = match self.others.is_empty() && orders.show == 0 {
            true => {
                if matches!(first, Shown::BeforeSeed) {
                    self.mattes.own = Own::None;
                }
                first
            }
            false => self.together(first, frame, orders.show, news),
        };
        if matches!(shown, Shown::Matte | Shown::Others(_)) {
            let refined = self.matter.refine(frame, &mut self.mattes.shown);
            // Without it the edges are those of the filter.
            if let Err(e) = &refined
                && !self.refine_fails
            {
                news.push(News::Warning(format!("edges are not drawn anew: {e}")));
            }
            self.refine_fails = refined.is_err();
        }
        Ok(shown)
    }

    /// The first target.
    fn first(&mut self, frame: &Frame<'_>, news: &mut Vec<News>) -> Result<Shown, Error> {
        let report = match self.matter.predict(frame) {
            Err(e @ (Error::MaskAspect { .. } | Error::MaskEmpty { .. })) => {
                let refused = self.waiting.take();
                if refused.is_some_and(|refused| refused.how == "mask" && refused.is_first) {
                    return Err(e);
                }
                news.push(News::Warning(format!("the target stays as it was: {e}")));
                self.matter.predict(frame)
            }
            report => report,
        };
        let report = match report {
            Ok(report) => report,
            Err(e) => return Ok(Shown::Failed(e)),
        };
        let seeded_by = self.waiting.take().map(|seed| seed.how);
        if report.scene_cut {
            news.push(News::SceneCut);
        }
        if let Some(repair) = report.repair {
            news.push(News::Drift(repair));
        }
        // Named anew, references stay. After a cut it may be somebody else; otherwise it is the same target.
        let (is_anew, is_same) = match report.repair {
            Some(Repair::Started { after_cut, .. }) => (true, !after_cut),
            _ => (false, false),
        };
        if report.matte == MatteState::Seeded && !is_anew {
            let had_references = self.has_references();
            if seeded_by != Some(CARRIED) {
                self.inherited.clear();
            }
            self.references.clear();
            if had_references && !self.has_references() {
                news.push(News::ReferencesGone);
            }
        }
        if report.matte == MatteState::Seeded && !is_same {
            news.push(News::Seeded(seeded_by.unwrap_or("automatic")));
        }
        if !report.has_matte() {
            if report.matte == MatteState::Lost && !self.mattes.shown.is_empty() {
                news.push(News::TargetLost);
            }
            self.mattes.shown.clear();
            return Ok(Shown::BeforeSeed);
        }
        self.remember = true;
        Ok(match self.matter.snapshot(&mut self.mattes.shown) {
            Ok(()) => Shown::Matte,
            Err(e) => Shown::Failed(e),
        })
    }

    /// Puts engines that have been opened for other targets in place.
    fn take_opened(&mut self, frame: &Frame<'_>, is_live: bool, news: &mut Vec<News>) {
        let finished = self
            .abandoned
            .extract_if(.., |opening| opening.is_finished());
        self.unused.extend(finished.map(boxed));
        let mut i = 0;
        while i < self.opening.len() {
            if !self.opening[i].is_finished() {
                i += 1;
                continue;
            }
            let mut lost = None;
            let opening = &self.opening[i];
            let id = opening.id;
            let followed = self.others.iter_mut().find(|other| other.id == id);
            let (mask, is_gone) = match (&opening.mask, &followed) {
                (Some(mask), _) => (Some(mask.clone()), false),
                // It comes too late: yet another is due.
                (None, _) if opening.renewal == Renewal::Due => (None, true),
                // Until more is seen of it, it is followed by the engine that knows it.
                (None, Some(other)) if !shows_target(&other.matte) => {
                    if other.failures < FAILURES {
                        i += 1;
                        continue;
                    }
                    // Its engine fails, and will not see it any more.
                    lost = Some(id);
                    (None, true)
                }
                (None, Some(other)) => (as_mask(&other.matte, frame), false),
                // It has been removed meanwhile.
                (None, None) => (None, true),
            };
            let mut opening = self.opening.remove(i);
            if is_gone {
                self.unused.push(boxed(opening));
                if let Some(id) = lost.take() {
                    self.drop_others(|other| other == id);
                    let reason = "its engine fails, and it is out of the picture".to_owned();
                    news.push(News::TargetFailed(id, reason));
                }
                continue;
            }
            let opened = match opening.thread.take().map(JoinHandle::join) {
                Some(Ok(opened)) => opened,
                _ => Err("the engine panicked while it was opened".to_owned()),
            };
            let seeded = opened.and_then(|mut matter| {
                let mask = mask.ok_or("there is no matte to go on from")?;
                if opening.renewal == Renewal::None {
                    // They may have changed since.
                    let options = of_other(self.matter.options());
                    matter.set_options(options).map_err(|e| e.to_string())?;
                }
                if !opening.is_named {
                    matter.spread_warm_up(is_live);
                    matter.queue_seed(&mask.view().map_err(|e| e.to_string())?);
                }
                Ok(matter)
            });
            match (seeded, followed) {
                (Ok(matter), Some(other)) => {
                    let before = std::mem::replace(&mut other.matter, matter);
                    self.unused.push(boxed(before));
                    other.renewal = opening.renewal;
                    news.push(News::TargetRenewed(id));
                }
                (Ok(matter), None) => {
                    self.others.push(Other {
                        id,
                        matter,
                        matte: Matte::new(),
                        failures: 0,
                        renewal: opening.renewal,
                    });
                    news.push(News::TargetAdded(id));
                }
                (Err(reason), Some(_)) => news.push(News::Warning(format!(
                    "target {id} is followed by the engine before: {reason}"
                ))),
                (Err(reason), None) => news.push(News::TargetFailed(id, reason)),
            }
        }
    }

    /// Opens engines for targets that are followed by those of a model before.
    fn renew_outdated(&mut self, news: &mut Vec<News>) {
        for i in 0..self.others.len() {
            let other = &mut self.others[i];
            if other.renewal == Renewal::Due && !other.matte.is_empty() {
                other.renewal = Renewal::Begun;
                let id = other.id;
                match self.open_other(id, None) {
                    Ok(opening) => self.opening.push(opening),
                    Err(reason) => news.push(News::Warning(reason)),
                }
            }
        }
    }

    /// Gives up the engines that are being opened for such targets.
    fn abandon(&mut self, is_gone: impl Fn(u64) -> bool) {
        let gone = self.opening.extract_if(.., |opening| is_gone(opening.id));
        self.abandoned.extend(gone);
    }

    /// Engines that nobody needs any more, to be freed elsewhere.
    pub(super) fn take_unused(&mut self) -> Vec<Box<dyn Send>> {
        std::mem::take(&mut self.unused)
    }

    /// Begins to open an engine for another target. With a frame the target is named on it as soon as the engine is
    /// open; frames go on meanwhile, and the mask would fit none of them.
    pub(super) fn open_other(&self, id: u64, named: Option<Named>) -> Result<Opening, String> {
        let (models, backend) = (self.models.clone(), self.backend);
        let is_named = named.is_some();
        let options = of_other(self.matter.options());
        let size = self.matter.frame_size();
        let thread = std::thread::Builder::new()
            .name("matte-target".to_owned())
            .spawn(move || {
                let mut matter =
                    Matter::open(&models, backend, options, size).map_err(|e| e.to_string())?;
                if let Some(named) = named {
                    named.seed(&mut matter)?;
                }
                Ok(matter)
            })
            .map_err(|e| format!("no thread for target {id}: {e}"))?;
        Ok(Opening {
            id,
            mask: None,
            is_named,
            renewal: Renewal::None,
            thread: Some(thread),
        })
    }

    /// Remembers the references of the engine before, once the target is known.
    fn remember_inherited(&mut self, stream: &Stream, news: &mut Vec<News>) {
        if !self.matter.is_seeded() {
            return;
        }
        for mut reference in std::mem::take(&mut self.inherited) {
            match self.add_reference(&reference.mask, &reference.frame, stream) {
                Ok(handle) => {
                    reference.handle = handle;
                    self.references.push(reference);
                }
                Err(reason) => news.push(News::ReferenceFailed(reference.id, reason)),
            }
        }
    }

    /// Follows the other targets and puts together what is to be shown. One that fails is not shown; the others go on.
    fn together(
        &mut self,
        first: Shown,
        frame: &Frame<'_>,
        show: u64,
        news: &mut Vec<News>,
    ) -> Shown {
        let shows = |id: u64| show == 0 || show == id;
        let has_first = matches!(first, Shown::Matte);
        self.mattes.own = match has_first {
            true => Own::Apart(self.mattes.shown.clone()),
            false => Own::None,
        };
        if !(shows(FIRST_TARGET) && has_first) {
            self.mattes.shown.clear();
        }
        let (mut refused, mut failed) = (None, None);
        for other in &mut self.others {
            let matted = other.matter.predict(frame).and_then(|report| {
                if !report.has_matte() {
                    return Ok(false);
                }
                other.matter.snapshot(&mut other.matte).map(|()| true)
            });
            match matted {
                Ok(true) if shows(other.id) => self.mattes.shown.add(&other.matte),
                Ok(_) => {}
                Err(e @ (Error::MaskAspect { .. } | Error::MaskEmpty { .. })) => {
                    refused = Some(other.id);
                    news.push(News::TargetFailed(other.id, e.to_string()));
                    continue;
                }
                Err(e) => {
                    other.failures = other.failures.saturating_add(1);
                    if other.failures == 1 {
                        news.push(News::Warning(format!("target {}: no matte: {e}", other.id)));
                    }
                    // Once: an engine that fails as well is not replaced without end.
                    if other.failures == FAILURES && other.renewal == Renewal::None {
                        other.renewal = Renewal::Due;
                    }
                    if shows(other.id) {
                        failed = Some(e);
                    }
                    continue;
                }
            }
            other.failures = 0;
        }
        self.remember = true;
        self.drop_others(|id| Some(id) == refused);
        match first {
            Shown::Failed(e) if !self.mattes.shown.is_empty() => Shown::Others(e),
            _ if !self.mattes.shown.is_empty() => Shown::Matte,
            Shown::Failed(e) if shows(FIRST_TARGET) || failed.is_some() => Shown::Failed(e),
            // What is to be shown fails: that is no time before a target.
            _ => failed.map_or(Shown::BeforeSeed, Shown::Failed),
        }
    }

    /// Follows other targets no longer.
    fn drop_others(&mut self, is_gone: impl Fn(u64) -> bool) {
        let gone = self.others.extract_if(.., |other| is_gone(other.id));
        self.unused.extend(gone.map(boxed));
    }

    fn act(
        &mut self,
        action: Action,
        picture: &Picture<'_>,
        stream: &Stream,
        news: &mut Vec<News>,
    ) -> Result<Acted, String> {
        let frame = &picture.view;
        match action {
            Action::Seed { mask, how } => {
                let view = mask.view().map_err(|e| e.to_string())?;
                self.matter.queue_seed(&view);
                self.wait_to_seed(how, Some(mask));
                Ok(Acted::Done)
            }
            Action::SeedAt { x, y } => {
                let found = self
                    .matter
                    .queue_seed_at(frame, (x, y))
                    .map_err(|e| e.to_string())?;
                if found {
                    self.wait_to_seed("point", None);
                    Ok(Acted::Done)
                } else {
                    Err(format!(
                        "nobody is found at {x:.0}, {y:.0}: the target stays as it was"
                    ))
                }
            }
            Action::Correct(mask) => {
                let view = mask.view().map_err(|e| e.to_string())?;
                self.matter
                    .correct(frame, &view)
                    .map_err(|e| format!("the target is not corrected: {e}"))?;
                news.push(News::Seeded("correction"));
                Ok(Acted::Corrected)
            }
            Action::AddReference {
                id,
                mask,
                frame: given,
            } => {
                let kept = match given {
                    None => kept(picture.buffer, &stream.info),
                    Some(sample) => kept_sample(&sample),
                };
                let added =
                    kept.and_then(|frame| Ok((self.add_reference(&mask, &frame, stream)?, frame)));
                match added {
                    Ok((handle, frame)) => {
                        self.references.push(Reference {
                            id,
                            handle,
                            mask,
                            frame,
                        });
                        news.push(News::ReferenceAdded(id));
                    }
                    Err(reason) => news.push(News::ReferenceFailed(id, reason)),
                }
                Ok(Acted::Done)
            }
            Action::RemoveReference { id } => {
                let known = self.references.iter().position(|known| known.id == id);
                let waiting = self.inherited.iter().position(|known| known.id == id);
                match (known, waiting) {
                    (Some(at), _) => {
                        let reference = self.references.remove(at);
                        self.matter
                            .remove_reference(reference.handle)
                            .map_err(|e| e.to_string())?;
                    }
                    (None, Some(at)) => drop(self.inherited.remove(at)),
                    (None, None) => return Err(format!("there is no reference {id}")),
                }
                news.push(News::ReferenceRemoved(id));
                Ok(Acted::Done)
            }
            Action::AddTarget { id, mask, begun } => {
                let opening = match begun {
                    // The frame at hand has waited for it.
                    Some(begun) => Ok(begun),
                    None => kept(picture.buffer, &stream.info).and_then(|frame| {
                        let (mask, stream) = (mask.clone(), stream.clone());
                        self.open_other(
                            id,
                            Some(Named {
                                mask,
                                frame,
                                stream,
                            }),
                        )
                    }),
                };
                match opening {
                    Ok(mut opening) => {
                        opening.mask = Some(mask);
                        self.opening.push(opening);
                    }
                    Err(reason) => news.push(News::TargetFailed(id, reason)),
                }
                Ok(Acted::Done)
            }
            Action::RemoveTarget { id } => {
                self.drop_others(|other| other == id);
                self.abandon(|opening| opening == id);
                news.push(News::TargetRemoved(id));
                Ok(Acted::Done)
            }
            Action::Reset | Action::NewSource => {
                if self.has_references() {
                    news.push(News::ReferencesGone);
                }
                let others: Vec<u64> = self.others().collect();
                news.extend(others.into_iter().map(News::TargetRemoved));
                self.drop_others(|_| true);
                self.abandon(|_| true);
                self.references.clear();
                self.inherited.clear();
                self.mattes.shown.clear();
                self.waiting = None;
                self.matter.reset().map_err(|e| e.to_string())?;
                Ok(Acted::Done)
            }
        }
    }

    /// Remembers a frame for good.
    fn add_reference(
        &mut self,
        mask: &OwnedMask,
        frame: &gst::Sample,
        stream: &Stream,
    ) -> Result<ReferenceId, String> {
        looked_at(mask, frame, stream, |frame, mask| {
            self.matter.add_reference(frame, mask)
        })
    }

    /// Brings the memory up to date with the last frame.
    fn remember(&mut self) -> Result<(), Error> {
        if !std::mem::take(&mut self.remember) {
            return Ok(());
        }
        // All are brought up to date, whatever becomes of one.
        let mut result = self.matter.remember();
        for other in &mut self.others {
            result = result.and(other.matter.remember());
        }
        result
    }
}

/// Whether there is enough of a matte to name a target by.
pub(super) fn shows_target(matte: &Matte) -> bool {
    has_substance(matte.alpha(), 0.1)
}

/// The newest matte as a mask for the frame at hand, for an engine that takes another's place; its edges are where the
/// network has seen them, whatever is drawn.
pub(super) fn as_mask(matte: &Matte, frame: &Frame<'_>) -> Option<OwnedMask> {
    let (width, height) = frame.size();
    let mut data = vec![0; width as usize * height as usize];
    let mut grey = OutputMut::new(
        OutputFormat::Gray8,
        width,
        height,
        &mut data,
        width as usize,
    )
    .ok()?;
    let mut renderer = Renderer::new(&Options::default()).ok()?;
    renderer.render_newer(matte, frame, &mut grey).ok()?;
    Some(OwnedMask::Grey {
        width,
        height,
        data,
    })
}

/// Options of the engine of another target, which only a mask names.
fn of_other(options: &Options) -> Options {
    Options {
        seed: SeedMode::Mask,
        // The first target's engine draws them all.
        refine: Refine::Guided,
        ..options.clone()
    }
}

enum Acted {
    Done,
    Corrected,
}

/// A frame for the worker.
pub(super) struct Input {
    pub(super) buffer: gst::Buffer,
    pub(super) stream: Arc<Stream>,
    pub(super) orders: Orders,
}

enum Work {
    /// Let the engine remember the frame that it has predicted.
    Remember,
    /// Predict a frame, hand its matte over, and remember it.
    Frame(Input),
}

/// What the worker has found out about the last frame that it was given.
#[derive(Default)]
pub(super) struct Mail {
    pub(super) mattes: Mattes,
    pub(super) result: Option<Result<Shown, gst::ErrorMessage>>,
    pub(super) news: Vec<News>,
}

/// Owns a [`Unit`] that is lent to a thread of its own between two frames. Whoever wants it next waits until it is back.
/// At most one is under way, so both channels hold one.
pub(super) struct Engine {
    /// `None` while the worker has it.
    at_rest: Option<Box<Unit>>,
    /// `None` only while this is dropped: it ends the worker.
    to_worker: Option<SyncSender<(Box<Unit>, Work)>>,
    from_worker: Receiver<(Box<Unit>, Result<(), Error>)>,
    worker: Option<JoinHandle<()>>,
    mail: Arc<Mutex<Mail>>,
    failure: Option<Error>,
}

impl Engine {
    /// Starts the worker.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn new(matter: Matter) -> std::io::Result<Self> {
        let (to_worker, work) = sync_channel::<(Box<Unit>, Work)>(1);
        let (done, from_worker) = sync_channel(1);
        let mail = Arc::new(Mutex::new(Mail::default()));
        let letters = Arc::clone(&mail);
        let worker = std::thread::Builder::new()
            .name("matte-remember".to_owned())
            .spawn(move || {
                for (mut unit, work) in work {
                    // What a panic leaves behind is dropped with it, and dropping `done` tells the owner.
                    let Ok(result) = catch_unwind(AssertUnwindSafe(|| {
                        if let Work::Frame(input) = work {
                            predict(&mut unit, input, &letters);
                        }
                        unit.remember()
                    })) else {
                        return;
                    };
                    if done.send((unit, result)).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self {
            at_rest: Some(Box::new(Unit::new(matter))),
            to_worker: Some(to_worker),
            from_worker,
            worker: Some(worker),
            mail,
            failure: None,
        })
    }

    /// The engine, as soon as the worker is done with it.
    pub(super) fn unit(&mut self) -> Result<&mut Unit, Lost> {
        let unit = if let Some(unit) = self.at_rest.take() {
            unit
        } else {
            let (unit, result) = self.from_worker.recv().map_err(|_| Lost)?;
            self.failure = result.err().or(self.failure.take());
            unit
        };
        Ok(self.at_rest.insert(unit))
    }

    /// Whether the worker is done, without waiting.
    pub(super) fn is_at_rest(&mut self) -> Result<bool, Lost> {
        if self.at_rest.is_none() {
            match self.from_worker.try_recv() {
                Ok((unit, result)) => {
                    self.failure = result.err().or(self.failure.take());
                    self.at_rest = Some(unit);
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return Err(Lost),
            }
        }
        Ok(self.at_rest.is_some())
    }

    /// Why the last frame could not be remembered, once.
    pub(super) fn take_failure(&mut self) -> Option<Error> {
        self.failure.take()
    }

    /// Lets the worker remember the frame that was predicted last.
    pub(super) fn remember(&mut self) {
        self.give(Work::Remember);
    }

    /// Lets the worker predict a frame. The engine must be at rest.
    pub(super) fn predict(&mut self, input: Input) {
        self.give(Work::Frame(input));
    }

    fn give(&mut self, work: Work) {
        // Without a worker the engine is lost in the send, and `unit` says so.
        if let (Some(unit), Some(to_worker)) = (self.at_rest.take(), &self.to_worker) {
            let _ = to_worker.send((unit, work));
        }
    }

    /// What the worker has found out since this was asked last; its mattes are handed over to `mattes`.
    pub(super) fn collect(
        &self,
        mattes: &mut Mattes,
        news: &mut Vec<News>,
    ) -> Option<Result<Shown, gst::ErrorMessage>> {
        let mut mail = self.mail.lock().unwrap_or_else(PoisonError::into_inner);
        news.append(&mut mail.news);
        let result = mail.result.take()?;
        if let Ok(shown) = &result {
            shown.hand_over(&mut mail.mattes, mattes);
        }
        Some(result)
    }
}

#[cfg(test)]
impl Engine {
    /// As if the worker had found this out, and then could not remember the frame.
    pub(super) fn pretend(&mut self, shown: Option<Shown>, failure: Option<Error>) {
        self.mail.lock().unwrap().result = shown.map(Ok);
        self.failure = failure.or(self.failure.take());
    }
}

/// Predicts the frame of a buffer and leaves what comes of it in the mail.
fn predict(unit: &mut Unit, input: Input, mail: &Mutex<Mail>) {
    let Input {
        buffer,
        stream,
        mut orders,
    } = input;
    let mut news = Vec::new();
    let result = (|| {
        let frame = VideoFrame::from_buffer_readable(buffer, &stream.info).map_err(|_| {
            gst::error_msg!(
                gst::StreamError::Format,
                ("the input buffer cannot be mapped")
            )
        })?;
        let picture = frame.as_video_frame_ref();
        let picture = Picture {
            view: self::input(&picture, &stream)?,
            buffer: frame.buffer(),
        };
        unit.step(&picture, &stream, &mut orders, &mut news)
            .map_err(|e| super::errors::error_message(&e))
    })();
    let mut mail = mail.lock().unwrap_or_else(PoisonError::into_inner);
    mail.news.append(&mut news);
    if let Ok(shown) = &result {
        shown.hand_over(&mut unit.mattes, &mut mail.mattes);
    }
    mail.result = Some(result);
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.to_worker = None;
        if let Some(worker) = self.worker.take() {
            // A panic has been met already by whoever waited for the engine.
            let _ = worker.join();
        }
    }
}
