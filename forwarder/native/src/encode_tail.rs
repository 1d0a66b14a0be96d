//! What a document of mParticle's has besides its events and ids: the twin of `MParticleDocuments.frame`.
//!
//! `forwarder/formats/mparticle/document.py` compiles a connection's settings and hands over what
//! of them is needed here. Contexts that would take more than copying are left to it.

use std::borrow::Cow;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::encode_json::{is_integer, members, Member};
use crate::ids::push_number;

const DROP: u16 = 1;
const REDUCE: u16 = 2;
const STRIP_LOCATION: u16 = 4;
const IDENTITIES: u16 = 8;
const USER: u16 = 16;
const NOTIFICATIONS: u16 = 32;
const INTEGER: u16 = 64;

/// Characters of a user's id that is stored beside a batch: `contract.MAX_USER_CHARACTERS`.
const MOST_USER: usize = 256;

type Path = Vec<Vec<u8>>;

/// What is done with the member of a name.
struct Known {
    name: Vec<u8>,
    rules: u16,
    /// What is taken out of it; an empty path: all of it.
    paths: Vec<Path>,
}

/// The settings of a connection, as far as they change its contexts.
#[pyclass(frozen)]
pub struct MParticleTails {
    /// By the length of their names.
    known: Vec<Vec<Known>>,
    excluded_kinds: Vec<Vec<u8>>,
    none_words: Vec<Vec<u8>>,
    adds_notifications: bool,
    unique: Vec<u8>,
    /// How many bytes a document may have, by those of its user's id.
    limits: Vec<i64>,
    pub layout: Layout,
}

/// The document of these events and ids without what follows the number: its fixed parts.
#[derive(Clone)]
pub struct Layout {
    pub before_events: Vec<u8>,
    pub before_id: Vec<u8>,
    pub before_number: Vec<u8>,
    pub quotes_number: bool,
}

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Settings {
    drop: Vec<Vec<u8>>,
    reduces_metadata: bool,
    strips_location: bool,
    adds_notifications: bool,
    quotes_integers: bool,
    integer_ids: Vec<Vec<u8>>,
    excluded_kinds: Vec<Vec<u8>>,
    exclusions: Vec<Path>,
    none_words: Vec<Vec<u8>>,
    unique: Vec<u8>,
    limits: Vec<i64>,
    layout: (Vec<u8>, Vec<u8>, Vec<u8>),
}

#[pymethods]
impl MParticleTails {
    #[new]
    fn new(settings: Settings) -> Self {
        let mut tails = MParticleTails {
            known: Vec::new(),
            excluded_kinds: settings.excluded_kinds,
            none_words: settings.none_words,
            adds_notifications: settings.adds_notifications,
            unique: settings.unique,
            limits: settings.limits,
            layout: Layout {
                before_events: settings.layout.0,
                before_id: settings.layout.1,
                before_number: settings.layout.2,
                quotes_number: settings.quotes_integers,
            },
        };
        tails.add_rule(b"mpid", USER);
        tails.add_rule(b"user_identities", IDENTITIES);
        tails.add_rule(b"system_notifications", NOTIFICATIONS);
        for name in &settings.drop {
            tails.add_rule(name, DROP);
        }
        if settings.reduces_metadata {
            tails.add_rule(b"application_info", REDUCE);
        }
        if settings.strips_location {
            tails.add_rule(b"context", STRIP_LOCATION);
        }
        if settings.quotes_integers {
            for name in &settings.integer_ids {
                tails.add_rule(name, INTEGER);
            }
        }
        for path in settings.exclusions {
            if let Some((name, rest)) = path.split_first() {
                tails.known_of(name).paths.push(rest.to_vec());
            }
        }
        tails
    }

    /// The id of the user, the tail, and how many bytes a document may have; None: left to Python.
    fn frame<'py>(
        &self,
        py: Python<'py>,
        context: &[u8],
        dated_ms: i64,
        newest_ms: i64,
    ) -> Option<(String, Bound<'py, PyBytes>, i64)> {
        let mut tail = Vec::new();
        let (user, limit) = self.write(context, dated_ms, newest_ms, &mut tail)?;
        Some((user.to_owned(), PyBytes::new(py, &tail), limit))
    }
}

impl Layout {
    /// How many bytes a document has besides events and tail.
    pub fn size(&self) -> usize {
        let ids = 36 + 19 + if self.quotes_number { 2 } else { 0 };
        self.before_events.len() + self.before_id.len() + self.before_number.len() + ids
    }
}

impl MParticleTails {
    fn known_of(&mut self, name: &[u8]) -> &mut Known {
        if self.known.len() <= name.len() {
            self.known.resize_with(name.len() + 1, Vec::new);
        }
        let alike = &mut self.known[name.len()];
        let at = alike
            .iter()
            .position(|one| one.name == name)
            .unwrap_or_else(|| {
                alike.push(Known {
                    name: name.to_vec(),
                    rules: 0,
                    paths: Vec::new(),
                });
                alike.len() - 1
            });
        &mut alike[at]
    }

    fn add_rule(&mut self, name: &[u8], rule: u16) {
        self.known_of(name).rules |= rule;
    }

    fn find(&self, name: &[u8]) -> Option<&Known> {
        self.known
            .get(name.len())?
            .iter()
            .find(|one| one.name == name)
    }

    /// Write what follows the ids; return the user's id, and how many bytes a document may have.
    pub fn write<'a>(
        &self,
        context: &'a [u8],
        dated_ms: i64,
        newest_ms: i64,
        tail: &mut Vec<u8>,
    ) -> Option<(&'a str, i64)> {
        let mut user = "";
        let mut has_notifications = false;
        tail.clear();
        tail.extend_from_slice(b",\"timestamp_unixtime_ms\":");
        push_number(tail, newest_ms);
        tail.extend_from_slice(&self.unique);
        for member in members(context)? {
            let Some(known) = self.find(member.key) else {
                push_member(tail, &member);
                continue;
            };
            if known.rules & USER != 0 {
                user = self.user_of(member.value)?;
            }
            has_notifications |= known.rules & NOTIFICATIONS != 0;
            if known.rules & DROP == 0 {
                self.push_known(tail, known, member, dated_ms)?;
            }
        }
        if self.adds_notifications && !has_notifications {
            let known = self.find(b"system_notifications")?;
            let empty = Member {
                key: &known.name,
                value: b"[]",
            };
            self.push_known(tail, known, empty, dated_ms)?;
        }
        tail.push(b'}');
        Some((user, *self.limits.get(user.len()).or(self.limits.last())?))
    }

    /// Append a member as the settings want it, if they do.
    fn push_known(
        &self,
        tail: &mut Vec<u8>,
        known: &Known,
        member: Member,
        dated_ms: i64,
    ) -> Option<()> {
        let Member { key, value } = member;
        let mut value = Cow::Borrowed(value);
        if known.rules & REDUCE != 0 {
            let Some(package) = package_of(&value)? else {
                return Some(());
            };
            value = Cow::Owned([b"{\"package\":", package, b"}"].concat());
        }
        if known.rules & STRIP_LOCATION != 0 {
            if let Some(rest) = without(&value, &[b"location".to_vec()])? {
                value = Cow::Owned(rest);
            }
        }
        if known.rules & IDENTITIES != 0 {
            if let Some(array) = self.identities(&value, dated_ms)? {
                value = Cow::Owned(array);
            }
        }
        for path in &known.paths {
            if path.is_empty() {
                return Some(());
            }
            if let Some(rest) = without(&value, path)? {
                value = Cow::Owned(rest);
            }
        }
        if known.rules & INTEGER != 0 && is_integer(&value) {
            value = Cow::Owned([b"\"", &*value, b"\""].concat());
        }
        push_member(tail, &Member { key, value: &value });
        Some(())
    }

    /// User identities as an array, without those that are excluded; inner None: as they are.
    fn identities(&self, value: &[u8], dated_ms: i64) -> Option<Option<Vec<u8>>> {
        match value.first() {
            Some(b'{') => {}
            Some(b'[') if !self.excluded_kinds.is_empty() => return None,
            _ => return Some(None),
        }
        let mut array = Vec::with_capacity(2 * value.len() + 128);
        array.push(b'[');
        for Member { key, value } in members(value)? {
            let kind = if key == b"customerid" {
                b"customer_id"
            } else {
                key
            };
            if value == b"null" || self.is_excluded(kind)? {
                continue;
            }
            if array.len() > 1 {
                array.push(b',');
            }
            array.extend_from_slice(b"{\"identity_type\":\"");
            array.extend_from_slice(kind);
            array.extend_from_slice(b"\",\"identity\":");
            match value.first()? {
                b'"' => array.extend_from_slice(value),
                b'{' | b'[' => return None,
                _ => {
                    array.push(b'"');
                    array.extend_from_slice(value);
                    array.push(b'"');
                }
            }
            array.extend_from_slice(b",\"timestamp_unixtime_ms\":");
            push_number(&mut array, dated_ms);
            array.push(b'}');
        }
        array.push(b']');
        Some(Some(array))
    }

    fn is_excluded(&self, kind: &[u8]) -> Option<bool> {
        if self.excluded_kinds.is_empty() {
            return Some(false);
        }
        if !kind.is_ascii() {
            return None;
        }
        let folded = kind.to_ascii_lowercase();
        let named: &[u8] = if folded == b"customerid" {
            b"customer_id"
        } else {
            &folded
        };
        Some(self.excluded_kinds.iter().any(|one| one == named))
    }

    /// The id by which a stream may choose the shard: `mpid_of`.
    fn user_of<'a>(&self, value: &'a [u8]) -> Option<&'a str> {
        let text = match value {
            [b'"', text @ .., b'"'] => text,
            [b'-' | b'0'..=b'9', ..] => value,
            _ => return Some(""),
        };
        if !text
            .iter()
            .all(|byte| matches!(byte, b' '..=b'[' | b']'..=b'~'))
        {
            return None;
        }
        if text.len() > MOST_USER || self.means_none(text) {
            return Some("");
        }
        std::str::from_utf8(text).ok()
    }

    /// Whether printable ASCII stands for no id at all: `identity.means_none`.
    fn means_none(&self, text: &[u8]) -> bool {
        let word = text.trim_ascii();
        let is_word = |one: &Vec<u8>| one.eq_ignore_ascii_case(word);
        self.none_words.iter().any(is_word) || is_zero(text)
    }
}

/// Nothing, zeros in any grouping, or a number that is zero in scientific notation.
fn is_zero(text: &[u8]) -> bool {
    if text.iter().all(|byte| b"-+0:.,_{}()* ".contains(byte)) {
        return true;
    }
    let Some(at) = text.iter().position(|byte| matches!(byte, b'e' | b'E')) else {
        return false;
    };
    let (mantissa, exponent) = (unsigned(&text[..at]), unsigned(&text[at + 1..]));
    let is_zeros = |part: &[u8]| !part.is_empty() && part.iter().all(|byte| *byte == b'0');
    let (whole, has_zeros) = match mantissa.iter().position(|byte| *byte == b'.') {
        Some(dot) => (&mantissa[..dot], is_zeros(&mantissa[dot + 1..])),
        None => (mantissa, true),
    };
    has_zeros && is_zeros(whole) && !exponent.is_empty() && exponent.iter().all(u8::is_ascii_digit)
}

fn unsigned(number: &[u8]) -> &[u8] {
    match number {
        [b'-' | b'+', rest @ ..] => rest,
        _ => number,
    }
}

fn push_member(object: &mut Vec<u8>, member: &Member) {
    object.extend_from_slice(b",\"");
    object.extend_from_slice(member.key);
    object.extend_from_slice(b"\":");
    object.extend_from_slice(member.value);
}

/// The package that an application names; inner None: it names none.
fn package_of(application: &[u8]) -> Option<Option<&[u8]>> {
    if application.first() != Some(&b'{') {
        return Some(None);
    }
    let found = members(application)?;
    let package = found.iter().find(|member| member.key == b"package");
    Some(
        package
            .map(|member| member.value)
            .filter(|value| *value != b"null"),
    )
}

/// An object without what a path names; inner None: there is nothing to take out.
fn without(value: &[u8], path: &[Vec<u8>]) -> Option<Option<Vec<u8>>> {
    let Some((name, rest)) = path.split_first() else {
        return Some(None);
    };
    if value.first() != Some(&b'{') {
        return Some(None);
    }
    let found = members(value)?;
    let Some(at) = found.iter().position(|member| member.key == name) else {
        return Some(None);
    };
    let mut inner = None;
    if !rest.is_empty() {
        inner = without(found[at].value, rest)?;
        if inner.is_none() {
            return Some(None);
        }
    }
    let mut object = Vec::with_capacity(value.len());
    for (i, member) in found.iter().enumerate() {
        match &inner {
            _ if i != at => push_member(&mut object, member),
            Some(changed) => push_member(
                &mut object,
                &Member {
                    key: member.key,
                    value: changed,
                },
            ),
            None => {}
        }
    }
    object.push(b'}');
    match object.first_mut() {
        Some(first @ b',') => *first = b'{',
        _ => object.insert(0, b'{'),
    }
    Some(Some(object))
}
