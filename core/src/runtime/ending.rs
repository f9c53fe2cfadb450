//! The end of the program. Hosts call `exit` while their streams still run, and ONNX Runtime's own static objects are
//! destroyed then: a thread that is inside it at that moment crashes the program. So everything that calls it goes through
//! this door, which is shut, and waited for, before that happens.
//!
//! Some of those objects are made when they are first needed, and what was made last goes first; so the door is told to shut
//! anew after what may have made some. Left open is the opening of the process's first graph, some 50 ms after the library
//! was loaded: a program that ends right then may still crash.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::error::{Error, Result};

/// What is waited for at most. Networks are opened and run in less on a CPU; an engine of TensorRT takes minutes to build.
const PATIENCE: Duration = Duration::from_secs(10);

struct Door {
    inside: usize,
    shut: bool,
}

static DOOR: Mutex<Door> = Mutex::new(Door {
    inside: 0,
    shut: false,
});
static LEFT: Condvar = Condvar::new();

/// As long as it lives, the program's end waits.
#[derive(Debug)]
pub(crate) struct Inside(());

impl Drop for Inside {
    fn drop(&mut self) {
        let mut door = DOOR.lock();
        door.inside -= 1;
        if door.shut && door.inside == 0 {
            LEFT.notify_all();
        }
    }
}

/// To be held around calls of ONNX Runtime; `None` where the program is ending.
pub(crate) fn enter() -> Option<Inside> {
    let mut door = DOOR.lock();
    if door.shut {
        return None;
    }
    door.inside += 1;
    Some(Inside(()))
}

/// As [`enter`], with an error that says what was not done.
pub(crate) fn enter_for(doing: impl FnOnce() -> String) -> Result<Inside> {
    enter().ok_or_else(|| Error::Ending { doing: doing() })
}

/// To be called after whatever may have made static objects. Each call takes a few bytes, so not after every frame.
pub(crate) fn watch() {
    if !shutdown_hooks::add_shutdown_hook(shut) {
        log::warn!("no room for a function at the program's end: ending while matting may crash");
    }
}

extern "C" fn shut() {
    let mut door = DOOR.lock();
    door.shut = true;
    let inside = door.inside;
    let late = LEFT
        .wait_while_for(&mut door, |door| door.inside > 0, PATIENCE)
        .timed_out();
    drop(door);
    if late {
        log::warn!("the program ends with {inside} calls of ONNX Runtime going on");
    }
}
