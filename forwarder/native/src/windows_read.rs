//! What joining reads of uploads, windows and shapes of contexts: where their members lie.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyList, PyTuple, PyType};

use crate::slots::{members, Instance, Slots};

members!(
    /// Of an `Upload`.
    Of {
        clock,
        context,
        device,
        owner,
        piece,
        shape,
        time,
    }
);
members!(
    /// Of a `Window`.
    In {
        cold,
        context,
        count,
        deadline,
        identities_ms,
        look_at,
        narrow,
        newest_ms,
        only,
        pending,
        reason,
        shape,
        tail,
        touched,
        unsaved,
        weight,
    }
);
members!(
    /// Of a `ContextShape`.
    Shape { dated, plain }
);

/// What a lane's windows are bounded by, as the store has it; bytes and milliseconds.
#[derive(FromPyObject)]
pub struct Bounds {
    pub small_context: i64,
    pub small_events: i64,
    pub max_events: i64,
    pub max_age_ms: i64,
    pub first_look: i64,
    pub least: i64,
    pub piece_overhead: i64,
    pub second_ms: i64,
    pub table_shift: u32,
}

/// An upload that is not unusual by itself.
pub struct Arrival<'py> {
    pub piece: Bound<'py, PyTuple>,
    pub events: Bound<'py, PyAny>,
    pub count: i64,
    pub filled: i64,
    pub key: Bound<'py, PyBytes>,
    pub context: Bound<'py, PyBytes>,
    pub length: i64,
    pub shape: Bound<'py, PyAny>,
    pub clock: Bound<'py, PyAny>,
    pub clock_ms: i64,
    pub time: Bound<'py, PyAny>,
}

/// A window that an upload may join.
pub struct Room<'py> {
    pub before: i64,
    pub count: i64,
    pub is_cold: bool,
    pub is_dated: bool,
    pub is_to_be_noted: bool,
    pub look_at: i64,
    pub only: Option<Bound<'py, PyAny>>,
    pub tail: Option<Bound<'py, PyList>>,
    pub weight: i64,
}

/// The classes whose members are read and written.
pub struct Kinds {
    uploads: Slots<Of>,
    pub windows: Slots<In>,
    shapes: Slots<Shape>,
}

impl Kinds {
    /// Learn them; a `TypeError`: one is not as expected.
    pub fn new(
        upload: &Bound<'_, PyType>,
        window: &Bound<'_, PyType>,
        shape: &Bound<'_, PyType>,
    ) -> PyResult<Self> {
        Ok(Kinds {
            uploads: Slots::new(upload)?,
            windows: Slots::new(window)?,
            shapes: Slots::new(shape)?,
        })
    }

    /// Read an upload, and tell whether its windows are those of its device; None: it is unusual.
    pub fn arrival<'py>(
        &self,
        upload: &Bound<'py, PyAny>,
        bounds: &Bounds,
    ) -> Option<(Arrival<'py>, bool)> {
        let upload = self.uploads.of(upload)?;
        let piece = upload.get(Of::piece)?.cast_into_exact::<PyTuple>().ok()?;
        let events = piece.get_item(2).ok()?;
        let body = piece.get_borrowed_item(4).ok()?;
        let filled = body.cast_exact::<PyBytes>().ok()?.as_bytes().len() as i64;
        if filled > bounds.small_events {
            return None;
        }
        let key = upload.get(Of::owner)?.cast_into_exact::<PyBytes>().ok()?;
        let context = upload.get(Of::context)?.cast_into_exact::<PyBytes>().ok()?;
        let clock = upload.get(Of::clock)?;
        let is_device = key.is(&upload.get(Of::device)?);
        let arrival = Arrival {
            count: number(&events)?,
            length: context.as_bytes().len() as i64,
            shape: upload.get(Of::shape)?,
            clock_ms: number(&clock)?,
            time: upload.get(Of::time)?,
            piece,
            events,
            filled,
            key,
            context,
            clock,
        };
        Some((arrival, is_device))
    }

    /// Read a window that an upload may join as it is; None: something is unusual.
    pub fn room<'py>(
        &self,
        window: &Instance<'_, 'py, In>,
        arrival: &Arrival<'py>,
        bounds: &Bounds,
    ) -> Option<Room<'py>> {
        let shape = window.get(In::shape)?;
        let known = self.shapes.of(&shape)?;
        let count = window.number(In::count)?;
        if !shape.is(&arrival.shape)
            || !known.is(Shape::plain)?
            || arrival.count >= bounds.max_events.checked_sub(count)?
            || window.is(In::narrow)?
        {
            return None;
        }
        let context = window.get(In::context)?.cast_into_exact::<PyBytes>().ok()?;
        let (before, is_cold) = (context.as_bytes().len() as i64, window.is(In::cold)?);
        let most = if is_cold {
            bounds.small_context / 2
        } else {
            bounds.small_context
        };
        if before + arrival.length > most {
            return None;
        }
        let tail = filled(window.get(In::tail)?);
        let tail = match tail {
            Some(tail) => Some(tail.cast_into_exact::<PyList>().ok()?),
            None => None,
        };
        Some(Room {
            before,
            count,
            is_cold,
            is_dated: known.is(Shape::dated)?,
            is_to_be_noted: filled(window.get(In::unsaved)?).is_none()
                || filled(window.get(In::pending)?).is_some(),
            look_at: window.number(In::look_at)?,
            only: filled(window.get(In::only)?),
            tail,
            weight: window.number(In::weight)?,
        })
    }
}

/// Return a number of 64 bits; None: it is none.
fn number(object: &Bound<'_, PyAny>) -> Option<i64> {
    object.cast_exact::<PyInt>().ok()?.extract().ok()
}

/// Return what is not `None`.
fn filled<'py>(object: Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    (!object.is_none()).then_some(object)
}
