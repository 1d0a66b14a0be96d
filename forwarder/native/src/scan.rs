//! The way through a poll that both formats share: the twin of `PollDecoder.scan`.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PySet, PyTuple};

use crate::records::Record;

/// Why no upload was made of a record here.
pub enum Stop {
    /// The Python `decode` has to look at it.
    Odd,
    /// Python raised.
    Raised(PyErr),
}

impl From<PyErr> for Stop {
    fn from(error: PyErr) -> Self {
        Stop::Raised(error)
    }
}

/// What is made of a record here, or why not.
pub type Seen<T> = Result<T, Stop>;

/// Takes what is not there for a record that Python has to look at.
pub trait OrOdd<T> {
    fn or_odd(self) -> Seen<T>;
}

impl<T> OrOdd<T> for Option<T> {
    #[inline(always)]
    fn or_odd(self) -> Seen<T> {
        self.ok_or(Stop::Odd)
    }
}

/// Where a record stands, and when.
pub struct At<'a, 'py> {
    pub offset: &'a Bound<'py, PyAny>,
    pub time: &'a Bound<'py, PyAny>,
    pub clock: &'a Bound<'py, PyAny>,
}

/// What a poll's uploads are found to have, all of them together.
pub struct Together<'py> {
    kinds: Bound<'py, PySet>,
    /// Kept alive until the poll is over, so that no other object has the place of one of them.
    recent: [Option<Bound<'py, PyAny>>; RECENT],
    next: usize,
    pub governed: bool,
}

const RECENT: usize = 16;

impl<'py> Together<'py> {
    pub fn new(py: Python<'py>) -> PyResult<Self> {
        let kinds = PySet::empty(py)?;
        Ok(Together {
            kinds,
            recent: Default::default(),
            next: 0,
            governed: false,
        })
    }

    /// Note the type of an event; one that is remembered for other records is noted once.
    #[inline]
    pub fn add(&mut self, kind: &Bound<'py, PyAny>) -> PyResult<()> {
        let is_it = |one: &Option<Bound<'py, PyAny>>| one.as_ref().is_some_and(|one| one.is(kind));
        if is_it(&self.recent[self.next.wrapping_sub(1) % RECENT]) {
            return Ok(());
        }
        if !self.recent.iter().any(is_it) {
            self.kinds.add(kind)?;
            self.recent[self.next % RECENT] = Some(kind.clone());
            self.next += 1;
        }
        Ok(())
    }

    /// Note an upload that Python has made of a value, and tell it how long that is.
    fn add_decoded(
        &mut self,
        upload: &Bound<'py, PyAny>,
        value: &Bound<'py, PyAny>,
    ) -> PyResult<()> {
        let py = upload.py();
        upload.setattr(intern!(py, "size"), value.len()?)?;
        for kind in upload.getattr(intern!(py, "types"))?.try_iter()? {
            self.add(&kind?)?;
        }
        self.governed |= upload.getattr(intern!(py, "governed"))?.is_truthy()?;
        Ok(())
    }
}

/// Makes the upload of one record's value: in this alone the scanners of formats differ.
pub trait Reads: Send + Sync {
    fn upload<'py>(
        &mut self,
        value: &Bound<'py, PyBytes>,
        at: &At<'_, 'py>,
        together: &mut Together<'py>,
    ) -> Seen<Bound<'py, PyAny>>;
}

/// Reads the uploads of one partition, in the format that it was made for.
#[pyclass(module = "forwarder.native._core")]
pub struct Scanner {
    odd_record: Py<PyAny>,
    // Boxed: Python's allocator aligns to 16 bytes, and what finds words wants 32.
    reader: Box<dyn Reads>,
}

impl Scanner {
    pub fn new(odd_record: Py<PyAny>, reader: impl Reads + 'static) -> Self {
        Scanner {
            odd_record,
            reader: Box::new(reader),
        }
    }
}

#[pymethods]
impl Scanner {
    /// Return the fields of a `Scan`; `decode` is asked about every record that is odd here.
    fn scan<'py>(
        &mut self,
        records: &Bound<'py, PyAny>,
        clock: Bound<'py, PyAny>,
        now_ms: i64,
        is_told: &Bound<'py, PyAny>,
        decode: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let asked = Asked {
            records,
            clock,
            now_ms,
            is_told,
            decode,
            odd_record: self.odd_record.bind(records.py()),
        };
        scan(self.reader.as_mut(), asked)
    }

    /// Return the upload that a record's value is, None where `decode` has to look at it.
    fn read<'py>(
        &mut self,
        value: &Bound<'py, PyBytes>,
        offset: &Bound<'py, PyAny>,
        time: &Bound<'py, PyAny>,
        clock: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let at = At {
            offset,
            time,
            clock,
        };
        let mut together = Together::new(value.py())?;
        match self.reader.upload(value, &at, &mut together) {
            Ok(upload) => Ok(Some(upload)),
            Err(Stop::Odd) => Ok(None),
            Err(Stop::Raised(error)) => Err(error),
        }
    }
}

/// What is asked of Python about a poll.
struct Asked<'a, 'py> {
    records: &'a Bound<'py, PyAny>,
    clock: Bound<'py, PyAny>,
    now_ms: i64,
    is_told: &'a Bound<'py, PyAny>,
    decode: &'a Bound<'py, PyAny>,
    odd_record: &'a Bound<'py, PyAny>,
}

/// A record of a source's, whatever its class.
struct Given<'py> {
    offset: Bound<'py, PyAny>,
    time: Bound<'py, PyAny>,
    time_ms: i64,
    value: Option<Bound<'py, PyAny>>,
    /// None: it has none.
    headers: Option<Bound<'py, PyAny>>,
}

impl<'py> Given<'py> {
    #[inline]
    fn new(record: &Bound<'py, PyAny>) -> PyResult<Self> {
        let py = record.py();
        if let Ok(known) = record.cast_exact::<Record>() {
            let known = known.get();
            let value = known.value.as_ref();
            let headers = known.headers.bind(py);
            return Ok(Given {
                offset: known.offset.into_pyobject(py)?.into_any(),
                time: known.timestamp.into_pyobject(py)?.into_any(),
                time_ms: known.timestamp,
                value: value.map(|value| value.bind(py).clone().into_any()),
                headers: (!headers.is_empty()).then(|| headers.clone().into_any()),
            });
        }
        let time = record.getattr(intern!(py, "timestamp"))?;
        let value = record.getattr(intern!(py, "value"))?;
        let headers = record.getattr(intern!(py, "headers"))?;
        Ok(Given {
            offset: record.getattr(intern!(py, "offset"))?,
            time_ms: time.extract()?,
            time,
            value: (!value.is_none()).then_some(value),
            headers: headers.is_truthy()?.then_some(headers),
        })
    }
}

/// Return the fields of a `Scan` of these records.
fn scan<'py>(reader: &mut dyn Reads, asked: Asked<'_, 'py>) -> PyResult<Bound<'py, PyTuple>> {
    let py = asked.records.py();
    let odd = PyList::empty(py);
    let mut uploads: Vec<Bound<'py, PyAny>> = Vec::new();
    let mut together = Together::new(py)?;
    let mut clock = asked.clock.clone();
    let mut clock_ms: i64 = clock.extract()?;
    for (index, record) in asked.records.try_iter()?.enumerate() {
        let record = Given::new(&record?)?;
        if record.time_ms > clock_ms {
            let latest = clock_ms.max(record.time_ms.min(asked.now_ms));
            if latest == record.time_ms {
                clock = record.time.clone();
            } else if latest != clock_ms {
                clock = latest.into_pyobject(py)?.into_any();
            }
            clock_ms = latest;
        }
        let before = uploads.len();
        let note = |found: Bound<'py, PyAny>| {
            let one = asked.odd_record.call1((index, before, &clock, found))?;
            odd.append(one)
        };
        let told = match &record.headers {
            Some(headers) => asked.is_told.call1((headers,))?.is_truthy()?,
            None => false,
        };
        let value = match record.value {
            Some(value) if !told => value,
            _ => {
                note(py.None().into_bound(py))?;
                continue;
            }
        };
        let at = At {
            offset: &record.offset,
            time: &record.time,
            clock: &clock,
        };
        match read(reader, &value, &at, &mut together) {
            Ok(upload) => uploads.push(upload),
            Err(Stop::Raised(error)) => return Err(error),
            Err(Stop::Odd) => {
                let found = asked.decode.call1((&value, at.offset, at.time, at.clock))?;
                match found.cast::<PyList>() {
                    Ok(one) if one.len() == 1 => {
                        let upload = one.get_item(0)?;
                        together.add_decoded(&upload, &value)?;
                        uploads.push(upload);
                    }
                    _ => note(found)?,
                }
            }
        }
    }
    (uploads, odd, clock, together.kinds, together.governed).into_pyobject(py)
}

#[inline]
fn read<'py>(
    reader: &mut dyn Reads,
    value: &Bound<'py, PyAny>,
    at: &At<'_, 'py>,
    together: &mut Together<'py>,
) -> Seen<Bound<'py, PyAny>> {
    let value = value.cast_exact::<PyBytes>().ok().or_odd()?;
    reader.upload(value, at, together)
}
