//! Lists of the types of events.

use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};

use crate::scan::{OrOdd, Seen, Together};
use crate::scan_memo::Tokens;

/// Makes the lists of uploads; of the types it remembers, one object stands for each.
pub struct Kinds {
    known: Tokens<PyString>,
    /// By the type of the one event that an upload has.
    singles: Tokens<PyList>,
    /// Whether each upload has a list of its own, because its types may be changed.
    own: bool,
}

impl Kinds {
    pub fn new(own: bool) -> Self {
        Kinds {
            known: Tokens::new(),
            singles: Tokens::new(),
            own,
        }
    }

    /// Return the list of types, each given by what is between its quotation marks.
    #[inline]
    pub fn list<'a, 'py>(
        &mut self,
        py: Python<'py>,
        mut kinds: impl ExactSizeIterator<Item = &'a [u8]>,
        together: &mut Together<'py>,
    ) -> Seen<Bound<'py, PyList>> {
        let mut list: Vec<Bound<'py, PyString>> = Vec::with_capacity(kinds.len());
        if kinds.len() == 1 && !self.own {
            let kind = kinds.next().or_odd()?;
            if let Some(known) = self.singles.known(py, kind) {
                together.add(&known.get_item(0)?)?;
                return Ok(known);
            }
            list.push(self.one(py, kind, together)?);
            let list = PyList::new(py, list)?;
            return Ok(self.singles.get(py, kind, || list.unbind()));
        }
        for kind in kinds {
            list.push(self.one(py, kind, together)?);
        }
        Ok(PyList::new(py, list)?)
    }

    fn one<'py>(
        &mut self,
        py: Python<'py>,
        kind: &[u8],
        together: &mut Together<'py>,
    ) -> Seen<Bound<'py, PyString>> {
        let found = match self.known.known(py, kind) {
            Some(known) => known,
            None => {
                let name = std::str::from_utf8(kind).ok().or_odd()?;
                self.known
                    .get(py, kind, || PyString::new(py, name).unbind())
            }
        };
        together.add(found.as_any())?;
        Ok(found)
    }
}
