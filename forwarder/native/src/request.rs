//! Bodies of PutRecords and PutRecordBatch in one allocation: the twins of `forwarder.sinks.requests`.
//!
//! A put that is more than one request, or has a partition key that JSON would have to escape, is
//! left to Python: the functions return None then.

use base64_simd::{AsOut, STANDARD};
use memchr::memchr2;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString};

/// Characters of a partition key that Kinesis takes; a longer mpid gives way to the device.
const MAX_PARTITION_KEY_CHARS: usize = 256;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// What a record is partitioned by, in the numbers that `forwarder.sinks.requests` gives.
const BY_MPID: u8 = 1;
const BY_BATCH: u8 = 2;

/// One record of a request: its data, and whether a line end belongs behind it.
struct Row<'py> {
    payload: Bound<'py, PyBytes>,
    key: Key<'py>,
    is_line: bool,
}

/// A partition key: nothing of it has to be escaped.
enum Key<'py> {
    None,
    Text(Bound<'py, PyString>),
    Digest(Bound<'py, PyBytes>),
}

impl Key<'_> {
    fn len(&self) -> PyResult<usize> {
        Ok(match self {
            Key::None => 0,
            Key::Text(text) => text.to_str()?.len(),
            Key::Digest(digest) => digest.as_bytes().len() * 2,
        })
    }

    /// Return what stands around the key and the data.
    fn frame(&self) -> &'static [u8] {
        match self {
            Key::None => b"{\"Data\":\"\"},",
            _ => b"{\"PartitionKey\":\"\",\"Data\":\"\"},",
        }
    }
}

impl Row<'_> {
    fn data_len(&self) -> usize {
        self.payload.as_bytes().len() + usize::from(self.is_line)
    }
}

/// Write what stands before the first record and behind the last, and a body's records.
struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    fn put_hex(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let pair = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
            self.put(&pair);
        }
    }

    fn put_base64(&mut self, data: &[u8]) {
        let size = STANDARD.encoded_length(data.len());
        let place = &mut self.out[self.at..self.at + size];
        let _ = STANDARD.encode(data, place.as_out());
        self.at += size;
    }
}

/// Return the body of a PutRecords of all batches, None where Python has to look.
///
/// `stream` is how the request names it, as JSON. `rule`: what a record is partitioned by.
/// `line_up_to`: data and key of a document that gets a line end are below so many bytes; 0: none
/// gets one. `most` records and `size` bytes are what one request may hold.
#[pyfunction]
pub fn put_records<'py>(
    stream: &[u8],
    batches: &Bound<'py, PyList>,
    rule: u8,
    line_up_to: usize,
    most: usize,
    size: usize,
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let row = |batch: &Bound<'py, PyAny>| {
        let Some(key) = key_of(batch, rule)? else {
            return Ok(None);
        };
        let payload = payload_of(batch)?;
        let is_line = payload.as_bytes().len() + key.len()? < line_up_to;
        Ok(Some(Row {
            payload,
            key,
            is_line,
        }))
    };
    body(&[b"{", stream], batches, most, size, row)
}

/// Return the body of a PutRecordBatch of all batches, None where Python has to look.
///
/// `stream` is the delivery stream's name as JSON; the limits are those of `put_records`.
#[pyfunction]
pub fn put_record_batch<'py>(
    stream: &[u8],
    batches: &Bound<'py, PyList>,
    most: usize,
    size: usize,
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let row = |batch: &Bound<'py, PyAny>| {
        Ok(Some(Row {
            payload: payload_of(batch)?,
            key: Key::None,
            is_line: true,
        }))
    };
    body(
        &[b"{\"DeliveryStreamName\":", stream],
        batches,
        most,
        size,
        row,
    )
}

/// Return the body that begins so and has a row for each batch, None where Python has to look.
fn body<'py>(
    start: &[&[u8]],
    batches: &Bound<'py, PyList>,
    most: usize,
    size: usize,
    row: impl Fn(&Bound<'py, PyAny>) -> PyResult<Option<Row<'py>>>,
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    if batches.is_empty() || batches.len() > most {
        return Ok(None);
    }
    let mut rows = Vec::with_capacity(batches.len());
    let (mut filled, mut total) = (0, b",\"Records\":[]}".len());
    for batch in batches.iter() {
        let Some(row) = row(&batch)? else {
            return Ok(None);
        };
        let key_len = row.key.len()?;
        filled += row.data_len() + key_len;
        total += row.key.frame().len() + key_len + STANDARD.encoded_length(row.data_len());
        rows.push(row);
    }
    if filled > size && rows.len() > 1 {
        return Ok(None);
    }
    total += start.iter().map(|part| part.len()).sum::<usize>() - 1; // no comma before the first
    let body = PyBytes::new_with(batches.py(), total, |out| {
        let mut writer = Writer { out, at: 0 };
        start.iter().for_each(|part| writer.put(part));
        write_records(&mut writer, &rows)
    })?;
    Ok(Some(body))
}

fn payload_of<'py>(batch: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let payload = batch.getattr(intern!(batch.py(), "payload"))?;
    Ok(payload.cast_into::<PyBytes>()?)
}

/// Return a batch's partition key; None if it cannot stand between quotation marks as it is.
fn key_of<'py>(batch: &Bound<'py, PyAny>, rule: u8) -> PyResult<Option<Key<'py>>> {
    let py = batch.py();
    if rule == BY_BATCH {
        return plain(batch.getattr(intern!(py, "id"))?);
    }
    if rule == BY_MPID {
        let mpid = batch.getattr(intern!(py, "mpid"))?;
        if (1..=MAX_PARTITION_KEY_CHARS).contains(&mpid.len()?) {
            return plain(mpid);
        }
    }
    let digest = batch.getattr(intern!(py, "key"))?.cast_into::<PyBytes>()?;
    Ok(Some(Key::Digest(digest)))
}

fn plain(text: Bound<'_, PyAny>) -> PyResult<Option<Key<'_>>> {
    let text = text.cast_into::<PyString>()?;
    let Ok(found) = text.to_str() else {
        return Ok(None); // a lone surrogate
    };
    let is_plain = found
        .bytes()
        .all(|b| (b' '..=b'~').contains(&b) && b != b'"' && b != b'\\');
    Ok(is_plain.then_some(Key::Text(text)))
}

fn write_records(writer: &mut Writer<'_>, rows: &[Row<'_>]) -> PyResult<()> {
    writer.put(b",\"Records\":[");
    let mut line = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        writer.put(if number == 0 { b"{" } else { b",{" });
        match &row.key {
            Key::None => writer.put(b"\"Data\":\""),
            Key::Text(text) => {
                writer.put(b"\"PartitionKey\":\"");
                writer.put(text.to_str()?.as_bytes());
                writer.put(b"\",\"Data\":\"");
            }
            Key::Digest(digest) => {
                writer.put(b"\"PartitionKey\":\"");
                writer.put_hex(digest.as_bytes());
                writer.put(b"\",\"Data\":\"");
            }
        }
        if row.is_line {
            as_line(row.payload.as_bytes(), &mut line);
            writer.put_base64(&line);
        } else {
            writer.put_base64(row.payload.as_bytes());
        }
        writer.put(b"\"}");
    }
    writer.put(b"]}");
    Ok(())
}

/// Make one line of a document: line breaks between its tokens become blanks.
fn as_line(document: &[u8], line: &mut Vec<u8>) {
    line.clear();
    line.extend_from_slice(document);
    let mut from = 0;
    while let Some(found) = memchr2(b'\n', b'\r', &line[from..]) {
        line[from + found] = b' ';
        from += found + 1;
    }
    line.push(b'\n');
}
