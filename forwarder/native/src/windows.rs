//! Uploads joined to the open windows of a lane: the twin of `WindowStore._take_whole`.
//!
//! The usual cases alone, as they stand there: what is unusual is left to the store's own methods,
//! upload by upload.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple, PyType};

use crate::plain_tuple::plain_tuple;
use crate::shares::Shares;
use crate::slots::Instance;
use crate::structs::StructMaker;
use crate::windows_read::{Arrival, Bounds, In, Kinds};

/// The fields of a window that opens.
const OPENED: [&str; 20] = [
    "key",
    "device",
    "session",
    "context",
    "shape",
    "identities_ms",
    "newest_ms",
    "opened",
    "last_activity",
    "deadline",
    "reason",
    "count",
    "only",
    "weight",
    "look_at",
    "slot",
    "first",
    "unsaved",
    "touched",
    "size_class",
];

/// Joins uploads to the windows of one store.
#[pyclass(frozen)]
pub struct Joiner {
    kinds: Kinds,
    maker: StructMaker<{ OPENED.len() }>,
    age: Py<PyAny>,
    first_look: Py<PyAny>,
    no_session: Py<PyBytes>,
    lowest_class: Py<PyAny>,
    bounds: Bounds,
}

/// What windows that open at one record clock have in common.
struct Age<'py> {
    clock_ms: i64,
    clock: Bound<'py, PyAny>,
    deadline: Bound<'py, PyAny>,
    slot: i64,
    second: Bound<'py, PyAny>,
}

/// What enters pieces that several lanes may hold: `Shares` natively, or in Python.
#[derive(FromPyObject)]
enum Taking<'py> {
    Native(Bound<'py, Shares>),
    Python(Bound<'py, PyAny>),
}

impl<'py> Taking<'py> {
    fn take(&self, piece: &Bound<'py, PyTuple>) -> PyResult<()> {
        match self {
            Taking::Native(shares) => shares.try_borrow_mut()?.take(piece),
            Taking::Python(shares) => {
                shares.call_method1(intern!(piece.py(), "take"), (piece,))?;
                Ok(())
            }
        }
    }
}

/// What a call has come to: counts that are kept aside, and windows that wait for their queues.
struct Run<'a, 'py> {
    store: &'a Bound<'py, PyAny>,
    parts: &'a Bound<'py, PyList>,
    taking: Option<Taking<'py>>,
    fresh: Bound<'py, PyList>,
    age: Option<Age<'py>>,
    events: i64,
    size: i64,
    memory: i64,
}

#[pymethods]
impl Joiner {
    /// `age`: the reason for which windows close; a `TypeError`: these classes are not as expected.
    #[new]
    fn new(
        upload: &Bound<'_, PyType>,
        window: &Bound<'_, PyType>,
        shape: &Bound<'_, PyType>,
        age: Py<PyAny>,
        bounds: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let py = upload.py();
        Ok(Joiner {
            kinds: Kinds::new(upload, window, shape)?,
            maker: StructMaker::new(window, &OPENED)?,
            age,
            first_look: bounds.getattr("first_look")?.unbind(),
            no_session: PyBytes::new(py, b"").unbind(),
            lowest_class: 0i64.into_pyobject(py)?.into_any().unbind(),
            bounds: bounds.extract()?,
        })
    }

    /// Add whole uploads to the windows of a store, whose table has these parts; `taking`: what
    /// their pieces are entered in.
    ///
    /// Returns by how much its events, their bytes and its memory have become more, besides what
    /// its own methods were called for.
    fn join<'py>(
        &self,
        store: &Bound<'py, PyAny>,
        uploads: &Bound<'py, PyList>,
        parts: &Bound<'py, PyList>,
        taking: Option<Taking<'py>>,
    ) -> PyResult<(i64, i64, i64)> {
        let py = store.py();
        let mut run = Run {
            store,
            parts,
            taking,
            fresh: PyList::empty(py),
            age: None,
            events: 0,
            size: 0,
            memory: 0,
        };
        let mut at = 0;
        while at < uploads.len() {
            let upload = uploads.get_item(at)?;
            at += 1;
            if self.takes(&mut run, &upload)? {
                continue;
            }
            run.queue()?;
            run.weigh()?;
            let piece = upload.getattr(intern!(py, "piece"))?;
            let pieces = PyList::new(py, (!piece.is_none()).then_some(piece))?;
            store.call_method1(intern!(py, "_take_one"), (upload, pieces))?;
        }
        run.queue()?;
        Ok((run.events, run.size, run.memory))
    }
}

impl Joiner {
    /// Add an upload; false: it is unusual, and nothing was done.
    fn takes<'py>(&self, run: &mut Run<'_, 'py>, upload: &Bound<'py, PyAny>) -> PyResult<bool> {
        let Some((arrival, is_device)) = self.kinds.arrival(upload, &self.bounds) else {
            return Ok(false);
        };
        let part = self.part(run, &arrival.key)?;
        let Some(window) = part.get_item(&arrival.key)? else {
            return Ok(is_device && self.open(run, &part, &arrival, None)?);
        };
        let Some(slots) = self.kinds.windows.of(&window) else {
            return Ok(false);
        };
        match slots.number(In::deadline) {
            Some(deadline) if deadline <= arrival.clock_ms => {
                Ok(is_device && self.open(run, &part, &arrival, Some((&window, &slots)))?)
            }
            Some(_) => self.grow(run, &window, &slots, &arrival),
            None => Ok(false),
        }
    }

    /// The part of the table that a key belongs to: see `Table.part`.
    fn part<'py>(
        &self,
        run: &Run<'_, 'py>,
        key: &Bound<'py, PyBytes>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let parts = run.parts.len();
        let at = if parts == 1 {
            0
        } else {
            (key.hash()? >> self.bounds.table_shift) as usize % parts
        };
        Ok(run.parts.get_item(at)?.cast_into::<PyDict>()?)
    }

    /// Open a window of its device with an upload, in the place of one that is `due`; false:
    /// something about it is unusual.
    fn open<'py>(
        &self,
        run: &mut Run<'_, 'py>,
        part: &Bound<'py, PyDict>,
        arrival: &Arrival<'py>,
        due: Option<(&Bound<'py, PyAny>, &Instance<'_, 'py, In>)>,
    ) -> PyResult<bool> {
        let py = part.py();
        let key = arrival.key.as_any();
        let weight = self.bounds.least + arrival.length + arrival.filled;
        let weight = weight + arrival.key.as_bytes().len() as i64;
        if weight >= self.bounds.first_look
            || arrival.count >= self.bounds.max_events
            || arrival.length > self.bounds.small_context
            || arrival
                .clock_ms
                .checked_add(self.bounds.max_age_ms)
                .is_none()
        {
            return Ok(false);
        }
        if let Some((window, slots)) = due {
            let reason = slots.get(In::reason);
            run.store
                .call_method1(intern!(py, "close"), (window, reason))?;
        }
        self.turn(run, arrival)?;
        let Some(age) = &run.age else {
            return Ok(false);
        };
        let position = position(&arrival.piece)?;
        let position = position.as_any().as_borrowed();
        let (weighed, clock) = (weight.into_pyobject(py)?, age.clock.as_borrowed());
        let time = arrival.time.as_borrowed();
        let window = self.maker.make(
            py,
            [
                Some(key.as_borrowed()),
                Some(key.as_borrowed()),
                Some(self.no_session.bind(py).as_any().as_borrowed()),
                Some(arrival.context.as_any().as_borrowed()),
                Some(arrival.shape.as_borrowed()),
                Some(time),
                Some(time),
                Some(clock),
                Some(clock),
                Some(age.deadline.as_borrowed()),
                Some(self.age.bind(py).as_borrowed()),
                Some(arrival.events.as_borrowed()),
                Some(arrival.piece.as_any().as_borrowed()),
                Some(weighed.as_any().as_borrowed()),
                Some(self.first_look.bind(py).as_borrowed()),
                Some(age.second.as_borrowed()),
                Some(position),
                Some(position),
                Some(position),
                Some(self.lowest_class.bind(py).as_borrowed()),
            ],
        )?;
        part.set_item(key, &window)?;
        run.fresh.append(window)?;
        run.count(arrival, weight)?;
        Ok(true)
    }

    /// See that `run.age` is that of an upload's clock, and that `fresh` are of its second.
    fn turn<'py>(&self, run: &mut Run<'_, 'py>, arrival: &Arrival<'py>) -> PyResult<()> {
        let known = run.age.as_ref();
        if known.is_some_and(|age| age.clock_ms == arrival.clock_ms) {
            return Ok(());
        }
        let py = run.store.py();
        let deadline = arrival.clock_ms.saturating_add(self.bounds.max_age_ms);
        let slot = deadline.div_euclid(self.bounds.second_ms.max(1));
        let second = match known {
            Some(age) if age.slot == slot => age.second.clone(),
            _ => {
                run.queue()?;
                slot.into_pyobject(py)?.into_any()
            }
        };
        run.age = Some(Age {
            clock_ms: arrival.clock_ms,
            clock: arrival.clock.clone(),
            deadline: deadline.into_pyobject(py)?.into_any(),
            slot,
            second,
        });
        Ok(())
    }

    /// Join an upload to a window that then has its context; false: something is unusual.
    fn grow<'py>(
        &self,
        run: &mut Run<'_, 'py>,
        window: &Bound<'py, PyAny>,
        slots: &Instance<'_, 'py, In>,
        arrival: &Arrival<'py>,
    ) -> PyResult<bool> {
        let py = window.py();
        let Some(found) = self.kinds.room(slots, arrival, &self.bounds) else {
            return Ok(false);
        };
        if found.is_cold {
            run.store
                .call_method1(intern!(py, "_note_warm"), (window,))?;
        }
        let more = arrival.filled + self.bounds.piece_overhead + arrival.length - found.before;
        let weight = found.weight + more;
        let position = position(&arrival.piece)?.into_any();
        slots.set(In::context, arrival.context.clone().into_any());
        slots.set(In::newest_ms, arrival.time.clone());
        if found.is_dated {
            slots.set(In::identities_ms, arrival.time.clone());
        }
        let piece = arrival.piece.clone().into_any();
        match (found.tail, found.only) {
            (Some(tail), _) => tail.append(piece)?,
            (None, None) => slots.set(In::only, piece),
            (None, Some(only)) => {
                slots.set(In::tail, PyList::new(py, [only, piece])?.into_any());
                slots.set(In::only, py.None().into_bound(py));
            }
        }
        slots.set(
            In::count,
            (found.count + arrival.count).into_pyobject(py)?.into_any(),
        );
        slots.set(In::touched, position.clone());
        slots.set(In::weight, weight.into_pyobject(py)?.into_any());
        run.count(arrival, more)?;
        if found.is_to_be_noted {
            run.store
                .call_method1(intern!(py, "_note_change"), (window, position))?;
        }
        if weight >= found.look_at {
            run.weigh()?;
            run.store.call_method1(intern!(py, "_look"), (window,))?;
        }
        Ok(true)
    }
}

impl<'py> Run<'_, 'py> {
    /// Count an upload that has joined a window, which is heavier by so much now.
    fn count(&mut self, arrival: &Arrival<'py>, more: i64) -> PyResult<()> {
        self.events += arrival.count;
        self.size += arrival.filled;
        self.memory += more;
        match &self.taking {
            Some(taking) => taking.take(&arrival.piece),
            None => Ok(()),
        }
    }

    /// Put the windows that opened into their queues.
    fn queue(&self) -> PyResult<()> {
        if !self.fresh.is_empty() {
            let py = self.store.py();
            self.store
                .call_method1(intern!(py, "_queue"), (&self.fresh,))?;
        }
        Ok(())
    }

    /// Add the memory that was kept aside to the store's.
    fn weigh(&mut self) -> PyResult<()> {
        let name = intern!(self.store.py(), "memory");
        let before: i64 = self.store.getattr(name)?.extract()?;
        self.store.setattr(name, before + self.memory)?;
        self.memory = 0;
        Ok(())
    }
}

/// Return the position of a piece's first event.
fn position<'py>(piece: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyTuple>> {
    let offset = piece.get_borrowed_item(0)?;
    let index = piece.get_borrowed_item(1)?;
    plain_tuple(piece.py(), [&offset, &index])
}
