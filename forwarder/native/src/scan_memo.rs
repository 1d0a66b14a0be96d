//! What was made of some bytes before, in bounded memory.

use pyo3::prelude::*;

/// Places of a memo; what comes to a place that is taken, takes it.
const PLACES: usize = 1024;
/// Bytes of a key of a memo, of an answer as a rule not more: longer ones are made anew each time.
const MAX_TOKEN_BYTES: usize = 512;

/// Answers by the bytes that they depend on: one for each hash, the latest.
pub struct Memo<V> {
    /// None until something is kept.
    places: Vec<Option<(Box<[u8]>, V)>>,
    max_bytes: usize,
}

impl<V> Memo<V> {
    /// Begin with nothing; what is longer than `max_bytes` will not be remembered.
    pub fn new(max_bytes: usize) -> Self {
        Memo {
            places: Vec::new(),
            max_bytes,
        }
    }

    /// Return what was kept for these bytes.
    #[inline]
    pub fn get(&self, bytes: &[u8]) -> Option<&V> {
        match self.places.get(place(bytes))? {
            Some((known, answer)) if **known == *bytes => Some(answer),
            _ => None,
        }
    }

    /// Remember an answer, unless the bytes are many.
    pub fn keep(&mut self, bytes: &[u8], answer: V) {
        if bytes.len() > self.max_bytes {
            return;
        }
        if self.places.is_empty() {
            self.places.resize_with(PLACES, || None);
        }
        if let Some(taken) = self.places.get_mut(place(bytes)) {
            *taken = Some((bytes.into(), answer));
        }
    }
}

/// Return the place of some bytes: what others know to collide costs them the memory of a memo.
fn place(bytes: &[u8]) -> usize {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut sum = bytes.len() as u64;
    let mut words = bytes.chunks_exact(8);
    let mut last = [0; 8];
    for word in &mut words {
        last.copy_from_slice(word);
        sum = (sum ^ u64::from_le_bytes(last))
            .wrapping_mul(FACTOR)
            .rotate_left(29);
    }
    let rest = words.remainder();
    last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    sum = (sum ^ u64::from_le_bytes(last)).wrapping_mul(FACTOR);
    (sum >> 40) as usize % PLACES
}

/// Objects that stand for bytes, one for equal bytes as long as it is remembered.
pub struct Tokens<T> {
    memo: Memo<Py<T>>,
}

impl<T> Tokens<T> {
    pub fn new() -> Self {
        Tokens {
            memo: Memo::new(MAX_TOKEN_BYTES),
        }
    }

    /// Return the object for these bytes, if one is remembered.
    #[inline]
    pub fn known<'py>(&self, py: Python<'py>, bytes: &[u8]) -> Option<Bound<'py, T>> {
        let known = self.memo.get(bytes)?;
        Some(known.clone_ref(py).into_bound(py))
    }

    /// Return the object for these bytes, made by `make` where none is remembered.
    #[inline]
    pub fn get<'py>(
        &mut self,
        py: Python<'py>,
        bytes: &[u8],
        make: impl FnOnce() -> Py<T>,
    ) -> Bound<'py, T> {
        if let Some(known) = self.known(py, bytes) {
            return known;
        }
        let made = make();
        self.memo.keep(bytes, made.clone_ref(py));
        made.into_bound(py)
    }
}
