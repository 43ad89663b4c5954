//! Structs that grow: the caller says how much of one it knows.
//!
//! A struct begins with its size as the caller was compiled. What an older caller does not know keeps its default; what
//! a newer one knows beyond this library must be zero, or it would be ignored without a word. New fields go to the end,
//! and never into what was padding.

use std::mem::size_of;

/// A struct that begins with its size.
///
/// # Safety
/// The type is `repr(C)`, and its first field is the `usize` `struct_size`.
pub unsafe trait SizedStruct: Copy {}

/// A struct that may be read.
///
/// # Safety
/// Any bytes are a value of the type.
pub unsafe trait AnyBytes: SizedStruct {}

/// Bytes of the caller's struct.
///
/// # Safety
/// `at` points to a `usize`.
pub unsafe fn size<T: SizedStruct>(at: *const T, name: &str) -> Result<usize, String> {
    // SAFETY: by this function's contract, and it is the first field.
    let size = unsafe { at.cast::<usize>().read() };
    if size < size_of::<usize>() {
        return Err(format!("{name}.struct_size is {size}, but must be the size of the struct in bytes"));
    }
    Ok(size)
}

/// The caller's struct; where it is shorter than this library's, the rest of `defaults`.
///
/// # Safety
/// `at` points to a `usize`, and to as many bytes as that says.
pub unsafe fn read<T: AnyBytes>(at: *const T, defaults: T, name: &str) -> Result<T, String> {
    // SAFETY: by this function's contract.
    let size = unsafe { size(at, name) }?;
    let (from, known) = (at.cast::<u8>(), size_of::<T>());
    // SAFETY: by this function's contract.
    let unknown = (known..size).any(|i| unsafe { from.add(i).read() } != 0);
    if unknown {
        return Err(format!("{name} sets something that this library does not know: it knows {known} bytes of {size}"));
    }
    let mut value = defaults;
    // SAFETY: as many bytes as both have, and any are a value by the trait's contract.
    unsafe { std::ptr::copy_nonoverlapping(from, (&raw mut value).cast(), size.min(known)) };
    Ok(value)
}

/// Writes as much of `value` as the caller's struct has, but not its size. What the caller knows beyond it becomes
/// zero.
///
/// # Safety
/// As for [`read`], and the bytes may be written.
pub unsafe fn write<T: SizedStruct>(value: &T, at: *mut T, name: &str) -> Result<(), String> {
    // SAFETY: by this function's contract.
    let size = unsafe { size(at, name) }?;
    let (skip, known) = (size_of::<usize>(), size.min(size_of::<T>()));
    // SAFETY: bytes `skip..known` are within both, `known..size` are the caller's, and those are not this library's.
    unsafe {
        let (from, to) = (std::ptr::from_ref(value).cast::<u8>(), at.cast::<u8>());
        std::ptr::copy_nonoverlapping(from.add(skip), to.add(skip), known - skip);
        to.add(known).write_bytes(0, size - known);
    }
    Ok(())
}
