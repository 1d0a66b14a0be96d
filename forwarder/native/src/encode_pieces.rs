//! The events of a window as they waited, and which of them stand in which document.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use crate::encode_json::values;
use crate::encode_maker::Framed;
use crate::plain_tuple::plain_tuple;

/// A run of consecutive events, as it waited; `first` is its position.
pub struct Piece<'a, 'py> {
    pub tuple: &'a Bound<'py, PyTuple>,
    pub offset: i64,
    pub start: i64,
    pub count: i64,
    pub time: i64,
    pub body: Bound<'py, PyBytes>,
}

/// A position: offset of the record, index of the event in it.
pub type Place<'py> = (Bound<'py, PyTuple>, i64, i64);

/// Which events are in a document.
pub struct Span<'py> {
    pub first: Place<'py>,
    pub last: Place<'py>,
    pub number: Bound<'py, PyAny>,
    pub count: i64,
    pub time: i64,
}

/// One event, which is a document of its own.
pub type Event<'a, 'py> = (Span<'py>, &'a [u8]);

/// The events of a window, as its documents have them.
pub enum Events<'a, 'py> {
    Apart(Vec<Event<'a, 'py>>),
    Joined(Span<'py>, Vec<&'a [u8]>),
}

impl<'py> Events<'_, 'py> {
    /// With what became of each event in its place.
    pub fn of<'a>(self, rendered: &'a [Bound<'py, PyBytes>]) -> Events<'a, 'py> {
        let texts = rendered.iter().map(|event| event.as_bytes());
        match self {
            Events::Apart(found) => {
                let spans = found.into_iter().map(|(span, _)| span);
                Events::Apart(spans.zip(texts).collect())
            }
            Events::Joined(span, _) => {
                Events::Joined(span, texts.filter(|event| !event.is_empty()).collect())
            }
        }
    }

    /// Whether none is too large for its document, and all of them not more than is `left`.
    pub fn fit(&self, pieces: &[Piece<'_, 'py>], framed: &Framed<'py>, left: i64) -> bool {
        let bytes = |event: &[u8]| event.len() as i64 + 1;
        match self {
            Events::Apart(found) => {
                let made = found.iter().map(|(_, event)| framed.size + bytes(event));
                found.len() < 2 || made.sum::<i64>() <= left
            }
            Events::Joined(_, found) => {
                let waiting: i64 = pieces.iter().map(|piece| bytes(piece.bytes())).sum();
                let joined: i64 = found.iter().map(|event| bytes(event)).sum();
                framed.size + joined.max(waiting) - 1 <= framed.limit
            }
        }
    }
}

impl<'a, 'py> Piece<'a, 'py> {
    pub fn bytes(&self) -> &[u8] {
        self.body.as_bytes()
    }

    pub fn of(tuple: &'a Bound<'py, PyTuple>) -> PyResult<Self> {
        Ok(Piece {
            tuple,
            offset: tuple.get_borrowed_item(0)?.extract()?,
            start: tuple.get_borrowed_item(1)?.extract()?,
            count: tuple.get_borrowed_item(2)?.extract()?,
            time: tuple.get_borrowed_item(3)?.extract()?,
            body: tuple.get_item(4)?.cast_into()?,
        })
    }

    pub fn number(&self) -> PyResult<Bound<'py, PyAny>> {
        self.tuple.get_item(2)
    }

    /// The position of its first event.
    pub fn first(&self) -> PyResult<Place<'py>> {
        let offset = self.tuple.get_borrowed_item(0)?;
        let start = self.tuple.get_borrowed_item(1)?;
        let position = plain_tuple(self.tuple.py(), [&offset, &start])?;
        Ok((position, self.offset, self.start))
    }

    /// The position of its last event; without events it takes one place.
    pub fn last(&self) -> PyResult<Place<'py>> {
        let index = self.start.saturating_add(self.count.max(1) - 1);
        let py = self.tuple.py();
        let (offset, last) = (self.tuple.get_item(0)?, index.into_pyobject(py)?);
        let position = plain_tuple(py, [&offset, last.as_any()])?;
        Ok((position, self.offset, index))
    }
}

impl<'py> Span<'py> {
    pub fn of(
        pieces: &[Piece<'_, 'py>],
        first: &Piece<'_, 'py>,
        last: &Piece<'_, 'py>,
    ) -> PyResult<Self> {
        let place = first.first()?;
        if pieces.len() == 1 && first.count < 2 {
            return Ok(Span {
                last: place.clone(),
                first: place,
                number: first.number()?,
                count: first.count,
                time: first.time,
            });
        }
        let count: i64 = pieces.iter().map(|piece| piece.count).sum();
        Ok(Span {
            first: place,
            last: last.last()?,
            number: count.into_pyobject(first.tuple.py())?.into_any(),
            count,
            time: first.time,
        })
    }
}

/// The pieces of a window; none: it is empty.
pub fn waiting<'py>(window: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, PyTuple>>> {
    let py = window.py();
    let blocks = window.getattr(intern!(py, "blocks"))?;
    let tail = if blocks.is_none() {
        let only = window.getattr(intern!(py, "only"))?;
        if !only.is_none() {
            return Ok(vec![only.cast_into::<PyTuple>()?]);
        }
        window.getattr(intern!(py, "tail"))?
    } else {
        window.call_method0(intern!(py, "all_pieces"))?
    };
    if tail.is_none() {
        return Ok(Vec::new());
    }
    let tail = tail.cast_into::<PyList>()?;
    let tuples = tail.iter().map(|one| Ok(one.cast_into::<PyTuple>()?));
    tuples.collect()
}

/// Every event on its own, with its bytes; None: a piece does not hold as many as it says.
pub fn each<'a, 'py>(pieces: &'a [Piece<'_, 'py>]) -> PyResult<Option<Vec<Event<'a, 'py>>>> {
    let mut found = Vec::new();
    for piece in pieces {
        if piece.count < 2 {
            let span = Span::of(std::slice::from_ref(piece), piece, piece)?;
            found.push((span, if piece.count > 0 { piece.bytes() } else { b"" }));
            continue;
        }
        let Some(events) = values(piece.bytes()).filter(|all| all.len() as i64 == piece.count)
        else {
            return Ok(None);
        };
        for (index, event) in (piece.start..).zip(events) {
            let position = (piece.offset, index).into_pyobject(piece.tuple.py())?;
            let first = (position, piece.offset, index);
            let number = 1i64.into_pyobject(piece.tuple.py())?.into_any();
            let span = Span {
                last: first.clone(),
                first,
                number,
                count: 1,
                time: piece.time,
            };
            found.push((span, event));
        }
    }
    Ok(Some(found))
}
