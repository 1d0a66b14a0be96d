//! Twin of `Shares` in `forwarder.collect.windows.shares`: which pieces wait in several windows.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};
use std::collections::hash_map::Entry;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map is in so many parts, so that it does not grow all at once.
const PARTS: usize = 16;
/// Bits of an address that choose no part.
const SHIFT: usize = 16;
/// Where the body stands in a piece.
const BODY: usize = 4;

/// Hashes an address: objects stand at multiples of 16, mostly near each other.
#[derive(Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_usize(usize::from(*byte));
        }
    }

    fn write_usize(&mut self, address: usize) {
        const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
        self.0 = (self.0 ^ address as u64)
            .wrapping_mul(FACTOR)
            .rotate_left(26);
    }
}

type Part = HashMap<usize, u32, BuildHasherDefault<AddressHasher>>;

/// How many open windows of a partition hold a piece, by identity.
#[pyclass]
pub struct Shares {
    /// Whether the stores enter the pieces of this poll.
    #[pyo3(get, set)]
    taking: bool,
    /// The offset from which on more may be about to hold what comes than have entered it.
    #[pyo3(get, set)]
    fresh_from: i64,
    /// Bytes that windows count more than once, less those of the entries.
    #[pyo3(get)]
    saved: i64,
    shared_bytes: i64,
    entry_bytes: i64,
    parts: [Part; PARTS],
}

#[pymethods]
impl Shares {
    /// Begin without entries. `shared_bytes`: what a piece takes once, besides its body;
    /// `entry_bytes`: what an entry takes.
    #[new]
    fn new(shared_bytes: i64, entry_bytes: i64) -> Self {
        Shares {
            taking: false,
            fresh_from: i64::MAX,
            saved: 0,
            shared_bytes,
            entry_bytes,
            parts: Default::default(),
        }
    }

    /// Enter a piece that has joined the tail of an open window.
    pub fn take(&mut self, piece: &Bound<'_, PyTuple>) -> PyResult<()> {
        let key = piece.as_ptr() as usize;
        match self.part(key).entry(key) {
            Entry::Occupied(mut known) => {
                let holders = known.get_mut();
                *holders = holders.saturating_add(1);
                self.saved = self.saved.saturating_add(self.bytes_of(piece)?);
            }
            Entry::Vacant(place) => {
                place.insert(1);
                self.saved = self.saved.saturating_sub(self.entry_bytes);
            }
        }
        Ok(())
    }

    /// Remove pieces that the tail of an open window lets go; others are passed over.
    fn release(&mut self, pieces: &Bound<'_, PyList>) -> PyResult<()> {
        for piece in pieces.iter() {
            self.release_one(piece.cast::<PyTuple>()?)?;
        }
        Ok(())
    }

    /// Return how many have entered a living piece.
    fn holders(&mut self, piece: &Bound<'_, PyTuple>) -> u32 {
        let key = piece.as_ptr() as usize;
        self.part(key).get(&key).copied().unwrap_or(0)
    }

    fn __len__(&self) -> usize {
        self.parts.iter().map(HashMap::len).sum()
    }
}

impl Shares {
    /// Remove one piece that the tail of an open window lets go.
    fn release_one(&mut self, piece: &Bound<'_, PyTuple>) -> PyResult<()> {
        let key = piece.as_ptr() as usize;
        let Entry::Occupied(mut known) = self.part(key).entry(key) else {
            return Ok(());
        };
        if *known.get() > 1 {
            *known.get_mut() -= 1;
            self.saved = self.saved.saturating_sub(self.bytes_of(piece)?);
        } else {
            known.remove();
            self.saved = self.saved.saturating_add(self.entry_bytes);
        }
        Ok(())
    }

    #[inline]
    fn part(&mut self, key: usize) -> &mut Part {
        &mut self.parts[(key >> SHIFT) % PARTS]
    }

    /// Return the bytes that a holder more counts too often.
    #[inline]
    fn bytes_of(&self, piece: &Bound<'_, PyTuple>) -> PyResult<i64> {
        let body = piece.get_borrowed_item(BODY)?;
        let size = body.cast::<PyBytes>()?.as_bytes().len() as i64;
        Ok(self.shared_bytes.saturating_add(size))
    }
}
