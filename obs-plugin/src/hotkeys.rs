//! What a key or a button does.

use crate::ffi::{Hotkeys, Source, text};
use crate::filter::Filter;

/// Something that the user asks for at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Action {
    /// Forget the target and name it again, as the settings say.
    Reseed,
    /// Take what is in the middle of the picture as the target.
    SeedMiddle,
    /// Keep this frame and its matte as a reference.
    AddReference,
    /// Switch the filter on or off.
    Toggle,
    /// Hold the picture, or go on.
    Freeze,
}

impl Action {
    /// All of them, in the order of their numbers.
    pub(crate) const ALL: [Self; 5] = [
        Self::Reseed,
        Self::SeedMiddle,
        Self::AddReference,
        Self::Toggle,
        Self::Freeze,
    ];

    pub(crate) fn from_index(index: u8) -> Option<Self> {
        Self::ALL.get(usize::from(index)).copied()
    }

    /// Part of the hotkey's name, under which OBS saves its keys.
    fn name(self) -> &'static str {
        match self {
            Self::Reseed => "Reseed",
            Self::SeedMiddle => "SeedMiddle",
            Self::AddReference => "AddReference",
            Self::Toggle => "Toggle",
            Self::Freeze => "Freeze",
        }
    }
}

/// Registers the hotkeys of a filter on its parent. The filter's name is part of theirs, so that two filters on one
/// source have keys of their own.
pub(crate) fn register(parent: Source, filter: &Filter, filter_name: &str) -> Hotkeys {
    let texts: Vec<(Action, String, String)> = Action::ALL
        .into_iter()
        .map(|action| {
            let name = format!("Matte.{filter_name}.{}", action.name());
            let description = format!(
                "{filter_name}: {}",
                text(&format!("Hotkey.{}", action.name()))
            );
            (action, name, description)
        })
        .collect();
    Hotkeys::register(parent, filter, &texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_and_their_numbers_go_together() {
        for (index, action) in Action::ALL.into_iter().enumerate() {
            assert_eq!(action as usize, index);
            assert_eq!(Action::from_index(index as u8), Some(action));
        }
        assert_eq!(Action::from_index(Action::ALL.len() as u8), None);
    }
}
