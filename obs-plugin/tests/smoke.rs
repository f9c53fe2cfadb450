//! The filter inside OBS itself, driven over its websocket: added to a clip, seen to cut it out, every setting changed,
//! recorded, removed, and OBS ended in the middle of loading a model, without a leak.
//!
//! OBS 29 on a busy machine crashes now and then while it ends: its window repaints widgets that it has just deleted. It
//! does so without any plugin: 12 of 48 sessions like this one with OBS's own colour correction in place of Matte, four at
//! once on two cores; 4 of 120 with most of the window switched off, which is how this test configures it. If OBS ends
//! that way, after all sources are gone, the session is run once more.
//!
//! `MATTE_OBS_PICTURES` names a folder for the pictures of docs/obs.md, `MATTE_OBS_SECONDS` how long to watch the frame
//! rate, `MATTE_OBS_SETTINGS` more settings of the filter (JSON), `MATTE_OBS_PLUGIN` a folder that `cargo xtask dist` has
//! laid out, to test that instead of what cargo has built beside this program.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test program speaks through them"
)]

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use matte_core::ModelSet;
use matte_core::runtime::paths;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Message, WebSocket};

const PASSWORD: &str = "matte-smoke-test";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|a| a == "--list") {
        return ExitCode::SUCCESS;
    }
    if let Some(filter) = args.iter().find(|a| !a.starts_with('-'))
        && !"smoke".contains(filter.as_str())
    {
        return ExitCode::SUCCESS;
    }
    for program in ["obs", "Xvfb", "gst-launch-1.0"] {
        if Command::new(program)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_err()
        {
            println!(
                "smoke: skipped: {program} is not installed; `cargo xtask setup --obs` installs it"
            );
            return ExitCode::SUCCESS;
        }
    }
    if paths::find_onnxruntime().is_none() {
        println!("smoke: skipped: ONNX Runtime is not installed; `cargo xtask setup` installs it");
        return ExitCode::SUCCESS;
    }
    if let Some(signal) = smoke() {
        println!(
            "smoke: OBS was ended by signal {signal} when all sources were gone already; once more"
        );
        assert_eq!(smoke(), None, "OBS was ended by that signal twice");
    }
    println!("smoke: ok");
    ExitCode::SUCCESS
}

/// What is shown to the filter, and what must come of it.
struct Clip {
    file: PathBuf,
    model: &'static str,
    /// A point of the target and one of the room, pixels.
    target: (u32, u32),
    room: (u32, u32),
}

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A person: the clip in `MATTE_OBS_CLIP`, or one from the shared media; without both, colour bars for the probe.
fn clip(folder: &Path) -> Clip {
    let shared =
        std::env::var_os("MATTE_SHARED").map_or_else(|| here().join("../../shared"), PathBuf::from);
    let given = std::env::var_os("MATTE_OBS_CLIP").map(PathBuf::from);
    let webcam = shared.join("media/synthetic/syn05_webcam_lowres_man/video.mp4");
    let lite = here().join("../models/packages/lite");
    let finds = ModelSet::find(&lite.to_string_lossy()).is_ok_and(|set| set.segmentation.is_some());
    let file = folder.join("clip.mp4");
    let person = given
        .filter(|f| f.is_file())
        .or(Some(webcam).filter(|f| f.is_file()));
    if let Some(person) = person.filter(|_| finds) {
        // At a size that software GL can draw at camera rate.
        encode(
            &[
                "filesrc",
                &format!("location={}", person.display()),
                "!",
                "decodebin",
                "!",
                "videoconvert",
                "!",
                "videoscale",
            ],
            &file,
        );
        return Clip {
            file,
            model: "lite",
            target: (290, 190),
            room: (16, 16),
        };
    }
    println!("smoke: colour bars, because there is no clip of a person or no person segmentation");
    encode(
        &["videotestsrc", "pattern=smpte75", "num-buffers=150"],
        &file,
    );
    // White, yellow, cyan, green, magenta, red, blue: the probe keeps blue and leaves green out.
    Clip {
        file,
        model: "probe",
        target: (600, 100),
        room: (320, 100),
    }
}

/// Encodes what a pipeline gives, at 640×360.
fn encode(pipeline: &[&str], file: &Path) {
    let made = Command::new("gst-launch-1.0")
        .arg("-q")
        .args(pipeline)
        .args([
            "!",
            "videorate",
            "!",
            "video/x-raw,width=640,height=360,framerate=30/1",
        ])
        .args([
            "!",
            "videoconvert",
            "!",
            "x264enc",
            "speed-preset=veryfast",
            "quantizer=18",
            "pass=quant",
        ])
        .args(["!", "h264parse", "!", "mp4mux", "!", "filesink"])
        .arg(format!("location={}", file.display()))
        .status();
    assert!(made.is_ok_and(|s| s.success()), "a clip is encoded");
}

/// A program that is ended with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn xvfb() -> (Process, String) {
    let mut child = Command::new("Xvfb")
        .args([
            "-displayfd",
            "1",
            "-screen",
            "0",
            "1280x800x24",
            "+extension",
            "GLX",
            "+render",
            "-noreset",
        ])
        .args(["-nolisten", "tcp"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("Xvfb starts");
    let mut number = String::new();
    let out = child.stdout.take().expect("Xvfb's output");
    let process = Process(child);
    BufReader::new(out)
        .read_line(&mut number)
        .expect("Xvfb says its display");
    (process, format!(":{}", number.trim()))
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("a folder is made");
    fs::write(path, text).expect("a file is written");
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder is made");
    for entry in fs::read_dir(from).expect("a folder is read") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            fs::copy(&path, &target).expect("a file is copied");
        }
    }
}

fn library() -> PathBuf {
    let program = std::env::current_exe().expect("this program has a file");
    let deps = program.parent().expect("it lies in a folder");
    [
        deps.join("libobs_matte.so"),
        deps.join("../libobs_matte.so"),
    ]
    .into_iter()
    .filter(|file| file.is_file())
    .max_by_key(|file| file.metadata().and_then(|m| m.modified()).ok())
    .expect("cargo builds the plugin with its tests")
}

fn configure(config: &Path, recordings: &Path, port: u16) {
    write(
        &config.join("obs-studio/global.ini"),
        &format!(
            "[General]\nFirstRun=true\nEnableAutoUpdates=false\nLastVersion=486539266\nInfoIncrement=-1\n\
             Pre19Defaults=false\nPre21Defaults=false\nPre23Defaults=false\nPre24.1Defaults=false\n\n\
             [Basic]\nProfile=Test\nProfileDir=Test\nSceneCollection=Test\nSceneCollectionFile=Test\n\n\
             [BasicWindow]\nShowContextToolbars=false\nShowListboxToolbars=false\nShowSourceIcons=false\n\
             ShowStatusBar=false\nPreviewEnabled=false\n\n\
             [OBSWebSocket]\nFirstLoad=false\nServerEnabled=true\nServerPort={port}\nAlertsEnabled=false\n\
             AuthRequired=true\nServerPassword={PASSWORD}\n"
        ),
    );
    write(
        &config.join("obs-studio/basic/profiles/Test/basic.ini"),
        &format!(
            "[General]\nName=Test\n\n[Video]\nBaseCX=640\nBaseCY=360\nOutputCX=640\nOutputCY=360\nFPSType=0\n\
             FPSCommon=30\n\n[Output]\nMode=Simple\n\n[SimpleOutput]\nFilePath={}\nRecFormat=mkv\nRecQuality=Small\n\
             RecEncoder=x264\nStreamEncoder=x264\n",
            recordings.display()
        ),
    );
    let plugin = config.join("obs-studio/plugins/obs-matte");
    if let Some(laid_out) = std::env::var_os("MATTE_OBS_PLUGIN") {
        copy_folder(Path::new(&laid_out), &plugin);
        return;
    }
    let binary = plugin.join("bin/64bit/obs-matte.so");
    fs::create_dir_all(binary.parent().expect("a folder")).expect("a folder is made");
    fs::copy(library(), &binary).expect("the plugin is copied");
    copy_folder(&here().join("data"), &plugin.join("data"));
}

/// A connection to OBS.
struct Remote {
    socket: WebSocket<MaybeTlsStream<TcpStream>>,
    number: u64,
}

impl Remote {
    fn connect(port: u16) -> Self {
        let deadline = Instant::now() + Duration::from_mins(1);
        let socket = loop {
            if let Ok((socket, _)) = tungstenite::connect(format!("ws://127.0.0.1:{port}")) {
                break socket;
            }
            assert!(Instant::now() < deadline, "OBS's websocket does not answer");
            std::thread::sleep(Duration::from_millis(200));
        };
        let mut remote = Self { socket, number: 0 };
        let hello = remote.receive();
        let auth = &hello["d"]["authentication"];
        let hash = |text: String| BASE64.encode(Sha256::digest(text.as_bytes()));
        let word = |name: &str| auth[name].as_str().unwrap_or_default().to_owned();
        let secret = hash(format!("{PASSWORD}{}", word("salt")));
        let answer = hash(format!("{secret}{}", word("challenge")));
        remote.send(&json!({"op": 1, "d": {"rpcVersion": 1, "authentication": answer, "eventSubscriptions": 0}}));
        let identified = remote.receive();
        assert_eq!(identified["op"], 2, "{identified}");
        remote
    }

    fn send(&mut self, message: &Value) {
        self.socket
            .send(Message::text(message.to_string()))
            .expect("OBS listens");
    }

    fn receive(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.socket.read().expect("OBS answers") {
                return serde_json::from_str(text.as_str()).expect("OBS sends JSON");
            }
        }
    }

    fn try_call(&mut self, request: &str, data: &Value) -> Result<Value, String> {
        self.number += 1;
        let id = self.number.to_string();
        self.send(
            &json!({"op": 6, "d": {"requestType": request, "requestId": id, "requestData": data}}),
        );
        loop {
            let answer = self.receive();
            if answer["d"]["requestId"] == id.as_str() {
                let status = &answer["d"]["requestStatus"];
                return match status["result"].as_bool() {
                    Some(true) => Ok(answer["d"]["responseData"].clone()),
                    _ => Err(status.to_string()),
                };
            }
        }
    }

    #[track_caller]
    fn call(&mut self, request: &str, data: &Value) -> Value {
        match self.try_call(request, data) {
            Ok(value) => value,
            Err(e) => panic!("{request} {data}: {e}"),
        }
    }

    fn set(&mut self, settings: &Value) {
        self.call(
            "SetSourceFilterSettings",
            &json!({"sourceName": "clip", "filterName": "Matte", "filterSettings": settings}),
        );
    }

    /// A screenshot of a source with its alpha.
    fn screenshot(&mut self, source: &str) -> Option<image::RgbaImage> {
        let shot = self
            .try_call(
                "GetSourceScreenshot",
                &json!({"sourceName": source, "imageFormat": "png"}),
            )
            .ok()?;
        let data = shot["imageData"].as_str()?.split_once(',')?.1;
        let png = BASE64.decode(data).ok()?;
        Some(image::load_from_memory(&png).ok()?.into_rgba8())
    }

    /// Waits for a screenshot that satisfies.
    #[track_caller]
    fn wait_for(
        &mut self,
        what: &str,
        source: &str,
        mut good: impl FnMut(&image::RgbaImage) -> bool,
    ) -> image::RgbaImage {
        let deadline = Instant::now() + Duration::from_mins(1);
        loop {
            if let Some(shot) = self.screenshot(source)
                && good(&shot)
            {
                return shot;
            }
            assert!(
                Instant::now() < deadline,
                "{what}: not seen within a minute"
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Keeps a picture, where somebody wants it.
fn keep(name: &str, picture: &image::RgbaImage) {
    if let Some(folder) = std::env::var_os("MATTE_OBS_PICTURES") {
        fs::create_dir_all(&folder).expect("a folder is made");
        picture
            .save(Path::new(&folder).join(name))
            .expect("a picture is written");
    }
}

/// One session; the signal that ended OBS in its own window, if one did.
#[allow(clippy::too_many_lines, reason = "one session from start to end")]
fn smoke() -> Option<i32> {
    let work = tempfile::tempdir().expect("a folder");
    let (config, recordings, run) = (
        work.path().join("config"),
        work.path().join("rec"),
        work.path().join("run"),
    );
    for folder in [&recordings, &run] {
        fs::create_dir_all(folder).expect("a folder is made");
    }
    set_private(&run);
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr())
        .expect("a free port")
        .port();
    configure(&config, &recordings, port);
    let clip = clip(work.path());
    let (_display, display) = xvfb();
    let log_path = work.path().join("obs.log");
    let log = File::create(&log_path).expect("a log");
    let models =
        std::env::join_paths([here().join("tests/data"), here().join("../models/packages")])
            .expect("paths");
    let laid_out = std::env::var_os("MATTE_OBS_PLUGIN").is_some();
    let mut obs = Command::new("obs");
    obs.args([
        "--multi",
        "--minimize-to-tray",
        "--disable-missing-files-check",
        "--verbose",
        "--unfiltered_log",
    ])
    .env("DISPLAY", &display)
    .env("LIBGL_ALWAYS_SOFTWARE", "1")
    .env("QT_QPA_PLATFORM", "xcb")
    .env("HOME", work.path())
    .env("XDG_CONFIG_HOME", &config)
    .env("XDG_RUNTIME_DIR", &run)
    .stdout(log.try_clone().expect("a second handle"))
    .stderr(log);
    if !laid_out {
        // What is laid out brings all that it needs.
        obs.env("MATTE_CACHE_DIR", paths::cache_dir())
            .env("MATTE_MODELS", models);
    }
    let mut obs = Process(obs.spawn().expect("OBS starts"));
    let session = std::panic::catch_unwind(|| {
        let mut remote = Remote::connect(port);
        drive(&mut remote, &clip);
        let _ = remote.socket.close(None);
        let _ = remote.socket.flush();
    });
    let pid = obs.0.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .is_ok_and(|s| s.success())
    );
    let deadline = Instant::now() + Duration::from_mins(1);
    let ended = loop {
        match obs.0.try_wait().expect("OBS can be waited for") {
            Some(status) => break Some(status),
            None if Instant::now() > deadline => break None,
            None => std::thread::sleep(Duration::from_millis(100)),
        }
    };
    let log = fs::read_to_string(&log_path).unwrap_or_default();
    for line in log.lines().filter(|l| l.contains("[obs_matte")) {
        println!("  {line}");
    }
    let check = |holds: bool, what: &str| {
        if !holds {
            eprintln!("{log}");
            panic!("{what}; the log of OBS is above");
        }
    };
    if let Some(signal) = ended.and_then(|s| s.signal())
        && session.is_ok()
        && log.contains("All scene data cleared")
        && !log.contains("Freeing OBS context data")
        && !log.contains("internal error")
    {
        return Some(signal);
    }
    let status = ended.map(|s| s.to_string()).unwrap_or_default();
    check(session.is_ok(), &format!("the session failed ({status})"));
    check(ended.is_some(), "OBS did not end within a minute");
    check(
        log.contains("Number of memory leaks: 0"),
        &format!("OBS reports leaks, or did not come to its end ({status})"),
    );
    check(
        !log.contains("Double destroy"),
        "a source was destroyed twice",
    );
    check(!log.contains("internal error"), "a callback panicked");
    None
}

fn set_private(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).expect("permissions are set");
}

/// Watches the frame rate for `MATTE_OBS_SECONDS`.
fn watch(remote: &mut Remote, what: &str) {
    let seconds: u64 = std::env::var("MATTE_OBS_SECONDS")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(1);
    let before = remote.call("GetStats", &json!({}));
    std::thread::sleep(Duration::from_secs(seconds));
    let after = remote.call("GetStats", &json!({}));
    let number = |stats: &Value, name: &str| stats[name].as_f64().unwrap_or(0.0);
    let more = |name: &str| number(&after, name) - number(&before, name);
    println!(
        "  OBS, {what}, {seconds} s: {:.1} frames a second, {:.1} ms a frame, {} of {} frames skipped by rendering, CPU \
         {:.0} %",
        number(&after, "activeFps"),
        number(&after, "averageFrameRenderTime"),
        more("renderSkippedFrames"),
        more("renderTotalFrames"),
        number(&after, "cpuUsage"),
    );
}

fn drive(remote: &mut Remote, clip: &Clip) {
    remote.call("CreateScene", &json!({"sceneName": "Matting"}));
    remote.call("SetCurrentProgramScene", &json!({"sceneName": "Matting"}));
    remote.call(
        "CreateInput",
        &json!({"sceneName": "Matting", "inputName": "behind", "inputKind": "color_source_v3",
                "inputSettings": {"color": 0xFFC0_7030_u32, "width": 640, "height": 360}}),
    );
    remote.call(
        "CreateInput",
        &json!({"sceneName": "Matting", "inputName": "clip", "inputKind": "ffmpeg_source",
                "inputSettings": {"local_file": clip.file, "looping": true, "hw_decode": false}}),
    );
    let at = |shot: &image::RgbaImage, (x, y): (u32, u32)| {
        let (x, y) = (x * shot.width() / 640, y * shot.height() / 360);
        shot.get_pixel(x.min(shot.width() - 1), y.min(shot.height() - 1))
            .0
    };
    let raw = remote.wait_for("the clip", "clip", |shot| at(shot, clip.target)[3] == 255);
    keep("source.png", &raw);
    watch(remote, "without the filter");

    let mask = clip.file.with_file_name("never.png");
    let mut settings = json!({"model": clip.model});
    if let Ok(more) = std::env::var("MATTE_OBS_SETTINGS") {
        let more: Value = serde_json::from_str(&more).expect("MATTE_OBS_SETTINGS is JSON");
        for (name, value) in more.as_object().into_iter().flatten() {
            settings[name] = value.clone();
        }
    }
    if clip.model == "probe" {
        // The probe wants to be seeded, by anything.
        settings["seed"] = json!("middle");
    }
    remote.call(
        "CreateSourceFilter",
        &json!({"sourceName": "clip", "filterName": "Matte", "filterKind": "matte_filter", "filterSettings": settings}),
    );
    // From the first moment on the room is not seen.
    for _ in 0..3 {
        if let Some(shot) = remote.screenshot("clip") {
            assert_eq!(at(&shot, clip.room)[3], 0, "the room is shown");
        }
    }
    if clip.model == "probe" {
        std::thread::sleep(Duration::from_secs(1));
        remote.call(
            "TriggerHotkeyByName",
            &json!({"hotkeyName": "Matte.Matte.SeedMiddle"}),
        );
    }
    let cut =
        |shot: &image::RgbaImage| at(shot, clip.target)[3] > 200 && at(shot, clip.room)[3] < 10;
    remote.wait_for("the cut-out", "clip", cut);
    watch(remote, "with the filter");
    // Once more when the first frames are over, each with its own matte for the pictures.
    remote.set(&json!({"mode": "aligned"}));
    std::thread::sleep(Duration::from_secs(1));
    let shot = remote.wait_for("the cut-out", "clip", cut);
    keep("cut-out.png", &shot);
    let composite = remote.wait_for("the scene", "Matting", |shot| shot.width() > 0);
    keep("scene.png", &composite);

    watch(remote, "each frame with its own matte");

    let alive = |remote: &mut Remote, what: &str| {
        let shot = remote.wait_for(what, "clip", |shot| shot.width() > 0);
        std::thread::sleep(Duration::from_millis(150));
        shot
    };
    let pictures = [
        (json!({"view": "matte"}), "matte.png"),
        (json!({"view": "checkerboard"}), "checkerboard.png"),
        (
            json!({"view": "result", "background": "colour", "background_colour": 0xFF30_A050_u32}),
            "colour.png",
        ),
        (
            json!({"background": "blur", "background_blur": 0.6}),
            "blur.png",
        ),
    ];
    for (settings, name) in pictures {
        remote.set(&settings);
        std::thread::sleep(Duration::from_millis(400));
        let shot = remote.wait_for(name, "clip", |shot| {
            clip.model != "lite" || at(shot, clip.room)[3] == 255 && at(shot, clip.target)[3] == 255
        });
        keep(name, &shot);
    }
    for settings in [
        json!({"background": "transparent"}),
        json!({"mode": "aligned"}),
        json!({"mode": "low"}),
        json!({"refine": false}),
        json!({"refine": true, "edge_shift": 3.0, "edge_softness": 4.0}),
        json!({"edge_shift": -2.5}),
        json!({"edge_shift": 0.0, "edge_softness": 0.0}),
        json!({"before_seed": "show", "on_failure": "show"}),
        json!({"before_seed": "hide", "on_failure": "hide"}),
        json!({"temporal_smoothing": 0.5, "drift_repair": false}),
        json!({"temporal_smoothing": 0, "drift_repair": true}),
        json!({"threads": 1}),
        json!({"threads": 0}),
        json!({"working_size": "256"}),
        json!({"working_size": "auto"}),
        json!({"memory_frames": 2, "memory_interval": 30, "max_references": 2}),
        json!({"mask_dilate": 2, "mask_erode": 2}),
        json!({"seed": "mask", "mask_file": mask}),
        json!({"model": "no-such-model"}),
        json!({"backend": "cuda"}),
        json!({"seed": "automatic", "model": "lite", "backend": "auto"}),
    ] {
        remote.set(&settings);
        alive(remote, &settings.to_string());
    }
    let restored = match clip.model {
        "probe" => json!({"model": "probe", "seed": "middle"}),
        model => json!({"model": model}),
    };
    remote.set(&restored);
    if clip.model == "probe" {
        std::thread::sleep(Duration::from_secs(1));
        remote.call(
            "TriggerHotkeyByName",
            &json!({"hotkeyName": "Matte.Matte.SeedMiddle"}),
        );
    }
    remote.wait_for("the cut-out after all changes", "clip", cut);
    remote.call(
        "TriggerHotkeyByName",
        &json!({"hotkeyName": "Matte.Matte.Toggle"}),
    );
    remote.wait_for("the filter switched off", "clip", |shot| {
        at(shot, clip.room)[3] == 255
    });
    remote.call(
        "TriggerHotkeyByName",
        &json!({"hotkeyName": "Matte.Matte.Toggle"}),
    );
    remote.wait_for("the filter switched on", "clip", cut);

    remote.call("StartRecord", &json!({}));
    std::thread::sleep(Duration::from_secs(5));
    let stopped = remote.call("StopRecord", &json!({}));
    let recording = PathBuf::from(stopped["outputPath"].as_str().unwrap_or_default());
    std::thread::sleep(Duration::from_secs(1));
    look_at(&recording);

    // Scene switches hide and show the source.
    remote.call("CreateScene", &json!({"sceneName": "Elsewhere"}));
    for scene in ["Elsewhere", "Matting", "Elsewhere", "Matting"] {
        remote.call("SetCurrentProgramScene", &json!({"sceneName": scene}));
        std::thread::sleep(Duration::from_millis(400));
    }
    remote.wait_for("the cut-out after scene switches", "clip", cut);
    remote.call(
        "RemoveSourceFilter",
        &json!({"sourceName": "clip", "filterName": "Matte"}),
    );
    remote.wait_for("the clip without the filter", "clip", |shot| {
        at(shot, clip.room)[3] == 255
    });

    // OBS ends while this one opens its model.
    remote.call(
        "CreateSourceFilter",
        &json!({"sourceName": "clip", "filterName": "Last", "filterKind": "matte_filter",
                "filterSettings": {"model": "lite"}}),
    );
}

/// The recording can be decoded; a frame of it is kept.
fn look_at(recording: &Path) {
    let bytes = fs::metadata(recording).map_or(0, |m| m.len());
    assert!(
        bytes > 10_000,
        "the recording {} has {bytes} bytes",
        recording.display()
    );
    let folder = tempfile::tempdir().expect("a folder");
    let frames = folder.path().join("%03d.png");
    let decoded = Command::new("gst-launch-1.0")
        .args(["-q", "filesrc"])
        .arg(format!("location={}", recording.display()))
        .args([
            "!",
            "matroskademux",
            "!",
            "h264parse",
            "!",
            "avdec_h264",
            "!",
            "videoconvert",
            "!",
            "pngenc",
            "!",
        ])
        .arg("multifilesink")
        .arg(format!("location={}", frames.display()))
        .stdout(Stdio::null())
        .status();
    assert!(
        decoded.is_ok_and(|s| s.success()),
        "the recording can be decoded"
    );
    let mut files: Vec<PathBuf> = fs::read_dir(folder.path())
        .expect("frames")
        .flatten()
        .map(|e| e.path())
        .collect();
    files.sort();
    println!(
        "  recording: {} frames, {:.1} MB",
        files.len(),
        bytes as f64 / 1e6
    );
    assert!(files.len() > 100, "{} frames in five seconds", files.len());
    for (name, share) in [
        ("recording-1.png", 0.1),
        ("recording-2.png", 0.5),
        ("recording-3.png", 0.9),
    ] {
        let frame = &files[(files.len() as f64 * share) as usize];
        keep(name, &image::open(frame).expect("a frame").into_rgba8());
    }
}
