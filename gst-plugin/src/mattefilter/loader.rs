//! Opening models, on a thread of its own: it takes from a tenth of a second to minutes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use matte_core::{Backend, Error, Matter, ModelSet, Options, Precision, Stats};

/// What an engine is opened with. Two equal targets give equal engines.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Target {
    pub(super) model: String,
    pub(super) backend: Backend,
    pub(super) working_size: Option<(u32, u32)>,
    pub(super) memory_frames: Option<u32>,
    pub(super) max_references: u32,
    pub(super) precision: Precision,
    pub(super) threads: u32,
    pub(super) device: u32,
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
            precision: self.precision,
            threads: self.threads,
            device: self.device,
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
    /// It cannot be used.
    Failed(&'a Target, &'a Error),
}

/// How an opening went.
pub(super) enum Outcome {
    Ready(Box<Matter>),
    /// Why not. The element has been told already.
    Failed(String),
}

#[derive(Default)]
struct Inner {
    /// What the element wants to have.
    wanted: Option<Target>,
    /// Not begun yet.
    fresh: bool,
    outcome: Option<(Target, Outcome)>,
    /// What is to be freed here, because freeing takes time as well.
    discarded: Vec<Box<dyn Send>>,
    /// Nobody may wait now: the stream is flushed or stopped.
    flushing: bool,
    closed: bool,
}

struct Shared {
    inner: Mutex<Inner>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
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
        let shared = Arc::new(Shared {
            inner: Mutex::default(),
            changed: Condvar::new(),
        });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("matte-open".to_owned())
            .spawn(move || work(&theirs, &tell))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Says what is wanted. What is being opened goes on and counts if it is that.
    pub(super) fn want(&self, target: &Target) {
        let mut inner = self.shared.lock();
        if inner.wanted.as_ref() == Some(target) {
            return;
        }
        if inner.outcome.as_ref().is_some_and(|(of, _)| of != target)
            && let Some((_, Outcome::Ready(matter))) = inner.outcome.take()
        {
            inner.discarded.push(matter);
        }
        inner.wanted = Some(target.clone());
        inner.fresh = true;
        self.shared.changed.notify_all();
    }

    /// Nothing is wanted any more.
    pub(super) fn cancel(&self) {
        let mut inner = self.shared.lock();
        inner.wanted = None;
        inner.fresh = false;
        if let Some((_, Outcome::Ready(matter))) = inner.outcome.take() {
            inner.discarded.push(matter);
        }
        self.shared.changed.notify_all();
    }

    /// The outcome of the opening of `target`, once.
    pub(super) fn take(&self, target: &Target) -> Option<Outcome> {
        let mut inner = self.shared.lock();
        let (_, outcome) = inner.outcome.take_if(|(of, _)| of == target)?;
        // The same may be wanted once more.
        inner.wanted = None;
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

fn work(shared: &Shared, tell: &impl Fn(Event)) {
    let mut models: Option<(String, u32, ModelSet)> = None;
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
        if !inner.fresh {
            inner = shared
                .changed
                .wait(inner)
                .unwrap_or_else(PoisonError::into_inner);
            continue;
        }
        inner.fresh = false;
        let Some(target) = inner.wanted.clone() else {
            continue;
        };
        drop(inner);
        let start = Instant::now();
        tell(Event::Opening(&target));
        let opened =
            catch_unwind(AssertUnwindSafe(|| open(&mut models, &target))).unwrap_or_else(|_| {
                models = None;
                Err(Error::Backend {
                    backend: target.backend.name(),
                    reason: "the engine panicked while it was opened".to_owned(),
                })
            });
        inner = shared.lock();
        // Somebody may want the same again that nobody wanted in between.
        if inner.wanted.as_ref() != Some(&target) {
            drop(inner);
            drop(opened);
            inner = shared.lock();
            continue;
        }
        inner.fresh = false;
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
        inner = shared.lock();
        if let Some(outcome) = outcome {
            inner.outcome = Some((target, outcome));
            shared.changed.notify_all();
        }
    }
}

/// The engine of a target; `None` where only the model was looked for.
fn open(
    models: &mut Option<(String, u32, ModelSet)>,
    target: &Target,
) -> Result<Option<Matter>, Error> {
    let known = models
        .as_ref()
        .filter(|(name, attempt, _)| *name == target.model && *attempt == target.attempt);
    let set = if let Some((.., set)) = known {
        set
    } else {
        let set = ModelSet::find(&target.model)?;
        let (.., set) = models.insert((target.model.clone(), target.attempt, set));
        &*set
    };
    target
        .frame_size
        .map(|size| Matter::open(set, target.backend, target.options(), size))
        .transpose()
}
