//! Drift repair, cuts and several targets, with the shipped network on the shared clips.

#![allow(clippy::print_stderr, reason = "a skipped test says why")]

use matte_core::{
    Backend, Mask, MaskImage, MatteState, Matter, ModelSet, MultiMatter, Options, Repair, SeedMode,
    Show,
};
use matte_tests::{
    LITE, Picture, can_find_people, can_matte, frames, iou, mad, media, open, output, truths, view,
};

fn grey(frame: &Picture) -> Picture {
    Picture {
        width: frame.width,
        height: frame.height,
        data: vec![7; frame.width * frame.height],
    }
}

fn with_repair(drift_repair: bool) -> Options {
    Options {
        drift_repair,
        ..Options::default()
    }
}

/// A room without anybody.
fn empty_room() -> Picture {
    Picture {
        width: 640,
        height: 360,
        data: (0..640 * 360)
            .flat_map(|i| {
                let (x, y) = (i % 640, i / 640);
                let shelf = if (y / 40) % 2 == 0 && (x / 15) % 3 == 0 {
                    60
                } else {
                    0
                };
                [120 + shelf, (110 + y / 6) as u8, 90]
            })
            .collect(),
    }
}

#[test]
fn after_a_cut_the_person_is_found_again_and_an_empty_scene_shows_nothing() {
    if !can_find_people() {
        return;
    }
    let (Some(first), Some(second)) = (
        frames("real/real01_talking_head_gestures", 30),
        frames("real/real06_long_hair_portrait", 40),
    ) else {
        return;
    };
    let room: Vec<Picture> = (0..10).map(|_| empty_room()).collect();
    let all: Vec<&Picture> = first.iter().chain(&room).chain(&second).collect();
    let mut matter = open(with_repair(true));
    let mut alone = open(with_repair(false));
    let (mut cuts, mut started, mut finished) = (Vec::new(), Vec::new(), 0);
    for (number, picture) in all.into_iter().enumerate() {
        let mut matte = grey(picture);
        let report = matter
            .process(&view(picture), &mut output(&mut matte))
            .unwrap();
        if report.scene_cut {
            cuts.push(number);
        }
        match report.repair {
            Some(Repair::Started { after_cut, .. }) => started.push((number, after_cut)),
            Some(Repair::Finished) => finished += 1,
            _ => {}
        }
        match number {
            30..40 => {
                assert_eq!(report.matte, MatteState::Lost, "frame {number}");
                assert!(matte.data.iter().all(|a| *a == 0), "the room is shown");
            }
            40.. => {
                // As good as an engine that has seen nothing else.
                let mut wanted = grey(picture);
                alone
                    .process(&view(picture), &mut output(&mut wanted))
                    .unwrap();
                let overlap = iou(&matte, &wanted);
                assert!(overlap > 0.9, "frame {number}: {overlap:.3}");
            }
            _ => {}
        }
        matter.remember().unwrap();
        alone.remember().unwrap();
    }
    assert_eq!(cuts, [30]);
    assert_eq!(started, [(40, true)]);
    assert_eq!(finished, 1);
}

#[test]
fn a_cut_from_one_shot_to_another_is_followed_at_once() {
    if !can_find_people() {
        return;
    }
    let (Some(first), Some(second)) = (
        frames("real/real01_talking_head_gestures", 30),
        frames("real/real05_signing_man", 30),
    ) else {
        return;
    };
    let mut matter = open(with_repair(true));
    let mut alone = open(with_repair(false));
    for (number, picture) in first.iter().chain(&second).enumerate() {
        let mut matte = grey(picture);
        let report = matter
            .process(&view(picture), &mut output(&mut matte))
            .unwrap();
        assert_eq!(report.scene_cut, number == 30, "frame {number}");
        if number >= 30 {
            let mut wanted = grey(picture);
            alone
                .process(&view(picture), &mut output(&mut wanted))
                .unwrap();
            let overlap = iou(&matte, &wanted);
            assert!(overlap > 0.9, "frame {number}: {overlap:.3}");
        }
    }
}

#[test]
fn a_matte_that_was_spoiled_recovers_without_a_jump() {
    if !can_find_people() {
        return;
    }
    let Some(clip) = frames("real/real01_talking_head_gestures", 100) else {
        return;
    };
    // Without the hint, which would put the network right by itself.
    let options = |drift_repair| Options {
        prior: false,
        max_references: 4,
        ..with_repair(drift_repair)
    };
    let run = |drift_repair: bool, spoil: bool| {
        let mut matter = open(options(drift_repair));
        let (mut mattes, mut started, mut finished) = (Vec::new(), None, None);
        let mut false_views = Vec::new();
        for (number, picture) in clip.iter().enumerate() {
            let mut matte = grey(picture);
            let report = matter
                .process(&view(picture), &mut output(&mut matte))
                .unwrap();
            match report.repair {
                Some(Repair::Started { after_cut, .. }) => {
                    assert!(!after_cut);
                    started = started.or(Some(number));
                }
                Some(Repair::Finished) => finished = finished.or(Some(number)),
                _ => {}
            }
            mattes.push(matte);
            if spoil && number == 20 {
                // A piece of the wall, and the person not at all.
                let wall: Vec<u8> = (0..640 * 360)
                    .map(|i| {
                        if i % 640 < 110 && i / 640 < 240 {
                            255
                        } else {
                            0
                        }
                    })
                    .collect();
                let mask = Mask::new(640, 360, &wall, 640).unwrap();
                for _ in 0..4 {
                    false_views.push(matter.add_reference(&view(picture), &mask).unwrap());
                }
            }
            if number == 30 {
                for id in false_views.drain(..) {
                    matter.remove_reference(id).unwrap();
                }
            }
            matter.remember().unwrap();
        }
        (mattes, started, finished)
    };
    let (right, never, _) = run(true, false);
    assert_eq!(never, None, "a matte that is right is left alone");
    let (spoiled, _, _) = run(false, true);
    let (repaired, started, finished) = run(true, true);
    let last = clip.len() - 1;
    let (without, with) = (
        iou(&spoiled[last], &right[last]),
        iou(&repaired[last], &right[last]),
    );
    eprintln!(
        "overlap at the end: {without:.3} without repair, {with:.3} with; from {started:?} to {finished:?}"
    );
    assert!(with > 0.9, "{with:.3}");
    if let Some(started) = started {
        assert!(finished.is_some());
        // Two frames of a repair differ by less than the whole that changes.
        let whole = mad(&repaired[started - 1], &repaired[last]);
        for n in started..(started + 8).min(last) {
            let step = mad(&repaired[n], &repaired[n - 1]);
            assert!(step < 0.75 * whole, "frame {n}: {step:.4} of {whole:.4}");
        }
    } else {
        assert!(without > 0.9, "the network has recovered by itself");
    }
}

/// Who comes into view beside the target, and is larger, is not the target.
#[test]
fn who_comes_beside_the_target_is_not_taken_along() {
    if !can_find_people() {
        return;
    }
    let Some(pictures) = frames("synthetic/syn04_two_people_city", 60) else {
        return;
    };
    // There and back again; a curtain before the right half is drawn aside within 16 frames.
    let all = pictures.iter().chain(pictures.iter().rev());
    let mut matter = open(with_repair(true));
    for (number, picture) in all.enumerate() {
        let mut seen = Picture {
            data: picture.data.clone(),
            ..grey(picture)
        };
        let (width, middle) = (seen.width, seen.width / 2);
        let from = (middle + width / 32 * number.saturating_sub(25)).min(width);
        for row in seen.data.chunks_exact_mut(3 * width) {
            row[3 * from..].fill(90);
        }
        let mut matte = grey(&seen);
        let report = matter
            .process(&view(&seen), &mut output(&mut matte))
            .unwrap();
        assert_eq!(report.repair, None, "frame {number}");
        let (target, other) = (mean(&matte, 0..middle), mean(&matte, middle..width));
        assert!(
            target > 0.1 && other < 0.1,
            "frame {number}: {target:.3}, {other:.3}"
        );
        matter.remember().unwrap();
    }
}

/// Mean alpha of the part of a matte that a mask of another size covers.
fn share(matte: &Picture, mask: &MaskImage) -> f64 {
    let rows: Vec<&[u8]> = mask.as_mask().rows().collect();
    let (mut sum, mut count) = (0.0, 0);
    for (i, alpha) in matte.data.iter().enumerate() {
        let row = rows[i / matte.width * rows.len() / matte.height];
        if row[i % matte.width * row.len() / matte.width] >= 128 {
            sum += f64::from(*alpha) / 255.0;
            count += 1;
        }
    }
    sum / f64::from(count.max(1))
}

/// Two people side by side, and a mask of each on the first picture.
fn two_people(count: usize) -> Option<(Vec<Picture>, [MaskImage; 2])> {
    let name = "real/real09_street_interview_two_masks";
    let (pictures, folder) = (frames(name, count)?, media(name)?);
    let mask = |i| MaskImage::read(folder.join(format!("mask_0000_person{i}.png"))).unwrap();
    Some((pictures, [1, 2].map(mask)))
}

/// Of two people who were found, one is corrected away, and stays away.
#[test]
fn who_was_corrected_away_does_not_come_back() {
    if !can_find_people() {
        return;
    }
    let Some((pictures, masks)) = two_people(70) else {
        return;
    };
    let mut matter = open(with_repair(true));
    for (number, picture) in pictures.iter().enumerate() {
        let mut matte = grey(picture);
        let report = matter
            .process(&view(picture), &mut output(&mut matte))
            .unwrap();
        assert_eq!(report.repair, None, "frame {number}");
        let shares = masks.each_ref().map(|mask| share(&matte, mask));
        let are_right = match number {
            0 => shares[0] > 0.8 && shares[1] > 0.8,
            1..3 => true,
            _ => shares[0] > 0.8 && shares[1] < 0.1,
        };
        assert!(are_right, "frame {number}: {shares:.2?}");
        if number == 0 {
            matter.correct(&view(picture), &masks[0].as_mask()).unwrap();
        }
        matter.remember().unwrap();
    }
}

/// Two things are the target, and one of them is corrected away.
#[test]
fn a_correction_lasts_unless_it_is_to_be_forgotten() {
    if !can_matte() {
        return;
    }
    // Two discs before a ground of slow waves.
    let (width, height) = (320, 192);
    let disc = |x: usize, y: usize, middle: usize| {
        let (dx, dy) = (x as f64 - middle as f64, y as f64 - 100.0);
        dx.hypot(dy) < 45.0
    };
    let scene = |shift: usize| Picture {
        width,
        height,
        data: (0..width * height)
            .flat_map(|i| {
                let (x, y) = (i % width, i / width);
                let wave = |v: usize| (30.0 * (v as f64 * 0.15).sin()) as i32;
                let colour = match (disc(x, y, 80 + shift), disc(x, y, 240 + shift)) {
                    (true, _) => [200, 60 + wave(y), 50],
                    (_, true) => [60, 90, 200 + wave(x)],
                    _ => [120 + wave(x + y), 130 + wave(y), 110],
                };
                colour.map(|v| v as u8)
            })
            .collect(),
    };
    let mask = |other: bool| -> Vec<u8> {
        let inside = |i: usize| {
            let (x, y) = (i % width, i / width);
            disc(x, y, 80) || (other && disc(x, y, 240))
        };
        (0..width * height)
            .map(|i| if inside(i) { 255 } else { 0 })
            .collect()
    };
    let left_after = |lasting_corrections: bool| {
        let models = ModelSet::find(LITE).unwrap();
        let options = Options {
            seed: SeedMode::Mask,
            prior: false,
            lasting_corrections,
            ..Options::default()
        };
        let size = (width as u32, height as u32);
        let mut matter = Matter::open(&models, Backend::Cpu, options, size).unwrap();
        let (both, one) = (mask(true), mask(false));
        let view_of = |mask| Mask::new(size.0, size.1, mask, width).unwrap();
        matter.queue_seed(&view_of(&both));
        let mut matte = grey(&scene(0));
        for number in 0..50 {
            let picture = scene((number / 4) % 5);
            matter
                .process(&view(&picture), &mut output(&mut matte))
                .unwrap();
            if number == 8 {
                let picture = scene(0);
                matter.correct(&view(&picture), &view_of(&one)).unwrap();
            }
            matter.remember().unwrap();
        }
        [mean(&matte, 40..120), mean(&matte, 200..280)]
    };
    let (lasting, passing) = (left_after(true), left_after(false));
    assert!(lasting[0] > 0.3 && lasting[1] < 0.03, "{lasting:.3?}");
    assert!(
        passing[0] > 0.3 && passing[1] > 0.3,
        "the first frame knows of both: {passing:.3?}"
    );
}

/// A mask drawn by hand moves the edge alone: what the first frame knows of the target is still of use.
#[test]
fn a_correction_of_the_edge_leaves_what_was_known() {
    const CLIP: &str = "synthetic/syn04_two_people_city";
    const CORRECTED: usize = 30;
    if !can_matte() {
        return;
    }
    let (Some(pictures), Some(truths)) = (frames(CLIP, 80), truths(CLIP, 80)) else {
        return;
    };
    let mask = |number: usize| -> Vec<u8> {
        let truth = truths[number].data.iter();
        truth.map(|a| if *a >= 128 { 255 } else { 0 }).collect()
    };
    let error_after = |corrects: bool| {
        let mut matter = open(Options {
            seed: SeedMode::Mask,
            ..Options::default()
        });
        let (first, right) = (mask(0), mask(CORRECTED));
        let [first, right] = [&first, &right].map(|m| Mask::new(640, 360, m, 640).unwrap());
        matter.queue_seed(&first);
        let mut sum = 0.0;
        for (number, (picture, truth)) in pictures.iter().zip(&truths).enumerate() {
            let mut matte = grey(picture);
            matter
                .process(&view(picture), &mut output(&mut matte))
                .unwrap();
            if corrects && number == CORRECTED {
                matter.correct(&view(picture), &right).unwrap();
            }
            matter.remember().unwrap();
            if number > CORRECTED + 20 {
                sum += mad(&matte, truth);
            }
        }
        sum / (pictures.len() - CORRECTED - 21) as f64
    };
    let (left_alone, corrected) = (error_after(false), error_after(true));
    eprintln!("MAD {left_alone:.5}, after a correction {corrected:.5}");
    assert!(
        corrected < 1.1 * left_alone,
        "{corrected:.5} instead of {left_alone:.5}"
    );
}

/// Mean alpha of columns of a matte.
fn mean(matte: &Picture, columns: std::ops::Range<usize>) -> f64 {
    let rows = matte.data.chunks_exact(matte.width);
    let sum: u32 = rows
        .flat_map(|row| &row[columns.clone()])
        .map(|a| u32::from(*a))
        .sum();
    f64::from(sum) / (255 * columns.len() * matte.height) as f64
}

/// A dark red lorry drives into the picture behind somebody in a dark dress, who stands before a dark car at first.
#[test]
fn what_drives_into_the_picture_stays_out_of_the_matte() {
    if !can_find_people() {
        return;
    }
    let Some(frames) = frames("real/real09_street_interview_two_masks", 60) else {
        return;
    };
    // What the segmentation finds, and a mask of the same people that takes the car for a part of them.
    let mut found = open(Options::default());
    let mut mask = grey(&frames[0]);
    found
        .process(&view(&frames[0]), &mut output(&mut mask))
        .unwrap();
    for row in mask.data.chunks_exact_mut(mask.width).skip(200).take(65) {
        row[98..135].fill(255);
    }
    let mut given = open(Options {
        seed: SeedMode::Mask,
        ..Options::default()
    });
    given.queue_seed(&Mask::new(640, 360, &mask.data, 640).unwrap());
    for (how, matter) in [("found", &mut found), ("given", &mut given)] {
        for (number, picture) in frames.iter().enumerate() {
            let mut matte = grey(picture);
            matter
                .process(&view(picture), &mut output(&mut matte))
                .unwrap();
            matter.remember().unwrap();
            if number >= 25 {
                let (lorry, people) = (mean(&matte, 0..90), mean(&matte, 120..540));
                assert!(lorry < 0.005, "{how}, frame {number}: {lorry:.4}");
                assert!(people > 0.25, "{how}, frame {number}: {people:.3}");
            }
        }
    }
}

#[test]
fn no_clip_of_ordinary_video_is_cut_or_repaired() {
    if !can_find_people() {
        return;
    }
    for clip in [
        "real/real01_talking_head_gestures",
        "real/real03_fullbody_juggle",
        "real/real06_long_hair_portrait",
        "synthetic/syn02_dancer_closeup_street",
    ] {
        let Some(pictures) = frames(clip, 60) else {
            return;
        };
        let mut matter = open(with_repair(true));
        for (number, picture) in pictures.iter().enumerate() {
            let mut matte = grey(picture);
            let report = matter
                .process(&view(picture), &mut output(&mut matte))
                .unwrap();
            assert!(!report.scene_cut, "{clip}, frame {number}");
            assert_eq!(report.repair, None, "{clip}, frame {number}");
        }
    }
}

#[test]
fn two_targets_have_their_own_memories_and_a_union() {
    if !can_find_people() {
        return;
    }
    let Some((pictures, masks)) = two_people(8) else {
        return;
    };
    let options = Options {
        seed: SeedMode::Mask,
        ..Options::default()
    };
    let models = ModelSet::find(LITE).unwrap();
    let mut multi = MultiMatter::new(&models, Backend::Cpu, &options, (640, 360)).unwrap();
    let ids = [0, 1].map(|i| multi.add(&masks[i].as_mask()).unwrap());
    let mut single = [0, 1].map(|i| {
        let mut matter = open(options.clone());
        matter.queue_seed(&masks[i].as_mask());
        matter
    });
    for (number, picture) in pictures.iter().enumerate() {
        multi
            .show(match number {
                6.. => Show::One(ids[1]),
                _ => Show::All,
            })
            .unwrap();
        let mut union = grey(picture);
        multi
            .process(&view(picture), &mut output(&mut union))
            .unwrap();
        let each: Vec<Picture> = single
            .iter_mut()
            .map(|matter| {
                let mut matte = grey(picture);
                matter
                    .process(&view(picture), &mut output(&mut matte))
                    .unwrap();
                matter.remember().unwrap();
                matte
            })
            .collect();
        multi.remember().unwrap();
        let worst = if number < 6 {
            // The guided filter is linear in alpha, but the sum is clamped before it here and after it there.
            let sum = Picture {
                data: each[0]
                    .data
                    .iter()
                    .zip(&each[1].data)
                    .map(|(a, b)| a.saturating_add(*b))
                    .collect(),
                ..grey(picture)
            };
            mad(&union, &sum)
        } else {
            mad(&union, &each[1])
        };
        assert!(worst < 0.004, "frame {number}: {worst:.4}");
        assert!(each.iter().all(|m| m.area() > 0.02), "both are there");
    }
    multi.remove(ids[1]).unwrap();
    let unknown = multi.show(Show::One(ids[1])).unwrap_err().to_string();
    assert_eq!(unknown, "there is no target 1; known are [0]");
}
