//! Opening models, on a thread of its own: it takes from a tenth of a second to minutes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use matte_core::{Backend, Error, Matter, ModelSet, Options, Precision, Region, Stats};

use crate::logging::CAT;

/// What an engine is opened with. Two equal targets give equal engines.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Target {
    pub(super) model: String,
    pub(super) backend: Backend,
    pub(super) working_size: Option<(u32, u32)>,
    pub(super) memory_frames: Option<u32>,
    pub(super) max_references: u32,
    pub(super) region: Region,
    pub(super) precision: Precision,
    pub(super) threads: u32,
    pub(super) device: u32,
    pub(super) provider_options: Option<String>,
    pub(super) model_cache_dir: Option<String>,
    /// Size of the frames; `None` while there are no caps: the model is looked for, and that is all.
    pub(super) frame_size: Option<(u32, u32)>,
    /// Counts up when an engine that has failed is to be opened anew.
    pub(super) attempt: u32,
}

impl Target {
    /// The engine's options, as far as they are fixed when it is opened.
    pub(super) fn options(&self) -> Options {
        Options {
            working_size: self.working_size,
            memory_frames: self.memory_frames,
            max_references: self.max_references,
            region: self.region,
            precision: self.precision,
            threads: self.threads,
            device: self.device,
            provider_options: self.provider_options.as_deref().map(Into::into),
            model_cache_dir: self.model_cache_dir.as_ref().map(|d| Path::new(d).into()),
            ..Options::default()
        }
    }
}

/// What happens on the loader's thread, for the element to tell.
#[derive(Debug)]
pub(super) enum Event<'a> {
    /// A model is being opened.
    Opening(&'a Target),
    /// It is ready to be used.
    Ready(&'a Target, &'a Stats, Duration),
    /// Another backend is ready, to be used until the one that is wanted has built what it needs.
    StandIn(&'a Target, &'a Stats, Duration),
    /// It cannot be used.
    Failed(&'a Target, &'a Error),
}

/// How an opening went.
pub(super) enum Outcome {
    Ready(Box<Matter>),
    /// On another backend, while what is wanted is still being opened: there will be one more outcome.
    StandIn(Backend, Box<Matter>),
    /// Why not. The element has been told already.
    Failed(String),
}

impl Outcome {
    fn matter(self) -> Option<Box<Matter>> {
        match self {
            Self::Ready(matter) | Self::StandIn(_, matter) => Some(matter),
            Self::Failed(_) => None,
        }
    }
}

/// Short beside an opening, which takes a tenth of a second at least.
const MOMENT: Duration = Duration::from_millis(5);

/// Whether frames are served in the meantime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// Nothing does: another backend may stand in.
    NothingServes,
    /// An engine is in use.
    Served,
}

#[derive(Default)]
struct Inner {
    /// What the element wants to have.
    wanted: Option<Target>,
    /// Not begun yet.
    fresh: Option<Urgency>,
    outcome: Option<(Target, Outcome)>,
    /// What is to be freed here, because freeing takes time as well.
    discarded: Vec<Box<dyn Send>>,
    /// Nobody may wait now: the stream is flushed or stopped.
    flushing: bool,
    closed: bool,
}

impl Inner {
    /// Puts an outcome in the place of one that nobody has taken.
    fn set_outcome(&mut self, new: Option<(Target, Outcome)>) {
        let old = std::mem::replace(&mut self.outcome, new);
        if let Some(matter) = old.and_then(|(_, outcome)| outcome.matter()) {
            self.discarded.push(matter);
        }
    }
}

struct Shared {
    inner: Mutex<Inner>,
    changed: Condvar,
}

/// What may serve while a target is opened.
type StandIn = fn(&ModelSet, &Target) -> Option<Backend>;

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets an outcome be taken. What is not wanted any more is dropped: nobody would take it, or free it.
    fn hand_out(&self, target: &Target, outcome: Outcome) {
        let mut inner = self.lock();
        if inner.wanted.as_ref() == Some(target) {
            inner.set_outcome(Some((target.clone(), outcome)));
            self.changed.notify_all();
        }
    }
}

/// Why [`Loader::wait`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waited {
    /// There is an outcome, or the time is over: look again.
    Look,
    /// The stream is flushed or stopped.
    Flushing,
}

/// Owns the thread that opens models. Opening cannot be interrupted, so a model that nobody wants any more is opened to
/// its end and dropped; only one is opened at a time.
pub(super) struct Loader {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Loader {
    /// Starts the thread. `tell` is called on it.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn new(tell: impl Fn(Event) + Send + 'static) -> std::io::Result<Self> {
        Self::with(tell, |set, target| {
            Matter::stand_in(set, target.backend, &target.options(), target.frame_size?)
        })
    }

    fn with(tell: impl Fn(Event) + Send + 'static, stand_in: StandIn) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            inner: Mutex::default(),
            changed: Condvar::new(),
        });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("matte-open".to_owned())
            .spawn(move || work(&theirs, &tell, stand_in))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Says what is wanted. What is being opened goes on and counts if it is that.
    pub(super) fn want(&self, target: &Target, urgency: Urgency) {
        let mut inner = self.shared.lock();
        if inner.wanted.as_ref() == Some(target) {
            return;
        }
        if inner.outcome.as_ref().is_some_and(|(of, _)| of != target) {
            inner.set_outcome(None);
        }
        inner.wanted = Some(target.clone());
        inner.fresh = Some(urgency);
        self.shared.changed.notify_all();
    }

    /// Nothing is wanted any more.
    pub(super) fn cancel(&self) {
        let mut inner = self.shared.lock();
        inner.wanted = None;
        inner.fresh = None;
        inner.set_outcome(None);
        self.shared.changed.notify_all();
    }

    /// The outcome of the opening of `target`, each one once.
    pub(super) fn take(&self, target: &Target) -> Option<Outcome> {
        let mut inner = self.shared.lock();
        let (_, outcome) = inner.outcome.take_if(|(of, _)| of == target)?;
        if !matches!(outcome, Outcome::StandIn(..)) {
            // The same may be wanted once more.
            inner.wanted = None;
        }
        Some(outcome)
    }

    /// Waits until there is an outcome for `target`.
    pub(super) fn wait(&self, target: &Target) -> Waited {
        let mut inner = self.shared.lock();
        loop {
            if inner.flushing {
                return Waited::Flushing;
            }
            let there = inner.outcome.as_ref().is_some_and(|(of, _)| of == target);
            if there || inner.wanted.as_ref() != Some(target) {
                return Waited::Look;
            }
            inner = self
                .shared
                .changed
                .wait(inner)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits for a moment, for what nobody tells here.
    pub(super) fn wait_a_moment(&self) -> Waited {
        let inner = self.shared.lock();
        if inner.flushing {
            return Waited::Flushing;
        }
        let waited = self.shared.changed.wait_timeout(inner, MOMENT);
        let (inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match inner.flushing {
            true => Waited::Flushing,
            false => Waited::Look,
        }
    }

    /// Whether waiting is forbidden.
    pub(super) fn set_flushing(&self, flushing: bool) {
        self.shared.lock().flushing = flushing;
        self.shared.changed.notify_all();
    }

    /// Frees something on the loader's thread.
    pub(super) fn discard(&self, thing: Box<dyn Send>) {
        self.shared.lock().discarded.push(thing);
        self.shared.changed.notify_all();
    }
}

impl Drop for Loader {
    /// Waits for a model that is being opened: ONNX Runtime must not be at work when the program ends.
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take()
            // The element's last reference may have been the one that this thread held to post a message.
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

fn work(shared: &Shared, tell: &impl Fn(Event), stand_in: StandIn) {
    let mut models = Models::default();
    let mut inner = shared.lock();
    loop {
        if !inner.discarded.is_empty() {
            let discarded = std::mem::take(&mut inner.discarded);
            drop(inner);
            drop(discarded);
            inner = shared.lock();
            continue;
        }
        if inner.closed {
            return;
        }
        let Some(urgency) = inner.fresh.take() else {
            inner = shared
                .changed
                .wait(inner)
                .unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        let Some(target) = inner.wanted.clone() else {
            continue;
        };
        drop(inner);
        let start = Instant::now();
        tell(Event::Opening(&target));
        if urgency == Urgency::NothingServes {
            lend(shared, tell, stand_in, &mut models, &target);
        }
        let opened = models.open_safely(&target);
        inner = shared.lock();
        // Somebody may want the same again that nobody wanted in between.
        if inner.wanted.as_ref() != Some(&target) {
            drop(inner);
            drop(opened);
            inner = shared.lock();
            continue;
        }
        inner.fresh = None;
        drop(inner);
        // Told before it is used, so that what is told about its use comes after it.
        let outcome = match opened {
            Ok(Some(matter)) => {
                tell(Event::Ready(&target, &matter.stats(), start.elapsed()));
                Some(Outcome::Ready(Box::new(matter)))
            }
            Ok(None) => None,
            Err(error) => {
                tell(Event::Failed(&target, &error));
                Some(Outcome::Failed(error.to_string()))
            }
        };
        if let Some(outcome) = outcome {
            shared.hand_out(&target, outcome);
        }
        inner = shared.lock();
    }
}

/// Opens what may serve until `target` is there, and hands it out. That it cannot be opened is no news: what is wanted
/// will tell its own.
fn lend(
    shared: &Shared,
    tell: &impl Fn(Event),
    stand_in: StandIn,
    models: &mut Models,
    target: &Target,
) {
    let start = Instant::now();
    let Ok(set) = models.find(target) else {
        return;
    };
    let Some(backend) = stand_in(set, target) else {
        return;
    };
    let lent = Target {
        backend,
        ..target.clone()
    };
    match models.open_safely(&lent) {
        Ok(Some(matter)) => {
            if shared.lock().wanted.as_ref() != Some(target) {
                return;
            }
            tell(Event::StandIn(target, &matter.stats(), start.elapsed()));
            shared.hand_out(target, Outcome::StandIn(backend, Box::new(matter)));
        }
        Ok(None) => {}
        Err(error) => gst::info!(
            CAT,
            "{} does not stand in for {}: {error}",
            backend.name(),
            target.backend.name()
        ),
    }
}

/// The models that were looked for last: names and attempts, to look again when an engine is opened anew.
#[derive(Default)]
struct Models(Option<(String, u32, ModelSet)>);

impl Models {
    fn find(&mut self, target: &Target) -> Result<&ModelSet, Error> {
        let known = self
            .0
            .take()
            .filter(|(name, attempt, _)| *name == target.model && *attempt == target.attempt);
        let known = match known {
            Some(known) => known,
            None => (
                target.model.clone(),
                target.attempt,
                ModelSet::find(&target.model)?,
            ),
        };
        Ok(&self.0.insert(known).2)
    }

    /// The engine of a target; `None` where only the model was looked for.
    fn open(&mut self, target: &Target) -> Result<Option<Matter>, Error> {
        let set = self.find(target)?;
        target
            .frame_size
            .map(|size| Matter::open(set, target.backend, target.options(), size))
            .transpose()
    }

    /// The same; a panic is an error like any other.
    fn open_safely(&mut self, target: &Target) -> Result<Option<Matter>, Error> {
        catch_unwind(AssertUnwindSafe(|| self.open(target))).unwrap_or_else(|_| {
            self.0 = None;
            Err(Error::Backend {
                backend: target.backend.name(),
                reason: "the engine panicked while it was opened".to_owned(),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(frame_size: Option<(u32, u32)>) -> Target {
        Target {
            model: "lite".to_owned(),
            backend: Backend::Cpu,
            working_size: Some((128, 80)),
            memory_frames: None,
            max_references: 0,
            region: Region::Frame,
            precision: Precision::Full,
            threads: 1,
            device: 0,
            provider_options: None,
            model_cache_dir: None,
            frame_size,
            attempt: 0,
        }
    }

    /// As if the processor had to compile for minutes; it stands in for itself.
    fn slow(_: &ModelSet, target: &Target) -> Option<Backend> {
        target.frame_size.map(|_| target.backend)
    }

    fn loader(stand_in: StandIn) -> (Loader, Arc<Mutex<Vec<&'static str>>>) {
        let told = Arc::new(Mutex::new(Vec::new()));
        let theirs = Arc::clone(&told);
        let tell = move |event: Event| {
            theirs.lock().unwrap().push(match event {
                Event::Opening(_) => "opening",
                Event::Ready(..) => "ready",
                Event::StandIn(..) => "stand-in",
                Event::Failed(..) => "failed",
            });
        };
        (Loader::with(tell, stand_in).unwrap(), told)
    }

    fn next(loader: &Loader, target: &Target) -> Outcome {
        loop {
            if let Some(outcome) = loader.take(target) {
                return outcome;
            }
            assert_eq!(loader.wait(target), Waited::Look);
        }
    }

    #[test]
    fn another_backend_serves_while_one_is_built() {
        let (loader, told) = loader(slow);
        let target = target(Some((128, 80)));
        loader.want(&target, Urgency::NothingServes);
        // Both may be opened before the first is taken: then there is no need of it any more.
        let first = next(&loader, &target);
        if matches!(first, Outcome::StandIn(Backend::Cpu, _)) {
            assert!(matches!(next(&loader, &target), Outcome::Ready(_)));
        } else {
            assert!(matches!(first, Outcome::Ready(_)));
        }
        assert_eq!(*told.lock().unwrap(), ["opening", "stand-in", "ready"]);
        assert!(loader.take(&target).is_none(), "each outcome once");
    }

    #[test]
    fn where_something_serves_already_nothing_stands_in() {
        let (loader, told) = loader(slow);
        let target = target(Some((128, 80)));
        loader.want(&target, Urgency::Served);
        assert!(matches!(next(&loader, &target), Outcome::Ready(_)));
        assert_eq!(*told.lock().unwrap(), ["opening", "ready"]);
    }

    #[test]
    fn what_cannot_stand_in_is_no_failure() {
        // CUDA's library is not beside the ONNX Runtime for the CPU that the tests use; where it is, it stands in.
        let (loader, told) = loader(|_, _| Some(Backend::Cuda));
        let target = target(Some((128, 80)));
        loader.want(&target, Urgency::NothingServes);
        while !matches!(next(&loader, &target), Outcome::Ready(_)) {}
        assert!(!told.lock().unwrap().contains(&"failed"));
    }

    #[test]
    fn a_target_that_changes_takes_its_stand_in_along() {
        let (loader, _) = loader(slow);
        let first = target(Some((128, 80)));
        let second = Target {
            threads: 2,
            ..first.clone()
        };
        loader.want(&first, Urgency::NothingServes);
        loader.want(&second, Urgency::NothingServes);
        while !matches!(next(&loader, &second), Outcome::Ready(_)) {}
        assert!(loader.take(&first).is_none());
        loader.cancel();
    }
}
