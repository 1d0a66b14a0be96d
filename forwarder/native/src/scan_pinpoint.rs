//! The scanner of a whole poll of Pinpoint's records: the twin of `PinpointDecoder`.
//!
//! It reads what a gateway writes: an endpoint with its events. Finished records, arrays, events of
//! several apps, and whatever is malformed or odd are left to the Python `decode`.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::ids;
use crate::json::{Member, Span};
use crate::scan::{At, OrOdd, Reads, Scanner, Seen, Stop, Together};
use crate::scan_identity::{write_nobody, MAX_ID_BYTES};
use crate::scan_kinds::Kinds;
use crate::scan_layout::{self, Layouts, Named, Place};
use crate::scan_memo::Tokens;
use crate::scan_pinpoint_events::{Event, EventReader, APPLICATION};
use crate::scan_record::{find, Body, Parts, ReadsEvents, NO_ID};
use crate::upload::{Told, UploadMaker};

/// What the scanner takes from Python: classes, and what is hardly ever asked.
#[derive(FromPyObject)]
struct Seams {
    #[pyo3(item)]
    upload: Py<PyAny>,
    #[pyo3(item)]
    odd_record: Py<PyAny>,
    #[pyo3(item)]
    max_events: usize,
    #[pyo3(item)]
    shape: Py<PyAny>,
}

/// Reads the uploads of one partition; remembers what many of them have in common.
struct Reader {
    maker: Maker,
    parts: Parts<Event>,
}

/// Where the members stand that somebody looks at; one that is null stands nowhere.
#[derive(Clone, Copy)]
struct Places {
    application_id: Place,
    endpoint_id: Place,
    endpoint: Place,
}

/// Makes uploads of what a record was taken apart into.
struct Maker {
    upload: UploadMaker,
    prefix: Vec<u8>,
    reader: EventReader,
    sessions: bool,
    duplicates: bool,
    layouts: Layouts<Places>,
    apps: Tokens<PyBytes>,
    kinds: Kinds,
    production: Py<PyBytes>,
    /// Of all uploads that have none of something.
    none: Py<PyList>,
}

/// Return a scanner with empty memories; `prefix`: of the keys of uploads that name no endpoint.
#[pyfunction]
#[pyo3(signature = (seams, prefix, *, sessions, duplicates))]
pub fn pinpoint_scanner(
    seams: &Bound<'_, PyAny>,
    prefix: Vec<u8>,
    sessions: bool,
    duplicates: bool,
) -> PyResult<Scanner> {
    let py = seams.py();
    let seams: Seams = seams.extract()?;
    let maker = Maker {
        upload: UploadMaker::new(seams.upload.bind(py))?,
        prefix,
        reader: EventReader::new(sessions, duplicates),
        sessions,
        duplicates,
        layouts: Layouts::new(seams.shape),
        apps: Tokens::new(),
        kinds: Kinds::new(duplicates),
        production: PyBytes::new(py, b"\"production\"").unbind(),
        none: PyList::empty(py).unbind(),
    };
    let parts = Parts::new(seams.max_events);
    Ok(Scanner::new(seams.odd_record, Reader { maker, parts }))
}

impl Reads for Reader {
    fn upload<'py>(
        &mut self,
        value: &Bound<'py, PyBytes>,
        at: &At<'_, 'py>,
        together: &mut Together<'py>,
    ) -> Seen<Bound<'py, PyAny>> {
        let text = value.as_bytes();
        match self.parts.take_apart(text, &self.maker.reader).or_odd()? {
            Body::Array(body) if is_of_one_app(text, &self.parts.events) => {
                self.maker
                    .upload(value.py(), text, body, &mut self.parts, at, together)
            }
            _ => Err(Stop::Odd),
        }
    }
}

/// Tell whether all events name the same `AppPackageName`, or none.
fn is_of_one_app(text: &[u8], events: &[Event]) -> bool {
    let package = |event: &Event| event.application[0];
    let same = |other: &Event, first: Span| package(other).of(text) == first.of(text);
    events
        .split_first()
        .is_none_or(|(first, rest)| rest.iter().all(|other| same(other, package(first))))
}

/// Who an upload belongs to.
struct Whose<'py> {
    app: Bound<'py, PyBytes>,
    device: Bound<'py, PyBytes>,
    owner: Bound<'py, PyBytes>,
}

impl Maker {
    fn upload<'py>(
        &mut self,
        py: Python<'py>,
        text: &[u8],
        body: Span,
        parts: &mut Parts<Event>,
        at: &At<'_, 'py>,
        together: &mut Together<'py>,
    ) -> Seen<Bound<'py, PyAny>> {
        parts.write_context(text, EventReader::NAME);
        let named = parts
            .events
            .first()
            .is_some_and(|event| add_application(text, event, &mut parts.context));
        let context = PyBytes::new(py, &parts.context);
        scan_layout::write_key(text, &parts.marks, &parts.members, &mut parts.key).or_odd()?;
        parts.key.push(u8::from(named));
        let find = || Places::new(text, &parts.members, named);
        let (shape, places) = self
            .layouts
            .get(&parts.key, text, &parts.members, &context, find)?;
        let whose = self.whose(py, text, parts, &places, at)?;
        let none = self.none.bind(py);
        let sessions = match self.sessions {
            true => session_names(py, text, &parts.events)?,
            false => none.clone(),
        };
        let duplicate_keys = match self.duplicates && !parts.events.is_empty() {
            true => Some(identities(py, text, parts, &whose.device)?),
            false => None,
        };
        let kinds = parts.events.iter().map(|event| event.kind().of(text));
        let types = self.kinds.list(py, kinds, together)?;
        let body = PyBytes::new(py, body.of(text));
        let told = Told {
            at,
            count: parts.events.len(),
            size: text.len(),
            device: &whose.device,
            owner: &whose.owner,
            environment: self.production.bind(py),
            application: &whose.app,
            types: &types,
            sessions: &sessions,
            governed: none,
            body: &body,
            context: &context,
            shape: &shape,
            keyless: false,
            duplicate_keys: duplicate_keys.as_ref(),
            platform: None,
            api_keys: None,
        };
        Ok(self.upload.make(py, &told)?)
    }

    /// Return the keys of `EndpointIdentity`.
    fn whose<'py>(
        &mut self,
        py: Python<'py>,
        text: &[u8],
        parts: &mut Parts<Event>,
        places: &Places,
        at: &At<'_, 'py>,
    ) -> Seen<Whose<'py>> {
        let key = &mut parts.key;
        key.clear();
        if !write_id(places.application_id.of(&parts.members).of(text), key).or_odd()? {
            key.extend_from_slice(NO_ID);
        }
        let app = self.apps.get(py, key, || PyBytes::new(py, key).unbind());
        key.push(b',');
        if !write_id(places.endpoint_id.of(&parts.members).of(text), key).or_odd()? {
            write_nobody(&self.prefix, at, key)?;
            let device = PyBytes::new(py, key);
            let owner = device.clone();
            return Ok(Whose { app, device, owner });
        }
        let device = PyBytes::new(py, key);
        let endpoint = places.endpoint.of(&parts.members);
        let user = find(text, &parts.marks, endpoint, b"User").or_odd()?;
        let user = find(text, &parts.marks, user, b"UserId").or_odd()?.of(text);
        key.clear();
        if !write_id(user, key).or_odd()? {
            let owner = device.clone();
            return Ok(Whose { app, device, owner });
        }
        let digest = ids::digest(key);
        key.clear();
        key.extend_from_slice(device.as_bytes());
        key.push(b'#');
        for byte in digest {
            key.extend([byte >> 4, byte & 15].map(|half| b"0123456789abcdef"[usize::from(half)]));
        }
        let owner = PyBytes::new(py, key);
        Ok(Whose { app, device, owner })
    }
}

impl Places {
    /// Find the members by their names; None: an app is named twice.
    fn new(text: &[u8], members: &[Member], app: bool) -> Option<Self> {
        let named = Named { text, members };
        let places = Places {
            application_id: named.place("ApplicationId"),
            endpoint_id: named.place("EndpointId"),
            endpoint: named.place("Endpoint"),
        };
        (!(app && named.has("Application"))).then_some(places)
    }
}

/// Add to a context what names the app of its events; tell whether anything does.
fn add_application(text: &[u8], event: &Event, context: &mut Vec<u8>) -> bool {
    if event.application.iter().all(Span::is_empty) {
        return false;
    }
    context.pop();
    context.extend_from_slice(if context.len() > 1 {
        b",\"Application\":{"
    } else {
        b"\"Application\":{"
    });
    let mut first = true;
    for (name, value) in APPLICATION.iter().zip(&event.application) {
        if !value.is_empty() {
            context.extend_from_slice(if first { b"\"" } else { b",\"" });
            context.extend_from_slice(name);
            context.extend_from_slice(b"\":");
            context.extend_from_slice(value.of(text));
            first = false;
        }
    }
    context.extend_from_slice(b"}}");
    true
}

/// Write the token of an id, and tell whether it is one; None: Python decides (`id_token`).
fn write_id(raw: &[u8], into: &mut Vec<u8>) -> Option<bool> {
    match raw {
        [b'"', ..] if raw.len() > MAX_ID_BYTES || raw.contains(&b'\\') => None,
        NO_ID => Some(false),
        [b'"', ..] => {
            into.extend_from_slice(raw);
            Some(true)
        }
        [b'0'..=b'9' | b'-', ..] if raw.len() + 2 > MAX_ID_BYTES => None,
        [b'0'..=b'9' | b'-', ..] => {
            into.push(b'"');
            into.extend_from_slice(raw);
            into.push(b'"');
            Some(true)
        }
        _ => Some(false),
    }
}

/// Return the name of each event's session.
fn session_names<'py>(py: Python<'py>, text: &[u8], events: &[Event]) -> Seen<Bound<'py, PyList>> {
    let (names, mut last) = (PyList::empty(py), PyBytes::new(py, b""));
    for event in events {
        let name = match event.session().of(text) {
            NO_ID => b"",
            raw if raw.len() > MAX_ID_BYTES => return Err(Stop::Odd),
            raw => raw,
        };
        if last.as_bytes() != name {
            last = PyBytes::new(py, name);
        }
        names.append(&last)?;
    }
    Ok(names)
}

/// Return what each event is known by if it comes again (`event_identities`).
fn identities<'py>(
    py: Python<'py>,
    text: &[u8],
    parts: &mut Parts<Event>,
    device: &Bound<'py, PyBytes>,
) -> Seen<Bound<'py, PyList>> {
    let (key, found) = (&mut parts.key, PyList::empty(py));
    for event in &parts.events {
        key.clear();
        if device.as_bytes().first() == Some(&b'"') {
            key.extend_from_slice(device.as_bytes());
            key.push(b',');
            if !write_id(event.event_id.of(text), key).or_odd()? {
                key.clear();
            }
        }
        found.append(PyBytes::new(py, key))?;
    }
    Ok(found)
}
