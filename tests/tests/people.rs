//! The automatic first mask, with the shipped network on the shared clips.

#![allow(clippy::print_stderr, reason = "a skipped test says why")]

use matte_core::{MatteState, Options, SeedMode};
use matte_tests::{Picture, can_find_people, frames, iou, mad, media, open, output, run, view};

/// A frame of a synthetic clip and its exact matte.
fn frame(clip: &str, number: usize) -> Option<(Picture, Picture)> {
    let clip = format!("synthetic/{clip}");
    let picture = frames(&clip, number + 1)?.pop()?;
    let truth = run(
        &format!(
            "filesrc location={} ! decodebin ! videoconvert ! videoscale ! \
             video/x-raw,format=GRAY8,width=640,height=360 ! appsink name=out",
            media(&clip)?.join("alpha.mkv").display()
        ),
        number + 1,
    );
    Some((picture, truth.into_iter().next_back()?))
}

/// The matte of a picture's people, or of the one at a place.
fn matte(picture: &Picture, place: Option<(f64, f64)>) -> Picture {
    let mut out = Picture {
        width: picture.width,
        height: picture.height,
        data: vec![0; picture.width * picture.height],
    };
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
    let mut both = Picture {
        width: picture.width,
        height: picture.height,
        data: one.data.clone(),
    };
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
