//! Which members an upload has, in which order: read once for all uploads that are alike.

use pyo3::prelude::*;

use crate::json::{Member, Span};
use crate::json_marks::Marks;

/// More members are left to Python.
const MAX_MEMBERS: usize = 64;
const EVENTS: &[u8] = b"events";

/// Where the member of a name stands in uploads of a layout.
#[derive(Clone, Copy)]
pub struct Place(Option<u8>);

impl Place {
    /// Return where its value stands, an empty span where there is none.
    #[inline]
    pub fn of(self, members: &[Member]) -> Span {
        let member = self.0.and_then(|at| members.get(usize::from(at)));
        member.map_or_else(Span::default, |member| member.value)
    }
}

/// Uploads with the same keys in the same order, nulls at the same places.
pub struct Layout {
    /// A `ContextShape`; None: such uploads are left to Python.
    pub shape: Option<Py<PyAny>>,
    pub places: Places,
}

/// Where the members stand that somebody looks at; one that is null stands nowhere.
#[derive(Clone, Copy)]
pub struct Places {
    pub mpid: Place,
    pub mp_deviceid: Place,
    pub environment: Place,
    pub application_info: Place,
    pub device_info: Place,
    pub user_identities: Place,
    pub source_request_id: Place,
    pub api_key: Place,
    /// Whether it is an upload even without events.
    pub says_whose: bool,
}

/// Names that say more than that a member is there.
pub struct Names {
    /// One of them stands for `events` that are absent or null.
    pub only_uploads: Vec<String>,
    /// Beside an object under one of these, and without events, nothing is an upload.
    pub wrappers: Vec<String>,
}

/// Write what uploads of the same layout have in common; None where Python has to look.
///
/// A key holds no quotation mark here, so each one ends with one.
#[inline]
pub fn write_key(text: &[u8], marks: &Marks, members: &[Member], key: &mut Vec<u8>) -> Option<()> {
    key.clear();
    if members.len() > MAX_MEMBERS {
        return None;
    }
    for member in members {
        let name = member.key.of(text);
        if marks.escapes && name.contains(&b'\\') {
            return None;
        }
        key.extend_from_slice(name);
        key.extend_from_slice(if is_null(text, member.value) {
            b"\"0"
        } else {
            b"\"1"
        });
    }
    Some(())
}

/// Tell whether a value is the word `null`.
#[inline]
pub fn is_null(text: &[u8], value: Span) -> bool {
    value.of(text) == b"null"
}

/// Tell whether a member is the events.
#[inline]
pub fn is_events(text: &[u8], key: Span) -> bool {
    key.of(text) == EVENTS
}

impl Layout {
    /// Find the members by their names; `shape` is asked only of what no fault is known of.
    pub fn new(
        text: &[u8],
        members: &[Member],
        names: &Names,
        shape: impl FnOnce() -> PyResult<Py<PyAny>>,
    ) -> PyResult<Self> {
        let keys: Vec<&[u8]> = members.iter().map(|member| member.key.of(text)).collect();
        let has = |name: &str| keys.contains(&name.as_bytes());
        let place = |name: &str| {
            let found = keys
                .iter()
                .zip(members)
                .position(|(key, member)| *key == name.as_bytes() && !is_null(text, member.value));
            Place(found.and_then(|at| u8::try_from(at).ok()))
        };
        let twice = keys
            .iter()
            .enumerate()
            .any(|(at, key)| keys[..at].contains(key));
        let odd = twice || (has("event_type") && has("data"));
        let says_whose = names.only_uploads.iter().any(|name| has(name))
            && !names.wrappers.iter().any(|name| has(name));
        let places = Places {
            mpid: place("mpid"),
            mp_deviceid: place("mp_deviceid"),
            environment: place("environment"),
            application_info: place("application_info"),
            device_info: place("device_info"),
            user_identities: place("user_identities"),
            source_request_id: place("source_request_id"),
            api_key: place("api_key"),
            says_whose,
        };
        Ok(Layout {
            shape: if odd { None } else { Some(shape()?) },
            places,
        })
    }
}
