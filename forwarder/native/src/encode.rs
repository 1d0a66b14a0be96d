//! Closed windows made into batches: the twin of `forwarder/collect/encode.py`.
//!
//! Whatever is odd, or would not go into one document, is left to that, window by window.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use crate::encode_json::values;
use crate::encode_maker::{written, Framed, Maker};
use crate::encode_pieces::{each, waiting, Events, Piece, Place, Span};
use crate::ids::{digest, push_number, BatchIds, Digest};

/// Encodes the windows of one connection on one partition.
#[pyclass(frozen)]
pub struct Encoder {
    lane: Py<PyString>,
    base: Digest,
    maker: Maker,
    single: bool,
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

/// What the batches of a window have in common.
struct Shared<'a, 'py> {
    device: &'a [u8],
    key: Bound<'py, PyBytes>,
    window_key: Bound<'py, PyBytes>,
    record_ms: Bound<'py, PyAny>,
    user: Bound<'py, PyString>,
    reason: Bound<'py, PyAny>,
}

#[pymethods]
impl Encoder {
    /// `base`: what all ids of the connection begin with; `single`: a document holds one event;
    /// `batch`, `closing`: the classes.
    #[new]
    fn new(
        lane: Py<PyString>,
        base: &[u8],
        maker: Maker,
        single: bool,
        batch: Py<PyAny>,
        closing: Py<PyAny>,
    ) -> Self {
        let mut state = Digest::new();
        state.update(base);
        Encoder {
            lane,
            base: state,
            maker,
            single,
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
        let context = bytes_of(window, intern!(py, "context"))?;
        let dated = window.getattr(intern!(py, "identities_ms"))?;
        let record_ms = window.getattr(intern!(py, "newest_ms"))?;
        let framed = self
            .maker
            .frame(&context, &dated, &record_ms, &mut run.tail)?;
        let Some(framed) = framed else {
            return Ok(false);
        };
        let tuples = waiting(window)?;
        let pieces = tuples.iter().map(Piece::of).collect::<PyResult<Vec<_>>>()?;
        let (Some(first), Some(last)) = (pieces.first(), pieces.last()) else {
            return Ok(false);
        };
        let is_apart = window.getattr(intern!(py, "apart"))?.is_truthy()?;
        let events = if self.single || is_apart {
            each(&pieces)?.map(Events::Apart)
        } else {
            let bodies = pieces.iter().filter(|piece| piece.count > 0);
            let bodies = bodies.map(Piece::bytes).collect();
            Some(Events::Joined(Span::of(&pieces, first, last)?, bodies))
        };
        let Some(events) = events else {
            return Ok(false);
        };
        let rendered;
        let events = if self.maker.takes_as_it_is() {
            events
        } else {
            let Some(made) = self.rendered(&framed, &pieces)? else {
                return Ok(false);
            };
            rendered = made;
            events.of(&rendered)
        };
        if !events.fit(&pieces, &framed, run.left) {
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
            user: framed.user,
            reason: window.getattr(intern!(py, "reason"))?,
        };
        let (made, end) = match events {
            Events::Apart(mut events) => {
                for (span, event) in &events {
                    self.make(run, &shared, span, &[event])?;
                }
                let made = if is_apart { events.len() as i64 } else { 1 };
                let Some((span, _)) = events.pop() else {
                    return Ok(false);
                };
                (made, span.last)
            }
            Events::Joined(span, bodies) => {
                self.make(run, &shared, &span, &bodies)?;
                (1, span.last)
            }
        };
        self.close(run, window, shared, end, made)?;
        Ok(true)
    }

    /// Every event as it stands in a document, in order, those without events as nothing.
    fn rendered<'py>(
        &self,
        framed: &Framed<'py>,
        pieces: &[Piece<'_, 'py>],
    ) -> PyResult<Option<Vec<Bound<'py, PyBytes>>>> {
        let mut found = Vec::new();
        for piece in pieces {
            let py = piece.tuple.py();
            let whole = [piece.bytes()];
            let split = if piece.count > 1 {
                values(piece.bytes())
            } else {
                None
            };
            let events: &[&[u8]] = match (&split, piece.count) {
                (Some(events), count) if events.len() as i64 == count => events,
                (None, 0 | 1) => &whole,
                _ => return Ok(None),
            };
            for event in events {
                if piece.count == 0 {
                    found.push(PyBytes::new(py, b""));
                    continue;
                }
                let Some(event) = self.maker.render(framed, event, py)? else {
                    return Ok(None);
                };
                found.push(event);
            }
        }
        Ok(Some(found))
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
        let payload = written(py, self.maker.layout(), bodies, &ids, &run.tail)?;
        let size = payload.as_bytes().len() as i64;
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
            &payload,
        ))?;
        run.batches.append(batch)?;
        run.left -= size;
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

fn bytes_of<'py>(
    window: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyBytes>> {
    Ok(window.getattr(name)?.cast_into::<PyBytes>()?)
}
