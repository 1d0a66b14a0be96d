//! What routing and filters ask of the events of an mParticle upload, read with their array.
//!
//! Rules that ask an event for its name, or its attributes, find both where `Data` is read: the
//! span of `data.event_name` and that of `data.custom_attributes` are members like `session_id`.

use memchr::memmem::Finder;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::json::{Cursor, Span};
use crate::json_marks::Marks;
use crate::scan::{OrOdd, Seen};
use crate::scan_identity::{Id, NoneWords};
use crate::scan_record::ReadsEvents;

/// How much is read of each event.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    Types,
    Places,
    Sessions,
}

/// One event: what stands in it, empty spans for what does not.
#[derive(Clone, Copy, Default)]
pub struct Event {
    /// The text of `event_type`, without its quotation marks.
    pub kind: Span,
    pub session_id: Span,
    pub session_uuid: Span,
    /// Whether it has a location or breadcrumbs.
    pub located: bool,
}

/// Reads arrays of events; looks for words where a key may stand twice.
pub struct EventReader {
    reading: Reading,
    location: Finder<'static>,
    session_id: Finder<'static>,
    session_uuid: Finder<'static>,
    low: Finder<'static>,
    high: Finder<'static>,
}

/// What of some events was found, to be held against how often the words stand there.
#[derive(Default)]
pub struct Found {
    locations: usize,
    sessions: usize,
}

impl EventReader {
    pub fn new(reading: Reading) -> Self {
        EventReader {
            reading,
            location: Finder::new(b"\"location\""),
            session_id: Finder::new(b"\"session_id\""),
            session_uuid: Finder::new(b"\"session_uuid\""),
            low: Finder::new(b"\\u006"),
            high: Finder::new(b"\\u007"),
        }
    }

    /// Read the members of `data`; each that is asked for stands once.
    fn data(
        &self,
        cursor: &mut Cursor<'_>,
        text: &[u8],
        marks: &Marks,
        event: &mut Event,
        found: &mut Found,
    ) -> Option<()> {
        let (mut location, mut crumbs) = (false, false);
        let mut more = cursor.opens(b'{', b'}')?;
        while more {
            let key = cursor.key()?;
            let value = cursor.value()?;
            match key.of(text) {
                b"location" => once(&mut location)?,
                b"breadcrumbs" => once(&mut crumbs)?,
                b"session_id" => set(&mut event.session_id, value)?,
                b"session_uuid" => set(&mut event.session_uuid, value)?,
                other if marks.escapes && other.contains(&b'\\') => return None,
                _ => (),
            }
            more = cursor.goes_on(b'}')?;
        }
        event.located = location || crumbs;
        found.locations += usize::from(location);
        found.sessions += usize::from(!event.session_id.is_empty());
        found.sessions += usize::from(!event.session_uuid.is_empty());
        Some(())
    }
}

impl ReadsEvents for EventReader {
    type Event = Event;
    type Found = Found;
    const NAME: &'static [u8] = b"events";

    fn event(
        &self,
        cursor: &mut Cursor<'_>,
        text: &[u8],
        marks: &Marks,
        found: &mut Found,
    ) -> Option<Event> {
        let mut event = Event::default();
        let (mut typed, mut data) = (false, false);
        let mut more = cursor.opens(b'{', b'}')?;
        while more {
            let key = cursor.key()?;
            match key.of(text) {
                b"event_type" if !typed => {
                    typed = true;
                    event.kind = cursor.string()?;
                    if marks.escapes && event.kind.of(text).contains(&b'\\') {
                        return None;
                    }
                }
                b"data" if !data && self.reading != Reading::Types => {
                    data = true;
                    self.data(cursor, text, marks, &mut event, found)?;
                }
                b"data" if !data => {
                    data = true;
                    cursor.value()?;
                }
                b"event_type" | b"data" => return None,
                other if marks.escapes && other.contains(&b'\\') => return None,
                _ => {
                    cursor.value()?;
                }
            }
            more = cursor.goes_on(b'}')?;
        }
        Some(event)
    }

    #[inline]
    fn is_sure(&self, raw: &[u8], marks: &Marks, found: &Found) -> bool {
        if self.reading == Reading::Types {
            return true;
        }
        let escaped =
            marks.escapes && (self.low.find(raw).is_some() || self.high.find(raw).is_some());
        !escaped
            && count(&self.location, raw) <= found.locations
            && (self.reading == Reading::Places
                || count(&self.session_id, raw) + count(&self.session_uuid, raw) <= found.sessions)
    }
}

fn count(word: &Finder<'_>, raw: &[u8]) -> usize {
    word.find_iter(raw).count()
}

/// Note that a member stands there; None where it did before.
fn once(seen: &mut bool) -> Option<()> {
    (!*seen).then(|| *seen = true)
}

/// Note where a member stands; None where it did before.
fn set(place: &mut Span, value: Span) -> Option<()> {
    place.is_empty().then(|| *place = value)
}

/// Return the name of each event's session (`event_session`).
pub fn session_names<'py>(
    py: Python<'py>,
    words: &NoneWords,
    text: &[u8],
    events: &[Event],
) -> Seen<Bound<'py, PyList>> {
    let (mut name, names) = (Vec::new(), PyList::empty(py));
    let mut last = PyBytes::new(py, b"");
    for event in events {
        name.clear();
        let mut id = words.id_of(event.session_id.of(text)).or_odd()?;
        if id != Id::Nobody {
            id.write(&mut name);
        } else {
            id = words.id_of(event.session_uuid.of(text)).or_odd()?;
            if id != Id::Nobody {
                id.write(&mut name);
                name.make_ascii_lowercase();
            }
        }
        if last.as_bytes() != name {
            last = PyBytes::new(py, &name);
        }
        names.append(&last)?;
    }
    Ok(names)
}
