//! The levels within a field: repetition, component, subcomponent.

use super::report::{Code, Location};
use crate::delimiters::Delimiters;

/// The level of a text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Repetition,
    Component,
    Subcomponent,
}

impl Level {
    /// The delimiter between the parts of a text of this level.
    pub(super) fn delimiter(self, delimiters: &Delimiters) -> Option<char> {
        match self {
            Self::Repetition => delimiters.component,
            Self::Component => delimiters.subcomponent,
            Self::Subcomponent => None,
        }
    }

    pub(super) fn next(self) -> Self {
        match self {
            Self::Repetition => Self::Component,
            Self::Component | Self::Subcomponent => Self::Subcomponent,
        }
    }

    pub(super) fn to_the_last(self) -> impl Iterator<Item = Self> {
        [Self::Repetition, Self::Component].into_iter().skip(match self {
            Self::Repetition => 0,
            Self::Component => 1,
            Self::Subcomponent => 2,
        })
    }

    /// The place of a part of a text of this level.
    pub(super) fn within(self, place: Location, position: usize) -> Location {
        match self {
            Self::Repetition => Location { component: Some(position), ..place },
            Self::Component | Self::Subcomponent => Location { subcomponent: Some(position), ..place },
        }
    }

    pub(super) fn extra(self) -> Code {
        match self {
            Self::Repetition => Code::ExtraComponent,
            Self::Component | Self::Subcomponent => Code::ExtraSubcomponent,
        }
    }
}
