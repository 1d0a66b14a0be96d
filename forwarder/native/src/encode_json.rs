//! What of JSON is whose: objects and runs of values taken apart, one level at a time.
//!
//! The bytes were read by a decoder before, so they are JSON in UTF-8 and are not judged again.
//! Whatever would take more than copying, an escape in a key or a key that stands twice, is `None`.

const MOST_MEMBERS: usize = 256;
const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// A member of an object; `key` is without its quotation marks and holds no escape.
pub struct Member<'a> {
    pub key: &'a [u8],
    pub value: &'a [u8],
}

/// The members of an object in their order.
pub fn members(object: &[u8]) -> Option<Vec<Member<'_>>> {
    let mut found: Vec<Member> = Vec::with_capacity(24);
    let mut seen = 0u64;
    let mut at = skip_space(object, 0);
    if object.get(at) != Some(&b'{') {
        return None;
    }
    at = skip_space(object, at + 1);
    if object.get(at) == Some(&b'}') {
        return ends_behind(object, at).then_some(found);
    }
    loop {
        let (key, behind) = key_at(object, at)?;
        at = skip_space(object, behind);
        if object.get(at) != Some(&b':') {
            return None;
        }
        let start = skip_space(object, at + 1);
        let end = skip_value(object, start)?;
        let mark = mark_of(key);
        if seen & mark != 0 && found.iter().any(|member| member.key == key) {
            return None;
        }
        seen |= mark;
        if found.len() == MOST_MEMBERS {
            return None;
        }
        found.push(Member {
            key,
            value: &object[start..end],
        });
        at = skip_space(object, end);
        match object.get(at)? {
            b',' => at = skip_space(object, at + 1),
            b'}' => return ends_behind(object, at).then_some(found),
            _ => return None,
        }
    }
}

/// The values of a comma-joined run, without the space around them.
pub fn values(run: &[u8]) -> Option<Vec<&[u8]>> {
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        let start = skip_space(run, at);
        let end = skip_value(run, start)?;
        found.push(&run[start..end]);
        at = skip_space(run, end);
        match run.get(at) {
            None => return Some(found),
            Some(b',') => at += 1,
            Some(_) => return None,
        }
    }
}

/// Whether a value is a number without fraction and exponent.
pub fn is_integer(value: &[u8]) -> bool {
    let digits = value.strip_prefix(b"-").unwrap_or(value);
    match digits {
        [b'0'] => true,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

fn ends_behind(object: &[u8], at: usize) -> bool {
    skip_space(object, at + 1) == object.len()
}

/// One bit by which nearly all keys of an object differ.
fn mark_of(key: &[u8]) -> u64 {
    let (first, last) = (key.first().unwrap_or(&0), key.last().unwrap_or(&0));
    let mixed = key.len() + 7 * usize::from(*first) + 31 * usize::from(*last);
    1 << (mixed & 63)
}

fn key_at(object: &[u8], at: usize) -> Option<(&[u8], usize)> {
    if object.get(at) != Some(&b'"') {
        return None;
    }
    let end = find_quote(object, at + 1)?;
    (object[end] == b'"').then(|| (&object[at + 1..end], end + 1))
}

fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
        at += 1;
    }
    at
}

fn skip_value(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at)? {
        b'"' => skip_text(bytes, at),
        b'{' | b'[' => skip_nested(bytes, at),
        b'-' | b'0'..=b'9' | b'a'..=b'z' => {
            let rest = &bytes[at..];
            let is_end =
                |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t');
            Some(at + rest.iter().position(is_end).unwrap_or(rest.len()))
        }
        _ => None,
    }
}

fn skip_nested(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0usize;
    loop {
        match bytes.get(at)? {
            b'"' => {
                at = skip_text(bytes, at)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
}

fn skip_text(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        at = find_quote(bytes, at)?;
        if bytes[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// Where the next quotation mark or backslash is; eight bytes at a time, as texts are short.
fn find_quote(bytes: &[u8], mut at: usize) -> Option<usize> {
    while let Some(eight) = bytes.get(at..at + 8) {
        let mut word = [0; 8];
        word.copy_from_slice(eight);
        let word = u64::from_le_bytes(word);
        let found = zeros(word ^ (ONES * 0x22)) | zeros(word ^ (ONES * 0x5c));
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    let rest = bytes.get(at..)?;
    rest.iter()
        .position(|byte| matches!(byte, b'"' | b'\\'))
        .map(|found| at + found)
}

/// The high bit of each byte that is zero; those above the lowest one may be wrong.
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGH
}
