//! Which ids name somebody, as `forwarder.formats.mparticle.identity` says it.
//!
//! Here stands what is decided of a text of printable ASCII without escapes, at most 256 bytes long,
//! and of numbers; every other id is left to Python.

use pyo3::prelude::*;

use crate::scan::At;

/// Bytes of an id that is kept as it came.
pub const MAX_ID_BYTES: usize = 256;

const PADDING: &[u8] = b"\"-+0:.,_{}()* \t\r\n";
const ZEROS: &[u8] = b"-+0:.,_{}()* ";

/// What a raw value names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Id<'a> {
    /// Nobody.
    Nobody,
    /// What a JSON string says, its quotation marks included.
    Text(&'a [u8]),
    /// What a number says.
    Number(&'a [u8]),
}

impl Id<'_> {
    /// Write the token: a JSON string.
    #[inline]
    pub fn write(&self, to: &mut Vec<u8>) {
        match self {
            Id::Nobody => to.extend_from_slice(b"\"\""),
            Id::Text(raw) => to.extend_from_slice(raw),
            Id::Number(raw) => {
                to.push(b'"');
                to.extend_from_slice(raw);
                to.push(b'"');
            }
        }
    }
}

/// The words that stand for no id at all.
pub struct NoneWords {
    words: Vec<Vec<u8>>,
    longest: usize,
    /// Whether a word begins with this letter.
    begins: [bool; 256],
    /// Whether a number without a sign is a word.
    numbers: bool,
}

impl NoneWords {
    /// Take the words, in lower case.
    pub fn new(words: Vec<String>) -> Self {
        let mut begins = [false; 256];
        for word in &words {
            if let Some(first) = word.as_bytes().first() {
                begins[usize::from(*first)] = true;
            }
        }
        let numbers = words
            .iter()
            .any(|word| word.bytes().all(|byte| byte.is_ascii_digit()));
        let longest = words.iter().map(String::len).max().unwrap_or(0);
        NoneWords {
            words: words.into_iter().map(String::into_bytes).collect(),
            longest,
            begins,
            numbers,
        }
    }

    /// Return what a raw JSON value names, empty where it is not there; None: Python decides.
    #[inline]
    pub fn id_of<'a>(&self, raw: &'a [u8]) -> Option<Id<'a>> {
        match raw {
            [b'"', text @ .., b'"'] => {
                if raw.len() > MAX_ID_BYTES || !is_plain(text) {
                    return None;
                }
                Some(if self.means_none(raw, text) {
                    Id::Nobody
                } else {
                    Id::Text(raw)
                })
            }
            [b'1'..=b'9', rest @ ..]
                if rest.len() < 20 && !self.numbers && rest.iter().all(u8::is_ascii_digit) =>
            {
                Some(Id::Number(raw))
            }
            [b'0'..=b'9' | b'-', ..] => {
                if raw.len() + 2 > MAX_ID_BYTES {
                    return None;
                }
                Some(if self.means_none(raw, raw) {
                    Id::Nobody
                } else {
                    Id::Number(raw)
                })
            }
            _ => Some(Id::Nobody),
        }
    }

    #[inline]
    fn means_none(&self, raw: &[u8], text: &[u8]) -> bool {
        if text.len() > self.longest && !is_padded(text) {
            return false;
        }
        trimmed(raw, PADDING).len() <= self.longest && self.is_none(text)
    }

    fn is_none(&self, text: &[u8]) -> bool {
        let word = trimmed(text, b" ");
        let begins = word
            .first()
            .is_none_or(|b| self.begins[usize::from(b.to_ascii_lowercase())]);
        (begins
            && self
                .words
                .iter()
                .any(|known| known.eq_ignore_ascii_case(word)))
            || text.iter().all(|byte| ZEROS.contains(byte))
            || is_zero(text)
    }
}

/// Tell whether a text begins or ends with what is no part of a word.
fn is_padded(text: &[u8]) -> bool {
    let padding = |byte: Option<&u8>| byte.is_none_or(|byte| PADDING.contains(byte));
    padding(text.first()) || padding(text.last())
}

/// Tell whether a text is printable ASCII without escapes.
fn is_plain(text: &[u8]) -> bool {
    text.iter().fold(true, |plain, byte| {
        plain & (*byte < 0x80) & (*byte != b'\\')
    })
}

fn trimmed<'a>(mut bytes: &'a [u8], of: &[u8]) -> &'a [u8] {
    while let [first, rest @ ..] = bytes {
        if !of.contains(first) {
            break;
        }
        bytes = rest;
    }
    while let [rest @ .., last] = bytes {
        if !of.contains(last) {
            break;
        }
        bytes = rest;
    }
    bytes
}

/// Tell whether a text is a number with an exponent that is zero all the same.
fn is_zero(text: &[u8]) -> bool {
    let unsigned = after_sign(text);
    let Some(at) = unsigned.iter().position(|byte| matches!(byte, b'e' | b'E')) else {
        return false;
    };
    let (digits, exponent) = (&unsigned[..at], after_sign(&unsigned[at + 1..]));
    let zeros = |part: &[u8]| !part.is_empty() && part.iter().all(|byte| *byte == b'0');
    let mut parts = digits.splitn(2, |byte| *byte == b'.');
    parts.all(zeros) && !exponent.is_empty() && exponent.iter().all(u8::is_ascii_digit)
}

fn after_sign(text: &[u8]) -> &[u8] {
    match text {
        [b'-' | b'+', rest @ ..] => rest,
        _ => text,
    }
}

/// Write the key of an upload that names nobody: `prefix` is its partition's.
pub fn write_nobody(prefix: &[u8], at: &At<'_, '_>, key: &mut Vec<u8>) -> PyResult<()> {
    let offset: i64 = at.offset.extract()?;
    key.clear();
    key.extend_from_slice(prefix);
    key.extend_from_slice(format!("{offset}/0").as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> NoneWords {
        NoneWords::new(
            ["unknown", "-1", "02:00:00:00:00:00"]
                .map(String::from)
                .to_vec(),
        )
    }

    #[test]
    fn what_names_nobody_is_known() {
        for raw in [
            "",
            "null",
            "\"\"",
            "0",
            "\" Unknown \"",
            "\"0e12\"",
            "-1",
            "{}",
            "\"0.0E-9\"",
        ] {
            assert_eq!(Some(Id::Nobody), words().id_of(raw.as_bytes()), "{raw}");
        }
    }

    #[test]
    fn a_name_stays_as_it_is() {
        assert_eq!(Some(Id::Text(b"\"a\"")), words().id_of(b"\"a\""));
        assert_eq!(Some(Id::Number(b"42")), words().id_of(b"42"));
    }

    #[test]
    fn what_is_odd_is_left() {
        for raw in ["\"\u{e9}\"", "\"\\u0061\""] {
            assert_eq!(None, words().id_of(raw.as_bytes()), "{raw}");
        }
    }
}
