//! Which members an upload has, in which order: read once for all uploads that are alike.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::json::{Member, Span};
use crate::json_marks::Marks;
use crate::scan::{OrOdd, Seen};
use crate::scan_memo::Memo;
use crate::scan_record::is_null;

/// Bytes of keys that a layout is remembered by.
const MAX_KEY_BYTES: usize = 2048;
/// More members are left to Python.
const MAX_MEMBERS: usize = 64;

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

/// What uploads have in common that have the same keys in the same order, nulls at the same places:
/// a `ContextShape`, and where members stand. None: they are left to Python.
type Layout<P> = Option<(Py<PyAny>, P)>;

/// The layouts of former uploads.
pub struct Layouts<P> {
    /// Asked for the shape of a context.
    shape: Py<PyAny>,
    known: Memo<Layout<P>>,
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

impl<P: Copy> Layouts<P> {
    pub fn new(shape: Py<PyAny>) -> Self {
        Layouts {
            shape,
            known: Memo::new(MAX_KEY_BYTES),
        }
    }

    /// Return the shape of a context, and where the members stand that are looked at.
    ///
    /// `key`: what `write_key` writes, and whatever else the layout depends on. `find` finds the
    /// members; None: Python has to look.
    #[inline(always)]
    pub fn get<'py>(
        &mut self,
        key: &[u8],
        text: &[u8],
        members: &[Member],
        context: &Bound<'py, PyBytes>,
        find: impl FnOnce() -> Option<P>,
    ) -> Seen<(Bound<'py, PyAny>, P)> {
        let py = context.py();
        if let Some(known) = self.known.get(key) {
            let (shape, places) = known.as_ref().or_odd()?;
            return Ok((shape.clone_ref(py).into_bound(py), *places));
        }
        let places = find().filter(|_| !has_twice(text, members));
        let layout = match places {
            Some(places) => Some((self.shape.call1(py, (context,))?, places)),
            None => None,
        };
        let found = layout
            .as_ref()
            .map(|(shape, places)| (shape.clone_ref(py).into_bound(py), *places));
        self.known.keep(key, layout);
        found.or_odd()
    }
}

/// Tell whether a key stands twice.
fn has_twice(text: &[u8], members: &[Member]) -> bool {
    let keys: Vec<&[u8]> = members.iter().map(|member| member.key.of(text)).collect();
    let is_known = |(at, key): (usize, &&[u8])| keys[..at].contains(key);
    keys.iter().enumerate().any(is_known)
}

/// Finds members by their names.
pub struct Named<'a> {
    pub text: &'a [u8],
    pub members: &'a [Member],
}

impl Named<'_> {
    /// Tell whether there is a member of this name.
    pub fn has(&self, name: &str) -> bool {
        self.members
            .iter()
            .any(|one| one.key.of(self.text) == name.as_bytes())
    }

    /// Return where the member of this name stands; nowhere if it is null.
    pub fn place(&self, name: &str) -> Place {
        let is_it = |one: &Member| {
            one.key.of(self.text) == name.as_bytes() && !is_null(self.text, one.value)
        };
        let found = self.members.iter().position(is_it);
        Place(found.and_then(|at| u8::try_from(at).ok()))
    }
}
