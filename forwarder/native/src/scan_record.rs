//! A record taken apart: its members, its events, and the context that the others make.

use crate::json::{Cursor, Member, Span};
use crate::json_marks::Marks;

/// Longer records are left to Python, which counts what is in them.
const MAX_RECORD_BYTES: usize = 1_000_000;
/// More members of an object within an upload are left to Python.
const MAX_INNER: usize = 64;

/// The token of what is not there.
pub const NO_ID: &[u8] = b"\"\"";

/// What one record is taken apart into; kept for the next, and what is written on the way.
pub struct Parts<E> {
    /// More events than one record may have are left to Python, which says so.
    max_events: usize,
    pub marks: Marks,
    pub members: Vec<Member>,
    pub events: Vec<E>,
    pub context: Vec<u8>,
    pub key: Vec<u8>,
}

impl<E> Parts<E> {
    pub fn new(max_events: usize) -> Self {
        Parts {
            max_events,
            marks: Marks::default(),
            members: Vec::new(),
            events: Vec::new(),
            context: Vec::new(),
            key: Vec::new(),
        }
    }
}

/// Which bytes of a record hold its events.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Body {
    Absent,
    Null,
    Array(Span),
}

/// Reads the events of a format's records.
pub trait ReadsEvents {
    type Event;
    /// What is counted of the events of an array.
    type Found: Default;
    /// The key of a record's events.
    const NAME: &'static [u8];

    /// Read an event from where it begins; None where it is odd.
    fn event(
        &self,
        cursor: &mut Cursor<'_>,
        text: &[u8],
        marks: &Marks,
        found: &mut Self::Found,
    ) -> Option<Self::Event>;

    /// Tell whether no key that matters can stand twice, or be spelled with escapes, unseen; where
    /// that is not sure, each key is looked at.
    fn is_sure(&self, array: &[u8], marks: &Marks, found: &Self::Found) -> bool;

    /// Read the array that begins here; return where its elements stand together.
    fn read(
        &self,
        cursor: &mut Cursor<'_>,
        text: &[u8],
        marks: &Marks,
        events: &mut Vec<Self::Event>,
        max_events: usize,
    ) -> Option<Span> {
        let start = cursor.at;
        let mut body = Span::default();
        let mut found = Self::Found::default();
        let mut more = cursor.opens(b'[', b']')?;
        if more {
            body.start = cursor.at;
        }
        while more {
            events.push(self.event(cursor, text, marks, &mut found)?);
            if events.len() > max_events {
                return None;
            }
            body.end = cursor.at;
            more = cursor.goes_on(b']')?;
        }
        let array = Span {
            start,
            end: cursor.at,
        }
        .of(text);
        if !self.is_sure(array, marks, &found) {
            Cursor::new(text, marks, start).unambiguous(&mut Vec::new())?;
        }
        Some(body)
    }
}

impl<E> Parts<E> {
    /// Parse a record; None where it is no JSON, no object, or odd.
    #[inline(always)]
    pub fn take_apart<R: ReadsEvents<Event = E>>(
        &mut self,
        text: &[u8],
        reader: &R,
    ) -> Option<Body> {
        if text.len() > MAX_RECORD_BYTES {
            return None;
        }
        self.marks.read(text)?;
        if !self.marks.ascii {
            std::str::from_utf8(text).ok()?;
        }
        self.members.clear();
        self.events.clear();
        let mut body = Body::Absent;
        let mut cursor = Cursor::new(text, &self.marks, 0);
        cursor.space();
        let mut more = cursor.opens(b'{', b'}')?;
        while more {
            let key = cursor.key()?;
            let start = cursor.at;
            if key.of(text) == R::NAME {
                if body != Body::Absent {
                    return None;
                }
                body = match cursor.byte()? {
                    b'[' => Body::Array(reader.read(
                        &mut cursor,
                        text,
                        &self.marks,
                        &mut self.events,
                        self.max_events,
                    )?),
                    _ => {
                        let value = cursor.value()?;
                        is_null(text, value).then_some(Body::Null)?
                    }
                };
                self.members.push(Member {
                    key,
                    value: Span {
                        start,
                        end: cursor.at,
                    },
                });
            } else {
                let value = cursor.value()?;
                self.members.push(Member { key, value });
            }
            more = cursor.goes_on(b'}')?;
        }
        cursor.space();
        (cursor.at == text.len()).then_some(body)
    }

    /// Write the object of all members but the events and what is null, without space between.
    pub fn write_context(&mut self, text: &[u8], events: &[u8]) {
        let into = &mut self.context;
        into.clear();
        into.push(b'{');
        // Members with nothing but a comma between them are copied together.
        let mut run = Span::default();
        for Member { key, value } in &self.members {
            if key.of(text) == events || is_null(text, *value) {
                continue;
            }
            let start = key.start - 1;
            if value.start != key.end + 2 {
                into.extend_from_slice(run.of(text));
                run = *value;
                separate(into);
                into.extend_from_slice(
                    Span {
                        start,
                        end: key.end + 1,
                    }
                    .of(text),
                );
                into.push(b':');
            } else if run.end != 0 && start == run.end + 1 {
                run.end = value.end;
            } else {
                into.extend_from_slice(run.of(text));
                run = Span {
                    start,
                    end: value.end,
                };
                separate(into);
            }
        }
        into.extend_from_slice(run.of(text));
        into.push(b'}');
    }
}

/// Tell whether a value is the word `null`.
#[inline]
pub fn is_null(text: &[u8], value: Span) -> bool {
    value.of(text) == b"null"
}

fn separate(into: &mut Vec<u8>) {
    if into.len() > 1 {
        into.push(b',');
    }
}

/// Return the members of an object, none of anything else; None where a key may stand twice.
pub fn members(text: &[u8], marks: &Marks, value: Span) -> Option<Vec<Member>> {
    let mut found: Vec<Member> = Vec::new();
    let mut cursor = Cursor::new(text, marks, value.start);
    if value.is_empty() || cursor.byte() != Some(b'{') {
        return Some(found);
    }
    let mut more = cursor.opens(b'{', b'}')?;
    while more {
        let key = cursor.key()?;
        let name = key.of(text);
        let known = found.iter().any(|member| member.key.of(text) == name);
        if known || found.len() == MAX_INNER || (marks.escapes && name.contains(&b'\\')) {
            return None;
        }
        let value = cursor.value()?;
        found.push(Member { key, value });
        more = cursor.goes_on(b'}')?;
    }
    Some(found)
}

/// Return where a member of an object stands, an empty span where there is none, or no object.
///
/// None where it may stand twice.
pub fn find(text: &[u8], marks: &Marks, object: Span, name: &[u8]) -> Option<Span> {
    let mut found = Span::default();
    let mut cursor = Cursor::new(text, marks, object.start);
    if object.is_empty() || cursor.byte() != Some(b'{') {
        return Some(found);
    }
    let mut more = cursor.opens(b'{', b'}')?;
    while more {
        let key = cursor.key()?.of(text);
        let value = cursor.value()?;
        if marks.escapes && key.contains(&b'\\') {
            return None;
        }
        if key == name {
            if !found.is_empty() {
                return None;
            }
            found = value;
        }
        more = cursor.goes_on(b'}')?;
    }
    Some(found)
}

/// Return the token of a value, empty where it is not there; None: Python decides (`token_of`).
pub fn token(raw: &[u8]) -> Option<&[u8]> {
    match raw {
        b"" => Some(NO_ID),
        [b'"', text @ .., b'"'] if !text.contains(&b'\\') => Some(raw),
        _ => None,
    }
}

/// Return the token of a member of an object; None where Python decides.
pub fn named<'a>(text: &'a [u8], marks: &Marks, object: Span, name: &[u8]) -> Option<&'a [u8]> {
    let members = members(text, marks, object)?;
    let found = members.iter().find(|member| member.key.of(text) == name);
    match found.map(|member| member.value.of(text)) {
        None | Some(b"null") => Some(NO_ID),
        Some(raw) => token(raw),
    }
}
