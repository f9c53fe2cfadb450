//! The engine, lent to a thread of its own between two frames.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use matte_core::{Error, Matter};

/// The worker panicked, and the engine with it.
#[derive(Debug)]
pub(super) struct Lost;

/// Owns a [`Matter`]. After a frame it goes to the worker, which lets it remember that frame while the frame is on its
/// way downstream; whoever wants it next waits until it is back. At most one is under way, so both channels hold one.
pub(super) struct Engine {
    /// `None` while the worker has it.
    at_rest: Option<Box<Matter>>,
    /// `None` only while this is dropped: it ends the worker.
    to_worker: Option<SyncSender<Box<Matter>>>,
    from_worker: Receiver<(Box<Matter>, Result<(), Error>)>,
    worker: Option<JoinHandle<()>>,
    failure: Option<Error>,
}

impl Engine {
    /// Starts the worker.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn new(matter: Matter) -> std::io::Result<Self> {
        let (to_worker, work) = sync_channel::<Box<Matter>>(1);
        let (done, from_worker) = sync_channel(1);
        let worker = std::thread::Builder::new()
            .name("matte-remember".to_owned())
            .spawn(move || {
                for mut matter in work {
                    // What a panic leaves behind is dropped with it, and dropping `done` tells the owner.
                    let Ok(result) = catch_unwind(AssertUnwindSafe(|| matter.remember())) else {
                        return;
                    };
                    if done.send((matter, result)).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self {
            at_rest: Some(Box::new(matter)),
            to_worker: Some(to_worker),
            from_worker,
            worker: Some(worker),
            failure: None,
        })
    }

    /// The engine, as soon as it has remembered the last frame.
    pub(super) fn matter(&mut self) -> Result<&mut Matter, Lost> {
        let matter = if let Some(matter) = self.at_rest.take() {
            matter
        } else {
            let (matter, result) = self.from_worker.recv().map_err(|_| Lost)?;
            self.failure = result.err();
            matter
        };
        Ok(self.at_rest.insert(matter))
    }

    /// Why the last frame could not be remembered, once.
    pub(super) fn take_failure(&mut self) -> Option<Error> {
        self.failure.take()
    }

    /// Lets the engine remember the frame that it processed last.
    pub(super) fn remember(&mut self) {
        // Without a worker the engine is lost in the send, and `matter` says so.
        if let (Some(matter), Some(to_worker)) = (self.at_rest.take(), &self.to_worker) {
            let _ = to_worker.send(matter);
        }
    }
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
