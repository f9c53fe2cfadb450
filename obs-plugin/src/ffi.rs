//! The only place that talks to libobs, and the only one with `unsafe`.
//!
//! Three kinds of things live here: what OBS calls (the module's exports and the filter's callbacks, each fenced against
//! panics), what OBS gives (owners and views of its objects), and declarations that the bindings lack because they were
//! made from older headers.
//!
//! # What the safety of this module rests on
//! * A filter's `data` is a leaked [`Arc`] of [`Filter`], made in `create` and taken back in `destroy`, which OBS calls
//!   last. Callbacks get it shared, whatever thread they come on; everything in it is [`Sync`].
//! * A [`Source`] is only handed to code that runs inside a callback of the filter that it belongs to, so it is alive.
//! * Graphics calls take a [`Graphics`]: the proof that this thread holds the graphics context.
#![allow(unsafe_code, reason = "this is the module that may")]

use std::ffi::{CStr, CString, c_char, c_int, c_longlong, c_void};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use obs_wrapper::obs_sys as sys;
use parking_lot::Mutex;

use crate::filter::Filter;
use crate::hotkeys::Action;
use crate::{filter, properties, settings, worker};

/// Colour spaces of OBS (`enum gs_color_space`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum ColorSpace {
    /// sRGB in 8 bits; textures hold encoded values.
    Srgb = 0,
    /// Linear, 0 to 1, in half floats.
    Srgb16F = 1,
    /// Linear, Rec. 709 primaries, 1 is SDR white and highlights go beyond.
    Rec709Extended = 2,
}

impl ColorSpace {
    /// What the filter draws in, in the order in which sources are asked.
    const ALL: [Self; 3] = [Self::Srgb, Self::Srgb16F, Self::Rec709Extended];

    fn from_raw(raw: u32) -> Self {
        Self::ALL
            .into_iter()
            .find(|space| *space as u32 == raw)
            .unwrap_or(Self::Srgb)
    }

    /// Format of a texture that holds it.
    pub(crate) fn format(self) -> Format {
        match self {
            Self::Srgb => Format::Rgba,
            Self::Srgb16F | Self::Rec709Extended => Format::Rgba16F,
        }
    }
}

/// The part of libobs that came after the bindings.
mod later {
    use super::sys;

    /// `struct obs_source_info` of OBS 28 and 29: it only ever grew at the end.
    #[repr(C)]
    pub(super) struct SourceInfo {
        pub(super) base: sys::obs_source_info,
        pub(super) missing_files:
            Option<unsafe extern "C" fn(data: *mut super::c_void) -> *mut super::c_void>,
        pub(super) video_get_color_space: Option<
            unsafe extern "C" fn(
                data: *mut super::c_void,
                count: sys::size_t,
                preferred: *const u32,
            ) -> u32,
        >,
    }

    pub(super) const OBS_SOURCE_SRGB: u32 = 1 << 15;
    /// `OBS_TEXT_INFO` of `enum obs_text_type`.
    pub(super) const TEXT_INFO: sys::obs_text_type = 3;

    unsafe extern "C" {
        pub(super) fn gs_get_linear_srgb() -> bool;
        pub(super) fn gs_set_linear_srgb(linear_srgb: bool) -> bool;
        pub(super) fn gs_enable_framebuffer_srgb(enable: bool);
        pub(super) fn gs_framebuffer_srgb_enabled() -> bool;
        pub(super) fn gs_effect_set_texture_srgb(
            param: *mut sys::gs_eparam_t,
            val: *mut sys::gs_texture_t,
        );
        pub(super) fn gs_texrender_begin_with_color_space(
            texrender: *mut sys::gs_texrender_t,
            cx: u32,
            cy: u32,
            space: u32,
        ) -> bool;
        pub(super) fn obs_source_get_color_space(
            source: *mut sys::obs_source_t,
            count: sys::size_t,
            preferred: *const u32,
        ) -> u32;
    }
}

/// Oldest libobs whose functions are used, as `MAKE_SEMANTIC_VERSION` writes it.
const OLDEST_LIBOBS: u32 = 28 << 24;

/// Runs what a callback does. A panic must not unwind into C: it is logged, and the callback returns `otherwise`.
fn fenced<R>(what: &str, otherwise: R, body: impl FnOnce() -> R) -> R {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        log::error!("{what}: internal error: {}", panic_message(&*panic));
        otherwise
    })
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// Text for C. What cannot be written in it (an interior zero) is cut off.
fn c_string(text: &str) -> CString {
    let end = text.find('\0').unwrap_or(text.len());
    CString::new(&text[..end]).unwrap_or_default()
}

/// # Safety
/// `text` is null or a string that ends with a zero.
unsafe fn rust_string(text: *const c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: as the caller says.
    let text = unsafe { CStr::from_ptr(text) };
    Some(text.to_string_lossy().into_owned())
}

// ---------------------------------------------------------------- the module

static MODULE: AtomicPtr<sys::obs_module_t> = AtomicPtr::new(ptr::null_mut());

/// The texts in the user's language.
struct Lookup(*mut sys::lookup_t);

// SAFETY: a lookup is only read after it was made, and the mutex around it orders that before its end.
unsafe impl Send for Lookup {}

impl Drop for Lookup {
    fn drop(&mut self) {
        // SAFETY: it was made by obs_module_load_locale and nobody else holds it.
        unsafe { sys::text_lookup_destroy(self.0) };
    }
}

static LOOKUP: Mutex<Option<Lookup>> = Mutex::new(None);

/// A text in the user's language; the key itself where there is none.
pub(crate) fn text(key: &str) -> String {
    let lookup = LOOKUP.lock();
    let Some(lookup) = &*lookup else {
        return key.to_owned();
    };
    let name = c_string(key);
    let mut found = ptr::null();
    // SAFETY: lookup and name are alive; what is found belongs to the lookup, which is held until it was copied.
    unsafe {
        if sys::text_lookup_getstr(lookup.0, name.as_ptr(), &raw mut found) {
            rust_string(found).unwrap_or_else(|| key.to_owned())
        } else {
            key.to_owned()
        }
    }
}

/// A file of the plugin's data folder, if it is there.
pub(crate) fn module_file(name: &str) -> Option<PathBuf> {
    let module = MODULE.load(Ordering::Acquire);
    if module.is_null() {
        return None;
    }
    let name = c_string(name);
    // SAFETY: OBS keeps the module until the program ends; the path is ours to free.
    unsafe {
        let path = sys::obs_find_module_file(module, name.as_ptr());
        let found = rust_string(path);
        sys::bfree(path.cast());
        found.map(PathBuf::from)
    }
}

/// The file of the plugin itself.
pub(crate) fn module_binary() -> Option<PathBuf> {
    let module = MODULE.load(Ordering::Acquire);
    if module.is_null() {
        return None;
    }
    // SAFETY: OBS keeps the module and this string until the program ends.
    unsafe { rust_string(sys::obs_get_module_binary_path(module)) }.map(PathBuf::from)
}

/// Called by OBS with the module, before everything else.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn obs_module_set_pointer(module: *mut sys::obs_module_t) {
    MODULE.store(module, Ordering::Release);
}

/// Called by OBS: which libobs the plugin was made for.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn obs_module_ver() -> u32 {
    OLDEST_LIBOBS
}

/// Called by OBS at the start and whenever the user's language changes.
///
/// # Safety
/// `locale` is a string.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn obs_module_set_locale(locale: *const c_char) {
    fenced("obs_module_set_locale", (), || {
        let module = MODULE.load(Ordering::Acquire);
        if module.is_null() {
            return;
        }
        // SAFETY: the module is alive, both names are strings.
        let lookup = unsafe { sys::obs_module_load_locale(module, c"en-US".as_ptr(), locale) };
        *LOOKUP.lock() = (!lookup.is_null()).then_some(Lookup(lookup));
    });
}

/// Called by OBS when the texts are not needed any more.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn obs_module_free_locale() {
    fenced("obs_module_free_locale", (), || *LOOKUP.lock() = None);
}

/// Called by OBS: name of the module in its list.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn obs_module_name() -> *const c_char {
    c"Matte".as_ptr()
}

/// Called by OBS: what the module is.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn obs_module_description() -> *const c_char {
    c"Cuts a person or an object out of live video".as_ptr()
}

/// Called by OBS: registers the filter.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn obs_module_load() -> bool {
    fenced("obs_module_load", false, || {
        // Another plugin in Rust has a log of its own: this is that of our copy of the crate `log`.
        let _ = obs_wrapper::log::Logger::new()
            .with_max_level(log::LevelFilter::Info)
            .init();
        // SAFETY: it only reads a constant.
        let version = unsafe { sys::obs_get_version() };
        if version < OLDEST_LIBOBS {
            log::error!("OBS {} is too old: 28 or newer is needed", version >> 24);
            return false;
        }
        crate::find_installation();
        register();
        log::info!("version {}", env!("CARGO_PKG_VERSION"));
        true
    })
}

/// Called by OBS at its end, after the last filter was destroyed.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn obs_module_unload() {
    fenced("obs_module_unload", (), worker::wait_for_retired);
}

fn register() {
    // SAFETY: all fields of this C struct may be zero: null pointers, no callbacks, the first of each enumeration.
    let mut base: sys::obs_source_info = unsafe { std::mem::zeroed() };
    base.id = filter::ID.as_ptr();
    base.type_ = sys::obs_source_type_OBS_SOURCE_TYPE_FILTER;
    base.output_flags = sys::OBS_SOURCE_VIDEO | later::OBS_SOURCE_SRGB;
    base.get_name = Some(get_name);
    base.create = Some(create);
    base.destroy = Some(destroy);
    base.get_defaults = Some(get_defaults);
    base.get_properties = Some(get_properties);
    base.update = Some(update);
    base.load = Some(update);
    base.video_tick = Some(video_tick);
    base.video_render = Some(video_render);
    base.filter_remove = Some(filter_remove);
    let info = later::SourceInfo {
        base,
        missing_files: None,
        video_get_color_space: Some(video_get_color_space),
    };
    // SAFETY: OBS copies the struct, whose size tells it how much of it is there.
    unsafe {
        sys::obs_register_source_s(
            (&raw const info).cast(),
            size_of::<later::SourceInfo>() as sys::size_t,
        );
    }
}

// ---------------------------------------------------------------- what OBS calls

/// # Safety
/// `data` is null, or what `create` returned and `destroy` has not taken back.
unsafe fn filter_of<'a>(data: *mut c_void) -> Option<&'a Filter> {
    // SAFETY: it points into an Arc that `destroy` drops, after all other callbacks.
    unsafe { data.cast::<Filter>().as_ref() }
}

unsafe extern "C" fn get_name(_: *mut c_void) -> *const c_char {
    // A name that OBS keeps: it has to be static.
    c"Matte".as_ptr()
}

unsafe extern "C" fn create(
    settings: *mut sys::obs_data_t,
    source: *mut sys::obs_source_t,
) -> *mut c_void {
    fenced("create", ptr::null_mut(), || {
        let Some(source) = NonNull::new(source).map(Source) else {
            return ptr::null_mut();
        };
        let Some(data) = Data::from_raw(settings) else {
            return ptr::null_mut();
        };
        match Filter::new(source, &data) {
            Ok(filter) => {
                let raw = Arc::into_raw(Arc::new(filter)).cast_mut().cast::<c_void>();
                add_status_procedure(source, raw);
                raw
            }
            Err(e) => {
                log::error!("the filter cannot be made: {e}");
                ptr::null_mut()
            }
        }
    })
}

unsafe extern "C" fn destroy(data: *mut c_void) {
    fenced("destroy", (), || {
        if !data.is_null() {
            // SAFETY: `create` leaked it; OBS calls nothing with it after this.
            drop(unsafe { Arc::from_raw(data.cast::<Filter>().cast_const()) });
        }
    });
}

unsafe extern "C" fn get_defaults(data: *mut sys::obs_data_t) {
    fenced("get_defaults", (), || {
        if let Some(data) = Data::from_raw(data) {
            settings::defaults(&data);
        }
    });
}

unsafe extern "C" fn get_properties(data: *mut c_void) -> *mut sys::obs_properties_t {
    fenced("get_properties", ptr::null_mut(), || {
        // SAFETY: as `filter_of` says; OBS passes null to ask for the properties of the type.
        let filter = unsafe { filter_of(data) };
        properties::build(filter).into_raw()
    })
}

unsafe extern "C" fn update(data: *mut c_void, settings: *mut sys::obs_data_t) {
    fenced("update", (), || {
        // SAFETY: as `filter_of` says.
        let filter = unsafe { filter_of(data) };
        if let (Some(filter), Some(settings)) = (filter, Data::from_raw(settings)) {
            filter.update(&settings);
        }
    });
}

unsafe extern "C" fn video_tick(data: *mut c_void, _seconds: f32) {
    fenced("video_tick", (), || {
        // SAFETY: as `filter_of` says.
        if let Some(filter) = unsafe { filter_of(data) } {
            filter.tick();
        }
    });
}

unsafe extern "C" fn video_render(data: *mut c_void, _effect: *mut sys::gs_effect_t) {
    fenced("video_render", (), || {
        // SAFETY: as `filter_of` says.
        if let Some(filter) = unsafe { filter_of(data) } {
            // OBS renders with the graphics context held.
            filter.render(&Graphics(PhantomData));
        }
    });
}

unsafe extern "C" fn filter_remove(data: *mut c_void, _parent: *mut sys::obs_source_t) {
    fenced("filter_remove", (), || {
        // SAFETY: as `filter_of` says.
        if let Some(filter) = unsafe { filter_of(data) } {
            filter.removed();
        }
    });
}

unsafe extern "C" fn video_get_color_space(
    data: *mut c_void,
    _count: sys::size_t,
    _preferred: *const u32,
) -> u32 {
    fenced("video_get_color_space", ColorSpace::Srgb as u32, || {
        // SAFETY: as `filter_of` says.
        let filter = unsafe { filter_of(data) };
        filter.map_or(ColorSpace::Srgb, Filter::color_space) as u32
    })
}

unsafe extern "C" fn clicked<const ACTION: u8>(
    _props: *mut sys::obs_properties_t,
    _property: *mut sys::obs_property_t,
    data: *mut c_void,
) -> bool {
    fenced("button", false, || {
        // SAFETY: OBS passes the filter's data to the buttons of its properties.
        let filter = unsafe { filter_of(data) };
        if let (Some(filter), Some(action)) = (filter, Action::from_index(ACTION)) {
            filter.act(action);
        }
        false
    })
}

/// Reads the status again. Properties are changed on a user's click alone: OBS builds all widgets anew, and where a dialog for a
/// file or a colour is open, it goes on with those that it has freed.
unsafe extern "C" fn refreshed(
    props: *mut sys::obs_properties_t,
    _property: *mut sys::obs_property_t,
    data: *mut c_void,
) -> bool {
    fenced("refresh", false, || {
        // SAFETY: OBS passes the filter's data to the buttons of its properties.
        let Some(filter) = (unsafe { filter_of(data) }) else {
            return false;
        };
        let words = c_string(&filter.status_words());
        // SAFETY: OBS lends all properties of the filter for this call, and copies the words.
        unsafe {
            let status = sys::obs_properties_get(props, c"status".as_ptr());
            if status.is_null() {
                return false;
            }
            sys::obs_property_set_description(status, words.as_ptr());
        }
        true
    })
}

unsafe extern "C" fn setting_changed(
    _private: *mut c_void,
    props: *mut sys::obs_properties_t,
    _property: *mut sys::obs_property_t,
    settings: *mut sys::obs_data_t,
) -> bool {
    fenced("modified", false, || {
        let (Some(props), Some(settings)) = (NonNull::new(props), Data::from_raw(settings)) else {
            return false;
        };
        properties::show_what_matters(&settings, |name, visible| {
            let name = c_string(name);
            // SAFETY: OBS lends the properties for this call.
            unsafe {
                let property = sys::obs_properties_get(props.as_ptr(), name.as_ptr());
                if !property.is_null() {
                    sys::obs_property_set_visible(property, visible);
                }
            }
        });
        true
    })
}

unsafe extern "C" fn hotkey_pressed<const ACTION: u8>(
    data: *mut c_void,
    _id: sys::obs_hotkey_id,
    _hotkey: *mut sys::obs_hotkey_t,
    pressed: bool,
) {
    fenced("hotkey", (), || {
        // SAFETY: the hotkeys are unregistered before the filter's data goes.
        let filter = unsafe { filter_of(data) };
        match (filter, Action::from_index(ACTION)) {
            (Some(filter), Some(action)) if pressed => filter.act(action),
            _ => {}
        }
    });
}

fn add_status_procedure(source: Source, data: *mut c_void) {
    // SAFETY: the handler belongs to the filter's source, and so ends before `data` does.
    unsafe {
        let handler = sys::obs_source_get_proc_handler(source.0.as_ptr());
        sys::proc_handler_add(
            handler,
            c"void matte_status(out string json)".as_ptr(),
            Some(status_procedure),
            data,
        );
    }
}

unsafe extern "C" fn status_procedure(data: *mut c_void, calldata: *mut sys::calldata_t) {
    fenced("matte_status", (), || {
        // SAFETY: as `filter_of` says.
        if let Some(filter) = unsafe { filter_of(data) } {
            let json = c_string(&filter.status_json());
            let bytes = json.as_bytes_with_nul();
            // SAFETY: OBS copies the bytes into the call's data.
            unsafe {
                sys::calldata_set_data(
                    calldata,
                    c"json".as_ptr(),
                    bytes.as_ptr().cast(),
                    bytes.len() as sys::size_t,
                );
            }
        }
    });
}

// ---------------------------------------------------------------- sources

/// A source that is alive while the callback runs that it was given to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source(NonNull<sys::obs_source_t>);

// SAFETY: OBS's calls on sources are made for any thread; what belongs to the graphics thread takes a `Graphics`.
unsafe impl Send for Source {}
// SAFETY: as above.
unsafe impl Sync for Source {}

// SAFETY of all calls in this block: a `Source` is alive (see the head of the module), and OBS locks what it shares.
impl Source {
    /// Whether both are the same source.
    pub(crate) fn is(self, other: Self) -> bool {
        self.0 == other.0
    }

    pub(crate) fn name(self) -> String {
        // SAFETY: as above; the name is copied at once.
        unsafe { rust_string(sys::obs_source_get_name(self.0.as_ptr())) }.unwrap_or_default()
    }

    /// The source that this filter is on.
    pub(crate) fn filter_parent(self) -> Option<Self> {
        // SAFETY: as above.
        NonNull::new(unsafe { sys::obs_filter_get_parent(self.0.as_ptr()) }).map(Self)
    }

    /// What this filter draws: the next filter, or the parent.
    pub(crate) fn filter_target(self) -> Option<Self> {
        // SAFETY: as above.
        NonNull::new(unsafe { sys::obs_filter_get_target(self.0.as_ptr()) }).map(Self)
    }

    /// Width and height before filters, pixels; 0 while the source has no video.
    pub(crate) fn base_size(self) -> (u32, u32) {
        // SAFETY: as above.
        unsafe {
            (
                sys::obs_source_get_base_width(self.0.as_ptr()),
                sys::obs_source_get_base_height(self.0.as_ptr()),
            )
        }
    }

    /// The space that the source would be drawn in.
    pub(crate) fn color_space(self) -> ColorSpace {
        let preferred = ColorSpace::ALL.map(|space| space as u32);
        // SAFETY: as above; the array is as long as it says.
        let raw = unsafe {
            later::obs_source_get_color_space(
                self.0.as_ptr(),
                preferred.len() as sys::size_t,
                preferred.as_ptr(),
            )
        };
        ColorSpace::from_raw(raw)
    }

    pub(crate) fn enabled(self) -> bool {
        // SAFETY: as above.
        unsafe { sys::obs_source_enabled(self.0.as_ptr()) }
    }

    pub(crate) fn set_enabled(self, enabled: bool) {
        // SAFETY: as above.
        unsafe { sys::obs_source_set_enabled(self.0.as_ptr(), enabled) };
    }

    /// Draws this source, the target of a filter on `parent`, as OBS's own filters do.
    pub(crate) fn draw_as_target(self, _graphics: &Graphics, parent: Self) {
        // SAFETY: as above, and the graphics context is held.
        unsafe {
            let flags = sys::obs_source_get_output_flags(parent.0.as_ptr());
            let itself = flags & (sys::OBS_SOURCE_CUSTOM_DRAW | sys::OBS_SOURCE_ASYNC) == 0;
            if self.is(parent) && itself {
                sys::obs_source_default_render(self.0.as_ptr());
            } else {
                sys::obs_source_video_render(self.0.as_ptr());
            }
        }
    }
}

/// Time of the frame that OBS renders now, nanoseconds; the same for all views of it.
pub(crate) fn video_frame_time() -> u64 {
    // SAFETY: it only reads a number.
    unsafe { sys::obs_get_video_frame_time() }
}

/// Hotkeys on a filter's parent; the filter's own source is private and has none.
#[derive(Debug)]
pub(crate) struct Hotkeys {
    ids: Vec<sys::obs_hotkey_id>,
}

impl Hotkeys {
    /// Registers a hotkey for every action. `filter` must outlive what is returned.
    pub(crate) fn register(
        parent: Source,
        filter: &Filter,
        texts: &[(Action, String, String)],
    ) -> Self {
        let data = ptr::from_ref(filter).cast_mut().cast::<c_void>();
        let ids = texts
            .iter()
            .map(|(action, name, description)| {
                let (name, description) = (c_string(name), c_string(description));
                let func: sys::obs_hotkey_func = match action {
                    Action::Reseed => Some(hotkey_pressed::<{ Action::Reseed as u8 }>),
                    Action::SeedMiddle => Some(hotkey_pressed::<{ Action::SeedMiddle as u8 }>),
                    Action::AddReference => Some(hotkey_pressed::<{ Action::AddReference as u8 }>),
                    Action::Toggle => Some(hotkey_pressed::<{ Action::Toggle as u8 }>),
                    Action::Freeze => Some(hotkey_pressed::<{ Action::Freeze as u8 }>),
                };
                // SAFETY: the parent is alive; OBS copies the texts; the filter unregisters before it goes.
                unsafe {
                    sys::obs_hotkey_register_source(
                        parent.0.as_ptr(),
                        name.as_ptr(),
                        description.as_ptr(),
                        func,
                        data,
                    )
                }
            })
            .collect();
        Self { ids }
    }
}

impl Drop for Hotkeys {
    fn drop(&mut self) {
        for id in self.ids.drain(..) {
            // SAFETY: an id that is gone already, with its parent, is ignored.
            unsafe { sys::obs_hotkey_unregister(id) };
        }
    }
}

// ---------------------------------------------------------------- settings

/// Settings that OBS lends for a call.
#[derive(Debug)]
pub(crate) struct Data<'a>(NonNull<sys::obs_data_t>, PhantomData<&'a ()>);

// SAFETY of all calls in this block: the settings are lent by OBS, names are strings, OBS copies values.
impl Data<'_> {
    fn from_raw(raw: *mut sys::obs_data_t) -> Option<Self> {
        NonNull::new(raw).map(|raw| Self(raw, PhantomData))
    }

    pub(crate) fn string(&self, name: &CStr) -> String {
        // SAFETY: as above; the value is copied at once.
        unsafe { rust_string(sys::obs_data_get_string(self.0.as_ptr(), name.as_ptr())) }
            .unwrap_or_default()
    }

    /// A number that may have been stored as a double, as clients of the websocket do.
    pub(crate) fn int(&self, name: &CStr) -> i64 {
        // SAFETY: as above.
        unsafe { sys::obs_data_get_int(self.0.as_ptr(), name.as_ptr()) }
    }

    pub(crate) fn double(&self, name: &CStr) -> f64 {
        // SAFETY: as above.
        unsafe { sys::obs_data_get_double(self.0.as_ptr(), name.as_ptr()) }
    }

    pub(crate) fn bool(&self, name: &CStr) -> bool {
        // SAFETY: as above.
        unsafe { sys::obs_data_get_bool(self.0.as_ptr(), name.as_ptr()) }
    }

    /// Whether the user, and not a default, gave the value.
    pub(crate) fn is_set(&self, name: &CStr) -> bool {
        // SAFETY: as above.
        unsafe { sys::obs_data_has_user_value(self.0.as_ptr(), name.as_ptr()) }
    }

    pub(crate) fn set_int(&self, name: &CStr, value: i64) {
        // SAFETY: as above.
        unsafe { sys::obs_data_set_int(self.0.as_ptr(), name.as_ptr(), value as c_longlong) };
    }

    pub(crate) fn default_string(&self, name: &CStr, value: &str) {
        let value = c_string(value);
        // SAFETY: as above.
        unsafe { sys::obs_data_set_default_string(self.0.as_ptr(), name.as_ptr(), value.as_ptr()) };
    }

    pub(crate) fn default_int(&self, name: &CStr, value: i64) {
        // SAFETY: as above.
        unsafe {
            sys::obs_data_set_default_int(self.0.as_ptr(), name.as_ptr(), value as c_longlong);
        };
    }

    pub(crate) fn default_double(&self, name: &CStr, value: f64) {
        // SAFETY: as above.
        unsafe { sys::obs_data_set_default_double(self.0.as_ptr(), name.as_ptr(), value) };
    }

    pub(crate) fn default_bool(&self, name: &CStr, value: bool) {
        // SAFETY: as above.
        unsafe { sys::obs_data_set_default_bool(self.0.as_ptr(), name.as_ptr(), value) };
    }
}

// ---------------------------------------------------------------- properties

/// Properties that are being built.
#[derive(Debug)]
pub(crate) struct Properties(NonNull<sys::obs_properties_t>);

/// A property that was added.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Property(*mut sys::obs_property_t);

// SAFETY of all calls in this block: the properties are alive and ours until `into_raw`; OBS copies all texts.
impl Properties {
    pub(crate) fn new() -> Option<Self> {
        // SAFETY: it makes a new object.
        NonNull::new(unsafe { sys::obs_properties_create() }).map(Self)
    }

    fn into_raw_parts(self) -> *mut sys::obs_properties_t {
        let raw = self.0.as_ptr();
        std::mem::forget(self);
        raw
    }

    pub(crate) fn list(
        &self,
        name: &CStr,
        label: &str,
        items: &[(String, String, bool)],
    ) -> Property {
        let label = c_string(label);
        // SAFETY: as above.
        unsafe {
            let list = sys::obs_properties_add_list(
                self.0.as_ptr(),
                name.as_ptr(),
                label.as_ptr(),
                sys::obs_combo_type_OBS_COMBO_TYPE_LIST,
                sys::obs_combo_format_OBS_COMBO_FORMAT_STRING,
            );
            for (text, value, usable) in items {
                let (text, value) = (c_string(text), c_string(value));
                let index = sys::obs_property_list_add_string(list, text.as_ptr(), value.as_ptr());
                sys::obs_property_list_item_disable(list, index, !usable);
            }
            Property(list)
        }
    }

    pub(crate) fn bool(&self, name: &CStr, label: &str) -> Property {
        let label = c_string(label);
        // SAFETY: as above.
        Property(unsafe {
            sys::obs_properties_add_bool(self.0.as_ptr(), name.as_ptr(), label.as_ptr())
        })
    }

    pub(crate) fn int(
        &self,
        name: &CStr,
        label: &str,
        (low, high): (i32, i32),
        suffix: &str,
    ) -> Property {
        let (label, suffix) = (c_string(label), c_string(suffix));
        // SAFETY: as above.
        unsafe {
            let property = sys::obs_properties_add_int(
                self.0.as_ptr(),
                name.as_ptr(),
                label.as_ptr(),
                low as c_int,
                high as c_int,
                1,
            );
            sys::obs_property_int_set_suffix(property, suffix.as_ptr());
            Property(property)
        }
    }

    pub(crate) fn slider(
        &self,
        name: &CStr,
        label: &str,
        (low, high, step): (f64, f64, f64),
        suffix: &str,
    ) -> Property {
        let (label, suffix) = (c_string(label), c_string(suffix));
        // SAFETY: as above.
        unsafe {
            let property = sys::obs_properties_add_float_slider(
                self.0.as_ptr(),
                name.as_ptr(),
                label.as_ptr(),
                low,
                high,
                step,
            );
            sys::obs_property_float_set_suffix(property, suffix.as_ptr());
            Property(property)
        }
    }

    pub(crate) fn color(&self, name: &CStr, label: &str) -> Property {
        let label = c_string(label);
        // SAFETY: as above.
        Property(unsafe {
            sys::obs_properties_add_color(self.0.as_ptr(), name.as_ptr(), label.as_ptr())
        })
    }

    pub(crate) fn file(&self, name: &CStr, label: &str, filter: &str) -> Property {
        let (label, filter) = (c_string(label), c_string(filter));
        // SAFETY: as above.
        Property(unsafe {
            sys::obs_properties_add_path(
                self.0.as_ptr(),
                name.as_ptr(),
                label.as_ptr(),
                sys::obs_path_type_OBS_PATH_FILE,
                filter.as_ptr(),
                ptr::null(),
            )
        })
    }

    /// Text that is only shown.
    pub(crate) fn info(&self, name: &CStr, text: &str) -> Property {
        let text = c_string(text);
        // SAFETY: as above.
        Property(unsafe {
            sys::obs_properties_add_text(
                self.0.as_ptr(),
                name.as_ptr(),
                text.as_ptr(),
                later::TEXT_INFO,
            )
        })
    }

    pub(crate) fn button(&self, name: &CStr, label: &str, action: Action) -> Property {
        let callback: sys::obs_property_clicked_t = match action {
            Action::Reseed => Some(clicked::<{ Action::Reseed as u8 }>),
            Action::SeedMiddle => Some(clicked::<{ Action::SeedMiddle as u8 }>),
            Action::AddReference => Some(clicked::<{ Action::AddReference as u8 }>),
            Action::Toggle => Some(clicked::<{ Action::Toggle as u8 }>),
            Action::Freeze => Some(clicked::<{ Action::Freeze as u8 }>),
        };
        self.add_button(name, label, callback)
    }

    pub(crate) fn refresh_button(&self, name: &CStr, label: &str) -> Property {
        self.add_button(name, label, Some(refreshed))
    }

    fn add_button(
        &self,
        name: &CStr,
        label: &str,
        callback: sys::obs_property_clicked_t,
    ) -> Property {
        let label = c_string(label);
        // SAFETY: as above.
        Property(unsafe {
            sys::obs_properties_add_button(self.0.as_ptr(), name.as_ptr(), label.as_ptr(), callback)
        })
    }

    pub(crate) fn group(&self, name: &CStr, label: &str, content: Self) -> Property {
        let label = c_string(label);
        // SAFETY: as above; the group takes its content over.
        Property(unsafe {
            sys::obs_properties_add_group(
                self.0.as_ptr(),
                name.as_ptr(),
                label.as_ptr(),
                sys::obs_group_type_OBS_GROUP_NORMAL,
                content.into_raw_parts(),
            )
        })
    }
}

impl Drop for Properties {
    fn drop(&mut self) {
        // SAFETY: nobody else has them: `into_raw_parts` forgets them.
        unsafe { sys::obs_properties_destroy(self.0.as_ptr()) };
    }
}

/// Finished properties, for OBS.
#[derive(Debug)]
pub(crate) struct Built(pub(crate) Option<Properties>);

impl Built {
    fn into_raw(self) -> *mut sys::obs_properties_t {
        self.0.map_or(ptr::null_mut(), Properties::into_raw_parts)
    }
}

// SAFETY of all calls in this block: the property belongs to properties that are still being built.
impl Property {
    /// Tooltip.
    pub(crate) fn describe(self, text: &str) -> Self {
        let text = c_string(text);
        // SAFETY: as above.
        unsafe { sys::obs_property_set_long_description(self.0, text.as_ptr()) };
        self
    }

    /// Other properties are shown or hidden when this one changes.
    pub(crate) fn decides(self) -> Self {
        // SAFETY: as above.
        unsafe {
            sys::obs_property_set_modified_callback2(
                self.0,
                Some(setting_changed),
                ptr::null_mut(),
            );
        };
        self
    }
}

// ---------------------------------------------------------------- graphics

/// Proof that this thread holds the graphics context.
#[derive(Debug)]
pub(crate) struct Graphics(PhantomData<*const ()>);

/// Runs something with the graphics context held, on any thread.
fn with_graphics<R>(body: impl FnOnce(&Graphics) -> R) -> R {
    // SAFETY: enter and leave are a pair; they may be nested.
    unsafe { sys::obs_enter_graphics() };
    let result = body(&Graphics(PhantomData));
    // SAFETY: as above.
    unsafe { sys::obs_leave_graphics() };
    result
}

/// Formats of textures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    R8,
    Rgba,
    Rgba16F,
}

impl Format {
    fn raw(self) -> sys::gs_color_format {
        match self {
            Self::R8 => sys::gs_color_format_GS_R8,
            Self::Rgba => sys::gs_color_format_GS_RGBA,
            Self::Rgba16F => sys::gs_color_format_GS_RGBA16F,
        }
    }
}

/// A texture, borrowed from its owner.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TextureRef<'a>(NonNull<sys::gs_texture_t>, PhantomData<&'a ()>);

macro_rules! graphics_owner {
    ($(#[$doc:meta])* $name:ident, $raw:ty, $destroy:path) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) struct $name(NonNull<$raw>);

        // SAFETY: it is only used with the graphics context held, which one thread has at a time.
        unsafe impl Send for $name {}

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: it is ours alone, and the graphics context is held.
                with_graphics(|_| unsafe { $destroy(self.0.as_ptr()) });
            }
        }
    };
}

graphics_owner!(
    /// A texture that can be drawn into.
    TexRender,
    sys::gs_texrender_t,
    sys::gs_texrender_destroy
);
graphics_owner!(
    /// A texture that is filled from memory.
    Texture,
    sys::gs_texture_t,
    sys::gs_texture_destroy
);
graphics_owner!(
    /// A texture that memory is filled from.
    StageSurface,
    sys::gs_stagesurf_t,
    sys::gs_stagesurface_destroy
);
graphics_owner!(
    /// A set of shaders.
    Effect,
    sys::gs_effect_t,
    sys::gs_effect_destroy
);

/// Ends drawing into a texture, also when a panic passes.
struct Pass(*mut sys::gs_texrender_t);

impl Drop for Pass {
    fn drop(&mut self) {
        // SAFETY: it was begun on this thread, which still holds the graphics context.
        unsafe {
            sys::gs_blend_state_pop();
            sys::gs_texrender_end(self.0);
        }
    }
}

/// How colours meet what is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blend {
    /// They replace it. Where nothing is drawn, what was there stays.
    Replace,
    /// They replace it, and nothing is left of it where nothing is drawn.
    Clear,
    /// As sources draw themselves: straight alpha, over nothing.
    Source,
}

impl TexRender {
    pub(crate) fn new(_graphics: &Graphics, format: Format) -> Option<Self> {
        // SAFETY: the graphics context is held.
        NonNull::new(unsafe {
            sys::gs_texrender_create(format.raw(), sys::gs_zstencil_format_GS_ZS_NONE)
        })
        .map(Self)
    }

    /// Draws into it with coordinates of its pixels. Returns whether it could.
    pub(crate) fn draw(
        &mut self,
        _graphics: &Graphics,
        (width, height): (u32, u32),
        space: ColorSpace,
        blend: Blend,
        body: impl FnOnce(),
    ) -> bool {
        // SAFETY: the graphics context is held; begin has its end in `Pass`.
        unsafe {
            sys::gs_texrender_reset(self.0.as_ptr());
            if !later::gs_texrender_begin_with_color_space(
                self.0.as_ptr(),
                width,
                height,
                space as u32,
            ) {
                return false;
            }
            sys::gs_blend_state_push();
            let pass = Pass(self.0.as_ptr());
            let clear = || {
                let nothing = vec4([0.0; 4]);
                sys::gs_clear(sys::GS_CLEAR_COLOR, &raw const nothing, 0.0, 0);
            };
            match blend {
                Blend::Replace => sys::gs_enable_blending(false),
                Blend::Clear => {
                    sys::gs_enable_blending(false);
                    clear();
                }
                Blend::Source => {
                    sys::gs_enable_blending(true);
                    sys::gs_blend_function_separate(
                        sys::gs_blend_type_GS_BLEND_SRCALPHA,
                        sys::gs_blend_type_GS_BLEND_INVSRCALPHA,
                        sys::gs_blend_type_GS_BLEND_ONE,
                        sys::gs_blend_type_GS_BLEND_INVSRCALPHA,
                    );
                    clear();
                }
            }
            sys::gs_ortho(0.0, width as f32, 0.0, height as f32, -100.0, 100.0);
            body();
            drop(pass);
        }
        true
    }

    /// What was drawn last.
    pub(crate) fn texture(&self) -> Option<TextureRef<'_>> {
        // SAFETY: the texrender is alive, and so is its texture while it is not drawn into.
        NonNull::new(unsafe { sys::gs_texrender_get_texture(self.0.as_ptr()) })
            .map(|texture| TextureRef(texture, PhantomData))
    }
}

impl Texture {
    /// RGBA, 8 bits.
    pub(crate) fn new(_graphics: &Graphics, (width, height): (u32, u32)) -> Option<Self> {
        // SAFETY: the graphics context is held; without data it is left unfilled.
        NonNull::new(unsafe {
            sys::gs_texture_create(
                width,
                height,
                Format::Rgba.raw(),
                1,
                ptr::null_mut(),
                sys::GS_DYNAMIC,
            )
        })
        .map(Self)
    }

    /// Fills it from rows without padding. `false` when that is not what the size asks for.
    pub(crate) fn fill(&mut self, _graphics: &Graphics, rgba: &[u8]) -> bool {
        // SAFETY: the graphics context is held; the data is as long as OBS will read, which is checked first.
        unsafe {
            let (width, height) = (
                sys::gs_texture_get_width(self.0.as_ptr()),
                sys::gs_texture_get_height(self.0.as_ptr()),
            );
            if rgba.len() != width as usize * height as usize * 4 {
                return false;
            }
            sys::gs_texture_set_image(self.0.as_ptr(), rgba.as_ptr(), width * 4, false);
        }
        true
    }

    pub(crate) fn as_ref(&self) -> TextureRef<'_> {
        TextureRef(self.0, PhantomData)
    }
}

impl StageSurface {
    /// RGBA, 8 bits.
    pub(crate) fn new(_graphics: &Graphics, (width, height): (u32, u32)) -> Option<Self> {
        // SAFETY: the graphics context is held.
        NonNull::new(unsafe { sys::gs_stagesurface_create(width, height, Format::Rgba.raw()) })
            .map(Self)
    }

    /// Begins to copy a texture of the same size and format.
    pub(crate) fn stage(&mut self, _graphics: &Graphics, texture: TextureRef<'_>) {
        // SAFETY: the graphics context is held and both are alive.
        unsafe { sys::gs_stage_texture(self.0.as_ptr(), texture.0.as_ptr()) };
    }

    /// Copies what was staged into `out`, rows without padding. Waits for the copy, so it should be an old one.
    pub(crate) fn read(&mut self, _graphics: &Graphics, out: &mut Vec<u8>) -> bool {
        let (mut data, mut stride) = (ptr::null_mut(), 0u32);
        // SAFETY: the graphics context is held; between map and unmap OBS lends `height` rows of `stride` bytes, the
        // last of which has at least a whole row of pixels.
        unsafe {
            let (width, height) = (
                sys::gs_stagesurface_get_width(self.0.as_ptr()) as usize,
                sys::gs_stagesurface_get_height(self.0.as_ptr()) as usize,
            );
            if !sys::gs_stagesurface_map(self.0.as_ptr(), &raw mut data, &raw mut stride) {
                return false;
            }
            out.clear();
            for y in 0..height {
                out.extend_from_slice(std::slice::from_raw_parts(
                    data.add(y * stride as usize),
                    width * 4,
                ));
            }
            sys::gs_stagesurface_unmap(self.0.as_ptr());
        }
        true
    }
}

fn vec4(values: [f32; 4]) -> sys::vec4 {
    let mut vector = sys::vec4::default();
    vector.__bindgen_anon_1.ptr = values;
    vector
}

/// Value of a shader's parameter.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    /// Sampled as it is.
    Texture(TextureRef<'a>),
    /// Sampled as linear light, where its format is 8 bits.
    TextureSrgb(TextureRef<'a>),
    Float(f32),
    Pair([f32; 2]),
    Vector([f32; 4]),
}

/// Part of what is drawn, in shares of its width and height.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Part {
    pub(crate) from: [f32; 2],
    pub(crate) to: [f32; 2],
}

/// libobs keeps 512 vertices for what is drawn like this; a part takes six.
const PARTS_AT_ONCE: usize = 512 / 6;

impl Effect {
    /// Reads and compiles shaders.
    ///
    /// # Errors
    /// What the compiler says.
    pub(crate) fn open(path: &std::path::Path) -> Result<Self, String> {
        let file = c_string(&path.to_string_lossy());
        let mut error = ptr::null_mut();
        let effect = with_graphics(|_| {
            // SAFETY: the graphics context is held; the error, if there is one, is ours to free.
            unsafe { sys::gs_effect_create_from_file(file.as_ptr(), &raw mut error) }
        });
        // SAFETY: null or a string that OBS allocated.
        let message = unsafe {
            let message = rust_string(error);
            sys::bfree(error.cast());
            message
        };
        NonNull::new(effect)
            .map(Self)
            .ok_or_else(|| format!("{}: {}", path.display(), message.unwrap_or_default()))
    }

    /// Draws a rectangle from the origin with a technique.
    pub(crate) fn draw(
        &self,
        graphics: &Graphics,
        technique: &CStr,
        values: &[(&CStr, Value<'_>)],
        (width, height): (u32, u32),
    ) {
        self.set(graphics, values);
        // SAFETY: the graphics context is held.
        unsafe {
            while sys::gs_effect_loop(self.0.as_ptr(), technique.as_ptr()) {
                sys::gs_draw_sprite(ptr::null_mut(), 0, width, height);
            }
        }
    }

    /// Draws parts of that rectangle; they are given in shares of its sides, from 0 to 1.
    pub(crate) fn draw_parts(
        &self,
        graphics: &Graphics,
        technique: &CStr,
        values: &[(&CStr, Value<'_>)],
        (width, height): (u32, u32),
        parts: &[Part],
    ) {
        self.set(graphics, values);
        // SAFETY: the graphics context is held, and each start has its stop.
        unsafe {
            while sys::gs_effect_loop(self.0.as_ptr(), technique.as_ptr()) {
                for some in parts.chunks(PARTS_AT_ONCE) {
                    sys::gs_render_start(false);
                    for part in some {
                        let ([left, top], [right, bottom]) = (part.from, part.to);
                        for (u, v) in [
                            (left, top),
                            (right, top),
                            (left, bottom),
                            (left, bottom),
                            (right, top),
                            (right, bottom),
                        ] {
                            sys::gs_texcoord(u, v, 0);
                            sys::gs_vertex2f(u * width as f32, v * height as f32);
                        }
                    }
                    sys::gs_render_stop(sys::gs_draw_mode_GS_TRIS);
                }
            }
        }
    }

    /// Sets the values that a technique takes.
    fn set(&self, _graphics: &Graphics, values: &[(&CStr, Value<'_>)]) {
        // SAFETY: the graphics context is held; textures are borrowed until everything is drawn; OBS copies the rest.
        unsafe {
            for (name, value) in values {
                let param = sys::gs_effect_get_param_by_name(self.0.as_ptr(), name.as_ptr());
                if param.is_null() {
                    continue;
                }
                match *value {
                    Value::Texture(texture) => {
                        sys::gs_effect_set_texture(param, texture.0.as_ptr());
                    }
                    Value::TextureSrgb(texture) => {
                        later::gs_effect_set_texture_srgb(param, texture.0.as_ptr());
                    }
                    Value::Float(value) => sys::gs_effect_set_float(param, value),
                    Value::Pair([x, y]) => {
                        let value: [f32; 2] = [x, y];
                        sys::gs_effect_set_val(
                            param,
                            value.as_ptr().cast(),
                            size_of_val(&value) as sys::size_t,
                        );
                    }
                    Value::Vector(value) => {
                        let value = vec4(value);
                        sys::gs_effect_set_vec4(param, &raw const value);
                    }
                }
            }
        }
    }
}

/// Lets the calling thread, and those that it starts, compute only where OBS leaves a core idle: what draws and encodes the
/// stream never waits for them. A niceness is not enough, because a nice thread keeps its core for some milliseconds when
/// another wakes up.
///
/// # Errors
/// What the system says.
pub(crate) fn step_back() -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: all zero is a valid value of these integers.
        let mut param: libc::sched_param = unsafe { std::mem::zeroed() };
        param.sched_priority = 0;
        // SAFETY: on Linux 0 is the calling thread; the parameters are only read.
        if unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const param) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}

/// State for drawing, put back in the end, also when a panic passes.
struct DrawState {
    framebuffer_srgb: bool,
    linear_srgb: bool,
}

impl Drop for DrawState {
    fn drop(&mut self) {
        // SAFETY: the graphics context is held by whoever made this.
        unsafe {
            sys::gs_blend_state_pop();
            later::gs_enable_framebuffer_srgb(self.framebuffer_srgb);
            later::gs_set_linear_srgb(self.linear_srgb);
        }
    }
}

/// Draws linear light, multiplied by its alpha, onto what OBS renders. Whatever OBS asks for: where a scene draws a source into a
/// texture first (cropped, scaled with a filter of its own, blended otherwise), it asks for encoded colours, and then samples
/// that texture as light; encoded values, multiplied by an alpha, would be too dark.
pub(crate) fn draw_premultiplied(_graphics: &Graphics, body: impl FnOnce()) {
    // SAFETY: the graphics context is held; everything is put back by `DrawState`.
    unsafe {
        let state = DrawState {
            framebuffer_srgb: later::gs_framebuffer_srgb_enabled(),
            linear_srgb: later::gs_get_linear_srgb(),
        };
        later::gs_enable_framebuffer_srgb(true);
        sys::gs_blend_state_push();
        sys::gs_enable_blending(true);
        sys::gs_blend_function(
            sys::gs_blend_type_GS_BLEND_ONE,
            sys::gs_blend_type_GS_BLEND_INVSRCALPHA,
        );
        body();
        drop(state);
    }
}

/// Draws into a texture of ours, values as they are: no encoding on the way.
pub(crate) fn draw_raw(_graphics: &Graphics, body: impl FnOnce()) {
    // SAFETY: the graphics context is held; everything is put back by `DrawState`.
    unsafe {
        let state = DrawState {
            framebuffer_srgb: later::gs_framebuffer_srgb_enabled(),
            linear_srgb: later::gs_get_linear_srgb(),
        };
        sys::gs_blend_state_push();
        sys::gs_enable_blending(false);
        later::gs_enable_framebuffer_srgb(false);
        body();
        drop(state);
    }
}
