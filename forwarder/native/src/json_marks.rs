//! Where the texts of some JSON end, found for the whole of it before anything is parsed.
//!
//! One pass in blocks of 64 bytes leaves a bit for each quotation mark that is not escaped, so that
//! a parser finds the end of a text without looking at its bytes.

use wide::u8x16;

const BLOCK: usize = 64;
const LANE: usize = 16;

/// What is known of some bytes before they are parsed; kept to be used again for the next.
#[derive(Default)]
pub struct Marks {
    /// A bit for each quotation mark that no backslash stands before.
    pub quotes: Vec<u64>,
    /// Whether any backslash stands anywhere.
    pub escapes: bool,
    /// Whether any byte is below 0x20: white space, or no JSON.
    pub control: bool,
    /// Whether all bytes are ASCII.
    pub ascii: bool,
}

impl Marks {
    /// Look at all bytes; None where an escape is none, or is half a surrogate pair.
    pub fn read(&mut self, text: &[u8]) -> Option<()> {
        self.quotes.clear();
        self.escapes = false;
        let (mut all, mut least) = (u8x16::splat(0), u8x16::splat(0xff));
        let mut open = Open::default();
        let blocks = text.chunks_exact(BLOCK);
        let rest = blocks.remainder();
        for block in blocks {
            self.block(text, block, &mut open, &mut all, &mut least)?;
        }
        if !rest.is_empty() {
            let mut last = [b' '; BLOCK];
            last[..rest.len()].copy_from_slice(rest);
            self.block(text, &last, &mut open, &mut all, &mut least)?;
        }
        self.ascii = all.move_mask() == 0;
        self.control = least.to_array().iter().any(|byte| *byte < b' ');
        Some(())
    }

    #[inline(always)]
    fn block(
        &mut self,
        text: &[u8],
        block: &[u8],
        open: &mut Open,
        all: &mut u8x16,
        least: &mut u8x16,
    ) -> Option<()> {
        let (mut quotes, mut slashes) = (0u64, 0u64);
        for (number, lane) in block.chunks_exact(LANE).enumerate() {
            let lane: [u8; LANE] = lane.try_into().ok()?;
            let bytes = u8x16::new(lane);
            *all |= bytes;
            *least = least.min(bytes);
            quotes |= mask(bytes.cmp_eq(u8x16::splat(b'"'))) << (LANE * number);
            slashes |= mask(bytes.cmp_eq(u8x16::splat(b'\\'))) << (LANE * number);
        }
        if slashes != 0 || open.carried {
            self.escapes = true;
            let start = self.quotes.len() * BLOCK;
            quotes = open.without_escaped(text, start, quotes, slashes)?;
        }
        self.quotes.push(quotes);
        Some(())
    }
}

fn mask(equal: u8x16) -> u64 {
    u64::from(equal.move_mask() as u16)
}

/// What one block leaves open for the next.
#[derive(Default)]
struct Open {
    /// The block's last byte escapes the next one's first.
    carried: bool,
    /// Where the second half of a surrogate pair has to stand.
    low: Option<usize>,
}

impl Open {
    /// Check the escapes of a block; return its quotation marks that are not escaped.
    fn without_escaped(
        &mut self,
        text: &[u8],
        start: usize,
        mut quotes: u64,
        mut slashes: u64,
    ) -> Option<u64> {
        if self.carried {
            quotes &= !1;
            slashes &= !1;
            self.carried = false;
        }
        while slashes != 0 {
            let bit = slashes.trailing_zeros();
            self.check(text, start + bit as usize)?;
            if bit == BLOCK as u32 - 1 {
                self.carried = true;
                break;
            }
            let escaped = 2 << bit;
            quotes &= !escaped;
            slashes &= !(escaped | 1 << bit);
        }
        Some(quotes)
    }

    /// Check the escape that begins here; None where it is none that stands for a character.
    fn check(&mut self, text: &[u8], at: usize) -> Option<()> {
        match text.get(at + 1)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => self.check_unit(text, at),
            _ => None,
        }
    }

    fn check_unit(&mut self, text: &[u8], at: usize) -> Option<()> {
        match unit(text, at)? {
            0xD800..=0xDBFF => {
                let low = at + 6;
                let second = text.get(low..low + 2)? == b"\\u" && is_low(unit(text, low)?);
                self.low = second.then_some(low);
                self.low.map(|_| ())
            }
            0xDC00..=0xDFFF => (self.low == Some(at)).then_some(()),
            _ => Some(()),
        }
    }
}

fn is_low(unit: u32) -> bool {
    (0xDC00..=0xDFFF).contains(&unit)
}

/// Read the four digits of an escape that begins here.
fn unit(text: &[u8], at: usize) -> Option<u32> {
    let digits = text.get(at + 2..at + 6)?;
    digits.iter().try_fold(0, |sum, digit| {
        Some(sum * 16 + char::from(*digit).to_digit(16)?)
    })
}
