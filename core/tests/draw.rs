//! Drawing without a network: every format and size, backgrounds, edges, a newer frame.

use matte_core::{
    AlphaMode, Background, Colorimetry, Error, Foreground, Frame, Matte, Options, OutputFormat,
    OutputMut, PixelFormat, Plane, PlaneMut, Policy, Renderer,
};

/// A disc in the middle, with a soft edge: what the matte is at a point given in shares of the size.
fn disc(u: f32, v: f32) -> f32 {
    ((0.3 - (u - 0.5).hypot(v - 0.5)) * 12.0 + 0.5).clamp(0.0, 1.0)
}

fn at(i: usize, (width, height): (usize, usize)) -> (f32, f32) {
    (
        ((i % width) as f32 + 0.5) / width as f32,
        ((i / width) as f32 + 0.5) / height as f32,
    )
}

/// Red where the disc is, green elsewhere.
fn colour(u: f32, v: f32) -> [u8; 3] {
    let a = disc(u, v);
    [(200.0 * a) as u8 + 20, (180.0 * (1.0 - a)) as u8 + 20, 60]
}

fn matte(frame: (u32, u32), size: (u32, u32)) -> Matte {
    let low = (size.0 as usize, size.1 as usize);
    let points = (0..low.0 * low.1).map(|i| at(i, low));
    let alpha: Vec<f32> = points.clone().map(|(u, v)| disc(u, v)).collect();
    let picture: Vec<u8> = points.flat_map(|(u, v)| colour(u, v)).collect();
    Matte::from_alpha(frame, size, &alpha, &picture).unwrap()
}

struct Picture {
    format: PixelFormat,
    size: (u32, u32),
    planes: Vec<(Vec<u8>, usize)>,
}

impl Picture {
    /// The disc in a format, rows padded by some bytes.
    fn new(format: PixelFormat, size: (u32, u32)) -> Self {
        let (width, height) = (size.0 as usize, size.1 as usize);
        let planes = (0..format.planes())
            .map(|plane| {
                let (row, rows) = format.plane_size(plane, size.0, size.1);
                let stride = row + 7;
                let mut data = vec![0xEE; stride * rows];
                for y in 0..rows {
                    for x in 0..row {
                        let across = width as f32 / row as f32;
                        let down = height as f32 / rows as f32;
                        let (u, v) = (
                            (x as f32 + 0.5) * across / width as f32,
                            (y as f32 + 0.5) * down / height as f32,
                        );
                        data[y * stride + x] = match (format.planes(), plane) {
                            (1, _) => colour(u, v)[x % 3],
                            (_, 0) => 60 + (disc(u, v) * 120.0) as u8,
                            _ => 128,
                        };
                    }
                }
                (data, stride)
            })
            .collect();
        Self {
            format,
            size,
            planes,
        }
    }

    fn view(&self) -> Frame<'_> {
        let planes: Vec<Plane<'_>> = self
            .planes
            .iter()
            .map(|(data, stride)| Plane {
                data,
                stride: *stride,
            })
            .collect();
        Frame::new(
            self.format,
            self.size.0,
            self.size.1,
            &planes,
            Colorimetry::default(),
        )
        .unwrap()
    }
}

/// Draws into planes whose rows are padded; the planes without the padding.
fn draw(
    format: OutputFormat,
    size: (u32, u32),
    work: impl FnOnce(&mut OutputMut<'_>),
) -> Vec<Vec<u8>> {
    let mut data: Vec<(Vec<u8>, usize, usize)> = (0..4)
        .map(|i| {
            let (row, rows) = format.plane_size(i, size.0, size.1);
            (vec![0x5A; (row + 3) * rows], row + 3, row)
        })
        .collect();
    {
        let mut planes = data.iter_mut().map(|(data, stride, _)| PlaneMut {
            data,
            stride: *stride,
        });
        let planes: [PlaneMut<'_>; 4] = std::array::from_fn(|_| planes.next().unwrap());
        let colorimetry = Colorimetry::default();
        let mut out = OutputMut::with_planes(format, size.0, size.1, planes, colorimetry).unwrap();
        work(&mut out);
    }
    data.into_iter()
        .take(format.planes())
        .map(|(data, stride, row)| {
            for line in data.chunks(stride) {
                assert!(line[row..].iter().all(|v| *v == 0x5A), "padding is written");
            }
            data.chunks(stride)
                .flat_map(|r| r[..row].to_vec())
                .collect()
        })
        .collect()
}

fn render(
    options: &Options,
    picture: &Picture,
    format: OutputFormat,
    matte: &Matte,
) -> Vec<Vec<u8>> {
    let mut renderer = Renderer::new(options).unwrap();
    draw(format, picture.size, |out| {
        renderer.render(matte, &picture.view(), out).unwrap();
    })
}

fn alpha_of(format: OutputFormat, planes: &[Vec<u8>]) -> Vec<u8> {
    match format {
        OutputFormat::Gray8 => planes[0].clone(),
        OutputFormat::A420 => planes[3].clone(),
        OutputFormat::Argb | OutputFormat::Abgr => planes[0].iter().step_by(4).copied().collect(),
        _ => planes[0].iter().skip(3).step_by(4).copied().collect(),
    }
}

#[test]
fn every_input_output_and_size_gives_the_same_alpha() {
    let all = Options {
        foreground: Foreground::Estimated,
        edge_shift: -1.5,
        edge_softness: 1.5,
        temporal_smoothing: 0.5,
        ..Options::default()
    };
    for size in [(16, 16), (17, 33), (250, 141), (641, 361)] {
        let low = (size.0.min(64), size.1.min(48));
        let matte = matte(size, low);
        for input in PixelFormat::ALL {
            let picture = Picture::new(input, size);
            for options in [&Options::default(), &all] {
                let grey = render(options, &picture, OutputFormat::Gray8, &matte);
                let middle = (size.1 / 2 * size.0 + size.0 / 2) as usize;
                assert!(grey[0][middle] > 240 && grey[0][0] < 10, "{}", input.name());
                for output in OutputFormat::ALL {
                    let planes = render(options, &picture, output, &matte);
                    assert!(
                        alpha_of(output, &planes) == grey[0],
                        "{} to {} at {size:?}",
                        input.name(),
                        output.name()
                    );
                }
            }
        }
    }
}

#[test]
fn backgrounds_are_opaque_and_lie_behind() {
    let size = (400, 300);
    let picture = Picture::new(PixelFormat::Rgb, size);
    let matte = matte(size, (100, 75));
    let source = render(&Options::default(), &picture, OutputFormat::Rgba, &matte);
    let colour = Options {
        background: Background::Colour,
        background_colour: [1, 2, 3],
        ..Options::default()
    };
    let over = render(&colour, &picture, OutputFormat::Rgba, &matte);
    for (over, source) in over[0].chunks(4).zip(source[0].chunks(4)) {
        assert_eq!(over[3], 255);
        let a = f32::from(source[3]) / 255.0;
        for c in 0..3 {
            let wanted = f32::from(source[c]) * a + (c + 1) as f32 * (1.0 - a);
            assert!(
                (f32::from(over[c]) - wanted).abs() <= 0.51,
                "{over:?} {source:?}"
            );
        }
    }
    // An output of alpha alone holds the matte.
    let grey = render(&colour, &picture, OutputFormat::Gray8, &matte);
    assert_eq!(grey[0], alpha_of(OutputFormat::Rgba, &source));

    let blur = Options {
        background: Background::Blur,
        background_blur: 1.0,
        ..Options::default()
    };
    let over = render(&blur, &picture, OutputFormat::A420, &matte);
    assert!(over[3].iter().all(|a| *a == 255));
    let middle = render(&blur, &picture, OutputFormat::Rgba, &matte);
    let pixel = |x: usize, y: usize| &middle[0][(y * 400 + x) * 4..][..4];
    assert!(pixel(200, 150)[0] > 200, "the target is sharp");
    assert!(
        pixel(5, 5)[1] > 170 && pixel(5, 5)[0] < 60,
        "the wall has no red in it"
    );
}

#[test]
fn without_a_matte_the_policy_rules() {
    let size = (200, 100);
    let board: Vec<u8> = (0..200 * 100)
        .flat_map(|i| [if (i % 200 + i / 200) % 2 == 0 { 0 } else { 255 }; 3])
        .collect();
    let frame = Frame::packed(PixelFormat::Rgb, 200, 100, &board, 600).unwrap();
    let shown = |options: &Options, policy, format| {
        let mut renderer = Renderer::new(options).unwrap();
        draw(format, size, |out| {
            renderer.render_without_matte(policy, &frame, out).unwrap();
        })
    };
    let plain = Options::default();
    let none = shown(&plain, Policy::Transparent, OutputFormat::Bgra);
    assert!(none[0].iter().all(|v| *v == 0));
    let none = shown(&plain, Policy::Transparent, OutputFormat::A420);
    assert!(none[0].iter().all(|v| *v == 16) && none[1].iter().all(|v| *v == 128));
    assert!(none[3].iter().all(|v| *v == 0));
    let frame = shown(&plain, Policy::PassThrough, OutputFormat::Rgba);
    for (got, source) in frame[0].chunks(4).zip(board.chunks(3)) {
        assert_eq!((&got[..3], got[3]), (source, 255));
    }
    let colour = Options {
        background: Background::Colour,
        background_colour: [9, 8, 7],
        ..plain.clone()
    };
    let colour = shown(&colour, Policy::Transparent, OutputFormat::Rgba);
    assert!(colour[0].chunks(4).all(|p| p == [9, 8, 7, 255]));
    let blur = Options {
        background: Background::Blur,
        ..plain
    };
    let blur = shown(&blur, Policy::Transparent, OutputFormat::Rgba);
    assert!(
        blur[0]
            .chunks(4)
            .all(|p| (120..=136).contains(&p[0]) && p[3] == 255),
        "the board is a grey blur"
    );
}

#[test]
fn a_moved_edge_covers_more_or_less() {
    let size = (320, 240);
    let picture = Picture::new(PixelFormat::Nv12, size);
    let matte = matte(size, (80, 60));
    let area = |edge_shift: f32| -> f64 {
        let options = Options {
            edge_shift,
            // The refinement draws an outline of its own; here only what the shift does to a known one counts.
            refine: matte_core::Refine::None,
            ..Options::default()
        };
        let grey = render(&options, &picture, OutputFormat::Gray8, &matte);
        grey[0].iter().map(|a| f64::from(*a)).sum::<f64>() / 255.0
    };
    // An ellipse of half axes 96 and 72 pixels: its outline is about 530 long.
    let (less, same, more) = (area(-4.0), area(0.0), area(4.0));
    for change in [more - same, same - less] {
        assert!((1700.0..2600.0).contains(&change), "{less} {same} {more}");
    }
}

#[test]
fn a_newer_frame_draws_the_same_matte() {
    let size = (320, 240);
    let picture = Picture::new(PixelFormat::Rgb, size);
    let matte = matte(size, (80, 60));
    let mut renderer = Renderer::new(&Options::default()).unwrap();
    let own = render(&Options::default(), &picture, OutputFormat::Gray8, &matte);
    let newer = draw(OutputFormat::Gray8, size, |out| {
        renderer.render_newer(&matte, &picture.view(), out).unwrap();
    });
    for (a, b) in own[0].iter().zip(&newer[0]) {
        assert!(a.abs_diff(*b) <= 24, "{a} {b}");
    }
}

#[test]
fn what_does_not_fit_is_refused_with_both_sizes() {
    let picture = Picture::new(PixelFormat::Rgb, (64, 48));
    let mut renderer = Renderer::new(&Options::default()).unwrap();
    draw(OutputFormat::Rgba, (64, 48), |out| {
        let empty = renderer.render(&Matte::new(), &picture.view(), out);
        assert!(matches!(empty, Err(Error::NotSeeded)));
        let other = renderer.render(&matte((65, 48), (64, 48)), &picture.view(), out);
        assert_eq!(
            other.unwrap_err().to_string(),
            "frame of 64x48, but the engine is set up for 65x48"
        );
    });
}

#[test]
fn premultiplied_planes_are_black_where_nothing_is() {
    let size = (64, 48);
    let picture = Picture::new(PixelFormat::Nv12, size);
    let matte = matte(size, (32, 24));
    let options = Options {
        alpha_mode: AlphaMode::Premultiplied,
        ..Options::default()
    };
    let planes = render(&options, &picture, OutputFormat::A420, &matte);
    assert_eq!(
        (planes[0][0], planes[1][0], planes[2][0], planes[3][0]),
        (16, 128, 128, 0)
    );
}

/// Straight alpha keeps the colour beside the target, which is wanted when the picture is scaled, and that of nothing else.
#[test]
fn far_from_the_target_nothing_is_left_of_the_picture() {
    let size = (641, 361);
    let matte = matte(size, (320, 180));
    let shift = |edge_shift: f32| Options {
        edge_shift,
        ..Options::default()
    };
    let estimated = Options {
        foreground: Foreground::Estimated,
        ..Options::default()
    };
    for input in [PixelFormat::Rgb, PixelFormat::Nv12, PixelFormat::I420] {
        let picture = Picture::new(input, size);
        for options in [&Options::default(), &shift(1.5), &shift(20.0), &estimated] {
            for output in [OutputFormat::Rgba, OutputFormat::A420] {
                let planes = render(options, &picture, output, &matte);
                let alpha = alpha_of(output, &planes);
                let (width, height) = (size.0 as usize, size.1 as usize);
                let shown = |x: usize, y: usize| alpha[y * width + x] > 0;
                let black = |x: usize, y: usize| match output {
                    OutputFormat::A420 => {
                        let at = y / 2 * width.div_ceil(2) + x / 2;
                        let [luma, u, v] = [planes[0][y * width + x], planes[1][at], planes[2][at]];
                        [luma, u, v] == [16, 128, 128]
                    }
                    _ => planes[0][(y * width + x) * 4..][..3] == [0, 0, 0],
                };
                let case = format!("{} to {}", input.name(), output.name());
                // The border of the frame is far away, all around.
                for x in 0..width {
                    assert!(black(x, 0) && black(x, height - 1), "{case}: column {x}");
                }
                for y in 0..height {
                    assert!(black(0, y) && black(width - 1, y), "{case}: row {y}");
                }
                // What is shown, and what is less than a cell away from it, has its colour.
                for (x, y) in (0..width * height).map(|i| (i % width, i / width)) {
                    let (u, v) = at(y * width + x, (width, height));
                    let (across, down) = (8.0 / width as f32, 8.0 / height as f32);
                    let beside = [
                        (0.0, 0.0),
                        (across, 0.0),
                        (-across, 0.0),
                        (0.0, down),
                        (0.0, -down),
                    ];
                    let is_near = beside
                        .into_iter()
                        .any(|(du, dv)| disc(u + du, v + dv) > 0.1);
                    if is_near || shown(x, y) {
                        assert!(!black(x, y), "{case}: {x},{y}");
                    }
                }
            }
        }
    }
    // Who asks for the camera gets all of it.
    let picture = Picture::new(PixelFormat::Rgb, size);
    let mut renderer = Renderer::new(&Options::default()).unwrap();
    let planes = draw(OutputFormat::Rgba, size, |out| {
        renderer.render(&matte, &picture.view(), out).unwrap();
        let camera = Policy::PassThrough;
        (renderer.render_without_matte(camera, &picture.view(), out)).unwrap();
    });
    assert!(planes[0].chunks_exact(4).all(|p| p[..3] != [0, 0, 0]));
}
