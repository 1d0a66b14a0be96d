//! Takes the records of one batch of Kafka's format 2 apart, whole batches in one call.
//!
//! The layout is that of KIP-98; `forwarder/kafka/patches/records.py` has the same in Python, and
//! says what is asked of either. The bytes come from anybody who may write to the topic: a length
//! that leads beyond the end of them, or a record that does not end where it says, is a fault.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

/// Add what is here to the native core.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Record>()?;
    module.add_class::<RecordReader>()?;
    module.add_function(wrap_pyfunction!(count_records, module)?)?;
    module.add_function(wrap_pyfunction!(fitting, module)?)?;
    module.add_function(wrap_pyfunction!(checksum, module)?)
}

/// Bytes of a number at most: 64 bits, seven in a byte.
const MOST_SHIFT: u32 = 63;

/// A record as Kafka holds it: what a source hands over for each message.
#[pyclass(frozen, get_all, module = "forwarder.native._core")]
pub struct Record {
    pub offset: i64,
    /// Milliseconds since the epoch; -1: it has none.
    pub timestamp: i64,
    pub key: Option<Py<PyBytes>>,
    pub value: Option<Py<PyBytes>>,
    /// Pairs of a name and bytes or None.
    pub headers: Py<PyTuple>,
}

#[pymethods]
impl Record {
    fn __repr__(&self) -> String {
        format!(
            "Record(offset={}, timestamp={})",
            self.offset, self.timestamp
        )
    }
}

/// Why a record cannot be read.
pub enum Fault {
    /// Its bytes are not what the layout says.
    Malformed,
    /// What Python raised while an object was made.
    Raised(PyErr),
}

impl From<PyErr> for Fault {
    fn from(error: PyErr) -> Self {
        Fault::Raised(error)
    }
}

impl From<Fault> for PyErr {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Malformed => PyValueError::new_err("malformed"),
            Fault::Raised(error) => error,
        }
    }
}

/// A place in bytes, read from there on.
struct Cursor<'a> {
    content: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Read a number: seven bits a byte, the lowest first, zigzag.
    #[inline]
    fn number(&mut self) -> Result<i64, Fault> {
        let mut value: u64 = 0;
        let mut shift: u32 = 0;
        loop {
            let byte = *self.content.get(self.at).ok_or(Fault::Malformed)?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
            shift += 7;
            if shift > MOST_SHIFT {
                return Err(Fault::Malformed);
            }
        }
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// Take as many bytes as there have to be.
    #[inline]
    fn bytes(&mut self, size: i64) -> Result<&'a [u8], Fault> {
        let size = usize::try_from(size).map_err(|_| Fault::Malformed)?;
        let end = self.at.checked_add(size).ok_or(Fault::Malformed)?;
        let found = self.content.get(self.at..end).ok_or(Fault::Malformed)?;
        self.at = end;
        Ok(found)
    }

    /// Take bytes behind their length, which is negative where there are none.
    #[inline]
    fn nullable(&mut self) -> Result<Option<&'a [u8]>, Fault> {
        let size = self.number()?;
        if size < 0 {
            return Ok(None);
        }
        self.bytes(size).map(Some)
    }
}

/// How far the records of one batch are read.
pub struct Progress {
    pub at: usize,
    /// How many there still are, as the batch says.
    pub left: i64,
    pub base_offset: i64,
    /// That of the first record, or of each of them where they are dated alike.
    pub time: i64,
    pub dated_alike: bool,
    /// Wanted is what lies above it.
    pub last: i64,
}

/// The records of one batch, given in order and once each.
#[pyclass(module = "forwarder.native._core")]
pub struct RecordReader {
    content: Py<PyBytes>,
    end: usize,
    progress: Progress,
    fault: Option<PyErr>,
}

#[pymethods]
impl RecordReader {
    /// Prepare to read `content[start:end]`, which is unpacked and says it has `count` records.
    ///
    /// `time`: that of the first record, or of each of them where they are `dated_alike`.
    /// `first`: what lies at lower offsets, or not above a record before it, is left out.
    #[new]
    #[allow(clippy::too_many_arguments)]
    fn new(
        content: Py<PyBytes>,
        start: usize,
        end: usize,
        count: i64,
        base_offset: i64,
        time: i64,
        dated_alike: bool,
        first: i64,
    ) -> Self {
        let progress = Progress {
            at: start,
            left: count,
            base_offset,
            time,
            dated_alike,
            last: first.saturating_sub(1),
        };
        RecordReader {
            content,
            end,
            progress,
            fault: None,
        }
    }

    /// Return the next records, `most` of them at most; none once all were returned.
    ///
    /// Raises ValueError where the next one is malformed, and once behind the last one anything is
    /// left: what came before was returned then.
    fn take<'py>(&mut self, py: Python<'py>, most: usize) -> PyResult<Bound<'py, PyList>> {
        let found = PyList::empty(py);
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        let content = self.content.clone_ref(py);
        let content = content.as_bytes(py);
        let content = content.get(..self.end).unwrap_or(content);
        while found.len() < most {
            let read = match self.progress.next_record(py, content) {
                Ok(Some(record)) => Py::new(py, record),
                Ok(None) => break,
                Err(fault) => Err(fault.into()),
            };
            let added = read.and_then(|record| found.append(record));
            if let Err(error) = added {
                if found.is_empty() {
                    return Err(error);
                }
                self.fault = Some(error);
                break;
            }
        }
        Ok(found)
    }
}

impl Progress {
    /// Read on up to the next record that is wanted; None: there is none.
    pub fn next_record(&mut self, py: Python<'_>, content: &[u8]) -> Result<Option<Record>, Fault> {
        while self.left > 0 {
            let mut cursor = Cursor {
                content,
                at: self.at,
            };
            let found = self.read(py, &mut cursor)?;
            self.at = cursor.at;
            self.left -= 1;
            if let Some(record) = found {
                self.last = record.offset;
                return Ok(Some(record));
            }
        }
        if self.at == content.len() {
            Ok(None)
        } else {
            Err(Fault::Malformed)
        }
    }

    /// Read the record at the cursor; None for one that is not wanted.
    #[inline]
    fn read(&self, py: Python<'_>, cursor: &mut Cursor<'_>) -> Result<Option<Record>, Fault> {
        let length = cursor.number()?;
        let start = cursor.at;
        cursor.number()?; // attributes, of which there are none yet
        let time_delta = cursor.number()?;
        let offset = self.base_offset.wrapping_add(cursor.number()?);
        let key = cursor.nullable()?;
        let value = cursor.nullable()?;
        let headers = cursor.number()?;
        if headers < 0 {
            return Err(Fault::Malformed);
        }
        let is_wanted = offset > self.last;
        let headers = if headers == 0 {
            is_wanted.then(|| PyTuple::empty(py).unbind())
        } else {
            read_headers(py, cursor, headers, is_wanted)?
        };
        if i64::try_from(cursor.at - start) != Ok(length) {
            return Err(Fault::Malformed);
        }
        let timestamp = if self.dated_alike {
            self.time
        } else {
            self.time.wrapping_add(time_delta)
        };
        Ok(headers.map(|headers| Record {
            offset,
            timestamp,
            key: key.map(|it| PyBytes::new(py, it).unbind()),
            value: value.map(|it| PyBytes::new(py, it).unbind()),
            headers,
        }))
    }
}

/// Read so many headers; None where they are not wanted, and only looked at.
fn read_headers(
    py: Python<'_>,
    cursor: &mut Cursor<'_>,
    count: i64,
    is_wanted: bool,
) -> Result<Option<Py<PyTuple>>, Fault> {
    let mut found = Vec::new();
    for _ in 0..count {
        let size = cursor.number()?;
        let name = cursor.bytes(size)?;
        let value = cursor.nullable()?;
        if is_wanted {
            let value = value.map(|it| PyBytes::new(py, it));
            found.push((text(py, name)?, value).into_pyobject(py)?);
        }
    }
    if !is_wanted {
        return Ok(None);
    }
    Ok(Some(PyTuple::new(py, found)?.unbind()))
}

/// Return a name as text; what is no UTF-8 in it is replaced as Python does it.
fn text<'py>(py: Python<'py>, name: &[u8]) -> PyResult<Bound<'py, PyString>> {
    match std::str::from_utf8(name) {
        Ok(name) => Ok(PyString::new(py, name)),
        Err(_) => {
            let odd = PyBytes::new(py, name);
            PyString::from_encoded_object(&odd, Some(c"utf-8"), Some(c"replace"))
        }
    }
}

/// Return the CRC-32C of `content[start:end]`.
#[pyfunction]
pub fn checksum(content: &Bound<'_, PyBytes>, start: usize, end: usize) -> PyResult<u32> {
    let part = content.as_bytes().get(start..end);
    part.map(crc32c::crc32c)
        .ok_or_else(|| PyValueError::new_err("out of range"))
}

/// Return how many records fit into so many bytes, the last perhaps not, and what is left of them.
#[pyfunction]
pub fn fitting(records: &Bound<'_, PyAny>, room: i64) -> PyResult<(usize, i64)> {
    let (mut count, mut room) = (0, room);
    for record in records.try_iter()? {
        let record = record?;
        let size = match record.cast::<Record>() {
            Ok(own) => own
                .get()
                .value
                .as_ref()
                .map_or(0, |it| it.as_bytes(own.py()).len()),
            Err(_) => match record.getattr("value")? {
                value if value.is_none() => 0,
                value => value.len()?,
            },
        };
        count += 1;
        room = room.saturating_sub(i64::try_from(size).unwrap_or(i64::MAX));
        if room <= 0 {
            break;
        }
    }
    Ok((count, room))
}

/// Return how many records there are, up to one above `most`, and headers of those of `long` bytes.
///
/// What is malformed ends the count: whoever reads them finds it.
#[pyfunction]
pub fn count_records(
    content: &Bound<'_, PyBytes>,
    start: usize,
    end: usize,
    long: i64,
    most: u64,
) -> (u64, i64) {
    let content = content.as_bytes();
    let content = content.get(..end).unwrap_or(content);
    let mut cursor = Cursor { content, at: start };
    let (mut number, mut headers) = (0, 0_i64);
    while cursor.at < content.len() && number <= most {
        let Ok(size) = cursor.number() else { break };
        let begin = cursor.at;
        if size >= long {
            let Ok(some) = count_headers(&mut cursor) else {
                break;
            };
            headers = headers.saturating_add(some);
        }
        let Ok(size) = usize::try_from(size) else {
            break;
        };
        number += 1;
        cursor.at = begin.saturating_add(size);
    }
    (number, headers)
}

/// Return how many headers the record has that begins at its attributes, a byte.
fn count_headers(cursor: &mut Cursor<'_>) -> Result<i64, Fault> {
    cursor.at += 1;
    cursor.number()?; // its time
    cursor.number()?; // its offset
    for _ in 0..2 {
        let size = cursor.number()?.max(0);
        let size = usize::try_from(size).map_err(|_| Fault::Malformed)?;
        cursor.at = cursor.at.saturating_add(size);
    }
    cursor.number()
}
