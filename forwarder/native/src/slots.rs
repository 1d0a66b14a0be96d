//! Reads and writes members of instances of one Python class where they lie, without a look-up.
//!
//! A class with `__slots__`, as a `msgspec.Struct` is one, keeps each member at a fixed offset of
//! its instances, which the member's descriptor tells. All that is not as expected is an error of
//! `Slots::new`, never of a later use: its caller leaves the work to Python then.

use std::marker::PhantomData;

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyType};

/// The members of a class that are used, by number and by name.
pub trait Member: Copy {
    const NAMES: &'static [&'static str];

    fn number(self) -> usize;
}

/// Define an enum of the members of a class.
macro_rules! members {
    ($(#[$about:meta])* $kind:ident { $($name:ident),+ $(,)? }) => {
        $(#[$about])*
        #[allow(non_camel_case_types)]
        #[derive(Clone, Copy)]
        pub enum $kind { $($name),+ }

        impl $crate::slots::Member for $kind {
            const NAMES: &'static [&'static str] = &[$(stringify!($name)),+];

            fn number(self) -> usize {
                self as usize
            }
        }
    };
}
pub(crate) use members;

/// Where the members of a class lie in its instances.
pub struct Slots<M> {
    class: Py<PyType>,
    offsets: Vec<usize>,
    members: PhantomData<M>,
}

/// An instance of exactly the class that its `offsets` are of.
pub struct Instance<'a, 'py, M> {
    object: &'a Bound<'py, PyAny>,
    offsets: &'a [usize],
    members: PhantomData<M>,
}

impl<M: Member> Slots<M> {
    /// Learn the members; a `TypeError` tells that they cannot be used so.
    ///
    /// Instances that the garbage collector has to know of are left alone: to be set a member that
    /// it must see, they would have to be made known to it.
    pub fn new(class: &Bound<'_, PyType>) -> PyResult<Self> {
        let kind = class.as_type_ptr();
        // SAFETY: `kind` is a type, alive as long as `class`; these fields of it do not change.
        let (flags, size, item) = unsafe {
            (
                ffi::PyType_GetFlags(kind),
                (*kind).tp_basicsize,
                (*kind).tp_itemsize,
            )
        };
        if flags & ffi::Py_TPFLAGS_HAVE_GC != 0 || item != 0 {
            return Err(PyTypeError::new_err("not a class without a collector"));
        }
        let offsets = M::NAMES.iter().map(|name| {
            let found = offset(class, &class.getattr(*name)?, size)
                .ok_or_else(|| PyTypeError::new_err(format!("`{name}` has no slot")))?;
            Ok(found)
        });
        Ok(Slots {
            offsets: offsets.collect::<PyResult<_>>()?,
            class: class.clone().unbind(),
            members: PhantomData,
        })
    }

    /// See an object as an instance; None: it is none of exactly this class.
    pub fn of<'a, 'py>(&'a self, object: &'a Bound<'py, PyAny>) -> Option<Instance<'a, 'py, M>> {
        let is_one = object.get_type_ptr() == self.class.as_ptr().cast();
        is_one.then_some(Instance {
            object,
            offsets: &self.offsets,
            members: PhantomData,
        })
    }
}

/// Where a member of a class lies; None: its descriptor is no plain one of an object.
fn offset(
    class: &Bound<'_, PyType>,
    descriptor: &Bound<'_, PyAny>,
    size: ffi::Py_ssize_t,
) -> Option<usize> {
    // SAFETY: the type of descriptors is one static object, of which only the address is taken.
    let known = &raw mut ffi::PyMemberDescr_Type;
    if descriptor.get_type_ptr() != known {
        return None;
    }
    // SAFETY: its type is exactly `PyMemberDescr_Type`, whose instances have this layout; they
    // keep their type and definition alive, and the caller keeps the descriptor.
    let (owner, member) = unsafe {
        let described = descriptor.as_ptr().cast::<ffi::PyMemberDescrObject>();
        ((*described).d_common.d_type, (*described).d_member)
    };
    // SAFETY: both are types that are alive, and a descriptor has a definition.
    let (is_own, member) = unsafe {
        let is_own = ffi::PyType_IsSubtype(class.as_type_ptr(), owner) != 0;
        (is_own, member.as_ref()?)
    };
    let end = member
        .offset
        .checked_add(size_of::<*mut ffi::PyObject>() as ffi::Py_ssize_t)?;
    let is_plain = is_own
        && member.type_code == ffi::Py_T_OBJECT_EX
        && member.flags & !ffi::Py_READONLY == 0
        && member.offset >= size_of::<ffi::PyObject>() as ffi::Py_ssize_t
        && member.offset as usize % align_of::<*mut ffi::PyObject>() == 0
        && end <= size;
    is_plain.then_some(member.offset as usize)
}

impl<'py, M: Member> Instance<'_, 'py, M> {
    fn place(&self, member: M) -> *mut *mut ffi::PyObject {
        // SAFETY: the offset is that of a member of exactly this object's class, so that it lies
        // inside of the object, where a pointer is that is aligned (see `offset`).
        unsafe {
            self.object
                .as_ptr()
                .byte_add(self.offsets[member.number()])
                .cast()
        }
    }

    /// Return what a member holds; None: nothing.
    pub fn get(&self, member: M) -> Option<Bound<'py, PyAny>> {
        // SAFETY: a slot holds null or an object that the instance keeps alive, and that gets a
        // reference of its own before anything else can run; the thread is attached (`'py`).
        unsafe { Bound::from_borrowed_ptr_or_opt(self.object.py(), *self.place(member)) }
    }

    /// Put an object into a member.
    pub fn set(&self, member: M, value: Bound<'py, PyAny>) {
        let place = self.place(member);
        // SAFETY: the slot gets the only reference of `value`, and what it held is released after
        // that, so that whatever this runs finds the instance whole; null is none.
        let before = unsafe {
            let before = std::ptr::replace(place, value.into_ptr());
            Bound::from_owned_ptr_or_opt(self.object.py(), before)
        };
        drop(before);
    }

    /// Return the number that a member holds; None: it is none of 64 bits.
    pub fn number(&self, member: M) -> Option<i64> {
        self.get(member)?.extract().ok()
    }

    /// Return whether a member is true; None: it is neither true nor false.
    pub fn is(&self, member: M) -> Option<bool> {
        let held = self.get(member)?;
        held.cast_exact::<PyBool>().ok().map(|held| held.is_true())
    }
}
