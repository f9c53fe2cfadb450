//! The engine and its worker: the steps of a frame that need not, or must not, hold the stream up.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use gst_video::VideoFrame;
use gst_video::prelude::*;
use matte_core::{Error, Frame, Matte, MatteState, Matter, Options, ReferenceId, Repair};

use super::actions::{Action, converted};
use super::frames::{Stream, input};

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
}

/// What a frame is to show.
#[derive(Debug)]
pub(super) enum Shown {
    /// The matte.
    Matte,
    /// There is no target.
    BeforeSeed,
    /// The network has failed.
    Failed(Error),
}

/// A [`Matter`] with what belongs to it.
pub(super) struct Unit {
    pub(super) matter: Matter,
    /// Matte of the last frame.
    pub(super) matte: Matte,
    /// References by the names that the application knows.
    references: Vec<(u64, ReferenceId)>,
    /// The frame at hand is to be remembered.
    remember: bool,
}

impl Unit {
    pub(super) fn new(matter: Matter) -> Self {
        Self {
            matter,
            matte: Matte::new(),
            references: Vec::new(),
            remember: false,
        }
    }

    /// Does what is asked for, and predicts the matte of a frame.
    ///
    /// # Errors
    /// When the mask that the first target was to come from does not fit: without it all frames would be empty, and the
    /// reason would be easy to miss.
    pub(super) fn step(
        &mut self,
        frame: &Frame<'_>,
        stream: &Stream,
        orders: &mut Orders,
        news: &mut Vec<News>,
    ) -> Result<Shown, Error> {
        self.remember = false;
        if let Some(options) = orders.options.take()
            && let Err(e) = self.matter.set_options(options)
        {
            news.push(News::Warning(e.to_string()));
        }
        let mut seeded_by = None;
        let mut corrected = false;
        for action in orders.actions.drain(..) {
            match self.act(action, frame, stream, news) {
                Ok(Acted::Seeds(how)) => seeded_by = Some(how),
                Ok(Acted::Corrected) => corrected = true,
                Ok(Acted::Done) => {}
                Err(e) => news.push(News::Warning(e)),
            }
        }
        if corrected && seeded_by.is_none() {
            // The matte is the mask itself; to predict it would let the frame count twice.
            return Ok(match self.matter.snapshot(&mut self.matte) {
                Ok(()) => Shown::Matte,
                Err(e) => Shown::Failed(e),
            });
        }
        let had_target = self.matter.is_seeded();
        let report = match self.matter.predict(frame) {
            Err(e @ (Error::MaskAspect { .. } | Error::MaskEmpty { .. })) => {
                if seeded_by == Some("mask") && !had_target {
                    return Err(e);
                }
                news.push(News::Warning(format!("the target stays as it was: {e}")));
                seeded_by = None;
                self.matter.predict(frame)
            }
            report => report,
        };
        let report = match report {
            Ok(report) => report,
            Err(e) => return Ok(Shown::Failed(e)),
        };
        if report.scene_cut {
            news.push(News::SceneCut);
        }
        if let Some(repair) = report.repair {
            news.push(News::Drift(repair));
        }
        if report.matte == MatteState::Seeded {
            if !self.references.is_empty() {
                self.references.clear();
                news.push(News::ReferencesGone);
            }
            news.push(News::Seeded(seeded_by.unwrap_or("automatic")));
        }
        if !report.has_matte() {
            if report.matte == MatteState::Lost && !self.matte.is_empty() {
                news.push(News::TargetLost);
            }
            self.matte.clear();
            return Ok(Shown::BeforeSeed);
        }
        self.remember = true;
        Ok(match self.matter.snapshot(&mut self.matte) {
            Ok(()) => Shown::Matte,
            Err(e) => Shown::Failed(e),
        })
    }

    fn act(
        &mut self,
        action: Action,
        frame: &Frame<'_>,
        stream: &Stream,
        news: &mut Vec<News>,
    ) -> Result<Acted, String> {
        match action {
            Action::Seed { mask, how } => {
                let view = mask.view().map_err(|e| e.to_string())?;
                self.matter.queue_seed(&view);
                Ok(Acted::Seeds(how))
            }
            Action::SeedAt { x, y } => {
                let found = self
                    .matter
                    .queue_seed_at(frame, (x, y))
                    .map_err(|e| e.to_string())?;
                if found {
                    Ok(Acted::Seeds("point"))
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
                match self.add_reference(&mask, given.as_ref(), frame, stream) {
                    Ok(reference) => {
                        self.references.push((id, reference));
                        news.push(News::ReferenceAdded(id));
                    }
                    Err(reason) => news.push(News::ReferenceFailed(id, reason)),
                }
                Ok(Acted::Done)
            }
            Action::RemoveReference { id } => {
                let Some(at) = self.references.iter().position(|(known, _)| *known == id) else {
                    return Err(format!("there is no reference {id}"));
                };
                let (_, reference) = self.references.remove(at);
                self.matter
                    .remove_reference(reference)
                    .map_err(|e| e.to_string())?;
                news.push(News::ReferenceRemoved(id));
                Ok(Acted::Done)
            }
            Action::Reset | Action::NewSource => {
                if !self.references.is_empty() {
                    news.push(News::ReferencesGone);
                }
                self.references.clear();
                self.matte.clear();
                self.matter.reset().map_err(|e| e.to_string())?;
                Ok(Acted::Done)
            }
        }
    }

    fn add_reference(
        &mut self,
        mask: &super::actions::OwnedMask,
        given: Option<&gst::Sample>,
        frame: &Frame<'_>,
        stream: &Stream,
    ) -> Result<ReferenceId, String> {
        let mask = mask.view().map_err(|e| e.to_string())?;
        let Some(sample) = given else {
            return self
                .matter
                .add_reference(frame, &mask)
                .map_err(|e| e.to_string());
        };
        let converted = converted(sample, &stream.info)?;
        let picture = converted.as_video_frame_ref();
        let view = input(&picture, stream).map_err(|e| e.to_string())?;
        self.matter
            .add_reference(&view, &mask)
            .map_err(|e| e.to_string())
    }

    /// Brings the memory up to date with the last frame.
    fn remember(&mut self) -> Result<(), Error> {
        if std::mem::take(&mut self.remember) {
            self.matter.remember()
        } else {
            Ok(())
        }
    }
}

enum Acted {
    Done,
    Seeds(&'static str),
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
    pub(super) matte: Matte,
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

    /// What the worker has found out since this was asked last; its matte changes places with `matte`.
    pub(super) fn collect(
        &self,
        matte: &mut Matte,
        news: &mut Vec<News>,
    ) -> Option<Result<Shown, gst::ErrorMessage>> {
        let mut mail = self.mail.lock().unwrap_or_else(PoisonError::into_inner);
        news.append(&mut mail.news);
        let result = mail.result.take()?;
        if matches!(result, Ok(Shown::Matte)) {
            std::mem::swap(&mut mail.matte, matte);
        }
        Some(result)
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
        let view = self::input(&picture, &stream)?;
        unit.step(&view, &stream, &mut orders, &mut news)
            .map_err(|e| super::errors::error_message(&e))
    })();
    let mut mail = mail.lock().unwrap_or_else(PoisonError::into_inner);
    mail.news.append(&mut news);
    if matches!(result, Ok(Shown::Matte)) {
        std::mem::swap(&mut mail.matte, &mut unit.matte);
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
