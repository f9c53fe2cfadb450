//! Edges drawn anew: every tile is cut from its place and put back there, at any size and in any format, and nothing else
//! changes.

#![allow(clippy::print_stderr, reason = "a skipped test says why")]

mod common;

use common::rgb;
use matte_core::{
    Backend, Background, Colorimetry, Foreground, Frame, Mask, Matte, Matter, ModelSet,
    MultiMatter, Options, OutputFormat, OutputMut, PixelFormat, Plane, Refine, Region, Renderer,
    SeedMode, Stage,
};

/// The package whose matte is the green of the picture at the working size, and an edge that is drawn anew its blue at full size.
const PROBE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/probe-detail");

fn models(path: &str) -> Option<ModelSet> {
    if matte_core::runtime::paths::find_onnxruntime().is_none() {
        eprintln!("skipped: ONNX Runtime is not installed; `cargo xtask setup` installs it");
        return None;
    }
    let mut models = ModelSet::find(path).unwrap();
    models.segmentation = None;
    Some(models)
}

fn options(refine: Refine, working_size: (u32, u32)) -> Options {
    Options {
        refine,
        working_size: Some(working_size),
        seed: SeedMode::Mask,
        ..Options::default()
    }
}

/// A disc of green, soft at its edge; blue differs from pixel to pixel.
fn picture((width, height): (u32, u32)) -> Vec<u8> {
    let (w, h) = (f64::from(width), f64::from(height));
    (0..width * height)
        .flat_map(|i| {
            let (x, y) = (i % width, i / width);
            let away = (f64::from(x) - 0.45 * w).hypot(f64::from(y) - 0.6 * h);
            let green = ((0.35 * w.min(h) - away) * 20.0 + 128.0).clamp(0.0, 255.0) as u8;
            [90, green, (x * 7 + y * 13) as u8]
        })
        .collect()
}

/// The matte that is drawn on the second frame, in a format of the output.
fn drawn(models: &ModelSet, options: Options, frame: &Frame<'_>) -> Vec<u8> {
    let (width, height) = frame.size();
    let mut matter = Matter::open(models, Backend::Cpu, options, frame.size()).unwrap();
    let everything = vec![255; width as usize * height as usize];
    let mask = Mask::new(width, height, &everything, width as usize).unwrap();
    matter.seed(frame, &mask).unwrap();
    let mut alpha = vec![0; everything.len()];
    let mut out = OutputMut::new(
        OutputFormat::Gray8,
        width,
        height,
        &mut alpha,
        width as usize,
    )
    .unwrap();
    matter.process(frame, &mut out).unwrap();
    alpha
}

/// Smallest and largest value around the cell of 16×16 pixels that a pixel lies in.
fn around(alpha: &[u8], (width, height): (usize, usize), (x, y): (usize, usize)) -> (u8, u8) {
    let reach =
        |v: usize, size: usize| (v / 16 * 16).saturating_sub(4)..(v / 16 * 16 + 20).min(size);
    let (mut low, mut high) = (255, 0);
    for y in reach(y, height) {
        for a in &alpha[y * width..][reach(x, width)] {
            (low, high) = (low.min(*a), high.max(*a));
        }
    }
    (low, high)
}

#[test]
fn edges_are_drawn_anew_where_they_are_and_nothing_else_is() {
    let Some(models) = models(PROBE) else { return };
    for (size, working) in [
        ((640, 360), (320, 176)),
        // As large as the matte.
        ((160, 96), (160, 96)),
        ((321, 243), (160, 128)),
        ((150, 90), (64, 48)),
        // Smaller than a tile.
        ((50, 40), (32, 16)),
        ((33, 400), (16, 192)),
    ] {
        let data = picture(size);
        let frame = rgb(&data, size);
        let filtered = drawn(&models, options(Refine::Guided, working), &frame);
        let anew = drawn(&models, options(Refine::Detail, working), &frame);
        let full = (size.0 as usize, size.1 as usize);
        let mut edges = 0;
        for i in 0..full.0 * full.1 {
            let (low, high) = around(&filtered, full, (i % full.0, i / full.0));
            let wanted = match high - low > 12 {
                true => data[i * 3 + 2],
                false => filtered[i],
            };
            edges += usize::from(high - low > 12);
            assert_eq!(
                anew[i],
                wanted,
                "{size:?}, pixel {},{}",
                i % full.0,
                i / full.0
            );
        }
        assert!(
            edges > 0 && (edges < full.0 * full.1 || full.0 < 64),
            "{size:?}: {edges}"
        );
    }
}

#[test]
fn it_sees_the_colours_of_every_format() {
    let Some(models) = models(PROBE) else { return };
    let (width, height) = (200u32, 120u32);
    let data = picture((width, height));
    let pixels: Vec<&[u8]> = data.chunks_exact(3).collect();
    let rgb_drawn = drawn(
        &models,
        options(Refine::Detail, (96, 64)),
        &rgb(&data, (width, height)),
    );
    let bgra: Vec<u8> = pixels
        .iter()
        .flat_map(|p| [p[2], p[1], p[0], 255])
        .collect();
    let plane = Plane {
        data: &bgra,
        stride: width as usize * 4,
    };
    let frame = Frame::new(
        PixelFormat::Bgra,
        width,
        height,
        &[plane],
        Colorimetry::default(),
    )
    .unwrap();
    assert_eq!(
        drawn(&models, options(Refine::Detail, (96, 64)), &frame),
        rgb_drawn
    );

    // Grey: blue is luma everywhere.
    let luma: Vec<u8> = pixels.iter().map(|p| 60 + p[1] / 2).collect();
    let chroma = vec![128; width as usize * height as usize / 2];
    let planes = [
        Plane {
            data: &luma,
            stride: width as usize,
        },
        Plane {
            data: &chroma,
            stride: width as usize,
        },
    ];
    let full = Colorimetry {
        full_range: true,
        ..Colorimetry::default()
    };
    let frame = Frame::new(PixelFormat::Nv12, width, height, &planes, full).unwrap();
    let filtered = drawn(&models, options(Refine::Guided, (96, 64)), &frame);
    let anew = drawn(&models, options(Refine::Detail, (96, 64)), &frame);
    let size = (width as usize, height as usize);
    for i in 0..luma.len() {
        let (low, high) = around(&filtered, size, (i % size.0, i / size.0));
        if high - low > 12 {
            assert!(
                anew[i].abs_diff(luma[i]) <= 1,
                "{i}: {} {}",
                anew[i],
                luma[i]
            );
        }
    }
}

#[test]
fn frames_that_gain_nothing_from_it_are_left_to_the_filter() {
    let Some(models) = models(PROBE) else { return };
    // Four times as large as the matte, and smaller.
    for (size, working) in [((640, 384), (160, 96)), ((160, 96), (320, 192))] {
        let data = picture(size);
        let frame = rgb(&data, size);
        let filtered = drawn(&models, options(Refine::Guided, working), &frame);
        let anew = drawn(&models, options(Refine::Detail, working), &frame);
        assert!(filtered == anew, "{size:?}");
    }
    // With the smoothing, which works on the matte before it is brought to full size.
    let size = (320, 192);
    let data = picture(size);
    let frame = rgb(&data, size);
    let smooth = |refine| Options {
        temporal_smoothing: 0.5,
        ..options(refine, (160, 96))
    };
    let filtered = drawn(&models, smooth(Refine::Guided), &frame);
    assert_eq!(drawn(&models, smooth(Refine::Detail), &frame), filtered);
    // A package without the graph: only what was asked for by name fails.
    let Some(plain) = self::models(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/probe"))
    else {
        return;
    };
    let automatic = drawn(&plain, options(Refine::Auto, (160, 96)), &frame);
    assert_eq!(
        automatic,
        drawn(&plain, options(Refine::Guided, (160, 96)), &frame)
    );
    let open = |refine| Matter::open(&plain, Backend::Cpu, options(refine, (160, 96)), size);
    let error = open(Refine::Detail).unwrap_err().to_string();
    let wanted = "option refine: detail, but the package probe has no graph `detail`";
    assert_eq!(error, wanted);
    let mut matter = open(Refine::Auto).unwrap();
    let refused = matter.set_options(options(Refine::Detail, (160, 96)));
    assert_eq!(refused.unwrap_err().to_string(), wanted);
    assert_eq!(matter.options().refine, Refine::Auto);
}

#[test]
fn it_may_change_between_two_frames() {
    let Some(models) = models(PROBE) else { return };
    let size = (320, 192);
    let data = picture(size);
    let frame = rgb(&data, size);
    let of = |refine| options(refine, (160, 96));
    let filtered = drawn(&models, of(Refine::Guided), &frame);
    let anew = drawn(&models, of(Refine::Detail), &frame);
    assert!(filtered != anew);
    let mut matter = Matter::open(&models, Backend::Cpu, of(Refine::Guided), size).unwrap();
    let everything = vec![255; filtered.len()];
    let mask = Mask::new(size.0, size.1, &everything, size.0 as usize).unwrap();
    matter.seed(&frame, &mask).unwrap();
    for (refine, wanted, runs) in [
        (Refine::Guided, &filtered, 0),
        (Refine::Detail, &anew, 1),
        (Refine::Guided, &filtered, 1),
        (Refine::Detail, &anew, 2),
    ] {
        matter.set_options(of(refine)).unwrap();
        let mut alpha = vec![0; filtered.len()];
        let mut out = OutputMut::new(OutputFormat::Gray8, size.0, size.1, &mut alpha, 320).unwrap();
        matter.process(&frame, &mut out).unwrap();
        assert!(alpha == *wanted, "{refine:?}");
        assert_eq!(matter.stats().stage(Stage::Detail).runs, runs);
        assert!(matter.is_seeded());
    }
}

#[test]
fn a_matte_that_was_drawn_anew_is_what_every_output_holds() {
    let Some(models) = models(PROBE) else { return };
    let size = (320, 192);
    let data = picture(size);
    let frame = rgb(&data, size);
    let working = (160, 96);
    let anew = drawn(&models, options(Refine::Detail, working), &frame);
    let filtered = drawn(&models, options(Refine::Guided, working), &frame);

    let mut matter = Matter::open(
        &models,
        Backend::Cpu,
        options(Refine::Detail, working),
        size,
    )
    .unwrap();
    let everything = vec![255; anew.len()];
    let mask = Mask::new(size.0, size.1, &everything, size.0 as usize).unwrap();
    matter.seed(&frame, &mask).unwrap();
    matter.predict(&frame).unwrap();
    let mut matte = Matte::new();
    matter.snapshot(&mut matte).unwrap();
    matter.refine(&frame, &mut matte).unwrap();
    let alpha_of = |renderer: &mut Renderer, matte: &Matte, newer: bool| {
        let mut pixels = vec![0; anew.len() * 4];
        let mut out =
            OutputMut::new(OutputFormat::Rgba, size.0, size.1, &mut pixels, 320 * 4).unwrap();
        match newer {
            true => renderer.render_newer(matte, &frame, &mut out).unwrap(),
            false => renderer.render(matte, &frame, &mut out).unwrap(),
        }
        pixels.chunks_exact(4).map(|p| p[3]).collect::<Vec<u8>>()
    };
    for foreground in [Foreground::Source, Foreground::Estimated] {
        let options = Options {
            foreground,
            ..Options::default()
        };
        let mut renderer = Renderer::new(&options).unwrap();
        assert!(
            alpha_of(&mut renderer, &matte, false) == anew,
            "{foreground:?}"
        );
        // Another frame has other edges.
        assert!(
            alpha_of(&mut renderer, &matte, true) == filtered,
            "{foreground:?}"
        );
        assert!(
            alpha_of(&mut renderer, &matte.clone(), false) == anew,
            "{foreground:?}"
        );
    }
    // A shifted edge is that of what was drawn.
    let shifts = Options {
        edge_shift: 2.0,
        ..Options::default()
    };
    let mut renderer = Renderer::new(&shifts).unwrap();
    let shifted = alpha_of(&mut renderer, &matte, false);
    let mut masked = vec![0; anew.len()];
    let mut out = OutputMut::new(OutputFormat::Gray8, size.0, size.1, &mut masked, 320).unwrap();
    let mask = Mask::new(size.0, size.1, &anew, size.0 as usize).unwrap();
    renderer.render_mask(&mask, &frame, &mut out).unwrap();
    assert!(shifted == masked);

    // The next frame's matte has its own edges, and a sum of mattes none that were drawn for one of them.
    let mut sum = matte.clone();
    sum.add(
        &Matte::from_alpha(size, working, &vec![0.0; 160 * 96], &vec![0; 160 * 96 * 3]).unwrap(),
    );
    let mut renderer = Renderer::new(&Options::default()).unwrap();
    assert!(alpha_of(&mut renderer, &sum, false) == filtered);
    matter.snapshot(&mut matte).unwrap();
    assert!(alpha_of(&mut renderer, &matte, false) == filtered);

    // Of several targets the sum is drawn.
    let mut several = MultiMatter::new(
        &models,
        Backend::Cpu,
        &options(Refine::Detail, working),
        size,
    )
    .unwrap();
    several
        .add(&Mask::new(size.0, size.1, &everything, size.0 as usize).unwrap())
        .unwrap();
    let mut alpha = vec![0; anew.len()];
    for _ in 0..2 {
        let mut out = OutputMut::new(OutputFormat::Gray8, size.0, size.1, &mut alpha, 320).unwrap();
        several.process(&frame, &mut out).unwrap();
    }
    assert!(alpha == anew);
}

#[test]
fn with_a_window_and_a_blurred_background_edges_are_those_that_were_drawn_anew() {
    let Some(models) = models(PROBE) else { return };
    let size = (640u32, 384u32);
    // Small, so that a window shows it larger.
    let data: Vec<u8> = (0..size.0 * size.1)
        .flat_map(|i| {
            let (x, y) = (i % size.0, i / size.0);
            let away = (f64::from(x) - 400.0).hypot(f64::from(y) - 200.0);
            let green = ((40.0 - away) * 20.0 + 128.0).clamp(0.0, 255.0) as u8;
            [90, green, 255 * (x / 3 % 2) as u8]
        })
        .collect();
    let frame = rgb(&data, size);
    let options = Options {
        region: Region::Target,
        background: Background::Blur,
        ..options(Refine::Detail, (320, 192))
    };
    let mut matter = Matter::open(&models, Backend::Cpu, options, size).unwrap();
    let disc: Vec<u8> = data.chunks_exact(3).map(|p| p[1]).collect();
    matter
        .seed(&frame, &Mask::new(size.0, size.1, &disc, 640).unwrap())
        .unwrap();
    let (mut pixels, mut matte) = (vec![0; disc.len() * 4], Matte::new());
    for _ in 0..5 {
        let mut out =
            OutputMut::new(OutputFormat::Rgba, size.0, size.1, &mut pixels, 640 * 4).unwrap();
        matter.process(&frame, &mut out).unwrap();
    }
    matter.snapshot(&mut matte).unwrap();
    assert!(matte.size() != (320, 192), "there is no window");
    // The probe's alpha at edges is the picture's blue, here all or nothing: all of it is the picture itself.
    let mut solid = 0;
    for (i, (out, source)) in pixels.chunks_exact(4).zip(data.chunks_exact(3)).enumerate() {
        let (low, high) = around(&disc, (640, 384), (i % 640, i / 640));
        if high - low == 255 && source[2] == 255 && disc[i] == 0 {
            solid += 1;
            assert_eq!(&out[..3], source, "pixel {},{}", i % 640, i / 640);
        }
    }
    assert!(solid > 200, "{solid}");
}
