//! What documents of a connection are made by: natively, or by Python that frames and renders.

use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use crate::encode_tail::{Layout, MParticleTails};
use crate::ids::BatchIds;

/// The methods `frame` and `render` of a maker in Python, and in what its documents are laid out.
#[pyclass(frozen)]
pub struct PythonFrames {
    frame: Py<PyAny>,
    render: Py<PyAny>,
    layout: Option<Layout>,
}

#[pymethods]
impl PythonFrames {
    /// `like`: documents are laid out as those of this maker; None: a document is its event.
    #[new]
    fn new(frame: Py<PyAny>, render: Py<PyAny>, like: Option<Py<MParticleTails>>) -> Self {
        PythonFrames {
            frame,
            render,
            layout: like.map(|tails| tails.get().layout.clone()),
        }
    }
}

/// The maker of a connection's documents, as Python hands it over.
#[derive(FromPyObject)]
pub enum Maker {
    Native(Py<MParticleTails>),
    Python(Py<PythonFrames>),
}

/// What the documents of a window have in common, besides the tail: `size` bytes, `limit` at most.
pub struct Framed<'py> {
    pub user: Bound<'py, PyString>,
    pub size: i64,
    pub limit: i64,
    by_python: Option<Bound<'py, PyAny>>,
}

impl Maker {
    /// The fixed parts of a document; None: it has none.
    pub fn layout(&self) -> Option<&Layout> {
        match self {
            Maker::Native(tails) => Some(&tails.get().layout),
            Maker::Python(frames) => frames.get().layout.as_ref(),
        }
    }

    /// Frame a context, and write its tail; None: it is an odd one.
    pub fn frame<'py>(
        &self,
        context: &Bound<'py, PyBytes>,
        dated: &Bound<'py, PyAny>,
        newest: &Bound<'py, PyAny>,
        tail: &mut Vec<u8>,
    ) -> PyResult<Option<Framed<'py>>> {
        let py = context.py();
        match self {
            Maker::Native(tails) => {
                let (dated, newest) = (dated.extract()?, newest.extract()?);
                let written = tails.get().write(context.as_bytes(), dated, newest, tail);
                Ok(written.map(|(user, limit)| Framed {
                    user: PyString::new(py, user),
                    size: (tails.get().layout.size() + tail.len()) as i64,
                    limit,
                    by_python: None,
                }))
            }
            Maker::Python(frames) => {
                let frame = frames.get().frame.bind(py);
                let Some(frame) = usual(py, frame.call1((context, dated, newest)))? else {
                    return Ok(None);
                };
                let written = frame.getattr(intern!(py, "tail"))?.cast_into::<PyBytes>()?;
                tail.clear();
                tail.extend_from_slice(written.as_bytes());
                Ok(Some(Framed {
                    user: frame.getattr(intern!(py, "user"))?.cast_into()?,
                    size: frame.getattr(intern!(py, "size"))?.extract()?,
                    limit: frame.getattr(intern!(py, "limit"))?.extract()?,
                    by_python: Some(frame),
                }))
            }
        }
    }

    /// Whether events stand in documents as they waited.
    pub fn takes_as_it_is(&self) -> bool {
        matches!(self, Maker::Native(_))
    }

    /// An event as it stands in a document; None: it is odd, or too large for one.
    pub fn render<'py>(
        &self,
        framed: &Framed<'py>,
        event: &[u8],
        py: Python<'py>,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let (Maker::Python(frames), Some(frame)) = (self, &framed.by_python) else {
            return Ok(None);
        };
        let render = frames.get().render.bind(py);
        let Some(rendered) = usual(py, render.call1((frame, PyBytes::new(py, event))))? else {
            return Ok(None);
        };
        let rendered = rendered.cast_into::<PyBytes>()?;
        let fits = framed.size + rendered.as_bytes().len() as i64 <= framed.limit;
        Ok(fits.then_some(rendered))
    }
}

/// What a call returned; None: it raised what odd input raises.
fn usual<'py>(
    py: Python<'py>,
    found: PyResult<Bound<'py, PyAny>>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_instance_of::<PyException>(py) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Write a document; one without a layout is its event, as it is.
pub fn written<'py>(
    py: Python<'py>,
    layout: Option<&Layout>,
    bodies: &[&[u8]],
    ids: &BatchIds,
    tail: &[u8],
) -> PyResult<Bound<'py, PyBytes>> {
    let Some(layout) = layout else {
        return Ok(PyBytes::new(py, &bodies.join(&b',')));
    };
    let events: usize = bodies.iter().map(|body| body.len() + 1).sum();
    let size = layout.size() + tail.len() + events.saturating_sub(1);
    let quote: &[u8] = if layout.quotes_number { b"\"" } else { b"" };
    PyBytes::new_with(py, size, |buffer| {
        let mut document = Document { buffer, at: 0 };
        document.put(&layout.before_events);
        for (i, body) in bodies.iter().enumerate() {
            if i > 0 {
                document.put(b",");
            }
            document.put(body);
        }
        let number = &ids.number;
        for part in [
            &*layout.before_id,
            &ids.text,
            &layout.before_number,
            quote,
            number,
            quote,
        ] {
            document.put(part);
        }
        document.put(tail);
        Ok(())
    })
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
