//! The native core of the hot path: what `forwarder.native` offers where it is built.
//!
//! Whatever it makes is byte for byte what the Python beside it makes; what is odd it leaves to that.

mod batches;
mod encode;
mod encode_json;
mod encode_maker;
mod encode_pieces;
mod encode_tail;
mod ids;
mod json;
mod json_marks;
mod plain_tuple;
mod records;
mod request;
mod scan;
mod scan_events;
mod scan_identity;
mod scan_kinds;
mod scan_layout;
mod scan_memo;
mod scan_mparticle;
mod scan_mparticle_places;
mod scan_pinpoint;
mod scan_pinpoint_events;
mod scan_record;
mod shares;
mod slots;
mod structs;
mod upload;
mod windows;
mod windows_read;

use pyo3::prelude::*;

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("VERSION", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<encode::Encoder>()?;
    module.add_class::<encode_tail::MParticleTails>()?;
    module.add_class::<encode_maker::PythonFrames>()?;
    module.add_function(wrap_pyfunction!(ids::python_digest, module)?)?;
    module.add_function(wrap_pyfunction!(request::put_records, module)?)?;
    module.add_function(wrap_pyfunction!(request::put_record_batch, module)?)?;
    module.add_class::<scan::Scanner>()?;
    module.add_class::<shares::Shares>()?;
    module.add_function(wrap_pyfunction!(scan_mparticle::mparticle_scanner, module)?)?;
    module.add_function(wrap_pyfunction!(scan_pinpoint::pinpoint_scanner, module)?)?;
    module.add_class::<windows::Joiner>()?;
    batches::register(module)?;
    records::register(module)?;
    Ok(())
}
