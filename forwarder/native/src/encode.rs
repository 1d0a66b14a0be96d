//! Closed windows made into batches: the twin of `forwarder/collect/encode.py`.
//!
//! Whatever is odd, or would not go into one document, is left to that, window by window.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use crate::encode_json::values;
use crate::encode_tail::MParticleTails;
use crate::ids::{digest, push_number, BatchIds, Digest};

/// Encodes the windows of one connection on one partition.
#[pyclass(frozen)]
pub struct Encoder {
    lane: Py<PyString>,
    base: Digest,
    tails: Py<MParticleTails>,
    batch: Py<PyAny>,
    closing: Py<PyAny>,
}

/// What a call of `encode` has made so far, and what it writes in.
struct Run<'a, 'py> {
    now_ms: &'a Bound<'py, PyAny>,
    batches: &'a Bound<'py, PyList>,
    closings: &'a Bound<'py, PyList>,
    left: i64,
    lowest: i64,
    counts: Vec<(Bound<'py, PyAny>, i64)>,
    tail: Vec<u8>,
    text: Vec<u8>,
}

/// A run of consecutive events, as it waited; `first` is its position.
struct Piece<'a, 'py> {
    tuple: &'a Bound<'py, PyTuple>,
    offset: i64,
    start: i64,
    count: i64,
    time: i64,
    body: Bound<'py, PyBytes>,
}

/// What the batches of a window have in common.
struct Shared<'a, 'py> {
    device: &'a [u8],
    key: Bound<'py, PyBytes>,
    window_key: Bound<'py, PyBytes>,
    record_ms: Bound<'py, PyAny>,
    user: Bound<'py, PyString>,
    reason: Bound<'py, PyAny>,
}

/// A position: offset of the record, index of the event in it.
type Place<'py> = (Bound<'py, PyTuple>, i64, i64);

/// Which events are in a document.
struct Span<'py> {
    first: Place<'py>,
    last: Place<'py>,
    number: Bound<'py, PyAny>,
    count: i64,
    time: i64,
}

/// One event, which is a document of its own.
type Event<'a, 'py> = (Span<'py>, &'a [u8]);

#[pymethods]
impl Encoder {
    /// `base`: what all ids of the connection begin with; `batch`, `closing`: the classes.
    #[new]
    fn new(
        lane: Py<PyString>,
        base: &[u8],
        tails: Py<MParticleTails>,
        batch: Py<PyAny>,
        closing: Py<PyAny>,
    ) -> Self {
        let mut state = Digest::new();
        state.update(base);
        Encoder {
            lane,
            base: state,
            tails,
            batch,
            closing,
        }
    }

    /// Encode windows from `start` on while they are ordinary, and until `most` bytes are made.
    ///
    /// Appends to `batches` and `closings`, and adds to `closed` by (lane, reason). Returns which
    /// window comes next, how many bytes were made, and the lowest offset at which one ended.
    #[allow(clippy::too_many_arguments)]
    fn encode<'py>(
        &self,
        windows: &Bound<'py, PyList>,
        start: usize,
        now_ms: &Bound<'py, PyAny>,
        most: i64,
        batches: &Bound<'py, PyList>,
        closings: &Bound<'py, PyList>,
        closed: &Bound<'py, PyDict>,
    ) -> PyResult<(usize, i64, i64)> {
        let py = windows.py();
        let mut run = Run {
            now_ms,
            batches,
            closings,
            left: most,
            lowest: i64::MAX,
            counts: Vec::new(),
            tail: Vec::with_capacity(2048),
            text: Vec::with_capacity(128),
        };
        let mut at = start;
        while at < windows.len() && run.left > 0 && self.window(&mut run, &windows.get_item(at)?)? {
            at += 1;
        }
        for (reason, count) in run.counts {
            let key = (&self.lane, reason).into_pyobject(py)?;
            let before = match closed.get_item(&key)? {
                Some(known) => known.extract::<i64>()?,
                None => 0,
            };
            closed.set_item(key, before + count)?;
        }
        Ok((at, most - run.left, run.lowest))
    }
}

impl Encoder {
    /// Encode one window; false: it is not an ordinary one, and nothing was done.
    fn window<'py>(&self, run: &mut Run<'_, 'py>, window: &Bound<'py, PyAny>) -> PyResult<bool> {
        let py = window.py();
        let tails = self.tails.get();
        let context = bytes_of(window, intern!(py, "context"))?;
        let dated = window.getattr(intern!(py, "identities_ms"))?.extract()?;
        let record_ms = window.getattr(intern!(py, "newest_ms"))?;
        let newest = record_ms.extract()?;
        let Some((user, limit)) = tails.write(context.as_bytes(), dated, newest, &mut run.tail)
        else {
            return Ok(false);
        };
        let tuples = waiting(window)?;
        let pieces = tuples.iter().map(Piece::of).collect::<PyResult<Vec<_>>>()?;
        let (Some(first), Some(last)) = (pieces.first(), pieces.last()) else {
            return Ok(false);
        };
        let apart = window.getattr(intern!(py, "apart"))?.is_truthy()?;
        let size = tails.bare_bytes() + run.tail.len();
        let joined: usize = pieces.iter().map(|piece| piece.bytes().len() + 1).sum();
        let many = if apart {
            pieces.iter().map(|piece| piece.count.max(1)).sum()
        } else {
            1
        };
        let bytes = size as i64 * many + joined as i64;
        if if apart {
            many > 1 && bytes > run.left
        } else {
            bytes - 1 > limit
        } {
            return Ok(false);
        }
        let device = bytes_of(window, intern!(py, "device"))?;
        let key = bytes_of(window, intern!(py, "key"))?;
        let name = PyBytes::new(py, &digest(device.as_bytes()));
        let is_same = key.is(&device) || key.as_bytes() == device.as_bytes();
        let shared = Shared {
            device: device.as_bytes(),
            window_key: if is_same {
                name.clone()
            } else {
                PyBytes::new(py, &digest(key.as_bytes()))
            },
            key: name,
            record_ms,
            user: PyString::new(py, user),
            reason: window.getattr(intern!(py, "reason"))?,
        };
        let (made, end) = if apart {
            let Some(mut events) = each(&pieces)? else {
                return Ok(false);
            };
            for (span, event) in &events {
                self.make(run, &shared, span, &[event])?;
            }
            let made = events.len() as i64;
            let Some((span, _)) = events.pop() else {
                return Ok(false);
            };
            (made, span.last)
        } else {
            let span = Span::of(&pieces, first, last)?;
            let bodies: Vec<&[u8]> = pieces
                .iter()
                .filter(|piece| piece.count > 0)
                .map(Piece::bytes)
                .collect();
            self.make(run, &shared, &span, &bodies)?;
            (1, span.last)
        };
        self.close(run, window, shared, end, made)?;
        Ok(true)
    }

    /// Make a batch of these runs of events.
    fn make<'py>(
        &self,
        run: &mut Run<'_, 'py>,
        shared: &Shared<'_, 'py>,
        span: &Span<'py>,
        bodies: &[&[u8]],
    ) -> PyResult<()> {
        let py = run.now_ms.py();
        let layout = &self.tails.get().layout;
        let text = &mut run.text;
        text.clear();
        let (first, last) = (&span.first, &span.last);
        for number in [first.1, first.2, last.1, last.2, span.count, span.time] {
            push_number(text, number);
            text.push(b',');
        }
        let mut state = self.base.clone();
        state.update(text);
        state.update(shared.device);
        let ids = BatchIds::of(state.finish());
        let events: usize = bodies.iter().map(|body| body.len() + 1).sum();
        let size = self.tails.get().bare_bytes() + run.tail.len() + events.saturating_sub(1);
        let quote: &[u8] = if layout.quotes_number { b"\"" } else { b"" };
        let payload = PyBytes::new_with(py, size, |buffer| {
            let mut document = Document { buffer, at: 0 };
            document.put(&layout.before_events);
            for (i, body) in bodies.iter().enumerate() {
                if i > 0 {
                    document.put(b",");
                }
                document.put(body);
            }
            for part in [
                &*layout.before_id,
                &ids.text,
                &layout.before_number,
                quote,
                &ids.number,
            ] {
                document.put(part);
            }
            document.put(quote);
            document.put(&run.tail);
            Ok(())
        })?;
        let id = std::str::from_utf8(&ids.text).unwrap_or_default();
        let batch = self.batch.bind(py).call1((
            &self.lane,
            id,
            &shared.key,
            &shared.window_key,
            &first.0,
            &last.0,
            &span.number,
            run.now_ms,
            &shared.record_ms,
            &shared.user,
            &shared.reason,
            payload,
        ))?;
        run.batches.append(batch)?;
        run.left -= size as i64;
        Ok(())
    }

    /// Note that a window has become so many batches, and how far they go.
    fn close<'py>(
        &self,
        run: &mut Run<'_, 'py>,
        window: &Bound<'py, PyAny>,
        shared: Shared<'_, 'py>,
        end: Place<'py>,
        made: i64,
    ) -> PyResult<()> {
        let py = window.py();
        match run
            .counts
            .iter_mut()
            .find(|(reason, _)| reason.is(&shared.reason))
        {
            Some((_, sum)) => *sum += made,
            None => run.counts.push((shared.reason, made)),
        }
        let (mut position, offset, index) = end;
        run.lowest = run.lowest.min(offset);
        let saved = window.getattr(intern!(py, "saved"))?;
        if !saved.is_none() {
            // What was saved may end with events that today's filter left out.
            let to = saved.getattr(intern!(py, "to"))?.cast_into::<PyTuple>()?;
            if to.extract::<(i64, i64)>()? > (offset, index) {
                position = to;
            }
        }
        let closing = (&self.lane, shared.window_key, position);
        run.closings.append(self.closing.bind(py).call1(closing)?)?;
        window.call_method0(intern!(py, "release"))?;
        Ok(())
    }
}

impl<'a, 'py> Piece<'a, 'py> {
    fn bytes(&self) -> &[u8] {
        self.body.as_bytes()
    }

    fn of(tuple: &'a Bound<'py, PyTuple>) -> PyResult<Self> {
        Ok(Piece {
            tuple,
            offset: tuple.get_borrowed_item(0)?.extract()?,
            start: tuple.get_borrowed_item(1)?.extract()?,
            count: tuple.get_borrowed_item(2)?.extract()?,
            time: tuple.get_borrowed_item(3)?.extract()?,
            body: tuple.get_item(4)?.cast_into()?,
        })
    }

    fn number(&self) -> PyResult<Bound<'py, PyAny>> {
        self.tuple.get_item(2)
    }

    /// The position of its first event.
    fn first(&self) -> PyResult<Place<'py>> {
        let offset = self.tuple.get_borrowed_item(0)?;
        let start = self.tuple.get_borrowed_item(1)?;
        let position = PyTuple::new(self.tuple.py(), [offset, start])?;
        Ok((position, self.offset, self.start))
    }

    /// The position of its last event; without events it takes one place.
    fn last(&self) -> PyResult<Place<'py>> {
        let index = self.start.saturating_add(self.count.max(1) - 1);
        let position = (self.offset, index).into_pyobject(self.tuple.py())?;
        Ok((position, self.offset, index))
    }
}

impl<'py> Span<'py> {
    fn of(
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
fn waiting<'py>(window: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, PyTuple>>> {
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
fn each<'a, 'py>(pieces: &'a [Piece<'_, 'py>]) -> PyResult<Option<Vec<Event<'a, 'py>>>> {
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

fn bytes_of<'py>(
    window: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyBytes>> {
    Ok(window.getattr(name)?.cast_into::<PyBytes>()?)
}

/// A document as it is written.
struct Document<'a> {
    buffer: &'a mut [u8],
    at: usize,
}

impl Document<'_> {
    fn put(&mut self, part: &[u8]) {
        self.buffer[self.at..self.at + part.len()].copy_from_slice(part);
        self.at += part.len();
    }
}
