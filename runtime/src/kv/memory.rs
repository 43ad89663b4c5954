//! The memory of a page.

/// Bytes of a line of the cache.
const LINE: usize = 64;

/// Bytes, zeros at first, that begin where a line of the cache does: kernels read whole lines of them.
#[derive(Debug)]
pub(super) struct Memory {
    allocated: Vec<u8>,
    start: usize,
    len: usize,
}

impl Memory {
    pub(super) fn zeroed(len: usize) -> Memory {
        let allocated = vec![0; len + LINE - 1];
        // Where that could not be told, it would only be slower.
        let start = allocated.as_ptr().align_offset(LINE).min(LINE - 1);
        Memory { allocated, start, len }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.allocated[self.start..][..self.len]
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.allocated[self.start..][..self.len]
    }
}

impl Clone for Memory {
    fn clone(&self) -> Memory {
        let mut copy = Memory::zeroed(self.len);
        copy.bytes_mut().copy_from_slice(self.bytes());
        copy
    }
}
