//! How OBS shows the settings.

use std::ffi::CStr;

use matte_core::runtime::{Manifest, availability};
use matte_core::{Backend, Kind, Package, Region};

use crate::ffi::{Built, Data, Properties, Property, text};
use crate::filter::Filter;
use crate::hotkeys::Action;
use crate::settings::{
    AUTOMATIC_SIZE, BLUR, Background, Choice, DEFAULT_MODEL, EDGE_SHIFT, EDGE_SOFTNESS, Mode,
    Policy, Seed, TEMPORAL_SMOOTHING, View, WORKING_SIDES, keys, range,
};

/// Label of a setting.
fn label(key: &CStr) -> String {
    text(&format!("Setting.{}", key.to_string_lossy()))
}

/// Its tooltip.
fn tip(key: &CStr) -> String {
    text(&format!("Setting.{}.Tip", key.to_string_lossy()))
}

fn choice<C: Choice>(props: &Properties, key: &CStr) -> Property {
    let items: Vec<(String, String, bool)> = C::WORDS
        .iter()
        .map(|(_, word)| {
            let shown = text(&format!("Setting.{}.{word}", key.to_string_lossy()));
            (shown, (*word).to_owned(), true)
        })
        .collect();
    props.list(key, &label(key), &items).describe(&tip(key))
}

fn number(props: &Properties, key: &CStr, lowest: Option<i32>, suffix: &str) -> Property {
    let (low, high) = range(&key.to_string_lossy());
    props
        .int(key, &label(key), (lowest.unwrap_or(low), high), suffix)
        .describe(&tip(key))
}

/// Matting packages that are installed, with whether they can be used. Only manifests are read, no weights.
fn models() -> Vec<(String, String, bool)> {
    let mut all: Vec<(String, String, bool)> = Vec::new();
    for (name, folder) in Package::folders() {
        let Ok(manifest) = Manifest::read(&folder.join("manifest.json")) else {
            continue;
        };
        if manifest.kind != Kind::Matting {
            continue;
        }
        let usable = !manifest.is_skeleton();
        let known = all.iter_mut().find(|(_, value, _)| *value == name);
        let shown = match usable {
            true => format!("{name} {} ({})", manifest.version, manifest.precision),
            false => format!("{name} ({})", text("Model.NotImported")),
        };
        match known {
            None => all.push((shown, name, usable)),
            // The weights of a skeleton were imported elsewhere.
            Some(entry) if usable && !entry.2 => *entry = (shown, name, usable),
            Some(_) => {}
        }
    }
    if !all.iter().any(|(_, name, _)| name == DEFAULT_MODEL) {
        let shown = format!("{DEFAULT_MODEL} ({})", text("Model.Missing"));
        all.insert(0, (shown, DEFAULT_MODEL.to_owned(), false));
    }
    all
}

fn backends() -> Vec<(String, String, bool)> {
    Backend::ALL
        .into_iter()
        .map(|backend| {
            let usable = backend == Backend::Auto || availability(backend).is_ok();
            let name = match backend {
                Backend::Auto => text("Backend.auto"),
                Backend::TensorRt => "NVIDIA TensorRT".to_owned(),
                Backend::TensorRtRtx => "NVIDIA TensorRT for RTX".to_owned(),
                Backend::Cuda => "NVIDIA CUDA".to_owned(),
                Backend::OpenVino => "Intel OpenVINO".to_owned(),
                Backend::Cpu => "CPU".to_owned(),
                other => other.name().to_owned(),
            };
            let shown = match usable {
                true => name,
                false => format!("{name} ({})", text("Backend.Missing")),
            };
            (shown, backend.name().to_owned(), usable)
        })
        .collect()
}

/// Builds all properties; without a filter, those that every filter has.
pub(crate) fn build(filter: Option<&Filter>) -> Built {
    Built(all(filter))
}

fn all(filter: Option<&Filter>) -> Option<Properties> {
    let props = Properties::new()?;

    let status = Properties::new()?;
    let words = filter.map_or_else(|| text("Status.Waiting"), Filter::status_words);
    status.info(c"status", &words);
    status.refresh_button(c"refresh", &text("Button.Refresh"));
    props.group(c"group_status", &text("Group.Status"), status);

    let picture = Properties::new()?;
    choice::<Background>(&picture, keys::BACKGROUND).decides();
    picture
        .color(keys::BACKGROUND_COLOUR, &label(keys::BACKGROUND_COLOUR))
        .describe(&tip(keys::BACKGROUND_COLOUR));
    picture
        .slider(
            keys::BACKGROUND_BLUR,
            &label(keys::BACKGROUND_BLUR),
            (BLUR.0, BLUR.1, 0.05),
            "",
        )
        .describe(&tip(keys::BACKGROUND_BLUR));
    choice::<Mode>(&picture, keys::MODE);
    choice::<View>(&picture, keys::VIEW);
    props.group(c"group_picture", &text("Group.Picture"), picture);

    let privacy = Properties::new()?;
    choice::<Policy>(&privacy, keys::BEFORE_SEED);
    choice::<Policy>(&privacy, keys::ON_FAILURE);
    props.group(c"group_privacy", &text("Group.Privacy"), privacy);

    let target = Properties::new()?;
    choice::<Seed>(&target, keys::SEED).decides();
    target
        .file(
            keys::MASK_FILE,
            &label(keys::MASK_FILE),
            &format!("{} (*.png *.jpg *.jpeg)", text("File.Pictures")),
        )
        .describe(&tip(keys::MASK_FILE));
    number(&target, keys::MASK_DILATE, None, " px");
    number(&target, keys::MASK_ERODE, None, " px");
    choice::<Region>(&target, keys::REGION);
    target
        .bool(keys::DRIFT_REPAIR, &label(keys::DRIFT_REPAIR))
        .describe(&tip(keys::DRIFT_REPAIR));
    target
        .button(c"reseed", &text("Button.Reseed"), Action::Reseed)
        .describe(&text("Button.Reseed.Tip"));
    target
        .button(
            c"seed_middle",
            &text("Button.SeedMiddle"),
            Action::SeedMiddle,
        )
        .describe(&text("Button.SeedMiddle.Tip"));
    target
        .button(
            c"add_reference",
            &text("Button.AddReference"),
            Action::AddReference,
        )
        .describe(&text("Button.AddReference.Tip"));
    props.group(c"group_target", &text("Group.Target"), target);

    let edges = Properties::new()?;
    edges
        .bool(keys::REFINE, &label(keys::REFINE))
        .describe(&tip(keys::REFINE));
    edges
        .slider(
            keys::EDGE_SHIFT,
            &label(keys::EDGE_SHIFT),
            (EDGE_SHIFT.0, EDGE_SHIFT.1, 0.5),
            " px",
        )
        .describe(&tip(keys::EDGE_SHIFT));
    edges
        .slider(
            keys::EDGE_SOFTNESS,
            &label(keys::EDGE_SOFTNESS),
            (EDGE_SOFTNESS.0, EDGE_SOFTNESS.1, 0.5),
            " px",
        )
        .describe(&tip(keys::EDGE_SOFTNESS));
    edges
        .slider(
            keys::TEMPORAL_SMOOTHING,
            &label(keys::TEMPORAL_SMOOTHING),
            (TEMPORAL_SMOOTHING.0, TEMPORAL_SMOOTHING.1, 0.05),
            "",
        )
        .describe(&tip(keys::TEMPORAL_SMOOTHING));
    props.group(c"group_edges", &text("Group.Edges"), edges);

    let engine = Properties::new()?;
    engine
        .list(keys::MODEL, &label(keys::MODEL), &models())
        .describe(&tip(keys::MODEL));
    engine
        .list(keys::BACKEND, &label(keys::BACKEND), &backends())
        .describe(&tip(keys::BACKEND));
    let mut sizes = vec![(text("Size.Automatic"), AUTOMATIC_SIZE.to_owned(), true)];
    sizes.extend(
        WORKING_SIDES
            .iter()
            .map(|side| (format!("{side} px"), side.to_string(), true)),
    );
    engine
        .list(keys::WORKING_SIZE, &label(keys::WORKING_SIZE), &sizes)
        .describe(&tip(keys::WORKING_SIZE));
    number(&engine, keys::THREADS, None, "");
    number(&engine, keys::MAX_REFERENCES, None, "");
    number(&engine, keys::MEMORY_INTERVAL, Some(0), "");
    number(&engine, keys::MEMORY_FRAMES, Some(0), "");
    props.group(c"group_engine", &text("Group.Engine"), engine);
    Some(props)
}

/// Shows what has an effect with these settings, and hides the rest.
pub(crate) fn show_what_matters(data: &Data<'_>, mut show: impl FnMut(&str, bool)) {
    let background = Background::of(&data.string(keys::BACKGROUND), keys::BACKGROUND);
    let seed = Seed::of(&data.string(keys::SEED), keys::SEED);
    for (key, visible) in [
        (keys::BACKGROUND_COLOUR, background == Background::Colour),
        (keys::BACKGROUND_BLUR, background == Background::Blur),
        (keys::MASK_FILE, seed == Seed::MaskFile),
        (keys::MASK_DILATE, seed != Seed::Automatic),
        (keys::MASK_ERODE, seed != Seed::Automatic),
    ] {
        show(&key.to_string_lossy(), visible);
    }
}
