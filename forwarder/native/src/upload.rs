//! Makes an `Upload` of `forwarder.formats.contract`: its fields by their names, whatever their order.

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyList, PyTuple};

use crate::plain_tuple::plain_tuple;
use crate::scan::At;
use crate::structs::StructMaker;

/// What of an upload a scanner tells; all else has its default.
pub struct Told<'a, 'py> {
    pub at: &'a At<'a, 'py>,
    /// How many events it has.
    pub count: usize,
    /// Bytes of its record.
    pub size: usize,
    pub device: &'a Bound<'py, PyBytes>,
    pub owner: &'a Bound<'py, PyBytes>,
    pub environment: &'a Bound<'py, PyBytes>,
    pub application: &'a Bound<'py, PyBytes>,
    pub types: &'a Bound<'py, PyList>,
    pub sessions: &'a Bound<'py, PyList>,
    pub governed: &'a Bound<'py, PyList>,
    pub body: &'a Bound<'py, PyBytes>,
    pub context: &'a Bound<'py, PyBytes>,
    pub shape: &'a Bound<'py, PyAny>,
    pub keyless: bool,
    pub duplicate_keys: Option<&'a Bound<'py, PyList>>,
    pub platform: Option<&'a Bound<'py, PyBytes>>,
    pub api_keys: Option<&'a Bound<'py, PyTuple>>,
}

/// Makes uploads; see `StructMaker`.
pub struct UploadMaker(StructMaker<{ NAMES.len() }>);

const NAMES: [&str; 20] = [
    "offset",
    "time",
    "clock",
    "start",
    "device",
    "owner",
    "environment",
    "application",
    "types",
    "sessions",
    "governed",
    "body",
    "context",
    "shape",
    "size",
    "keyless",
    "piece",
    "duplicate_keys",
    "platform",
    "api_keys",
];

impl UploadMaker {
    /// Learn the names and defaults of a `msgspec.Struct`.
    pub fn new(class: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(UploadMaker(StructMaker::new(class, &NAMES)?))
    }

    /// Return a new upload of a record: all its events are one piece, unless it has none.
    pub fn make<'py>(&self, py: Python<'py>, told: &Told<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let At {
            offset,
            time,
            clock,
        } = told.at;
        let start = 0i32.into_pyobject(py)?;
        let size = told.size.into_pyobject(py)?;
        let keyless = PyBool::new(py, told.keyless);
        let piece = match told.count {
            0 => None,
            count => {
                let count = count.into_pyobject(py)?;
                let values = [
                    offset,
                    start.as_any(),
                    count.as_any(),
                    time,
                    told.body.as_any(),
                ];
                Some(plain_tuple(py, values)?)
            }
        };
        self.0.make(
            py,
            [
                Some(offset.as_borrowed()),
                Some(time.as_borrowed()),
                Some(clock.as_borrowed()),
                Some(start.as_any().as_borrowed()),
                Some(told.device.as_any().as_borrowed()),
                Some(told.owner.as_any().as_borrowed()),
                Some(told.environment.as_any().as_borrowed()),
                Some(told.application.as_any().as_borrowed()),
                Some(told.types.as_any().as_borrowed()),
                Some(told.sessions.as_any().as_borrowed()),
                Some(told.governed.as_any().as_borrowed()),
                Some(told.body.as_any().as_borrowed()),
                Some(told.context.as_any().as_borrowed()),
                Some(told.shape.as_borrowed()),
                Some(size.as_any().as_borrowed()),
                Some(keyless.as_any().as_borrowed()),
                piece.as_ref().map(|piece| piece.as_any().as_borrowed()),
                told.duplicate_keys.map(|keys| keys.as_any().as_borrowed()),
                told.platform
                    .map(|platform| platform.as_any().as_borrowed()),
                told.api_keys.map(|keys| keys.as_any().as_borrowed()),
            ],
        )
    }
}
