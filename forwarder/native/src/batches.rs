//! Reads the batches of a fetch as long as they are plain: whole batches, many in one call.
//!
//! Plain is a batch of format 2 that is no coordinator's, where it has to be, whose checksum is
//! right, that unpacks within its bound and whose records are all well formed. Whatever is not, or is to be read in
//! part, is left to Python, which knows what to do about it (`forwarder/kafka/patches/batches.py`).

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::records::{Progress, Record};

/// Where the records of a batch begin.
const RECORDS: usize = 61;
/// Bytes before what the length of a batch counts.
const HEAD: usize = 12;
/// Where what the checksum is of begins.
const CHECKED: usize = 21;
/// Where a batch says in which format it is.
const MAGIC: usize = 16;
/// The attributes that say how it is packed, and that it is a coordinator's.
const CODEC: i16 = 0x07;
const CONTROL: i16 = 0x20;
const DATED_BY_BROKER: i16 = 0x08;

/// Append the records of plain batches, and return where they end: (at, next offset, position).
///
/// The first begins at `content[at]`, where `next` is the least offset it may have, and `highest`,
/// where it is known, the most that may be next behind it. Wanted is what lies at `position` or
/// above, and less than `most` records in `found` together. `counted`: bytes of unpacked records
/// from which on a batch is not plain. `unpack` takes a codec's number and packed bytes.
#[pyfunction]
#[allow(clippy::too_many_arguments)]
pub fn read_plain<'py>(
    py: Python<'py>,
    content: &Bound<'py, PyBytes>,
    at: usize,
    next: i64,
    highest: Option<i64>,
    position: i64,
    most: usize,
    counted: usize,
    unpack: &Bound<'py, PyAny>,
    found: &Bound<'py, PyList>,
) -> PyResult<(usize, i64, i64)> {
    let content = content.as_bytes();
    let (mut at, mut next, mut position) = (at, next, position);
    while let Some(head) = plain(content, at, next, highest) {
        if head.count >= most.saturating_sub(found.len()) {
            break;
        }
        let Some(records) = head.read(content, position, counted, unpack) else {
            break;
        };
        for record in records {
            found.append(Py::new(py, record)?)?;
        }
        (at, next, position) = (head.end, head.next, head.next);
    }
    Ok((at, next, position))
}

/// A batch that is plain as far as its head says.
struct Head {
    at: usize,
    end: usize,
    base: i64,
    next: i64,
    count: usize,
    time: i64,
    dated_alike: bool,
    codec: i16,
}

/// Return the batch that begins at a place, if it is plain and stands where it may.
fn plain(content: &[u8], at: usize, next: i64, highest: Option<i64>) -> Option<Head> {
    let rest = content.get(at..)?;
    let end = at.checked_add(length(rest)?)?;
    let batch = content.get(at..end)?;
    if *batch.get(MAGIC)? != 2 || batch.len() < RECORDS {
        return None;
    }
    let attributes = i16::from_be_bytes(part(batch, CHECKED)?);
    let count = usize::try_from(i32::from_be_bytes(part(batch, 57)?)).ok()?;
    if attributes & CONTROL != 0 {
        return None;
    }
    let base = i64::from_be_bytes(part(batch, 0)?);
    let behind = i64::from(i32::from_be_bytes(part(batch, 23)?)).checked_add(1)?;
    let behind = base.checked_add(behind)?;
    let overlaps = at > 0 && base < next;
    let is_before = following(content, end).is_some_and(|it| it < behind);
    let is_beyond = highest.is_some_and(|it| behind > it);
    if behind <= base.max(next) || overlaps || is_before || is_beyond {
        return None;
    }
    let checksum = u32::from_be_bytes(part(batch, 17)?);
    if crc32c::crc32c(batch.get(CHECKED..)?) != checksum {
        return None;
    }
    let dated_alike = attributes & DATED_BY_BROKER != 0;
    let time = i64::from_be_bytes(part(batch, if dated_alike { 35 } else { 27 })?);
    Some(Head {
        at,
        end,
        base,
        next: behind,
        count,
        time,
        dated_alike,
        codec: attributes & CODEC,
    })
}

impl Head {
    /// Unpack the batch and return its records; None where it is not plain.
    fn read(
        &self,
        content: &[u8],
        first: i64,
        counted: usize,
        unpack: &Bound<'_, PyAny>,
    ) -> Option<Vec<Record>> {
        let py = unpack.py();
        let records = content.get(self.at + RECORDS..self.end)?;
        if self.codec == 0 {
            return self.records(py, records, first, counted);
        }
        let unpacked = unpack.call1((self.codec, PyBytes::new(py, records))).ok()?;
        let unpacked = unpacked.cast::<PyBytes>().ok()?;
        self.records(py, unpacked.as_bytes(), first, counted)
    }

    /// Return the records that lie at `first` or above; None where one is malformed.
    fn records(
        &self,
        py: Python<'_>,
        records: &[u8],
        first: i64,
        counted: usize,
    ) -> Option<Vec<Record>> {
        if records.len() >= counted {
            return None;
        }
        let mut progress = Progress {
            at: 0,
            left: i64::try_from(self.count).ok()?,
            base_offset: self.base,
            time: self.time,
            dated_alike: self.dated_alike,
            last: first.saturating_sub(1),
        };
        // Each takes seven bytes at least: a count that cannot be true asks for no memory.
        let mut found = Vec::with_capacity(self.count.min(records.len() / 7));
        while let Some(record) = progress.next_record(py, records).ok()? {
            found.push(record);
        }
        Some(found)
    }
}

/// Return how many bytes the batch has that begins here, as it says.
fn length(rest: &[u8]) -> Option<usize> {
    let said = usize::try_from(i32::from_be_bytes(part(rest, 8)?)).ok()?;
    said.checked_add(HEAD)
}

/// Return the offset that a batch of any format says it begins at, whole or not.
fn following(content: &[u8], at: usize) -> Option<i64> {
    let rest = content.get(at..)?;
    let fewest = match *rest.get(MAGIC)? {
        0 => 14,
        1 => 22,
        2 => RECORDS - HEAD,
        _ => return None,
    };
    let is_one = length(rest)? >= fewest + HEAD;
    is_one.then(|| part(rest, 0).map(i64::from_be_bytes))?
}

/// Return the bytes of a number.
fn part<const SIZE: usize>(content: &[u8], at: usize) -> Option<[u8; SIZE]> {
    content.get(at..at + SIZE)?.try_into().ok()
}

/// Add what is here to the native core.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(read_plain, module)?)
}
