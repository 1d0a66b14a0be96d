//! The native core of the hot path: what `forwarder.native` offers where it is built.
//!
//! Whatever it makes is byte for byte what the Python beside it makes; what is odd it leaves to that.

use pyo3::prelude::*;

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("VERSION", env!("CARGO_PKG_VERSION"))?;
    Ok(())
}
