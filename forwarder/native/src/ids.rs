//! Names derived from what they name: the twin of `forwarder/formats/ids.py`.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

const BLOCK: usize = 128;
const SMALLEST: u128 = 1_000_000_000_000_000_000;
const RANGE: u128 = (1 << 63) - SMALLEST;
const HEX: &[u8; 16] = b"0123456789abcdef";

// RFC 7693, 2.6 and 2.7.
const START: [u64; 8] = [
    0x6a09_e667_f3bc_c908,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
    0x9b05_688c_2b3e_6c1f,
    0x1f83_d9ab_fb41_bd6b,
    0x5be0_cd19_137e_2179,
];
/// BLAKE2b (RFC 7693) of 16 bytes without a key, as far as it was fed.
#[derive(Clone)]
pub struct Digest {
    state: [u64; 8],
    waiting: [u8; BLOCK],
    filled: usize,
    done: u64,
}

impl Digest {
    pub fn new() -> Self {
        let mut state = START;
        state[0] ^= 0x0101_0000 ^ 16;
        Digest {
            state,
            waiting: [0; BLOCK],
            filled: 0,
            done: 0,
        }
    }

    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.filled == BLOCK {
                self.done = self.done.wrapping_add(BLOCK as u64);
                compress(&mut self.state, &self.waiting, self.done, false);
                self.filled = 0;
            }
            let taken = bytes.len().min(BLOCK - self.filled);
            let (now, later) = bytes.split_at(taken);
            self.waiting[self.filled..self.filled + taken].copy_from_slice(now);
            self.filled += taken;
            bytes = later;
        }
    }

    pub fn finish(mut self) -> [u8; 16] {
        self.waiting[self.filled..].fill(0);
        let done = self.done.wrapping_add(self.filled as u64);
        compress(&mut self.state, &self.waiting, done, true);
        let mut found = [0; 16];
        found[..8].copy_from_slice(&self.state[0].to_le_bytes());
        found[8..].copy_from_slice(&self.state[1].to_le_bytes());
        found
    }
}

/// One step of the mixing function on variables, which stay in registers as arrays do not.
macro_rules! mix {
    ($a:ident, $b:ident, $c:ident, $d:ident, $x:expr, $y:expr) => {
        $a = $a.wrapping_add($b).wrapping_add($x);
        $d = ($d ^ $a).rotate_right(32);
        $c = $c.wrapping_add($d);
        $b = ($b ^ $c).rotate_right(24);
        $a = $a.wrapping_add($b).wrapping_add($y);
        $d = ($d ^ $a).rotate_right(16);
        $c = $c.wrapping_add($d);
        $b = ($b ^ $c).rotate_right(63);
    };
}

#[allow(clippy::many_single_char_names)]
fn compress(state: &mut [u64; 8], block: &[u8; BLOCK], done: u64, last: bool) {
    let mut m = [0u64; 16];
    for (word, bytes) in m.iter_mut().zip(block.chunks_exact(8)) {
        let mut eight = [0; 8];
        eight.copy_from_slice(bytes);
        *word = u64::from_le_bytes(eight);
    }
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
    let [mut i, mut j, mut k, mut l, mut n, mut o, mut p, mut q] = START;
    n ^= done;
    if last {
        p = !p;
    }
    macro_rules! round {
        ($($s:literal)*) => { round!(@ $($s,)*) };
        (@ $s0:literal, $s1:literal, $s2:literal, $s3:literal, $s4:literal, $s5:literal,
           $s6:literal, $s7:literal, $s8:literal, $s9:literal, $s10:literal, $s11:literal,
           $s12:literal, $s13:literal, $s14:literal, $s15:literal,) => {
            mix!(a, e, i, n, m[$s0], m[$s1]);
            mix!(b, f, j, o, m[$s2], m[$s3]);
            mix!(c, g, k, p, m[$s4], m[$s5]);
            mix!(d, h, l, q, m[$s6], m[$s7]);
            mix!(a, f, k, q, m[$s8], m[$s9]);
            mix!(b, g, l, n, m[$s10], m[$s11]);
            mix!(c, h, i, o, m[$s12], m[$s13]);
            mix!(d, e, j, p, m[$s14], m[$s15]);
        };
    }
    round!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    round!(14 10 4 8 9 15 13 6 1 12 0 2 11 7 5 3);
    round!(11 8 12 0 5 2 15 13 10 14 3 6 7 1 9 4);
    round!(7 9 3 1 13 12 11 14 2 6 5 10 4 0 15 8);
    round!(9 0 5 7 2 4 10 15 14 1 11 12 6 8 3 13);
    round!(2 12 6 10 0 11 8 3 4 13 7 5 15 14 1 9);
    round!(12 5 1 15 14 13 4 10 0 7 6 3 9 2 8 11);
    round!(13 11 7 14 12 1 3 9 5 0 15 4 8 6 2 10);
    round!(6 15 14 9 11 3 0 8 12 2 13 7 1 4 10 5);
    round!(10 2 8 4 7 6 1 5 15 11 9 14 3 12 13 0);
    round!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    round!(14 10 4 8 9 15 13 6 1 12 0 2 11 7 5 3);
    let changes = [a ^ i, b ^ j, c ^ k, d ^ l, e ^ n, f ^ o, g ^ p, h ^ q];
    for (word, change) in state.iter_mut().zip(changes) {
        *word ^= change;
    }
}

/// The 16 bytes that stand for a key outside the process.
pub fn digest(key: &[u8]) -> [u8; 16] {
    let mut state = Digest::new();
    state.update(key);
    state.finish()
}

/// Ids of one batch: UUID text, and a number of exactly 19 digits.
pub struct BatchIds {
    pub text: [u8; 36],
    pub number: [u8; 19],
}

impl BatchIds {
    /// Of the digest that names a batch.
    pub fn of(digest: [u8; 16]) -> Self {
        let number = (u128::from_be_bytes(digest) % RANGE + SMALLEST) as u64;
        let mut digits = [0; 20];
        let mut text = [0; 19];
        text.copy_from_slice(digits_of(number, &mut digits));
        BatchIds {
            text: uuid_of(digest),
            number: text,
        }
    }
}

/// The UUID text of a digest, of version 8 (RFC 9562).
fn uuid_of(digest: [u8; 16]) -> [u8; 36] {
    let mut digits = [0; 32];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(digest) {
        pair[0] = HEX[usize::from(byte >> 4)];
        pair[1] = HEX[usize::from(byte & 15)];
    }
    digits[12] = b'8';
    digits[16] = HEX[usize::from(8 | (digest[8] >> 4 & 3))];
    let mut text = [b'-'; 36];
    for (to, from) in [
        (0, 0..8),
        (9, 8..12),
        (14, 12..16),
        (19, 16..20),
        (24, 20..32),
    ] {
        text[to..to + from.len()].copy_from_slice(&digits[from]);
    }
    text
}

/// Append a number as text.
pub fn push_number(text: &mut Vec<u8>, number: i64) {
    if number < 0 {
        text.push(b'-');
    }
    text.extend_from_slice(digits_of(number.unsigned_abs(), &mut [0; 20]));
}

/// Write a number into the end of the space that any takes.
fn digits_of(mut rest: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    while rest >= 100 {
        let two = (rest % 100) as u8;
        rest /= 100;
        at -= 2;
        digits[at] = b'0' + two / 10;
        digits[at + 1] = b'0' + two % 10;
    }
    if rest >= 10 {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    at -= 1;
    digits[at] = b'0' + rest as u8;
    &digits[at..]
}

/// `digest` for Python.
#[pyfunction]
#[pyo3(name = "digest")]
pub fn python_digest<'py>(py: Python<'py>, key: &[u8]) -> Bound<'py, PyBytes> {
    PyBytes::new(py, &digest(key))
}
