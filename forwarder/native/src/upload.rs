//! Makes an `Upload` of `forwarder.formats.contract`: its fields by their names, whatever their order.

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyList, PyTuple};

use crate::scan::At;

/// More than an upload has fields.
const MOST: usize = 40;

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

/// Calls the class with all its fields in order.
pub struct UploadMaker {
    class: Py<PyAny>,
    defaults: Vec<Py<PyAny>>,
    places: [usize; NAMES.len()],
}

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
        let py = class.py();
        let fields: Vec<String> = class.getattr("__struct_fields__")?.extract()?;
        let given: Vec<Py<PyAny>> = class.getattr("__struct_defaults__")?.extract()?;
        if fields.len() > MOST || given.len() > fields.len() {
            return Err(PyTypeError::new_err("a class of too many fields"));
        }
        let mut defaults: Vec<Py<PyAny>> = Vec::new();
        defaults.resize_with(fields.len() - given.len(), || py.None());
        defaults.extend(given);
        let mut places = [0; NAMES.len()];
        for (place, name) in places.iter_mut().zip(NAMES) {
            *place = fields
                .iter()
                .position(|field| field == name)
                .ok_or_else(|| PyTypeError::new_err(format!("a class without `{name}`")))?;
        }
        Ok(UploadMaker {
            class: class.clone().unbind(),
            defaults,
            places,
        })
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
            count => Some((*offset, &start, count, *time, told.body).into_pyobject(py)?),
        };
        let mut given: [*mut ffi::PyObject; MOST] = [std::ptr::null_mut(); MOST];
        for (place, default) in given.iter_mut().zip(&self.defaults) {
            *place = default.as_ptr();
        }
        let known: [Option<*mut ffi::PyObject>; NAMES.len()] = [
            Some(offset.as_ptr()),
            Some(time.as_ptr()),
            Some(clock.as_ptr()),
            Some(start.as_ptr()),
            Some(told.device.as_ptr()),
            Some(told.owner.as_ptr()),
            Some(told.environment.as_ptr()),
            Some(told.application.as_ptr()),
            Some(told.types.as_ptr()),
            Some(told.sessions.as_ptr()),
            Some(told.governed.as_ptr()),
            Some(told.body.as_ptr()),
            Some(told.context.as_ptr()),
            Some(told.shape.as_ptr()),
            Some(size.as_ptr()),
            Some(keyless.as_ptr()),
            piece.as_ref().map(|piece| piece.as_ptr()),
            told.duplicate_keys.map(|keys| keys.as_ptr()),
            told.platform.map(|platform| platform.as_ptr()),
            told.api_keys.map(|keys| keys.as_ptr()),
        ];
        for (place, value) in self.places.iter().zip(known) {
            if let (Some(slot), Some(object)) = (given.get_mut(*place), value) {
                *slot = object;
            }
        }
        // SAFETY: the first `defaults.len()` of `given` are objects that `self` and `told` keep
        // alive until the call is over, and it takes no ownership; the thread is attached (`py`).
        unsafe {
            let made = ffi::PyObject_Vectorcall(
                self.class.as_ptr(),
                given.as_ptr(),
                self.defaults.len(),
                std::ptr::null_mut(),
            );
            Bound::from_owned_ptr_or_err(py, made)
        }
    }
}
