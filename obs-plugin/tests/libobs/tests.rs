//! The tests.

use std::time::Duration;

use crate::ffi::{Obs, Picture, Source, hotkeys, press_hotkey, resident, wait};
use crate::{Test, reference};

macro_rules! tests {
    ($($name:ident),+ $(,)?) => {
        /// All tests, in the order in which they run.
        pub(crate) const ALL: &[(&str, Test)] = &[$((stringify!($name), $name)),+];
    };
}

tests!(
    opaque_pictures_pass_bit_exact,
    half_transparency_blends_as_light,
    nothing_is_shown_before_a_target_is_found,
    the_picture_is_shown_before_a_target_where_that_is_chosen,
    failure_follows_its_own_policy,
    a_colour_lies_behind_the_target,
    the_blur_leaves_the_target_out,
    the_blur_adds_nothing_where_the_picture_is_transparent,
    views_show_matte_and_checkerboard,
    nothing_is_left_of_the_matte_before,
    edges_move_and_soften,
    the_matte_follows_the_edges_of_the_picture,
    a_window_sees_a_small_target_larger,
    edges_are_drawn_anew_where_a_picture_has_its_own_matte,
    aligned_frames_are_cut_with_their_own_matte,
    highlights_keep_their_space,
    half_float_pictures_are_drawn_in_their_space,
    a_camera_is_matted,
    what_is_in_the_middle_is_taken,
    references_are_added,
    a_frozen_picture_stands_still,
    a_frozen_picture_stays_until_the_next_has_a_matte,
    hotkeys_are_on_the_parent,
    a_mask_of_another_shape_is_refused_with_advice,
    a_mask_of_the_source_s_shape_is_taken_at_every_working_size,
    an_engine_that_keeps_failing_is_opened_anew,
    an_engine_opened_anew_goes_on_without_the_mask_file,
    every_property_has_its_texts,
    settings_carry_their_version,
    nonsense_in_settings_is_put_right,
    two_filters_work_at_once,
    filters_are_reordered_copied_and_switched,
    the_source_changes_its_size,
    a_source_without_video_is_left_alone,
    a_hidden_source_comes_back_without_its_old_matte,
    a_hidden_source_comes_back_without_the_room,
    another_size_of_the_source_is_not_before_a_target,
    the_status_is_read_again_on_its_button,
    models_change_while_it_runs,
    a_model_that_is_missing_is_told,
    cycles_leave_memory_where_it_was,
    syn05_is_matted_as_by_the_program,
);

/// Red: alpha 128 of the probe.
const RED: [u8; 4] = [255, 0, 0, 255];
/// Background to the probe.
const GREEN: [u8; 4] = [0, 255, 0, 255];
/// Target to the probe.
const BLUE: [u8; 4] = [0, 0, 255, 255];
const WHITE: [u8; 4] = [255, 255, 255, 255];

const SIZE: (u32, u32) = (128, 96);
const LIMIT: Duration = Duration::from_secs(20);

fn plain(pixel: [u8; 4]) -> Picture {
    Picture::plain(SIZE.0, SIZE.1, pixel)
}

/// Left of the middle one colour, right of it another.
fn halves(left: [u8; 4], right: [u8; 4]) -> Picture {
    Picture::new(
        SIZE.0,
        SIZE.1,
        |x, _| if x < SIZE.0 / 2 { left } else { right },
    )
}

/// A mask file that selects everything; the probe only wants to be seeded.
fn mask_file() -> String {
    let path = std::env::temp_dir().join(format!("matte-test-mask-{}.png", std::process::id()));
    if !path.is_file() {
        image::GrayImage::from_pixel(SIZE.0, SIZE.1, image::Luma([255]))
            .save(&path)
            .expect("a mask is written");
    }
    path.to_string_lossy().into_owned()
}

/// A filter with the probe, seeded by a mask, and more settings.
fn probe(obs: &Obs, more: &[(&str, &str)]) -> Source {
    let mask = mask_file();
    let mut settings = vec![
        ("model", "probe"),
        ("seed", "mask"),
        ("mask_file", mask.as_str()),
        ("backend", "cpu"),
    ];
    settings.extend_from_slice(more);
    obs.filter("Matte", &settings)
}

/// What the worker says of a filter.
fn phase(filter: &Source) -> String {
    filter.status()["worker"]["phase"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn answers(filter: &Source) -> u64 {
    filter.status()["worker"]["answers"].as_u64().unwrap_or(0)
}

/// Draws until the matte of the picture that is shown now is there, and then once more.
fn settle(source: &Source, filter: &Source) {
    settle_at(source, filter, SIZE);
}

fn settle_at(source: &Source, filter: &Source, size: (u32, u32)) {
    let mut start = None;
    wait(LIMIT, || {
        source.grab(size, 0);
        std::thread::sleep(Duration::from_millis(17));
        // Frames that are under way from before are answered first.
        phase(filter) == "matting"
            && answers(filter) >= *start.get_or_insert_with(|| answers(filter) + 5)
    });
    for _ in 0..4 {
        source.grab(size, 0);
        std::thread::sleep(Duration::from_millis(17));
    }
}

#[track_caller]
fn near(got: [u8; 4], wanted: [u8; 4], tolerance: u8) {
    assert!(
        got.iter()
            .zip(&wanted)
            .all(|(a, b)| a.abs_diff(*b) <= tolerance),
        "{got:?}, but {wanted:?} ± {tolerance} is wanted"
    );
}

fn opaque_pictures_pass_bit_exact(obs: &Obs) {
    // Blue 255 is the target for certain, so every red and green goes through.
    let picture = Picture::new(SIZE.0, SIZE.1, |x, y| {
        [(x * 2) as u8, (y * 2 + x) as u8, 255, 255]
    });
    let source = obs.source(picture.clone());
    let before = source.grab(SIZE, 0);
    assert_eq!(before.data, picture.data, "the harness itself is exact");
    let filter = probe(obs, &[]);
    source.add(&filter);
    settle(&source, &filter);
    assert_eq!(source.grab(SIZE, 0).data, picture.data);
    for mode in ["aligned", "low"] {
        filter.set(&[("mode", mode)]);
        settle(&source, &filter);
        assert_eq!(source.grab(SIZE, 0).data, picture.data, "{mode}");
    }
}

fn half_transparency_blends_as_light(obs: &Obs) {
    let (below, source) = (obs.source(plain(BLUE)), obs.source(plain(RED)));
    let filter = probe(obs, &[]);
    source.add(&filter);
    let scene = obs.scene(&[&below, &source]);
    scene.show();
    wait(LIMIT, || {
        obs.frames(2);
        phase(&filter) == "matting" && answers(&filter) > 5
    });
    // As OBS's own filters do; blended as encoded values it would be 128, 0, 127.
    near(obs.composed().at(40, 40), [188, 0, 187, 255], 1);
    // The same where the scene draws the source into a texture first.
    scene.crop();
    obs.frames(3);
    near(obs.composed().at(40, 40), [188, 0, 187, 255], 1);
    obs.output(None);
}

fn nothing_is_shown_before_a_target_is_found(obs: &Obs) {
    let source = obs.source(plain(RED));
    // There is nobody to be found in it.
    let filter = obs.filter("Matte", &[("model", "lite"), ("backend", "cpu")]);
    source.add(&filter);
    // From the very first frame on, while the model loads too.
    assert_eq!(source.grab(SIZE, 0).at(5, 5), [0; 4]);
    wait(LIMIT, || {
        assert_eq!(source.grab(SIZE, 0).at(64, 48), [0; 4]);
        std::thread::sleep(Duration::from_millis(10));
        phase(&filter) == "searching" && answers(&filter) > 3
    });
    for (background, wanted) in [("colour", [1, 2, 3, 255]), ("blur", [0; 4])] {
        // 0xAABBGGRR
        filter.set(&[
            ("background", background),
            ("background_colour", "4278387201"),
        ]);
        assert_eq!(source.grab(SIZE, 0).at(64, 48), wanted, "{background}");
    }
}

fn the_picture_is_shown_before_a_target_where_that_is_chosen(obs: &Obs) {
    let source = obs.source(plain(RED));
    let filter = obs.filter(
        "Matte",
        &[
            ("model", "lite"),
            ("before_seed", "show"),
            ("backend", "cpu"),
        ],
    );
    source.add(&filter);
    assert_eq!(source.grab(SIZE, 0).at(64, 48), RED);
    wait(LIMIT, || {
        assert_eq!(source.grab(SIZE, 0).at(64, 48), RED);
        std::thread::sleep(Duration::from_millis(10));
        phase(&filter) == "searching" && answers(&filter) > 3
    });
}

fn failure_follows_its_own_policy(obs: &Obs) {
    let source = obs.source(plain(RED));
    let filter = obs.filter(
        "Matte",
        &[
            ("model", "no-such-model"),
            ("before_seed", "show"),
            ("on_failure", "hide"),
        ],
    );
    source.add(&filter);
    wait(LIMIT, || {
        source.grab(SIZE, 0);
        std::thread::sleep(Duration::from_millis(17));
        phase(&filter) == "failed"
    });
    std::thread::sleep(Duration::from_millis(40));
    assert_eq!(source.grab(SIZE, 0).at(64, 48), [0; 4]);
    filter.set(&[("on_failure", "show")]);
    std::thread::sleep(Duration::from_millis(200));
    source.grab(SIZE, 0);
    std::thread::sleep(Duration::from_millis(40));
    assert_eq!(source.grab(SIZE, 0).at(64, 48), RED);
}

fn a_colour_lies_behind_the_target(obs: &Obs) {
    let source = obs.source(halves(GREEN, BLUE));
    let filter = probe(
        obs,
        &[
            ("background", "colour"),
            ("background_colour", "4278387201"),
        ],
    );
    source.add(&filter);
    settle(&source, &filter);
    let grab = source.grab(SIZE, 0);
    near(grab.at(10, 48), [1, 2, 3, 255], 1);
    near(grab.at(120, 48), BLUE, 1);
}

fn the_blur_leaves_the_target_out(obs: &Obs) {
    // Target in the right half; the left half is dark with light stripes, which the blur must level.
    let source = obs.source(Picture::new(SIZE.0, SIZE.1, |x, _| match x {
        0..64 if x / 4 % 2 == 0 => [0, 60, 0, 255],
        0..64 => [0, 200, 0, 255],
        _ => BLUE,
    }));
    let filter = probe(obs, &[("background", "blur"), ("background_blur", "1")]);
    source.add(&filter);
    settle(&source, &filter);
    let grab = source.grab(SIZE, 0);
    let spread = (4..44).map(|x| grab.at(x, 48)[1]);
    let (low, high) = (
        spread.clone().min().unwrap_or(0),
        spread.max().unwrap_or(255),
    );
    assert!(high - low < 30, "stripes are left: {low} to {high}");
    for x in (0..60).step_by(4) {
        let pixel = grab.at(x, 48);
        assert!(
            pixel[2] <= 12,
            "the target bleeds into the background at {x}: {pixel:?}"
        );
        assert_eq!(pixel[3], 255);
    }
    near(grab.at(100, 48), BLUE, 1);
}

fn the_blur_adds_nothing_where_the_picture_is_transparent(obs: &Obs) {
    let source = obs.source(halves([0; 4], [0, 200, 0, 255]));
    let filter = probe(obs, &[("background", "blur"), ("background_blur", "20")]);
    source.add(&filter);
    settle(&source, &filter);
    let grab = source.grab(SIZE, 0);
    for x in [10, 50, 60] {
        assert_eq!(grab.at(x, 48), [0; 4], "{x}: it would glow");
    }
    near(grab.at(70, 48), [0, 200, 0, 255], 2);
}

fn views_show_matte_and_checkerboard(obs: &Obs) {
    let source = obs.source(halves(GREEN, RED));
    let filter = probe(obs, &[("view", "matte")]);
    source.add(&filter);
    settle(&source, &filter);
    let grab = source.grab(SIZE, 0);
    near(grab.at(10, 48), [0, 0, 0, 255], 1);
    near(grab.at(120, 48), [128, 128, 128, 255], 1);
    filter.set(&[("view", "checkerboard")]);
    let grab = source.grab(SIZE, 0);
    let (one, other) = (grab.at(4, 4), grab.at(20, 4));
    assert!(
        one != other && one[3] == 255 && other[3] == 255,
        "{one:?} {other:?}"
    );
    near(one, [102, 102, 102, 255], 2);
    near(other, [153, 153, 153, 255], 2);
}

fn nothing_is_left_of_the_matte_before(obs: &Obs) {
    let bar = |from: u32| {
        Picture::new(SIZE.0, SIZE.1, move |x, _| {
            if (from..from + 32).contains(&x) {
                WHITE
            } else {
                GREEN
            }
        })
    };
    let source = obs.source(bar(0));
    let filter = probe(obs, &[("view", "matte")]);
    source.add(&filter);
    settle(&source, &filter);
    let grab = source.grab(SIZE, 0);
    near(grab.at(16, 48), [255, 255, 255, 255], 1);
    near(grab.at(112, 48), [0, 0, 0, 255], 1);
    source.show(bar(96));
    settle(&source, &filter);
    let grab = source.grab(SIZE, 0);
    near(grab.at(112, 48), [255, 255, 255, 255], 1);
    // Whole blocks of what was an edge, or full, are empty now: they are in no part of the new matte.
    for x in 0..80 {
        near(grab.at(x, 48), [0, 0, 0, 255], 1);
    }
}

/// Where the matte of a row passes one half, in pixels.
fn crossing(source: &Source) -> f32 {
    let grab = source.grab(SIZE, 0);
    (0..SIZE.0)
        .map(|x| 1.0 - f32::from(grab.at(x, 48)[0]) / 255.0)
        .sum()
}

fn edges_move_and_soften(obs: &Obs) {
    let source = obs.source(halves(GREEN, WHITE));
    let filter = probe(obs, &[("view", "matte"), ("refine", "false")]);
    source.add(&filter);
    settle(&source, &filter);
    let sharp = crossing(&source);
    assert!((sharp - 64.0).abs() < 1.0, "{sharp}");
    for (shift, wanted) in [("4", 60.0), ("-4", 68.0), ("2.5", 61.5)] {
        filter.set(&[("edge_shift", shift)]);
        let moved = crossing(&source);
        assert!((moved - wanted).abs() < 0.6, "shift {shift}: {moved}");
    }
    filter.set(&[("edge_shift", "0"), ("edge_softness", "8")]);
    let grab = source.grab(SIZE, 0);
    let soft = (0..SIZE.0)
        .filter(|x| (8..248).contains(&grab.at(*x, 48)[0]))
        .count();
    assert!((8..=20).contains(&soft), "{soft} pixels are soft");
    assert!((crossing(&source) - 64.0).abs() < 1.0);
}

/// A disc at a place of a picture of 512x384, white before green.
struct Disc {
    middle: (u32, u32),
    radius: u32,
}

impl Disc {
    const SIZE: (u32, u32) = (512, 384);

    fn holds(&self, x: u32, y: u32) -> bool {
        let square = |a: u32, b: u32| a.abs_diff(b).pow(2);
        square(x, self.middle.0) + square(y, self.middle.1) < self.radius.pow(2)
    }

    fn picture(&self, ground: [u8; 4]) -> Picture {
        Picture::new(Self::SIZE.0, Self::SIZE.1, |x, y| {
            if self.holds(x, y) { WHITE } else { ground }
        })
    }

    /// A source that shows it, and its filter, which shows the matte of a quarter of the size as it is.
    fn matted(&self, obs: &Obs) -> (Source, Source) {
        let source = obs.source(self.picture(GREEN));
        let filter = probe(
            obs,
            &[
                ("view", "matte"),
                ("working_size", "128"),
                ("refine", "false"),
            ],
        );
        source.add(&filter);
        settle_at(&source, &filter, Self::SIZE);
        (source, filter)
    }

    /// How many pixels the matte that is shown is off, in all.
    fn error(&self, source: &Source) -> f64 {
        let grab = source.grab(Self::SIZE, 0);
        let mut sum = 0.0;
        for y in 0..Self::SIZE.1 {
            for x in 0..Self::SIZE.0 {
                let truth = if self.holds(x, y) { 255.0 } else { 0.0 };
                sum += (f64::from(grab.at(x, y)[0]) - truth).abs();
            }
        }
        sum / 255.0
    }
}

fn the_matte_follows_the_edges_of_the_picture(obs: &Obs) {
    // A quarter of the size for the network: the interpolated edge is several pixels wide, the picture's is sharp.
    let disc = Disc {
        middle: (256, 192),
        radius: 120,
    };
    let (source, filter) = disc.matted(obs);
    let plain = disc.error(&source);
    filter.set(&[("refine", "true")]);
    let refined = disc.error(&source);
    assert!(
        refined < plain * 0.35,
        "{refined:.0} pixels wrong, {plain:.0} without"
    );
}

fn a_window_sees_a_small_target_larger(obs: &Obs) {
    let disc = Disc {
        middle: (150, 220),
        radius: 50,
    };
    let (source, filter) = disc.matted(obs);
    let whole = disc.error(&source);
    filter.set(&[("region", "target")]);
    // What is read back is larger now, and the engine refines it: that alone is better, and a window better still.
    let mut first = None;
    let mut shade = 0;
    wait(LIMIT, || {
        // A source that stands still is not computed again, and a window has to be of use for some frames.
        shade = 8 - shade;
        source.show(disc.picture([GREEN[0], GREEN[1] - shade, GREEN[2], GREEN[3]]));
        settle_at(&source, &filter, Disc::SIZE);
        let now = disc.error(&source);
        now < *first.get_or_insert(now) * 0.8
    });
    filter.set(&[("region", "frame")]);
    source.show(disc.picture(GREEN));
    wait(LIMIT, || {
        settle_at(&source, &filter, Disc::SIZE);
        (disc.error(&source) - whole).abs() < whole * 0.02
    });
}

fn edges_are_drawn_anew_where_a_picture_has_its_own_matte(obs: &Obs) {
    // Its matte is the green of the picture, and an edge that is drawn anew its blue; it fails on a red of 250.
    let package = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/probe-detail");
    let models = matte_core::ModelSet::find(package).expect("the package is there");
    let options = matte_core::Options::default();
    let matter = matte_core::Matter::open(&models, matte_core::Backend::Cpu, options, Disc::SIZE);
    if !matter.expect("the engine is opened").draws_detail() {
        eprintln!("skipped: too little to compute with for edges to be drawn anew by default");
        return;
    }
    let disc = Disc {
        middle: (256, 192),
        radius: 120,
    };
    let seen = Disc {
        radius: 116,
        ..disc
    };
    let source = obs.source(Picture::new(Disc::SIZE.0, Disc::SIZE.1, |x, y| {
        let part = |holds| if holds { 255 } else { 0 };
        [60, part(seen.holds(x, y)), part(disc.holds(x, y)), 255]
    }));
    let filter = probe(
        obs,
        &[
            ("model", package),
            ("view", "matte"),
            ("working_size", "256"),
            ("mode", "aligned"),
        ],
    );
    source.add(&filter);
    settle_at(&source, &filter, Disc::SIZE);
    let drawn = disc.error(&source);
    assert!(drawn < 1.0, "{drawn:.1} pixels wrong");
    let known = |what: &str| filter.status()["worker"][what].as_u64();
    let before = [known("opens"), known("seeds")];
    assert_eq!(before[1], Some(1));
    // The newest matte is brought to the picture of now by the shader.
    filter.set(&[("mode", "low")]);
    settle_at(&source, &filter, Disc::SIZE);
    let guided = disc.error(&source);
    assert!(guided > 500.0, "{guided:.1} pixels wrong");
    filter.set(&[("mode", "aligned")]);
    settle_at(&source, &filter, Disc::SIZE);
    let drawn = disc.error(&source);
    assert!(drawn < 1.0, "{drawn:.1} pixels wrong");
    assert_eq!([known("opens"), known("seeds")], before, "the target stays");
}

fn aligned_frames_are_cut_with_their_own_matte(obs: &Obs) {
    let bar = |n: u32| {
        Picture::new(SIZE.0, SIZE.1, move |x, _| {
            match (x + SIZE.0 - n * 16 % SIZE.0) % SIZE.0 {
                0..16 => WHITE,
                _ => GREEN,
            }
        })
    };
    let source = obs.source(bar(0));
    let filter = probe(obs, &[("mode", "aligned")]);
    source.add(&filter);
    settle(&source, &filter);
    let (mut seen, mut moved) = (0, std::collections::BTreeSet::new());
    for n in 0..60 {
        source.show(bar(n));
        let grab = source.grab(SIZE, 0);
        for x in 0..SIZE.0 {
            let pixel = grab.at(x, 48);
            // Green comes from a matte of another frame: a bar is 16 pixels further then.
            assert!(
                pixel[1] <= pixel[0].saturating_add(40),
                "frame {n}: green at {x}: {pixel:?}"
            );
            if pixel[3] > 250 && (x == 0 || grab.at(x - 1, 48)[3] <= 250) {
                moved.insert(x);
            }
        }
        let opaque = (0..SIZE.0).filter(|x| grab.at(*x, 48)[3] > 128).count();
        if (12..=20).contains(&opaque) {
            seen += 1;
        }
        std::thread::sleep(Duration::from_millis(17));
    }
    assert!(seen > 50, "a whole bar was seen in {seen} of 60 frames");
    assert!(moved.len() >= 5, "the bar was at {moved:?}");
    let delay = filter.status()["render"]["delay_ms"]
        .as_f64()
        .unwrap_or(0.0);
    assert!(
        (1.0..400.0).contains(&delay),
        "the delay is told: {delay} ms"
    );
}

fn highlights_keep_their_space(obs: &Obs) {
    // Four times white on the left, background on the right.
    let source = obs.source(Picture::extended(SIZE.0, SIZE.1, |x, _| match x {
        0..64 => [4.0, 4.0, 4.0, 1.0],
        _ => [0.0, 1.0, 0.0, 1.0],
    }));
    let filter = probe(obs, &[]);
    source.add(&filter);
    assert_eq!(
        source.color_space(),
        2,
        "the filter draws in its target's space"
    );
    let mut start = None;
    wait(LIMIT, || {
        source.grab(SIZE, 2);
        std::thread::sleep(Duration::from_millis(17));
        phase(&filter) == "matting"
            && answers(&filter) >= *start.get_or_insert_with(|| answers(&filter) + 5)
    });
    let grab = source.grab(SIZE, 2);
    let light = grab.light(20, 48);
    assert!(
        light
            .iter()
            .zip([4.0, 4.0, 4.0, 1.0])
            .all(|(a, b)| (a - b).abs() < 0.05),
        "{light:?}"
    );
    let behind = grab.light(110, 48);
    assert!(behind.iter().all(|v| *v < 0.02), "{behind:?}");
}

fn half_float_pictures_are_drawn_in_their_space(obs: &Obs) {
    let mut picture = Picture::extended(SIZE.0, SIZE.1, |_, _| [0.25, 0.5, 1.0, 1.0]);
    picture.space = 1;
    let source = obs.source(picture);
    let filter = probe(obs, &[]);
    source.add(&filter);
    assert_eq!(source.color_space(), 1);
    let mut start = None;
    wait(LIMIT, || {
        source.grab(SIZE, 1);
        std::thread::sleep(Duration::from_millis(17));
        phase(&filter) == "matting"
            && answers(&filter) >= *start.get_or_insert_with(|| answers(&filter) + 5)
    });
    let light = source.grab(SIZE, 1).light(20, 48);
    assert!(
        light
            .iter()
            .zip([0.25, 0.5, 1.0, 1.0])
            .all(|(a, b)| (a - b).abs() < 0.01),
        "{light:?}"
    );
}

fn a_camera_is_matted(obs: &Obs) {
    let camera = obs.camera();
    let filter = probe(obs, &[]);
    camera.add(&filter);
    // Frames of a camera are only taken while it is on an output.
    let scene = obs.scene(&[&camera]);
    scene.show();
    let mut time = 1_000_000_000;
    wait(LIMIT, || {
        camera.push(&halves(GREEN, BLUE), time);
        time += 33_000_000;
        std::thread::sleep(Duration::from_millis(33));
        phase(&filter) == "matting" && answers(&filter) > 10
    });
    let composed = obs.composed();
    near(composed.at(10, 48), [0, 0, 0, composed.at(10, 48)[3]], 2);
    near(composed.at(120, 48), BLUE, 2);
    obs.output(None);
}

fn what_is_in_the_middle_is_taken(obs: &Obs) {
    let thing = Picture::new(320, 240, |x, y| match (x, y) {
        (110..210, 70..190) => [200, (60 + x % 9 * 4) as u8, 40, 255],
        _ => [60, (90 + y % 40) as u8, 140, 255],
    });
    let source = obs.source(thing);
    let filter = obs.filter(
        "Matte",
        &[
            ("model", "lite"),
            ("seed", "middle"),
            ("backend", "cpu"),
            ("view", "matte"),
        ],
    );
    source.add(&filter);
    wait(LIMIT, || {
        source.grab((320, 240), 0);
        std::thread::sleep(Duration::from_millis(17));
        phase(&filter) == "searching" && answers(&filter) > 2
    });
    assert_eq!(
        source.grab((320, 240), 0).at(160, 120),
        [0, 0, 0, 255],
        "nothing is taken before it is asked for"
    );
    filter.press("seed_middle");
    settle_at(&source, &filter, (320, 240));
    let grab = source.grab((320, 240), 0);
    assert!(grab.at(160, 120)[0] > 200, "{:?}", grab.at(160, 120));
    assert!(grab.at(20, 20)[0] < 50, "{:?}", grab.at(20, 20));
}

fn references_are_added(obs: &Obs) {
    let source = obs.source(halves(GREEN, BLUE));
    let filter = probe(obs, &[("max_references", "1")]);
    source.add(&filter);
    settle(&source, &filter);
    let references = || filter.status()["worker"]["references"].as_u64();
    filter.press("add_reference");
    wait(LIMIT, || {
        source.grab(SIZE, 0);
        std::thread::sleep(Duration::from_millis(17));
        references() == Some(1)
    });
    filter.press("add_reference");
    wait(LIMIT, || {
        source.grab(SIZE, 0);
        std::thread::sleep(Duration::from_millis(17));
        filter.status()["worker"]["problem"]["remedy"] == "Remedy.References"
    });
    assert_eq!(references(), Some(1));
}

/// Holds the picture that the source shows.
fn freeze(source: &Source) {
    wait(LIMIT, || {
        hotkeys().iter().any(|h| h == "Matte.Matte.Freeze")
    });
    press_hotkey("Matte.Matte.Freeze");
    source.grab(SIZE, 0);
}

fn a_frozen_picture_stands_still(obs: &Obs) {
    let source = obs.source(plain(BLUE));
    let filter = probe(obs, &[]);
    source.add(&filter);
    settle(&source, &filter);
    freeze(&source);
    source.show(plain(WHITE));
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(17));
        assert_eq!(source.grab(SIZE, 0).at(64, 48), BLUE);
    }
    press_hotkey("Matte.Matte.Freeze");
    settle(&source, &filter);
    assert_eq!(source.grab(SIZE, 0).at(64, 48), WHITE);
}

fn a_frozen_picture_stays_until_the_next_has_a_matte(obs: &Obs) {
    for mode in ["low", "aligned"] {
        let source = obs.source(plain(BLUE));
        let filter = probe(obs, &[("mode", mode), ("on_failure", "show")]);
        source.add(&filter);
        settle(&source, &filter);
        freeze(&source);
        source.show(plain(GREEN));
        // Older than any matte that is drawn.
        std::thread::sleep(Duration::from_millis(1300));
        assert_eq!(source.grab(SIZE, 0).at(64, 48), BLUE, "{mode}");
        press_hotkey("Matte.Matte.Freeze");
        wait(LIMIT, || {
            std::thread::sleep(Duration::from_millis(5));
            let shown = source.grab(SIZE, 0).at(64, 48);
            assert!(
                shown == BLUE || shown == [0; 4],
                "{mode}: the room, {shown:?}"
            );
            shown == [0; 4]
        });
        source.remove(&filter);
    }
}

fn hotkeys_are_on_the_parent(obs: &Obs) {
    let source = obs.source(plain(BLUE));
    let filter = probe(obs, &[]);
    let ours = || {
        hotkeys()
            .iter()
            .filter(|name| name.starts_with("Matte."))
            .count()
    };
    wait(LIMIT, || ours() == 0);
    source.add(&filter);
    wait(LIMIT, || ours() == 5);
    settle(&source, &filter);
    press_hotkey("Matte.Matte.Toggle");
    source.show(plain(GREEN));
    assert_eq!(source.grab(SIZE, 0).at(64, 48), GREEN, "off");
    std::thread::sleep(Duration::from_millis(250));
    press_hotkey("Matte.Matte.Toggle");
    assert_ne!(
        source.grab(SIZE, 0).at(64, 48),
        GREEN,
        "on again: nothing of the room"
    );
    source.remove(&filter);
    wait(LIMIT, || ours() == 0);
}

fn a_mask_of_another_shape_is_refused_with_advice(obs: &Obs) {
    let path = std::env::temp_dir().join(format!("matte-test-square-{}.png", std::process::id()));
    image::GrayImage::from_pixel(64, 64, image::Luma([255]))
        .save(&path)
        .expect("a mask is written");
    let source = obs.source(plain(BLUE));
    let filter = probe(obs, &[("mask_file", &path.to_string_lossy())]);
    source.add(&filter);
    wait(LIMIT, || {
        assert_eq!(source.grab(SIZE, 0).at(64, 48), [0; 4]);
        std::thread::sleep(Duration::from_millis(17));
        filter.status()["worker"]["problem"]["remedy"] == "Remedy.MaskAspect"
    });
    // A good one puts it right.
    filter.set(&[("mask_file", &mask_file())]);
    settle(&source, &filter);
    assert_eq!(source.grab(SIZE, 0).at(64, 48), BLUE);
    let _ = std::fs::remove_file(path);
}

fn a_mask_of_the_source_s_shape_is_taken_at_every_working_size(obs: &Obs) {
    let size = (1280, 720);
    let path = std::env::temp_dir().join(format!("matte-test-wide-{}.png", std::process::id()));
    image::GrayImage::from_fn(size.0, size.1, |x, _| {
        image::Luma([if x < size.0 / 2 { 0 } else { 255 }])
    })
    .save(&path)
    .expect("a mask is written");
    let file = path.to_string_lossy().into_owned();
    let source = obs.source(Picture::new(size.0, size.1, |x, _| {
        if x < size.0 / 2 { GREEN } else { BLUE }
    }));
    for (model, more) in [
        ("probe", [("working_size", "384"), ("region", "frame")]),
        ("probe", [("working_size", "640"), ("region", "frame")]),
        ("probe", [("working_size", "640"), ("region", "target")]),
        // Its own size for a quick processor is 640x368 for this shape.
        ("lite", [("working_size", "auto"), ("region", "frame")]),
    ] {
        let filter = probe(obs, &more);
        filter.set(&[("model", model), ("mask_file", &file)]);
        source.add(&filter);
        wait(LIMIT, || {
            source.grab(size, 0);
            std::thread::sleep(Duration::from_millis(17));
            let status = filter.status();
            let problem = &status["worker"]["problem"];
            assert!(problem.is_null(), "{model} {more:?}: {problem}");
            phase(&filter) == "matting"
        });
        source.remove(&filter);
    }
    let _ = std::fs::remove_file(path);
}

fn an_engine_that_keeps_failing_is_opened_anew(obs: &Obs) {
    let source = obs.source(halves(GREEN, BLUE));
    let filter = probe(obs, &[("model", "fragile"), ("on_failure", "show")]);
    source.add(&filter);
    settle(&source, &filter);
    let opens = || filter.status()["worker"]["opens"].as_u64().unwrap_or(0);
    assert_eq!(opens(), 1);
    // It fails on all-white pictures. They are computed again though nothing moves in them, and it is opened anew at once and
    // then after 1 and 2 seconds.
    source.show(plain(WHITE));
    let draw_until = |limit: Duration, holds: &dyn Fn() -> bool| {
        wait(limit, || {
            source.grab(SIZE, 0);
            std::thread::sleep(Duration::from_millis(17));
            holds()
        });
    };
    draw_until(LIMIT, &|| opens() == 4);
    assert_eq!(
        phase(&filter),
        "failed",
        "what is shown does not change with every attempt"
    );
    let computed = || filter.status()["worker"]["frames"].as_u64().unwrap_or(0);
    let before = computed();
    draw_until(Duration::from_secs(3), &|| computed() > before + 5);
    // The button does not wait for the next 4 seconds.
    filter.press("reseed");
    draw_until(Duration::from_secs(3), &|| opens() > 4);
    source.show(halves(GREEN, BLUE));
    settle(&source, &filter);
    let grab = source.grab(SIZE, 0);
    near(grab.at(10, 48), [0; 4], 1);
    near(grab.at(120, 48), BLUE, 1);
}

fn an_engine_opened_anew_goes_on_without_the_mask_file(obs: &Obs) {
    // What a mask says of the picture at the start, it does not say of later ones.
    let path = std::env::temp_dir().join(format!("matte-test-gone-{}.png", std::process::id()));
    image::GrayImage::from_pixel(SIZE.0, SIZE.1, image::Luma([255]))
        .save(&path)
        .expect("a mask is written");
    let file = path.to_string_lossy().into_owned();
    let source = obs.source(halves(GREEN, BLUE));
    let filter = probe(obs, &[("model", "fragile"), ("mask_file", &file)]);
    source.add(&filter);
    settle(&source, &filter);
    std::fs::remove_file(&path).expect("it is there");
    let opens = || filter.status()["worker"]["opens"].as_u64().unwrap_or(0);
    let draw_until_opened = |number: u64| {
        wait(LIMIT, || {
            source.grab(SIZE, 0);
            std::thread::sleep(Duration::from_millis(17));
            opens() == number
        });
    };
    let is_cut_out = || {
        settle(&source, &filter);
        let grab = source.grab(SIZE, 0);
        near(grab.at(10, 48), [0; 4], 1);
        near(grab.at(120, 48), BLUE, 1);
    };
    source.show(plain(WHITE));
    draw_until_opened(2);
    source.show(halves(GREEN, BLUE));
    is_cut_out();
    // Nor while the target is out of the picture.
    source.show(plain(GREEN));
    settle(&source, &filter);
    let before = opens();
    filter.set(&[("working_size", "256")]);
    draw_until_opened(before + 1);
    source.show(halves(GREEN, BLUE));
    is_cut_out();
    // Who asks for the mask is told.
    filter.press("reseed");
    wait(LIMIT, || {
        source.grab(SIZE, 0);
        std::thread::sleep(Duration::from_millis(17));
        filter.status()["worker"]["problem"]["remedy"] == "Remedy.MaskFile"
    });
}

fn every_property_has_its_texts(obs: &Obs) {
    let filter = probe(obs, &[]);
    let properties = filter.properties();
    assert!(properties.len() > 30, "{}", properties.len());
    for (name, description, tip) in &properties {
        assert!(
            !description.is_empty() || name == "status",
            "{name} has no description"
        );
        for text in [description, tip] {
            assert!(
                !["Setting.", "Group.", "Button.", "Status."]
                    .iter()
                    .any(|key| text.starts_with(key)),
                "{name}: {text} is a key without a text"
            );
        }
        let free = ["status", "refresh"].contains(&name.as_str()) || name.starts_with("group_");
        assert!(free || !tip.is_empty(), "{name} has no tooltip");
    }
}

fn settings_carry_their_version(obs: &Obs) {
    let filter = probe(obs, &[]);
    let settings: serde_json::Value =
        serde_json::from_str(&filter.settings()).expect("settings are JSON");
    assert_eq!(settings["version"].as_f64(), Some(1.0));
    // A newer version's settings are left as they are.
    let newer = probe(obs, &[("version", "99")]);
    let settings: serde_json::Value =
        serde_json::from_str(&newer.settings()).expect("settings are JSON");
    assert_eq!(settings["version"].as_f64(), Some(99.0));
}

fn nonsense_in_settings_is_put_right(obs: &Obs) {
    let source = obs.source(plain(BLUE));
    let filter = probe(
        obs,
        &[
            ("mode", "sideways"),
            ("edge_shift", "1e30"),
            ("edge_softness", "-5"),
            ("background_blur", "1000"),
            ("threads", "-3"),
            ("memory_frames", "100000"),
            ("working_size", "banana"),
        ],
    );
    source.add(&filter);
    settle(&source, &filter);
    near(source.grab(SIZE, 0).at(64, 48), BLUE, 1);
}

fn two_filters_work_at_once(obs: &Obs) {
    let (one, two) = (obs.source(plain(BLUE)), obs.source(halves(GREEN, BLUE)));
    let (first, second) = (probe(obs, &[]), probe(obs, &[]));
    one.add(&first);
    two.add(&second);
    settle(&one, &first);
    settle(&two, &second);
    // Meanwhile the first was not drawn, as if it had been hidden.
    settle(&one, &first);
    assert_eq!(one.grab(SIZE, 0).at(10, 48), BLUE);
    settle(&two, &second);
    assert_eq!(two.grab(SIZE, 0).at(10, 48), [0; 4]);
    // And both on one source: the second gets what the first left.
    let third = obs.filter(
        "Another",
        &[
            ("model", "probe"),
            ("seed", "mask"),
            ("mask_file", &mask_file()),
        ],
    );
    two.add(&third);
    settle(&two, &third);
    let grab = two.grab(SIZE, 0);
    assert_eq!(grab.at(10, 48), [0; 4]);
    near(grab.at(120, 48), BLUE, 1);
}

fn filters_are_reordered_copied_and_switched(obs: &Obs) {
    let source = obs.source(halves(GREEN, BLUE));
    let first = probe(obs, &[]);
    let second = obs.filter(
        "Another",
        &[
            ("model", "probe"),
            ("seed", "mask"),
            ("mask_file", &mask_file()),
        ],
    );
    source.add(&first);
    source.add(&second);
    settle(&source, &second);
    source.move_up(&first);
    settle(&source, &first);
    near(source.grab(SIZE, 0).at(120, 48), BLUE, 1);
    let copy = obs.source(halves(GREEN, BLUE));
    source.copy_filters_to(&copy);
    wait(LIMIT, || {
        std::thread::sleep(Duration::from_millis(17));
        let pixel = copy.grab(SIZE, 0).at(120, 48);
        assert_eq!(copy.grab(SIZE, 0).at(10, 48)[1], 0, "no room in the copy");
        pixel == BLUE
    });
    first.enable(false);
    second.enable(false);
    assert_eq!(source.grab(SIZE, 0).at(10, 48), GREEN);
    std::thread::sleep(Duration::from_millis(250));
    first.enable(true);
    assert_ne!(source.grab(SIZE, 0).at(10, 48), GREEN);
    source.remove(&first);
    source.remove(&second);
    assert_eq!(source.grab(SIZE, 0).at(10, 48), GREEN);
}

fn the_source_changes_its_size(obs: &Obs) {
    let source = obs.source(halves(GREEN, BLUE));
    let filter = obs.filter(
        "Matte",
        &[("model", "probe"), ("seed", "middle"), ("backend", "cpu")],
    );
    source.add(&filter);
    for (width, height) in [
        (128, 96),
        (200, 50),
        (17, 93),
        (640, 360),
        (16, 16),
        (1, 1),
        (300, 400),
    ] {
        source.show(Picture::new(width, height, |x, _| {
            if x * 2 + 1 < width { GREEN } else { BLUE }
        }));
        let mut pressed = false;
        wait(LIMIT, || {
            let grab = source.grab((width, height), 0);
            assert!(
                grab.at(0, height / 2)[1] < 200,
                "{width}x{height}: nothing of the room"
            );
            std::thread::sleep(Duration::from_millis(17));
            if !pressed && phase(&filter) == "searching" {
                filter.press("seed_middle");
                pressed = true;
            }
            grab.at(width - 1, height / 2)[2] > 200
        });
    }
}

fn a_source_without_video_is_left_alone(obs: &Obs) {
    let camera = obs.camera();
    let filter = probe(obs, &[]);
    camera.add(&filter);
    let scene = obs.scene(&[&camera]);
    scene.show();
    obs.frames(10);
    assert_eq!(phase(&filter), "waiting");
    obs.output(None);
}

fn a_hidden_source_comes_back_without_its_old_matte(obs: &Obs) {
    let source = obs.source(halves(GREEN, BLUE));
    let filter = probe(obs, &[]);
    source.add(&filter);
    settle(&source, &filter);
    near(source.grab(SIZE, 0).at(120, 48), BLUE, 1);
    // Not drawn for a while; meanwhile what was the target has become the room.
    std::thread::sleep(Duration::from_millis(700));
    source.show(halves(BLUE, GREEN));
    let grab = source.grab(SIZE, 0);
    assert_ne!(grab.at(120, 48), GREEN, "the old matte would show the room");
    settle(&source, &filter);
    let grab = source.grab(SIZE, 0);
    near(grab.at(10, 48), BLUE, 1);
    near(grab.at(120, 48), [0; 4], 1);
}

fn a_hidden_source_comes_back_without_the_room(obs: &Obs) {
    for mode in ["low", "aligned"] {
        let source = obs.source(plain(GREEN));
        // To see the camera while nobody has been found so far is no wish to show it later.
        let filter = probe(obs, &[("mode", mode), ("before_seed", "show")]);
        source.add(&filter);
        settle(&source, &filter);
        assert_eq!(source.grab(SIZE, 0).at(64, 48), [0; 4], "{mode}");
        std::thread::sleep(Duration::from_millis(700));
        for _ in 0..10 {
            assert_eq!(source.grab(SIZE, 0).at(64, 48), [0; 4], "{mode}");
            std::thread::sleep(Duration::from_millis(5));
        }
        source.remove(&filter);
    }
}

fn another_size_of_the_source_is_not_before_a_target(obs: &Obs) {
    for mode in ["low", "aligned"] {
        let source = obs.source(plain(GREEN));
        let filter = probe(obs, &[("mode", mode), ("before_seed", "show")]);
        source.add(&filter);
        settle(&source, &filter);
        let larger = (256, 192);
        source.show(Picture::plain(larger.0, larger.1, GREEN));
        let before = answers(&filter);
        wait(LIMIT, || {
            let shown = source.grab(larger, 0).at(64, 48);
            assert_eq!(shown, [0; 4], "{mode}");
            std::thread::sleep(Duration::from_millis(5));
            phase(&filter) == "matting" && answers(&filter) > before + 5
        });
        // Who asks for another target sees the picture, as at the start.
        filter.set(&[("seed", "automatic")]);
        wait(LIMIT, || {
            std::thread::sleep(Duration::from_millis(5));
            source.grab(larger, 0).at(64, 48) == GREEN
        });
        source.remove(&filter);
    }
}

fn the_status_is_read_again_on_its_button(obs: &Obs) {
    let source = obs.source(plain(BLUE));
    let filter = probe(obs, &[]);
    let (before, after) = filter.status_before_and_after(|| {
        source.add(&filter);
        settle(&source, &filter);
    });
    assert!(
        !before.contains("probe") && after.contains("probe"),
        "{before} / {after}"
    );
}

fn models_change_while_it_runs(obs: &Obs) {
    let source = obs.source(halves(GREEN, BLUE));
    let filter = probe(obs, &[]);
    source.add(&filter);
    settle(&source, &filter);
    for model in ["lite", "probe"] {
        let started = std::time::Instant::now();
        filter.set(&[("model", model)]);
        assert!(
            started.elapsed() < Duration::from_millis(50),
            "the user interface waits"
        );
        wait(LIMIT, || {
            source.grab(SIZE, 0);
            std::thread::sleep(Duration::from_millis(17));
            filter.status()["worker"]["model"]
                .as_str()
                .is_some_and(|name| name.starts_with(model))
                && phase(&filter) == "matting"
        });
    }
    for size in ["256", "auto"] {
        filter.set(&[
            ("working_size", size),
            ("threads", "1"),
            ("memory_frames", "2"),
        ]);
        settle(&source, &filter);
    }
    near(source.grab(SIZE, 0).at(120, 48), BLUE, 1);
}

fn a_model_that_is_missing_is_told(obs: &Obs) {
    let source = obs.source(plain(BLUE));
    let filter = obs.filter("Matte", &[("model", "no-such-model")]);
    source.add(&filter);
    wait(LIMIT, || {
        source.grab(SIZE, 0);
        std::thread::sleep(Duration::from_millis(17));
        phase(&filter) == "failed"
    });
    let status = filter.status();
    assert_eq!(status["worker"]["problem"]["remedy"], "Remedy.Model");
    assert!(
        status["worker"]["problem"]["message"]
            .as_str()
            .is_some_and(|m| m.contains("no-such-model"))
    );
}

fn cycles_leave_memory_where_it_was(obs: &Obs) {
    let source = obs.source(halves(GREEN, BLUE));
    let cycle = |n: u32| {
        let filter = probe(
            obs,
            &[(
                "mode",
                if n.is_multiple_of(2) {
                    "low"
                } else {
                    "aligned"
                },
            )],
        );
        source.add(&filter);
        let pause = || std::thread::sleep(Duration::from_millis(17));
        for _ in 0..3 {
            source.grab(SIZE, 0);
            pause();
        }
        filter.set(&[
            ("background", "blur"),
            ("edge_shift", "2"),
            ("edge_softness", "3"),
        ]);
        // Every other one lives until it mattes, the others go while their model is opened.
        if n.is_multiple_of(2) {
            wait(LIMIT, || {
                source.grab(SIZE, 0);
                pause();
                phase(&filter) == "matting"
            });
            source.grab(SIZE, 0);
        }
        source.remove(&filter);
    };
    // Caches and pools fill first.
    for n in 0..40 {
        cycle(n);
    }
    let before = resident();
    for n in 0..200 {
        cycle(n);
    }
    std::thread::sleep(Duration::from_millis(500));
    let grown = || resident().saturating_sub(before) as f64 / 1e6;
    println!(
        "  memory: {:.1} MB before, {:.1} MB more after 200 cycles",
        before as f64 / 1e6,
        grown()
    );
    // On a busy machine the last engines take their time to go.
    wait(LIMIT, || grown() < 8.0);
}

/// Called last: the filter goes, and OBS ends, while its worker opens a model.
pub(crate) fn end_while_a_model_is_being_opened(obs: &Obs) {
    let source = obs.source(plain(BLUE));
    let filter = obs.filter("Matte", &[("model", "lite"), ("backend", "cpu")]);
    source.add(&filter);
    wait(LIMIT, || {
        source.grab(SIZE, 0);
        std::thread::sleep(Duration::from_millis(5));
        phase(&filter) == "loading"
    });
}

/// Mean absolute difference of two planes of bytes, 0 to 1.
fn mad(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len());
    let sum: u64 = a
        .iter()
        .zip(b)
        .map(|(a, b)| u64::from(a.abs_diff(*b)))
        .sum();
    sum as f64 / 255.0 / a.len() as f64
}

fn syn05_is_matted_as_by_the_program(obs: &Obs) {
    let size = (640, 360);
    let Some(clip) = reference::Clip::read("synthetic/syn05_webcam_lowres_man", size, 60) else {
        return;
    };
    let by_the_engine = clip.matte_with_the_engine();
    let frames = clip.frames();
    let source = obs.source(frames[0].clone());
    let filter = obs.filter(
        "Matte",
        &[("model", "lite"), ("view", "matte"), ("backend", "cpu")],
    );
    source.add(&filter);
    let computed = |filter: &Source| filter.status()["worker"]["frames"].as_u64().unwrap_or(0);
    let (mut ours, mut theirs) = (0.0, 0.0);
    for (n, frame) in frames.iter().enumerate() {
        source.show(frame.clone());
        wait(LIMIT, || {
            source.grab(size, 0);
            std::thread::sleep(Duration::from_millis(17));
            computed(&filter) > n as u64
        });
        assert_eq!(
            computed(&filter),
            n as u64 + 1,
            "every frame is computed once"
        );
        source.grab(size, 0);
        std::thread::sleep(Duration::from_millis(17));
        let grab = source.grab(size, 0);
        let matte: Vec<u8> = grab.data.chunks_exact(4).map(|p| p[0]).collect();
        ours += mad(&matte, clip.truth(n));
        theirs += mad(&by_the_engine[n], clip.truth(n));
        if n == frames.len() - 1
            && let Some(folder) = std::env::var_os("MATTE_OBS_PICTURES")
        {
            let picture = image::GrayImage::from_raw(size.0, size.1, matte).expect("a whole matte");
            let _ = picture.save(std::path::Path::new(&folder).join("syn05-matte.png"));
        }
    }
    let n = frames.len() as f64;
    println!(
        "  syn05, {n} frames: MAD x 1000 {:.2}, of the engine alone {:.2}",
        ours / n * 1e3,
        theirs / n * 1e3
    );
    assert!(ours <= theirs * 1.15, "{ours} against {theirs}");
}
