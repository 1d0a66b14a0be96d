//! The native core of the hot path: what `forwarder.native` offers where it is built.
//!
//! Whatever it makes is byte for byte what the Python beside it makes; what is odd it leaves to that.

mod encode;
mod encode_json;
mod encode_tail;
mod ids;
mod request;

use pyo3::prelude::*;

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("VERSION", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<encode::Encoder>()?;
    module.add_class::<encode_tail::MParticleTails>()?;
    module.add_function(wrap_pyfunction!(ids::python_digest, module)?)?;
    module.add_function(wrap_pyfunction!(request::put_records, module)?)?;
    module.add_function(wrap_pyfunction!(request::put_record_batch, module)?)?;
    Ok(())
}
