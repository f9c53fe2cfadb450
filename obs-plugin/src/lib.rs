//! The OBS filter "Matte".
//!
//! ```text
//! graphics thread                                             worker thread
//!   capture the target, once a frame       → a ring slot
//!   scale it down on the GPU, stage it
//!   read what was staged the frame before  → newest frames →  the engine: alpha
//!   take what the worker has finished      ← mattes         ← the network's picture with its alpha
//!   bring it to full size in a shader, guided by the picture
//!   draw: picture × matte, over nothing, a colour or a blur
//! ```
//!
//! * [`ffi`] is the doorway to libobs: the module's exports, the callbacks, safe owners of OBS's objects.
//! * [`filter`] is one filter: what its callbacks do.
//! * [`render`] is everything on the GPU; [`ring`] decides which captured frame is shown.
//! * [`worker`] owns the engine. The graphics thread never waits for it.
//! * [`settings`] are what the user sets, [`properties`] how OBS shows it, [`status`] what the filter tells.
//!
//! The licence of this crate is that of OBS: GPL-2.0-or-later.

mod ffi;
mod filter;
mod flat;
mod hotkeys;
mod mask;
mod properties;
mod render;
mod ring;
mod settings;
mod status;
mod worker;

use matte_core::runtime::paths;

/// Lets the engine look for models and for ONNX Runtime in the plugin's own folders first, so that an installed plugin
/// needs neither variables nor a cache.
fn find_installation() {
    // The data folder holds `models`; libraries lie beside the plugin, or in the data folder.
    let data = ffi::module_file("matte.effect").and_then(|file| Some(file.parent()?.to_owned()));
    let binary = ffi::module_binary().and_then(|file| Some(file.parent()?.to_owned()));
    for folder in data
        .into_iter()
        .chain(binary.map(|folder| folder.join("obs-matte")))
    {
        paths::add_installation(folder);
    }
}
