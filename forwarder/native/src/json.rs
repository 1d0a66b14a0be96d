//! JSON as RFC 8259 has it, taken apart without an object made for anything in it.
//!
//! `None` everywhere means: leave this record to Python. It is what is malformed, and what is odd
//! enough that one way of reading it is better than two.

use crate::json_marks::Marks;

/// How deep values may nest; SDKs nest eight levels.
const MAX_DEPTH: u32 = 60;

/// Keys of an object that are held against each other.
const MAX_COMPARED: usize = 64;

/// Digits that Python makes a number of.
const MAX_DIGITS: usize = 4000;

/// Where something stands in a record: its first byte, and one past its last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

impl Span {
    pub fn of<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        text.get(self.start..self.end).unwrap_or_default()
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

/// A member of an object: its key without quotation marks, and its value.
#[derive(Clone, Copy, Debug, Default)]
pub struct Member {
    pub key: Span,
    pub value: Span,
}

/// Reads JSON from where it stands.
pub struct Cursor<'a> {
    text: &'a [u8],
    marks: &'a Marks,
    pub at: usize,
}

impl<'a> Cursor<'a> {
    /// Begin at a place of bytes whose marks were read.
    pub fn new(text: &'a [u8], marks: &'a Marks, at: usize) -> Self {
        Cursor { text, marks, at }
    }

    #[inline(always)]
    pub fn byte(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// Go to the next byte that is no white space.
    #[inline(always)]
    pub fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.byte() {
            self.at += 1;
        }
    }

    /// Pass this byte, which has to stand here.
    #[inline(always)]
    pub fn pass(&mut self, byte: u8) -> Option<()> {
        (self.byte()? == byte).then(|| self.at += 1)
    }

    /// Pass a text; return what is between its quotation marks.
    #[inline(always)]
    pub fn string(&mut self) -> Option<Span> {
        self.pass(b'"')?;
        let start = self.at;
        let mut word = start / 64;
        let mut bits = self.marks.quotes.get(word)? >> (start % 64) << (start % 64);
        while bits == 0 {
            word += 1;
            bits = *self.marks.quotes.get(word)?;
        }
        let end = word * 64 + bits.trailing_zeros() as usize;
        if self.marks.control && self.text.get(start..end)?.iter().any(|byte| *byte < b' ') {
            return None;
        }
        self.at = end + 1;
        Some(Span { start, end })
    }

    /// Pass a key, its colon and the space about it.
    #[inline(always)]
    pub fn key(&mut self) -> Option<Span> {
        let key = self.string()?;
        self.space();
        self.pass(b':')?;
        self.space();
        Some(key)
    }

    /// Pass what follows a member or an element; tell whether another one does.
    #[inline(always)]
    pub fn goes_on(&mut self, end: u8) -> Option<bool> {
        self.space();
        match self.byte()? {
            b',' => {
                self.at += 1;
                self.space();
                Some(true)
            }
            byte if byte == end => {
                self.at += 1;
                Some(false)
            }
            _ => None,
        }
    }

    /// Pass the beginning of an object or an array; tell whether anything is in it.
    #[inline(always)]
    pub fn opens(&mut self, start: u8, end: u8) -> Option<bool> {
        self.pass(start)?;
        self.space();
        if self.byte()? == end {
            self.at += 1;
            return Some(false);
        }
        Some(true)
    }

    /// Pass any value; return where it stands.
    #[inline(always)]
    pub fn value(&mut self) -> Option<Span> {
        let start = self.at;
        match self.byte()? {
            b'"' => {
                self.string()?;
            }
            b'{' | b'[' => self.nested()?,
            _ => self.plain()?,
        }
        Some(Span {
            start,
            end: self.at,
        })
    }

    /// Pass a number, or one of the three words.
    #[inline(always)]
    fn plain(&mut self) -> Option<()> {
        match self.byte()? {
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => self.number(),
        }
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.text
            .get(self.at..)?
            .starts_with(word)
            .then(|| self.at += word.len())
    }

    fn number(&mut self) -> Option<()> {
        if self.byte()? == b'-' {
            self.at += 1;
        }
        match self.byte()? {
            b'0' => self.at += 1,
            b'1'..=b'9' => self.digits()?,
            _ => return None,
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.byte() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.byte() {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    /// Pass digits, one at least.
    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.byte() {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    /// Pass a value in which no object has a key twice; None where one has, or may have.
    ///
    /// `keys` is empty before and after.
    pub fn unambiguous(&mut self, keys: &mut Vec<Span>) -> Option<()> {
        match self.byte()? {
            b'{' => {
                let first = keys.len();
                let mut more = self.opens(b'{', b'}')?;
                while more {
                    let key = self.key()?;
                    let (name, known) = (key.of(self.text), keys.get(first..)?);
                    let twice = known.iter().any(|other| other.of(self.text) == name);
                    if twice || known.len() == MAX_COMPARED || name.contains(&b'\\') {
                        return None;
                    }
                    keys.push(key);
                    self.unambiguous(keys)?;
                    more = self.goes_on(b'}')?;
                }
                keys.truncate(first);
            }
            b'[' => {
                let mut more = self.opens(b'[', b']')?;
                while more {
                    self.unambiguous(keys)?;
                    more = self.goes_on(b']')?;
                }
            }
            b'"' => {
                self.string()?;
            }
            _ => {
                let start = self.at;
                self.plain()?;
                if self.at - start > MAX_DIGITS {
                    return None;
                }
            }
        }
        Some(())
    }

    /// Pass an object or an array with all that is in it.
    fn nested(&mut self) -> Option<()> {
        // A bit for each level, the innermost last: set for an object.
        let (mut levels, mut depth) = (0u64, 0u32);
        loop {
            let opened = match self.byte()? {
                b'"' => {
                    self.string()?;
                    false
                }
                b'{' => {
                    let any = self.opens(b'{', b'}')?;
                    if any {
                        self.key()?;
                        levels = levels << 1 | 1;
                    }
                    any
                }
                b'[' => {
                    let any = self.opens(b'[', b']')?;
                    if any {
                        levels <<= 1;
                    }
                    any
                }
                _ => {
                    self.plain()?;
                    false
                }
            };
            if opened {
                depth += 1;
                if depth > MAX_DEPTH {
                    return None;
                }
                continue;
            }
            loop {
                if depth == 0 {
                    return Some(());
                }
                let object = levels & 1 == 1;
                if self.goes_on(if object { b'}' } else { b']' })? {
                    if object {
                        self.key()?;
                    }
                    break;
                }
                levels >>= 1;
                depth -= 1;
            }
        }
    }
}
