//! The way through a poll that both formats share: the twin of `PollDecoder.scan`.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PySet, PyTuple};

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
    recent: [*const (); RECENT],
    next: usize,
    pub governed: bool,
}

const RECENT: usize = 16;

impl<'py> Together<'py> {
    pub fn new(py: Python<'py>) -> PyResult<Self> {
        let kinds = PySet::empty(py)?;
        Ok(Together {
            kinds,
            recent: [std::ptr::null(); RECENT],
            next: 0,
            governed: false,
        })
    }

    /// Note the type of an event; one that is remembered for other records is noted once.
    #[inline]
    pub fn add(&mut self, kind: &Bound<'py, PyAny>) -> PyResult<()> {
        let known = kind.as_ptr() as *const ();
        if !self.recent.contains(&known) {
            self.kinds.add(kind)?;
            // The set keeps the object, so no other one has its address before the poll is over.
            if self.kinds.contains(kind)? {
                self.recent[self.next % RECENT] = known;
                self.next += 1;
            }
        }
        Ok(())
    }
}

/// Makes the upload of one record's value.
pub trait Reads {
    fn upload<'py>(
        &mut self,
        value: &Bound<'py, PyBytes>,
        at: &At<'_, 'py>,
        together: &mut Together<'py>,
    ) -> Seen<Bound<'py, PyAny>>;
}

/// What is asked of Python about a poll.
pub struct Asked<'a, 'py> {
    pub records: &'a Bound<'py, PyAny>,
    pub clock: Bound<'py, PyAny>,
    pub now_ms: i64,
    pub is_told: &'a Bound<'py, PyAny>,
    pub decode: &'a Bound<'py, PyAny>,
    pub odd_record: &'a Bound<'py, PyAny>,
}

/// Return the fields of a `Scan` of these records.
pub fn scan<'py>(reader: &mut impl Reads, asked: Asked<'_, 'py>) -> PyResult<Bound<'py, PyTuple>> {
    let py = asked.records.py();
    let uploads = PyList::empty(py);
    let odd = PyList::empty(py);
    let mut together = Together::new(py)?;
    let mut clock = asked.clock;
    let mut clock_ms: i64 = clock.extract()?;
    for (index, record) in asked.records.try_iter()?.enumerate() {
        let record = record?;
        let time = record.getattr(intern!(py, "timestamp"))?;
        let value = record.getattr(intern!(py, "value"))?;
        let time_ms: i64 = time.extract()?;
        if time_ms > clock_ms {
            let latest = clock_ms.max(time_ms.min(asked.now_ms));
            if latest == time_ms {
                clock = time.clone();
            } else if latest != clock_ms {
                clock = latest.into_pyobject(py)?.into_any();
            }
            clock_ms = latest;
        }
        let headers = record.getattr(intern!(py, "headers"))?;
        if value.is_none()
            || (headers.is_truthy()? && asked.is_told.call1((&headers,))?.is_truthy()?)
        {
            odd.append(
                asked
                    .odd_record
                    .call1((index, uploads.len(), &clock, py.None()))?,
            )?;
            continue;
        }
        let offset = record.getattr(intern!(py, "offset"))?;
        let at = At {
            offset: &offset,
            time: &time,
            clock: &clock,
        };
        if let Ok(bytes) = value.cast_exact::<PyBytes>() {
            match reader.upload(bytes, &at, &mut together) {
                Ok(upload) => {
                    uploads.append(upload)?;
                    continue;
                }
                Err(Stop::Raised(error)) => return Err(error),
                Err(Stop::Odd) => (),
            }
        }
        let found = asked.decode.call1((&value, &offset, &time, &clock))?;
        match found.cast::<PyList>() {
            Ok(one) if one.len() == 1 => {
                let upload = one.get_item(0)?;
                upload.setattr(intern!(py, "size"), value.len()?)?;
                for kind in upload.getattr(intern!(py, "types"))?.try_iter()? {
                    together.add(&kind?)?;
                }
                together.governed |= upload.getattr(intern!(py, "governed"))?.is_truthy()?;
                uploads.append(upload)?;
            }
            _ => odd.append(
                asked
                    .odd_record
                    .call1((index, uploads.len(), &clock, &found))?,
            )?,
        }
    }
    (uploads, odd, clock, together.kinds, together.governed).into_pyobject(py)
}
