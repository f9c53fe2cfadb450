//! One filter: what its callbacks do.

use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::ffi::{ColorSpace, Data, Graphics, Hotkeys, Source};
use crate::hotkeys::{self, Action};
use crate::render::{Render, Scene};
use crate::settings::{self, Drawing, Engine, Settings};
use crate::status::{self, Status};
use crate::worker::Worker;

/// Identifier of the filter in scene collections.
pub(crate) const ID: &CStr = c"matte_filter";

/// A filter. OBS calls it from several threads, so all of it is shared; a lock is held for moments only, and the one
/// around `render` by the graphics thread alone.
#[derive(Debug)]
pub(crate) struct Filter {
    source: Source,
    worker: Worker,
    /// Settings that the worker could not take yet.
    unsent: Mutex<Option<Engine>>,
    drawing: Mutex<Drawing>,
    render: Mutex<Render>,
    /// What `render` tells, where others can read it while it draws.
    render_status: Mutex<status::Render>,
    frozen: AtomicBool,
    hotkeys: Mutex<Option<Hotkeys>>,
    /// Set when the filter left its parent: no hotkeys any more.
    gone: AtomicBool,
    ticks: AtomicU64,
}

impl Filter {
    /// Makes a filter and starts its worker.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn new(source: Source, data: &Data<'_>) -> std::io::Result<Self> {
        settings::migrate(data);
        let settings = Settings::read(data);
        Ok(Self {
            source,
            worker: Worker::start(settings.engine)?,
            unsent: Mutex::new(None),
            drawing: Mutex::new(settings.drawing),
            render: Mutex::new(Render::new()),
            render_status: Mutex::new(status::Render::default()),
            frozen: AtomicBool::new(false),
            hotkeys: Mutex::new(None),
            gone: AtomicBool::new(false),
            ticks: AtomicU64::new(0),
        })
    }

    /// The settings have changed. It blocks nothing: the worker opens models.
    pub(crate) fn update(&self, data: &Data<'_>) {
        let settings = Settings::read(data);
        *self.drawing.lock() = settings.drawing;
        self.send(Some(settings.engine));
    }

    /// Sends settings to the worker; without new ones those that it could not take.
    fn send(&self, newest: Option<Engine>) {
        // Over both steps, so that older settings of another thread never follow newer ones.
        let mut unsent = self.unsent.lock();
        if let Some(settings) = newest.or_else(|| unsent.take()) {
            *unsent = self.worker.shared.set(settings);
        }
    }

    /// Something was asked for by a key or a button.
    pub(crate) fn act(&self, action: Action) {
        match action {
            Action::Toggle => self.source.set_enabled(!self.source.enabled()),
            Action::Freeze => {
                self.frozen.fetch_xor(true, Ordering::Relaxed);
            }
            Action::Reseed | Action::SeedMiddle | Action::AddReference => {
                self.worker.shared.act(action);
            }
        }
    }

    /// Before every frame, without the graphics context.
    pub(crate) fn tick(&self) {
        self.ticks.fetch_add(1, Ordering::Relaxed);
        self.send(None);
        if !self.gone.load(Ordering::Relaxed) {
            let mut registered = self.hotkeys.lock();
            // A filter has no parent yet when it is made, and OBS 28 and 29 do not tell when it gets one.
            if registered.is_none()
                && let Some(parent) = self.source.filter_parent()
            {
                *registered = Some(hotkeys::register(parent, self, &self.source.name()));
            }
        }
    }

    /// Draws the filter.
    pub(crate) fn render(&self, graphics: &Graphics) {
        let (Some(parent), Some(target)) =
            (self.source.filter_parent(), self.source.filter_target())
        else {
            // Nothing is drawn: the source alone would show the room.
            return;
        };
        let scene = Scene {
            parent,
            target,
            drawing: *self.drawing.lock(),
            frozen: self.frozen.load(Ordering::Relaxed),
            tick: self.ticks.load(Ordering::Relaxed),
        };
        let mut render = self.render.lock();
        render.draw(graphics, &scene, &self.worker.shared);
        render.tell(&mut self.render_status.lock());
    }

    /// The space that the filter draws in: its target's.
    pub(crate) fn color_space(&self) -> ColorSpace {
        self.source
            .filter_target()
            .map_or(ColorSpace::Srgb, Source::color_space)
    }

    /// The filter is taken off its parent.
    pub(crate) fn removed(&self) {
        self.gone.store(true, Ordering::Relaxed);
        // Out of the lock first: unregistering waits for hotkeys that are being handled.
        let hotkeys = self.hotkeys.lock().take();
        drop(hotkeys);
    }

    /// What became of it, in one line for the log.
    fn summary(&self) -> String {
        let (worker, render) = (
            self.worker.shared.status(),
            self.render_status.lock().clone(),
        );
        format!(
            "{} of {} captured frames matted, inference {:.1} ms (p50) {:.1} ms (p95); on the graphics thread {:.2} ms \
             (p50) {:.2} ms (p95) {:.2} ms (longest), of the CPU {:.2} ms (p95) \
             {:.2} ms (longest), drawing {:.2} ms (p95), read-back {:.2} ms (p95)",
            worker.answers,
            render.captured,
            worker.inference_p50_ms,
            worker.inference_p95_ms,
            render.own_p50_ms,
            render.own_p95_ms,
            render.own_max_ms,
            render.own_cpu_p95_ms,
            render.own_cpu_max_ms,
            render.drawing_p95_ms,
            render.readback_p95_ms
        )
    }

    /// The status in words.
    pub(crate) fn status_words(&self) -> String {
        status::words(&self.worker.shared.status(), &self.render_status.lock())
    }

    /// The status for programs.
    pub(crate) fn status_json(&self) -> String {
        let status = Status {
            worker: &self.worker.shared.status(),
            render: &self.render_status.lock().clone(),
        };
        serde_json::to_string(&status).unwrap_or_default()
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        log::info!("{}", self.summary());
    }
}
