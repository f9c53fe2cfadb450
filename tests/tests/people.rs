//! The automatic first mask, with the shipped network on the shared clips.

#![allow(clippy::print_stderr, reason = "a skipped test says why")]

use matte_core::{MatteState, Options, SeedMode};
use matte_tests::{Picture, can_find_people, frames, iou, mad, media, open, output, truths, view};

/// A frame of a synthetic clip and its exact matte.
fn frame(clip: &str, number: usize) -> Option<(Picture, Picture)> {
    let clip = format!("synthetic/{clip}");
    let picture = frames(&clip, number + 1)?.pop()?;
    Some((picture, truths(&clip, number + 1)?.pop()?))
}

/// A picture without anybody in it, as [`frames`] are.
fn scene(number: usize) -> Option<Picture> {
    let path = media(&format!("../train/backgrounds/bg_{number:02}.jpg"))?;
    let (width, height) = (640, 360);
    let image = image::open(path).unwrap();
    let image = image.resize_to_fill(width, height, image::imageops::FilterType::Triangle);
    Some(Picture {
        width: width as usize,
        height: height as usize,
        data: image.into_rgb8().into_raw(),
    })
}

/// A grey picture of the same size.
fn grey(picture: &Picture) -> Picture {
    Picture {
        width: picture.width,
        height: picture.height,
        data: vec![0; picture.width * picture.height],
    }
}

/// The matte of a picture's people, or of the one at a place.
fn matte(picture: &Picture, place: Option<(f64, f64)>) -> Picture {
    let mut out = grey(picture);
    let mut matter = open(Options {
        seed: match place {
            Some(_) => SeedMode::None,
            None => SeedMode::Auto,
        },
        ..Options::default()
    });
    if let Some(place) = place {
        assert!(matter.queue_seed_at(&view(picture), place).unwrap());
    }
    let report = matter
        .process(&view(picture), &mut output(&mut out))
        .unwrap();
    assert_eq!(report.matte, MatteState::Seeded);
    out
}

#[test]
fn everybody_is_found_wherever_a_clip_begins() {
    if !can_find_people() {
        return;
    }
    // A whole figure who takes a small share of the picture; a second person, smaller than the first.
    for (clip, number) in [
        ("syn01_dancer_fullbody_room", 70),
        ("syn04_two_people_city", 12),
        ("syn04_two_people_city", 40),
    ] {
        let Some((picture, truth)) = frame(clip, number) else {
            return;
        };
        let found = matte(&picture, None);
        let (error, overlap) = (mad(&found, &truth), iou(&found, &truth));
        eprintln!(
            "{clip}, {number}: mean absolute difference {error:.4}, intersection over union {overlap:.3}"
        );
        assert!(
            error < 0.02 && overlap > 0.9,
            "{clip}, {number}: {error:.4}, {overlap:.3}"
        );
    }
}

#[test]
fn a_place_names_one_of_two_who_touch() {
    if !can_find_people() {
        return;
    }
    let Some((picture, truth)) = frame("syn04_two_people_city", 55) else {
        return;
    };
    let [one, other] = [(278.0, 257.0), (480.0, 257.0)].map(|place| matte(&picture, Some(place)));
    let mut both = grey(&picture);
    both.data.clone_from(&one.data);
    let mut shared = 0.0;
    for (both, other) in both.data.iter_mut().zip(&other.data) {
        shared += f64::from((*both).min(*other)) / 255.0;
        *both = (*both).max(*other);
    }
    shared /= both.data.len() as f64;
    let (areas, overlap) = ([one.area(), other.area()], iou(&both, &truth));
    eprintln!("{areas:.4?} of the picture, {shared:.4} of both; together {overlap:.3}");
    assert!(shared < 0.05 * areas[0].min(areas[1]), "{shared:.4}");
    assert!(overlap > 0.9, "{overlap:.3}");
}

#[test]
fn nobody_is_found_in_shelves_and_mountains() {
    if !can_find_people() {
        return;
    }
    for number in [8, 9, 10, 17, 19, 23, 27, 28] {
        let Some(picture) = scene(number) else {
            return;
        };
        let mut matter = open(Options::default());
        // One frame after the other, as long as it takes to look thoroughly twice.
        for frame in 0..7 {
            let report = matter
                .process(&view(&picture), &mut output(&mut grey(&picture)))
                .unwrap();
            assert_eq!(report.matte, MatteState::BeforeSeed, "{number}, {frame}");
        }
    }
}

/// Somebody who comes in from the left within a second is seen in part when they are found.
#[test]
fn who_walks_into_the_picture_is_complete_soon() {
    const COMING: usize = 30;
    const FRAMES: usize = 75;
    if !can_find_people() {
        return;
    }
    let clip = "synthetic/syn03_hair_portrait_porch";
    let (Some(people), Some(truths), Some(scene)) =
        (frames(clip, FRAMES), truths(clip, FRAMES), scene(14))
    else {
        return;
    };
    let mut matter = open(Options::default());
    let mut errors = Vec::new();
    for (number, (person, alpha)) in people.iter().zip(&truths).enumerate() {
        let still_to_go = 640 - 640 * number.min(COMING) / COMING;
        let mut truth = grey(&scene);
        let mut picture = grey(&scene);
        picture.data.clone_from(&scene.data);
        for y in 0..360 {
            for x in 0..640 - still_to_go {
                let (from, to) = (y * 640 + x + still_to_go, y * 640 + x);
                let a = u32::from(alpha.data[from]);
                truth.data[to] = alpha.data[from];
                for c in 0..3 {
                    let (front, back) = (person.data[from * 3 + c], &mut picture.data[to * 3 + c]);
                    *back = ((u32::from(front) * a + u32::from(*back) * (255 - a)) / 255) as u8;
                }
            }
        }
        let mut out = grey(&scene);
        matter
            .process(&view(&picture), &mut output(&mut out))
            .unwrap();
        errors.push(mad(&out, &truth));
    }
    let after = errors[FRAMES - 15..].iter().sum::<f64>() / 15.0;
    eprintln!(
        "{after:.4} after {} frames, {:.4?}",
        FRAMES - 15,
        &errors[COMING..]
    );
    assert!(after < 0.02, "{after:.4}");
}
