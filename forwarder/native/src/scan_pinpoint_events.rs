//! What routing asks of the events of Pinpoint's records, and what names them and their sessions.
//!
//! Rules that ask an event for its attributes find them where `event` passes what it does not know:
//! the span of `Attributes` is a member like `EventId`.

use memchr::memmem::Finder;

use crate::json::{Cursor, Span};
use crate::json_marks::Marks;
use crate::scan_record::{find, is_null, ReadsEvents};

/// Members of an event that name its app, in the order in which a context has them.
pub const APPLICATION: [&[u8]; 5] = [
    b"AppPackageName",
    b"AppTitle",
    b"AppVersionCode",
    b"SdkName",
    b"ClientSdkVersion",
];

/// One event: what stands in it, empty spans for what does not, or is null.
#[derive(Clone, Copy, Default)]
pub struct Event {
    /// The text of `EventType`, and of `event_type`, without quotation marks.
    client_type: Span,
    stream_type: Span,
    /// The raw texts of `APPLICATION`.
    pub application: [Span; APPLICATION.len()],
    pub event_id: Span,
    /// The raw text of `Session.Id`, and of `session.session_id`.
    client_session: Span,
    stream_session: Span,
}

impl Event {
    /// Return where its type stands.
    pub fn kind(&self) -> Span {
        if self.client_type.is_empty() {
            self.stream_type
        } else {
            self.client_type
        }
    }

    /// Return where the name of its session stands, empty where it has none.
    pub fn session(&self) -> Span {
        if self.client_session.is_empty() {
            self.stream_session
        } else {
            self.client_session
        }
    }
}

/// Reads arrays of events.
pub struct EventReader {
    sessions: bool,
    ids: bool,
    event_id: Finder<'static>,
    escaped: Finder<'static>,
}

impl EventReader {
    /// `sessions` and `ids`: whether somebody needs the names of sessions, and of events.
    pub fn new(sessions: bool, ids: bool) -> Self {
        EventReader {
            sessions,
            ids,
            event_id: Finder::new(b"\"EventId\""),
            escaped: Finder::new(b"\\u00"),
        }
    }
}

impl ReadsEvents for EventReader {
    type Event = Event;
    /// How many events have an `EventId`.
    type Found = usize;
    const NAME: &'static [u8] = b"Events";

    fn event(
        &self,
        cursor: &mut Cursor<'_>,
        text: &[u8],
        marks: &Marks,
        found: &mut usize,
    ) -> Option<Event> {
        let mut event = Event::default();
        let mut seen = 0u32;
        let mut more = cursor.opens(b'{', b'}')?;
        while more {
            let key = cursor.key()?.of(text);
            let value = cursor.value()?;
            match key {
                b"EventType" => {
                    once(&mut seen, 0)?;
                    event.client_type = inner(plain(text, marks, value)?);
                }
                b"event_type" => {
                    once(&mut seen, 1)?;
                    event.stream_type = inner(plain(text, marks, value)?);
                }
                b"EventId" => {
                    once(&mut seen, 2)?;
                    event.event_id = value;
                    *found += 1;
                }
                b"Session" if self.sessions => {
                    once(&mut seen, 3)?;
                    event.client_session = named(text, marks, value, b"Id")?;
                }
                b"session" if self.sessions => {
                    once(&mut seen, 4)?;
                    event.stream_session = named(text, marks, value, b"session_id")?;
                }
                _ if marks.escapes && key.contains(&b'\\') => return None,
                _ => {
                    let known = APPLICATION.iter().zip(&mut event.application).zip(5..);
                    for ((name, place), bit) in known {
                        if key == *name {
                            once(&mut seen, bit)?;
                            *place = optional(text, marks, value)?;
                        }
                    }
                }
            }
            more = cursor.goes_on(b'}')?;
        }
        Some(event)
    }

    fn is_sure(&self, array: &[u8], marks: &Marks, found: &usize) -> bool {
        !self.ids
            || (self.event_id.find_iter(array).count() <= *found
                && (!marks.escapes || self.escaped.find(array).is_none()))
    }
}

/// Note that a member stands there; None where it did before.
fn once(seen: &mut u32, bit: u32) -> Option<()> {
    let known = *seen >> bit & 1 == 1;
    *seen |= 1 << bit;
    (!known).then_some(())
}

/// Return where a text without escapes stands; None where it is something else.
fn plain(text: &[u8], marks: &Marks, value: Span) -> Option<Span> {
    let raw = value.of(text);
    let is_plain = raw.first() == Some(&b'"') && !(marks.escapes && raw.contains(&b'\\'));
    is_plain.then_some(value)
}

/// Return where a text stands, an empty span for null and for nothing.
fn optional(text: &[u8], marks: &Marks, value: Span) -> Option<Span> {
    if value.is_empty() || is_null(text, value) {
        return Some(Span::default());
    }
    plain(text, marks, value)
}

/// Return what is between the quotation marks.
fn inner(value: Span) -> Span {
    Span {
        start: value.start + 1,
        end: value.end - 1,
    }
}

/// Return where the text of a member of an object stands, an empty span where there is none.
fn named(text: &[u8], marks: &Marks, value: Span, name: &[u8]) -> Option<Span> {
    if is_null(text, value) {
        return Some(Span::default());
    }
    if value.of(text).first() != Some(&b'{') {
        return None;
    }
    optional(text, marks, find(text, marks, value, name)?)
}
