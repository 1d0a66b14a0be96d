//! Makes instances of a `msgspec.Struct` of Python: its fields by their names, whatever their order.

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;

/// More than any of them has fields.
const MOST: usize = 40;

/// Calls the class with its first fields in order, as many as are needed to give these `N`.
pub struct StructMaker<const N: usize> {
    class: Py<PyAny>,
    defaults: Vec<Py<PyAny>>,
    places: [usize; N],
}

impl<const N: usize> StructMaker<N> {
    /// Learn the names and defaults of the class.
    pub fn new(class: &Bound<'_, PyAny>, names: &[&str; N]) -> PyResult<Self> {
        let py = class.py();
        let fields: Vec<String> = class.getattr("__struct_fields__")?.extract()?;
        let given: Vec<Py<PyAny>> = class.getattr("__struct_defaults__")?.extract()?;
        if fields.len() > MOST || given.len() > fields.len() {
            return Err(PyTypeError::new_err("a class of too many fields"));
        }
        let mut places = [0; N];
        for (place, name) in places.iter_mut().zip(names) {
            *place = fields
                .iter()
                .position(|field| field == name)
                .ok_or_else(|| PyTypeError::new_err(format!("a class without `{name}`")))?;
        }
        let mut defaults: Vec<Py<PyAny>> = Vec::new();
        defaults.resize_with(fields.len() - given.len(), || py.None());
        let needed = places.iter().max().map_or(0, |last| last + 1);
        let needed = needed.max(defaults.len());
        defaults.extend(given);
        defaults.truncate(needed);
        Ok(StructMaker {
            class: class.clone().unbind(),
            defaults,
            places,
        })
    }

    /// Return a new instance with these values; None: the field's default.
    pub fn make<'py>(
        &self,
        py: Python<'py>,
        values: [Option<Borrowed<'_, 'py, PyAny>>; N],
    ) -> PyResult<Bound<'py, PyAny>> {
        let mut given: [*mut ffi::PyObject; MOST] = [std::ptr::null_mut(); MOST];
        for (place, default) in given.iter_mut().zip(&self.defaults) {
            *place = default.as_ptr();
        }
        for (place, value) in self.places.iter().zip(values) {
            if let (Some(slot), Some(object)) = (given.get_mut(*place), value) {
                *slot = object.as_ptr();
            }
        }
        // SAFETY: the first `defaults.len()` of `given` are objects that `self` and `values` keep
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
