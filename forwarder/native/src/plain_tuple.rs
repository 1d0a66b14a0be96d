//! Tuples of numbers and bytes, which the garbage collector of Python need not look at.
//!
//! It would find out by itself, with the first look at each of them: a million that wait are a
//! million looks. Positions and pieces of `forwarder.model` are such tuples.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyTuple};

/// Return a tuple of these; the collector does not know it where all are numbers and bytes.
#[inline]
pub fn plain_tuple<'py, const LENGTH: usize>(
    py: Python<'py>,
    values: [&Bound<'py, PyAny>; LENGTH],
) -> PyResult<Bound<'py, PyTuple>> {
    const { assert!(LENGTH > 0) }; // of no length there is only one
    let refers = |value: &&Bound<'py, PyAny>| {
        !value.is_exact_instance_of::<PyInt>() && !value.is_exact_instance_of::<PyBytes>()
    };
    let is_plain = !values.iter().any(refers);
    let tuple = PyTuple::new(py, values)?;
    if is_plain {
        // SAFETY: an exact tuple, which nobody else has; what is not tracked may be untracked. It
        // refers to no object that refers to any, so that it is in no cycle: the collector
        // untracks it for the same reason (`_PyTuple_MaybeUntrack`). The thread is attached (`py`).
        unsafe { ffi::PyObject_GC_UnTrack(tuple.as_ptr().cast()) };
    }
    Ok(tuple)
}
