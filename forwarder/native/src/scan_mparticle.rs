//! The scanner of a whole poll of mParticle's uploads: the twin of `MParticleDecoder`.
//!
//! A record is parsed once, and nothing is made of it but its `Upload`. What is malformed, odd, or
//! of more than one upload is left to the Python `decode`, record by record.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use crate::json::Span;
use crate::json_marks::Marks;
use crate::scan::{At, OrOdd, Reads, Scanner, Seen, Stop, Together};
use crate::scan_events::{session_names, Event, EventReader, Reading};
use crate::scan_identity::{write_nobody, Id, NoneWords, MAX_ID_BYTES};
use crate::scan_kinds::Kinds;
use crate::scan_layout::{self, Layouts, Place};
use crate::scan_memo::Tokens;
use crate::scan_mparticle_places::{Names, Places};
use crate::scan_record::{members, named, token, Body, Parts, ReadsEvents, NO_ID};
use crate::upload::{Told, UploadMaker};

const PRODUCTION: &[u8] = b"\"production\"";

/// What the scanner takes from Python: classes, constants, and what is hardly ever asked.
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
    #[pyo3(item)]
    identities_digest: Py<PyAny>,
    #[pyo3(item)]
    none_words: Vec<String>,
    #[pyo3(item)]
    device_id_keys: Vec<String>,
    #[pyo3(item)]
    only_uploads: Vec<String>,
    #[pyo3(item)]
    wrappers: Vec<String>,
}

/// Reads the uploads of one partition; remembers what many of them have in common.
struct Reader {
    maker: Maker,
    parts: Parts<Event>,
}

/// Makes uploads of what a record was taken apart into.
struct Maker {
    upload: UploadMaker,
    identities_digest: Py<PyAny>,
    words: NoneWords,
    device_id_keys: Vec<Vec<u8>>,
    names: Names,
    prefix: Vec<u8>,
    reader: EventReader,
    sessions: bool,
    duplicates: bool,
    matches: bool,
    platforms: Tokens<PyBytes>,
    /// By the bytes of `api_key`.
    api_keys: Tokens<PyTuple>,
    layouts: Layouts<Places>,
    environments: Tokens<PyBytes>,
    /// By the bytes of `application_info`.
    applications: Tokens<PyBytes>,
    kinds: Kinds,
    /// Of all uploads that have none of something.
    none: Py<PyList>,
}

/// Return a scanner with empty memories; `prefix`: of the keys of uploads that name nobody.
#[pyfunction]
#[pyo3(signature = (seams, prefix, *, sessions, places, duplicates, matches))]
pub fn mparticle_scanner(
    seams: &Bound<'_, PyAny>,
    prefix: Vec<u8>,
    sessions: bool,
    places: bool,
    duplicates: bool,
    matches: bool,
) -> PyResult<Scanner> {
    let py = seams.py();
    let seams: Seams = seams.extract()?;
    let reading = match (sessions, places) {
        (true, _) => Reading::Sessions,
        (false, true) => Reading::Places,
        (false, false) => Reading::Types,
    };
    let maker = Maker {
        upload: UploadMaker::new(seams.upload.bind(py))?,
        identities_digest: seams.identities_digest,
        words: NoneWords::new(seams.none_words),
        device_id_keys: seams
            .device_id_keys
            .into_iter()
            .map(String::into_bytes)
            .collect(),
        names: Names {
            only_uploads: seams.only_uploads,
            wrappers: seams.wrappers,
        },
        prefix,
        reader: EventReader::new(reading),
        sessions,
        duplicates,
        matches,
        platforms: Tokens::new(),
        api_keys: Tokens::new(),
        layouts: Layouts::new(seams.shape),
        environments: Tokens::new(),
        applications: Tokens::new(),
        kinds: Kinds::new(duplicates),
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
        let body = self.parts.take_apart(text, &self.maker.reader).or_odd()?;
        self.maker
            .upload(value.py(), text, body, &mut self.parts, at, together)
    }
}

/// Who an upload belongs to, and what routes it.
struct Whose<'py> {
    environment: Bound<'py, PyBytes>,
    application: Bound<'py, PyBytes>,
    device: Bound<'py, PyBytes>,
    owner: Bound<'py, PyBytes>,
}

impl Maker {
    fn upload<'py>(
        &mut self,
        py: Python<'py>,
        text: &[u8],
        body: Body,
        parts: &mut Parts<Event>,
        at: &At<'_, 'py>,
        together: &mut Together<'py>,
    ) -> Seen<Bound<'py, PyAny>> {
        parts.write_context(text, EventReader::NAME);
        let context = PyBytes::new(py, &parts.context);
        scan_layout::write_key(text, &parts.marks, &parts.members, &mut parts.key).or_odd()?;
        let find = || Places::new(text, &parts.members, &self.names);
        let (shape, places) = self
            .layouts
            .get(&parts.key, text, &parts.members, &context, find)?;
        if !matches!(body, Body::Array(_)) && !places.says_whose {
            return Err(Stop::Odd);
        }
        let whose = self.whose(py, text, parts, &places, at)?;
        let sessions = match self.sessions {
            true => session_names(py, &self.words, text, &parts.events)?,
            false => self.none.clone_ref(py).into_bound(py),
        };
        let (platform, api_keys) = match self.matches {
            true => {
                let (platform, api_keys) = self.matched(py, text, parts, &places)?;
                (Some(platform), Some(api_keys))
            }
            false => (None, None),
        };
        let duplicate_keys = match self.duplicates {
            true => Some(self.duplicate_keys(text, parts, &places, &whose)?),
            false => None,
        };
        let kinds = parts.events.iter().map(|event| event.kind.of(text));
        let types = self.kinds.list(py, kinds, together)?;
        let governed = self.governed(py, &parts.events, together)?;
        let bytes = match body {
            Body::Array(span) => PyBytes::new(py, span.of(text)),
            _ => PyBytes::new(py, b""),
        };
        let told = Told {
            at,
            count: parts.events.len(),
            size: text.len(),
            device: &whose.device,
            owner: &whose.owner,
            environment: &whose.environment,
            application: &whose.application,
            types: &types,
            sessions: &sessions,
            governed: &governed,
            body: &bytes,
            context: &context,
            shape: &shape,
            keyless: body == Body::Absent,
            duplicate_keys: duplicate_keys.as_ref(),
            platform: platform.as_ref(),
            api_keys: api_keys.as_ref(),
        };
        Ok(self.upload.make(py, &told)?)
    }

    /// Return the tokens and keys of `DeviceIdentity`.
    fn whose<'py>(
        &mut self,
        py: Python<'py>,
        text: &[u8],
        parts: &mut Parts<Event>,
        places: &Places,
        at: &At<'_, 'py>,
    ) -> Seen<Whose<'py>> {
        let value = |place: Place| place.of(&parts.members).of(text);
        let environment = match token(value(places.environment)).or_odd()? {
            NO_ID => PRODUCTION,
            named => named,
        };
        let made = || PyBytes::new(py, environment).unbind();
        let environment = self.environments.get(py, environment, made);
        let application = self.application(py, text, parts, places)?;
        let mut device = self.words.id_of(value(places.mp_deviceid)).or_odd()?;
        if device == Id::Nobody {
            let info = places.device_info.of(&parts.members);
            device = self.device(text, &parts.marks, info).or_odd()?;
        }
        let mpid = self.words.id_of(value(places.mpid)).or_odd()?;
        let key = &mut parts.key;
        if device == Id::Nobody && mpid == Id::Nobody {
            write_nobody(&self.prefix, at, key)?;
            let device = PyBytes::new(py, key);
            return Ok(Whose {
                environment,
                application,
                owner: device.clone(),
                device,
            });
        }
        key.clear();
        key.extend_from_slice(environment.as_bytes());
        key.push(b',');
        key.extend_from_slice(application.as_bytes());
        key.push(b',');
        device.write(key);
        key.push(b',');
        mpid.write(key);
        if key.len() > MAX_ID_BYTES {
            return Err(Stop::Odd);
        }
        let device = PyBytes::new(py, key);
        if mpid != Id::Nobody {
            return Ok(Whose {
                environment,
                application,
                owner: device.clone(),
                device,
            });
        }
        let identities = PyBytes::new(py, value(places.user_identities));
        let digest = self.identities_digest.bind(py).call1((identities,))?;
        key.push(b'#');
        key.extend_from_slice(digest.cast::<PyBytes>().map_err(PyErr::from)?.as_bytes());
        Ok(Whose {
            environment,
            application,
            owner: PyBytes::new(py, key),
            device,
        })
    }

    /// Return the token of the app's package.
    fn application<'py>(
        &mut self,
        py: Python<'py>,
        text: &[u8],
        parts: &Parts<Event>,
        places: &Places,
    ) -> Seen<Bound<'py, PyBytes>> {
        let info = places.application_info.of(&parts.members);
        if let Some(known) = self.applications.known(py, info.of(text)) {
            return Ok(known);
        }
        let package = named(text, &parts.marks, info, b"package").or_odd()?;
        let made = || PyBytes::new(py, package).unbind();
        Ok(self.applications.get(py, info.of(text), made))
    }

    /// Return the first id of `device_info` that names a device.
    fn device<'a>(&self, text: &'a [u8], marks: &Marks, info: Span) -> Option<Id<'a>> {
        if !matches!(info.of(text).first(), None | Some(b'{')) {
            return None;
        }
        let members = members(text, marks, info)?;
        for name in &self.device_id_keys {
            if let Some(found) = members.iter().find(|member| member.key.of(text) == *name) {
                let id = self.words.id_of(found.value.of(text))?;
                if id != Id::Nobody {
                    return Some(id);
                }
            }
        }
        Some(Id::Nobody)
    }

    /// Return what each event is known by if it comes again (`request_key`).
    fn duplicate_keys<'py>(
        &self,
        text: &[u8],
        parts: &mut Parts<Event>,
        places: &Places,
        whose: &Whose<'py>,
    ) -> Seen<Bound<'py, PyList>> {
        let py = whose.device.py();
        let value = |place: Place| place.of(&parts.members).of(text);
        let id = self.words.id_of(value(places.source_request_id)).or_odd()?;
        let api_key = token(value(places.api_key)).or_odd()?;
        let key = &mut parts.key;
        key.clear();
        if id != Id::Nobody {
            id.write(key);
            key.push(b',');
            key.extend_from_slice(api_key);
            key.push(b',');
            if whose.device.as_bytes().starts_with(b"@") {
                key.extend_from_slice(whose.environment.as_bytes());
                key.push(b',');
                key.extend_from_slice(whose.application.as_bytes());
            } else {
                key.extend_from_slice(whose.device.as_bytes());
            }
        }
        let (key, count) = (PyBytes::new(py, key), parts.events.len());
        Ok(PyList::new(py, (0..count).map(|_| &key))?)
    }

    /// Return what a match compares besides: the platform, and the keys of the app.
    fn matched<'py>(
        &mut self,
        py: Python<'py>,
        text: &[u8],
        parts: &Parts<Event>,
        places: &Places,
    ) -> Seen<(Bound<'py, PyBytes>, Bound<'py, PyTuple>)> {
        let info = places.device_info.of(&parts.members);
        let platform = named(text, &parts.marks, info, b"platform").or_odd()?;
        let made = || PyBytes::new(py, platform).unbind();
        let platform = self.platforms.get(py, platform, made);
        if places.api_keys.of(&parts.members).of(text).first() == Some(&b'[') {
            return Err(Stop::Odd);
        }
        let raw = places.api_key.of(&parts.members).of(text);
        if let Some(known) = self.api_keys.known(py, raw) {
            return Ok((platform, known));
        }
        let key = (!raw.is_empty()).then(|| PyBytes::new(py, raw));
        let keys = PyTuple::new(py, key.as_slice())?;
        Ok((platform, self.api_keys.get(py, raw, || keys.unbind())))
    }

    /// Return which events may have to be changed.
    fn governed<'py>(
        &self,
        py: Python<'py>,
        events: &[Event],
        together: &mut Together<'py>,
    ) -> Seen<Bound<'py, PyList>> {
        if !events.iter().any(|event| event.located) {
            return Ok(self.none.clone_ref(py).into_bound(py));
        }
        together.governed = true;
        let numbered = events.iter().enumerate().filter(|(_, event)| event.located);
        let found: Vec<usize> = numbered.map(|(number, _)| number).collect();
        Ok(PyList::new(py, found)?)
    }
}
