//! libobs in this process, as the tests use it. The only place of the tests with `unsafe`.
//!
//! libobs is global state: there is one [`Obs`], and everything that borrows from it ends before it.
#![allow(unsafe_code, reason = "this is the module that may")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use obs_wrapper::obs_sys as sys;

mod later {
    use super::{c_int, c_void, sys};

    #[repr(C)]
    pub(super) struct SourceInfo {
        pub(super) base: sys::obs_source_info,
        pub(super) missing_files: Option<unsafe extern "C" fn(*mut c_void) -> *mut c_void>,
        pub(super) video_get_color_space:
            Option<unsafe extern "C" fn(*mut c_void, sys::size_t, *const u32) -> u32>,
    }

    pub(super) const OBS_SOURCE_SRGB: u32 = 1 << 15;
    /// `OBS_NIX_PLATFORM_X11_EGL`.
    pub(super) const X11_EGL: c_int = 1;

    unsafe extern "C" {
        pub(super) fn obs_set_nix_platform(platform: c_int);
        pub(super) fn obs_set_nix_platform_display(display: *mut c_void);
        pub(super) fn gs_set_linear_srgb(linear: bool) -> bool;
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
    #[link(name = "X11")]
    unsafe extern "C" {
        pub(super) fn XOpenDisplay(name: *const super::c_char) -> *mut c_void;
        pub(super) fn XCloseDisplay(display: *mut c_void) -> c_int;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn c(text: &str) -> CString {
    CString::new(text).expect("no zero in a text of a test")
}

/// RGBA pixels; with `space` 2 they are half floats in linear light.
#[derive(Clone, Default)]
pub(crate) struct Picture {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) data: Vec<u8>,
    pub(crate) space: u32,
}

impl Picture {
    pub(crate) fn new(width: u32, height: u32, pixel: impl Fn(u32, u32) -> [u8; 4]) -> Self {
        let data = (0..height)
            .flat_map(|y| (0..width).map(move |x| (x, y)))
            .flat_map(|(x, y)| pixel(x, y))
            .collect();
        Self {
            width,
            height,
            data,
            space: 0,
        }
    }

    pub(crate) fn plain(width: u32, height: u32, pixel: [u8; 4]) -> Self {
        Self::new(width, height, |_, _| pixel)
    }

    /// A picture of half floats: linear light, 1 is white.
    pub(crate) fn extended(width: u32, height: u32, pixel: impl Fn(u32, u32) -> [f32; 4]) -> Self {
        let data = (0..height)
            .flat_map(|y| (0..width).map(move |x| (x, y)))
            .flat_map(|(x, y)| pixel(x, y).map(half).concat())
            .collect();
        Self {
            width,
            height,
            data,
            space: 2,
        }
    }

    pub(crate) fn at(&self, x: u32, y: u32) -> [u8; 4] {
        let i = ((y * self.width + x) * 4) as usize;
        self.data[i..i + 4].try_into().expect("four bytes")
    }
}

trait Concat {
    fn concat(self) -> [u8; 8];
}

impl Concat for [[u8; 2]; 4] {
    fn concat(self) -> [u8; 8] {
        let [a, b, c, d] = self;
        [a[0], a[1], b[0], b[1], c[0], c[1], d[0], d[1]]
    }
}

/// A half float; enough for positive normal numbers and 0.
fn half(value: f32) -> [u8; 2] {
    let bits = value.to_bits();
    if value < 6.2e-5 {
        return [0, 0];
    }
    let exponent = (bits >> 23) as i32 - 127 + 15;
    (((exponent as u32) << 10 | ((bits >> 13) & 0x3ff)) as u16).to_le_bytes()
}

/// What the test sources show: one entry for each, by its number.
static PICTURES: Mutex<Vec<(u64, Picture)>> = Mutex::new(Vec::new());

struct TestSource {
    number: usize,
    texture: Mutex<(u64, usize)>,
}

impl TestSource {
    fn with<R>(&self, read: impl FnOnce(u64, &Picture) -> R) -> R {
        let pictures = lock(&PICTURES);
        let (version, picture) = &pictures[self.number];
        read(*version, picture)
    }
}

unsafe extern "C" fn ts_name(_: *mut c_void) -> *const c_char {
    c"matte test source".as_ptr()
}

unsafe extern "C" fn ts_create(
    settings: *mut sys::obs_data_t,
    _: *mut sys::obs_source_t,
) -> *mut c_void {
    // SAFETY: OBS lends the settings.
    let number = unsafe { sys::obs_data_get_int(settings, c"number".as_ptr()) } as usize;
    Box::into_raw(Box::new(TestSource {
        number,
        texture: Mutex::new((0, 0)),
    }))
    .cast()
}

unsafe extern "C" fn ts_destroy(data: *mut c_void) {
    // SAFETY: made by `ts_create`, destroyed once.
    let source = unsafe { Box::from_raw(data.cast::<TestSource>()) };
    let texture = lock(&source.texture).1 as *mut sys::gs_texture_t;
    // SAFETY: the texture is the source's own.
    unsafe {
        sys::obs_enter_graphics();
        sys::gs_texture_destroy(texture);
        sys::obs_leave_graphics();
    }
}

unsafe extern "C" fn ts_width(data: *mut c_void) -> u32 {
    // SAFETY: made by `ts_create`.
    unsafe { &*data.cast::<TestSource>() }.with(|_, p| p.width)
}

unsafe extern "C" fn ts_height(data: *mut c_void) -> u32 {
    // SAFETY: made by `ts_create`.
    unsafe { &*data.cast::<TestSource>() }.with(|_, p| p.height)
}

unsafe extern "C" fn ts_space(data: *mut c_void, _: sys::size_t, _: *const u32) -> u32 {
    // SAFETY: made by `ts_create`.
    unsafe { &*data.cast::<TestSource>() }.with(|_, p| p.space)
}

unsafe extern "C" fn ts_render(data: *mut c_void, effect: *mut sys::gs_effect_t) {
    // SAFETY: made by `ts_create`; OBS renders with the graphics context held, and lends the effect.
    unsafe {
        let source = &*data.cast::<TestSource>();
        let mut kept = lock(&source.texture);
        let (width, height) = source.with(|version, picture| {
            if kept.0 != version {
                sys::gs_texture_destroy(kept.1 as *mut sys::gs_texture_t);
                let format = match picture.space {
                    0 => sys::gs_color_format_GS_RGBA,
                    _ => sys::gs_color_format_GS_RGBA16F,
                };
                let mut rows = picture.data.as_ptr();
                kept.1 = sys::gs_texture_create(
                    picture.width,
                    picture.height,
                    format,
                    1,
                    &raw mut rows,
                    0,
                ) as usize;
                kept.0 = version;
            }
            (picture.width, picture.height)
        });
        let before = later::gs_framebuffer_srgb_enabled();
        later::gs_enable_framebuffer_srgb(true);
        sys::gs_blend_state_push();
        sys::gs_blend_function(
            sys::gs_blend_type_GS_BLEND_ONE,
            sys::gs_blend_type_GS_BLEND_INVSRCALPHA,
        );
        let image = sys::gs_effect_get_param_by_name(effect, c"image".as_ptr());
        later::gs_effect_set_texture_srgb(image, kept.1 as *mut sys::gs_texture_t);
        sys::gs_draw_sprite(kept.1 as *mut sys::gs_texture_t, 0, width, height);
        sys::gs_blend_state_pop();
        later::gs_enable_framebuffer_srgb(before);
    }
}

/// libobs, started.
pub(crate) struct Obs {
    display: *mut c_void,
    started: Instant,
}

/// The composed picture of the output, and when it came.
static OUTPUT: Mutex<Option<(u64, Picture)>> = Mutex::new(None);
static COUNTED: AtomicBool = AtomicBool::new(false);

unsafe extern "C" fn on_output(_: *mut c_void, frame: *mut sys::video_data) {
    // SAFETY: OBS lends a BGRA frame of the size of the output.
    unsafe {
        let (frame, stride) = (&*frame, (*frame).linesize[0] as usize);
        let mut output = lock(&OUTPUT);
        let (count, picture) = output.get_or_insert_with(|| (0, Picture::default()));
        let (width, height) = (Obs::SIZE.0 as usize, Obs::SIZE.1 as usize);
        picture.data.clear();
        for y in 0..height {
            let row = std::slice::from_raw_parts(frame.data[0].add(y * stride), width * 4);
            picture
                .data
                .extend(row.chunks_exact(4).flat_map(|p| [p[2], p[1], p[0], p[3]]));
        }
        (picture.width, picture.height) = Obs::SIZE;
        *count += 1;
    }
    COUNTED.store(true, Ordering::Release);
}

#[allow(
    clippy::unused_self,
    reason = "what these do needs libobs to be started"
)]
impl Obs {
    /// Size of the output.
    pub(crate) const SIZE: (u32, u32) = (640, 360);

    /// Starts libobs with software GL.
    ///
    /// # Errors
    /// In words, what is missing.
    pub(crate) fn start(frames_a_second: u32) -> Result<Self, String> {
        // SAFETY: called once, before any other thread uses libobs.
        unsafe {
            let display = later::XOpenDisplay(ptr::null());
            if display.is_null() {
                return Err("no X display can be opened".to_owned());
            }
            later::obs_set_nix_platform(later::X11_EGL);
            later::obs_set_nix_platform_display(display);
            if !sys::obs_startup(c"en-US".as_ptr(), ptr::null(), ptr::null_mut()) {
                return Err("obs_startup failed".to_owned());
            }
            let mut video: sys::obs_video_info = std::mem::zeroed();
            video.graphics_module = c"libobs-opengl".as_ptr();
            (video.fps_num, video.fps_den) = (frames_a_second, 1);
            (video.base_width, video.base_height) = Self::SIZE;
            (video.output_width, video.output_height) = Self::SIZE;
            video.output_format = sys::video_format_VIDEO_FORMAT_BGRA;
            video.gpu_conversion = true;
            video.colorspace = sys::video_colorspace_VIDEO_CS_SRGB;
            video.range = sys::video_range_type_VIDEO_RANGE_FULL;
            video.scale_type = sys::obs_scale_type_OBS_SCALE_BILINEAR;
            let code = sys::obs_reset_video(&raw mut video);
            if code != 0 {
                return Err(format!("obs_reset_video: {code}"));
            }
            let audio = sys::obs_audio_info {
                samples_per_sec: 48000,
                speakers: sys::speaker_layout_SPEAKERS_STEREO,
            };
            sys::obs_reset_audio(&raw const audio);
            let mut base: sys::obs_source_info = std::mem::zeroed();
            base.id = c"matte_test_source".as_ptr();
            base.type_ = sys::obs_source_type_OBS_SOURCE_TYPE_INPUT;
            base.output_flags = sys::OBS_SOURCE_VIDEO | later::OBS_SOURCE_SRGB;
            base.get_name = Some(ts_name);
            base.create = Some(ts_create);
            base.destroy = Some(ts_destroy);
            base.get_width = Some(ts_width);
            base.get_height = Some(ts_height);
            base.video_render = Some(ts_render);
            let info = later::SourceInfo {
                base,
                missing_files: None,
                video_get_color_space: Some(ts_space),
            };
            sys::obs_register_source_s(
                (&raw const info).cast(),
                size_of::<later::SourceInfo>() as sys::size_t,
            );
            let mut base: sys::obs_source_info = std::mem::zeroed();
            base.id = c"matte_test_camera".as_ptr();
            base.type_ = sys::obs_source_type_OBS_SOURCE_TYPE_INPUT;
            base.output_flags = sys::OBS_SOURCE_ASYNC_VIDEO;
            base.get_name = Some(ts_name);
            base.create = Some(camera_create);
            base.destroy = Some(camera_destroy);
            sys::obs_register_source_s(
                (&raw const base).cast(),
                size_of::<sys::obs_source_info>() as sys::size_t,
            );
            sys::obs_add_raw_video_callback(ptr::null(), Some(on_output), ptr::null_mut());
            sys::obs_hotkey_enable_callback_rerouting(true);
            Ok(Self {
                display,
                started: Instant::now(),
            })
        }
    }

    /// Loads the plugin.
    pub(crate) fn load(&self, library: &Path, data: &Path) -> Result<(), String> {
        let (library, data) = (c(&library.to_string_lossy()), c(&data.to_string_lossy()));
        let mut module = ptr::null_mut();
        // SAFETY: libobs is started; paths are strings.
        unsafe {
            let code = sys::obs_open_module(&raw mut module, library.as_ptr(), data.as_ptr());
            if code != 0 {
                return Err(format!("obs_open_module: {code}"));
            }
            match sys::obs_init_module(module) {
                true => Ok(()),
                false => Err("obs_init_module failed".to_owned()),
            }
        }
    }

    /// A source that shows a picture.
    pub(crate) fn source(&self, picture: Picture) -> Source {
        let number = {
            let mut pictures = lock(&PICTURES);
            pictures.push((1, picture));
            pictures.len() - 1
        };
        Source::create(
            c"matte_test_source",
            &format!("source {number}"),
            &[("number", &number.to_string())],
        )
    }

    /// A source that is fed with frames, as cameras and media are.
    pub(crate) fn camera(&self) -> Source {
        Source::create(c"matte_test_camera", "camera", &[])
    }

    /// A filter of the plugin with settings that differ from the defaults.
    pub(crate) fn filter(&self, name: &str, settings: &[(&str, &str)]) -> Source {
        Source::create(c"matte_filter", name, settings)
    }

    /// Puts a source on the output, or nothing.
    pub(crate) fn output(&self, source: Option<&Source>) {
        // SAFETY: the source is alive; OBS takes a reference of its own.
        unsafe { sys::obs_set_output_source(0, source.map_or(ptr::null_mut(), |s| s.0.as_ptr())) };
    }

    /// What is composed from now on: the second next frame.
    pub(crate) fn composed(&self) -> Picture {
        let count = || lock(&OUTPUT).as_ref().map_or(0, |(n, _)| *n);
        let start = count();
        wait(Duration::from_secs(10), || count() >= start + 3);
        lock(&OUTPUT).as_ref().expect("a frame came").1.clone()
    }

    /// Waits until OBS has rendered so many frames more.
    pub(crate) fn frames(&self, number: u64) {
        let count = || lock(&OUTPUT).as_ref().map_or(0, |(n, _)| *n);
        let start = count();
        wait(Duration::from_secs(30), || count() >= start + number);
    }

    /// A scene of sources, the first at the bottom.
    pub(crate) fn scene(&self, sources: &[&Source]) -> Scene {
        // SAFETY: libobs is started, the sources are alive.
        unsafe {
            let scene = NonNull::new(sys::obs_scene_create(c"scene".as_ptr())).expect("a scene");
            for source in sources {
                sys::obs_scene_add(scene.as_ptr(), source.0.as_ptr());
            }
            Scene(scene)
        }
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Ends libobs; the blocks of memory that were not freed.
    pub(crate) fn shutdown(self) -> i64 {
        // SAFETY: everything that borrowed from libobs is gone.
        unsafe {
            sys::obs_set_output_source(0, ptr::null_mut());
            sys::obs_remove_raw_video_callback(Some(on_output), ptr::null_mut());
            sys::obs_shutdown();
            later::XCloseDisplay(self.display);
            sys::bnum_allocs()
        }
    }
}

unsafe extern "C" fn camera_create(
    _: *mut sys::obs_data_t,
    source: *mut sys::obs_source_t,
) -> *mut c_void {
    source.cast()
}

unsafe extern "C" fn camera_destroy(_: *mut c_void) {}

/// Polls until something holds; panics when it does not for so long.
#[track_caller]
pub(crate) fn wait(limit: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < deadline, "waited {limit:?} in vain");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A scene.
pub(crate) struct Scene(NonNull<sys::obs_scene_t>);

impl Scene {
    pub(crate) fn show(&self) {
        // SAFETY: the scene is alive.
        unsafe { sys::obs_set_output_source(0, sys::obs_scene_get_source(self.0.as_ptr())) };
    }

    /// Crops one pixel of the left side of all its sources, which OBS then draws into textures of their own first.
    pub(crate) fn crop(&self) {
        unsafe extern "C" fn crop(
            _: *mut sys::obs_scene_t,
            item: *mut sys::obs_sceneitem_t,
            _: *mut c_void,
        ) -> bool {
            let crop = sys::obs_sceneitem_crop {
                left: 1,
                ..sys::obs_sceneitem_crop::default()
            };
            // SAFETY: libobs gives an item that is alive.
            unsafe { sys::obs_sceneitem_set_crop(item, &raw const crop) };
            true
        }
        // SAFETY: the scene is alive.
        unsafe { sys::obs_scene_enum_items(self.0.as_ptr(), Some(crop), ptr::null_mut()) };
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // SAFETY: our reference.
        unsafe { sys::obs_scene_release(self.0.as_ptr()) };
    }
}

/// A reference to a source.
pub(crate) struct Source(NonNull<sys::obs_source_t>);

impl Drop for Source {
    fn drop(&mut self) {
        // SAFETY: our reference.
        unsafe { sys::obs_source_release(self.0.as_ptr()) };
    }
}

fn data(settings: &[(&str, &str)]) -> *mut sys::obs_data_t {
    // SAFETY: it makes a new object; names and values are strings.
    unsafe {
        let data = sys::obs_data_create();
        for (name, value) in settings {
            let name = c(name);
            match (value.parse::<f64>(), *value) {
                // As clients of the websocket do: every number is a double.
                (Ok(number), _) if name.as_c_str() != c"working_size" => {
                    sys::obs_data_set_double(data, name.as_ptr(), number);
                }
                (_, "true" | "false") => {
                    sys::obs_data_set_bool(data, name.as_ptr(), *value == "true");
                }
                _ => sys::obs_data_set_string(data, name.as_ptr(), c(value).as_ptr()),
            }
        }
        data
    }
}

impl Source {
    fn create(id: &CStr, name: &str, settings: &[(&str, &str)]) -> Self {
        let name = c(name);
        // SAFETY: libobs is started; OBS takes its own reference to the settings.
        unsafe {
            let settings = data(settings);
            // Filters are private in OBS as well; a private parent would get no hotkeys.
            let source = match id == c"matte_filter" {
                true => sys::obs_source_create_private(id.as_ptr(), name.as_ptr(), settings),
                false => {
                    sys::obs_source_create(id.as_ptr(), name.as_ptr(), settings, ptr::null_mut())
                }
            };
            sys::obs_data_release(settings);
            Self(NonNull::new(source).expect("a source is made"))
        }
    }

    pub(crate) fn add(&self, filter: &Self) {
        // SAFETY: both are alive.
        unsafe { sys::obs_source_filter_add(self.0.as_ptr(), filter.0.as_ptr()) };
    }

    pub(crate) fn remove(&self, filter: &Self) {
        // SAFETY: both are alive.
        unsafe { sys::obs_source_filter_remove(self.0.as_ptr(), filter.0.as_ptr()) };
    }

    pub(crate) fn move_up(&self, filter: &Self) {
        // SAFETY: both are alive.
        unsafe {
            sys::obs_source_filter_set_order(
                self.0.as_ptr(),
                filter.0.as_ptr(),
                sys::obs_order_movement_OBS_ORDER_MOVE_UP,
            );
        }
    }

    pub(crate) fn copy_filters_to(&self, other: &Self) {
        // SAFETY: both are alive.
        unsafe { sys::obs_source_copy_filters(other.0.as_ptr(), self.0.as_ptr()) };
    }

    pub(crate) fn enable(&self, enabled: bool) {
        // SAFETY: alive.
        unsafe { sys::obs_source_set_enabled(self.0.as_ptr(), enabled) };
    }

    pub(crate) fn set(&self, settings: &[(&str, &str)]) {
        let settings = data(settings);
        // SAFETY: alive; OBS copies the settings.
        unsafe {
            sys::obs_source_update(self.0.as_ptr(), settings);
            sys::obs_data_release(settings);
        }
        // OBS passes them on with the next tick.
        let count = || lock(&OUTPUT).as_ref().map_or(0, |(n, _)| *n);
        let start = count();
        wait(Duration::from_secs(10), || count() >= start + 2);
    }

    /// The settings as JSON.
    pub(crate) fn settings(&self) -> String {
        // SAFETY: alive; the text belongs to the settings until they are released.
        unsafe {
            let settings = sys::obs_source_get_settings(self.0.as_ptr());
            let text = CStr::from_ptr(sys::obs_data_get_json(settings))
                .to_string_lossy()
                .into_owned();
            sys::obs_data_release(settings);
            text
        }
    }

    /// Shows another picture from now on.
    pub(crate) fn show(&self, picture: Picture) {
        // SAFETY: alive; the settings are ours to release.
        let number = unsafe {
            let settings = sys::obs_source_get_settings(self.0.as_ptr());
            let number = sys::obs_data_get_int(settings, c"number".as_ptr()) as usize;
            sys::obs_data_release(settings);
            number
        };
        let mut pictures = lock(&PICTURES);
        pictures[number].0 += 1;
        pictures[number].1 = picture;
    }

    /// Feeds a camera.
    pub(crate) fn push(&self, picture: &Picture, time: u64) {
        // SAFETY: alive; OBS copies the frame.
        unsafe {
            let mut frame: sys::obs_source_frame = std::mem::zeroed();
            frame.data[0] = picture.data.as_ptr().cast_mut();
            frame.linesize[0] = picture.width * 4;
            (frame.width, frame.height) = (picture.width, picture.height);
            frame.timestamp = time;
            frame.format = sys::video_format_VIDEO_FORMAT_RGBA;
            frame.full_range = true;
            sys::obs_source_output_video(self.0.as_ptr(), &raw const frame);
        }
    }

    /// What `matte_status` says.
    pub(crate) fn status(&self) -> serde_json::Value {
        // SAFETY: alive; the call's data is ours, and the text in it is copied before it is freed.
        unsafe {
            let mut call: sys::calldata_t = std::mem::zeroed();
            let handler = sys::obs_source_get_proc_handler(self.0.as_ptr());
            assert!(sys::proc_handler_call(
                handler,
                c"matte_status".as_ptr(),
                &raw mut call
            ));
            let mut text = ptr::null();
            assert!(sys::calldata_get_string(
                &raw const call,
                c"json".as_ptr(),
                &raw mut text
            ));
            let text = CStr::from_ptr(text).to_string_lossy().into_owned();
            sys::bfree(call.stack.cast());
            serde_json::from_str(&text).expect("the status is JSON")
        }
    }

    /// Builds the properties as OBS's user interface does: names, descriptions and tooltips of all, groups included.
    pub(crate) fn properties(&self) -> Vec<(String, String, String)> {
        // SAFETY: alive.
        unsafe { properties(sys::obs_source_properties(self.0.as_ptr())) }
    }

    /// Presses a button.
    pub(crate) fn press(&self, name: &str) {
        let name = c(name);
        // SAFETY: alive; the properties are ours.
        unsafe {
            let props = sys::obs_source_properties(self.0.as_ptr());
            let property = sys::obs_properties_get(props, name.as_ptr());
            assert!(!property.is_null(), "there is a button {name:?}");
            sys::obs_property_button_clicked(property, self.0.as_ptr().cast());
            sys::obs_properties_destroy(props);
        }
    }

    /// What the status says when the properties are built, and once more on its button, after `meanwhile`.
    pub(crate) fn status_before_and_after(&self, meanwhile: impl FnOnce()) -> (String, String) {
        // SAFETY: alive; the properties are ours, and the words are copied while they are there.
        unsafe {
            let props = sys::obs_source_properties(self.0.as_ptr());
            let status = sys::obs_properties_get(props, c"status".as_ptr());
            let words = || {
                let words = sys::obs_property_description(status);
                CStr::from_ptr(words).to_string_lossy().into_owned()
            };
            let before = words();
            meanwhile();
            let button = sys::obs_properties_get(props, c"refresh".as_ptr());
            assert!(
                sys::obs_property_button_clicked(button, self.0.as_ptr().cast()),
                "OBS is to show what has changed"
            );
            let after = words();
            sys::obs_properties_destroy(props);
            (before, after)
        }
    }

    /// The space that the source says it draws in.
    pub(crate) fn color_space(&self) -> u32 {
        let preferred = [0u32, 1, 2];
        // SAFETY: alive; the array is as long as it says.
        unsafe { later::obs_source_get_color_space(self.0.as_ptr(), 3, preferred.as_ptr()) }
    }

    /// Draws the source alone, over nothing, and reads it back: RGBA, or half floats as `f32` where `space` is 2.
    pub(crate) fn grab(&self, (width, height): (u32, u32), space: u32) -> Grab {
        let format = match space {
            0 => sys::gs_color_format_GS_RGBA,
            _ => sys::gs_color_format_GS_RGBA16F,
        };
        let pixel = if space == 0 { 4 } else { 8 };
        let mut grabbed = Vec::new();
        // SAFETY: the graphics context is entered; everything that is made is destroyed in it.
        unsafe {
            sys::obs_enter_graphics();
            let target = sys::gs_texrender_create(format, sys::gs_zstencil_format_GS_ZS_NONE);
            assert!(later::gs_texrender_begin_with_color_space(
                target, width, height, space
            ));
            let before = later::gs_set_linear_srgb(true);
            let clear = sys::vec4::default();
            sys::gs_clear(sys::GS_CLEAR_COLOR, &raw const clear, 0.0, 0);
            sys::gs_ortho(0.0, width as f32, 0.0, height as f32, -100.0, 100.0);
            sys::gs_blend_state_push();
            sys::gs_blend_function(
                sys::gs_blend_type_GS_BLEND_ONE,
                sys::gs_blend_type_GS_BLEND_ZERO,
            );
            sys::obs_source_video_render(self.0.as_ptr());
            sys::gs_blend_state_pop();
            later::gs_set_linear_srgb(before);
            sys::gs_texrender_end(target);
            let stage = sys::gs_stagesurface_create(width, height, format);
            sys::gs_stage_texture(stage, sys::gs_texrender_get_texture(target));
            let (mut rows, mut stride) = (ptr::null_mut(), 0u32);
            assert!(sys::gs_stagesurface_map(
                stage,
                &raw mut rows,
                &raw mut stride
            ));
            for y in 0..height as usize {
                grabbed.extend_from_slice(std::slice::from_raw_parts(
                    rows.add(y * stride as usize),
                    width as usize * pixel,
                ));
            }
            sys::gs_stagesurface_unmap(stage);
            sys::gs_stagesurface_destroy(stage);
            sys::gs_texrender_destroy(target);
            sys::obs_leave_graphics();
        }
        Grab {
            width,
            data: grabbed,
        }
    }
}

/// Pixels that were read back.
pub(crate) struct Grab {
    width: u32,
    pub(crate) data: Vec<u8>,
}

impl Grab {
    pub(crate) fn at(&self, x: u32, y: u32) -> [u8; 4] {
        let i = ((y * self.width + x) * 4) as usize;
        self.data[i..i + 4].try_into().expect("four bytes")
    }

    /// A pixel of half floats.
    pub(crate) fn light(&self, x: u32, y: u32) -> [f32; 4] {
        let i = ((y * self.width + x) * 8) as usize;
        std::array::from_fn(|channel| {
            let half =
                u16::from_le_bytes([self.data[i + channel * 2], self.data[i + channel * 2 + 1]]);
            let (exponent, mantissa) = (i32::from(half >> 10 & 31), f32::from(half & 1023));
            match exponent {
                0 => mantissa / 1024.0 * 2f32.powi(-14),
                _ => (1.0 + mantissa / 1024.0) * 2f32.powi(exponent - 15),
            }
        })
    }
}

/// # Safety
/// `props` are the caller's.
unsafe fn properties(props: *mut sys::obs_properties_t) -> Vec<(String, String, String)> {
    let text = |raw: *const c_char| match raw.is_null() {
        true => String::new(),
        // SAFETY: a string of OBS.
        false => unsafe { CStr::from_ptr(raw) }
            .to_string_lossy()
            .into_owned(),
    };
    let mut all = Vec::new();
    // SAFETY: as the caller says; contents of groups belong to their property.
    unsafe {
        fn walk(
            props: *mut sys::obs_properties_t,
            text: &dyn Fn(*const c_char) -> String,
            all: &mut Vec<(String, String, String)>,
        ) {
            // SAFETY: the properties are alive while they are walked.
            unsafe {
                let mut property = sys::obs_properties_first(props);
                while !property.is_null() {
                    all.push((
                        text(sys::obs_property_name(property)),
                        text(sys::obs_property_description(property)),
                        text(sys::obs_property_long_description(property)),
                    ));
                    if sys::obs_property_get_type(property)
                        == sys::obs_property_type_OBS_PROPERTY_GROUP
                    {
                        walk(sys::obs_property_group_content(property), text, all);
                    }
                    if !sys::obs_property_next(&raw mut property) {
                        break;
                    }
                }
            }
        }
        walk(props, &text, &mut all);
        sys::obs_properties_destroy(props);
    }
    all
}

/// Hotkeys that are registered: names.
pub(crate) fn hotkeys() -> Vec<String> {
    unsafe extern "C" fn note(
        data: *mut c_void,
        _: sys::obs_hotkey_id,
        key: *mut sys::obs_hotkey_t,
    ) -> bool {
        // SAFETY: `data` is the vector below; OBS lends the key.
        unsafe {
            let name = CStr::from_ptr(sys::obs_hotkey_get_name(key))
                .to_string_lossy()
                .into_owned();
            (*data.cast::<Vec<String>>()).push(name);
        }
        true
    }
    let mut names: Vec<String> = Vec::new();
    // SAFETY: the vector outlives the call.
    unsafe { sys::obs_enum_hotkeys(Some(note), (&raw mut names).cast()) };
    names
}

/// Presses a hotkey by its name.
pub(crate) fn press_hotkey(name: &str) {
    struct Wanted<'a>(&'a str, Option<sys::obs_hotkey_id>);
    unsafe extern "C" fn find(
        data: *mut c_void,
        id: sys::obs_hotkey_id,
        key: *mut sys::obs_hotkey_t,
    ) -> bool {
        // SAFETY: `data` is what is below; OBS lends the key.
        unsafe {
            let wanted = &mut *data.cast::<Wanted<'_>>();
            let name = CStr::from_ptr(sys::obs_hotkey_get_name(key)).to_string_lossy();
            if name == wanted.0 {
                wanted.1 = Some(id);
            }
        }
        true
    }
    let mut wanted = Wanted(name, None);
    // SAFETY: `wanted` outlives the call; the id is one that OBS gave.
    unsafe {
        sys::obs_enum_hotkeys(Some(find), (&raw mut wanted).cast());
        let id = wanted
            .1
            .unwrap_or_else(|| panic!("there is a hotkey {name}"));
        sys::obs_hotkey_trigger_routed_callback(id, true);
        sys::obs_hotkey_trigger_routed_callback(id, false);
    }
}

/// Memory of this process that is in use, bytes.
pub(crate) fn resident() -> u64 {
    // What was freed may stay with the allocator, more of it on a busy machine, where more happens at a time.
    // SAFETY: glibc's own function; it only gives free pages back.
    unsafe { libc::malloc_trim(0) };
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text
        .split(' ')
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    pages * 4096
}
