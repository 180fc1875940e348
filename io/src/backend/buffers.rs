//! The receive buffers of one core: memory that the kernel picks from when bytes arrive.
//!
//! One ring of equally sized buffers serves every connection, so an idle connection holds none. A buffer belongs to
//! the kernel until a completion names it, then to us until `give_back`. It is given back before its completion
//! handler returns (driver rule 3), so the pool runs dry only when one turn brings more completions than buffers.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

use crate::limits::{RECEIVE_BUFFER_BYTES, RECEIVE_BUFFERS_MAX, RECEIVE_BUFFERS_MIN};

/// The one buffer group of a ring.
pub(crate) const GROUP: u16 = 0;

const PAGE: usize = 4096;

/// Buffers shared with the kernel.
pub(crate) struct ReceiveBuffers {
    memory: Rc<BufferMemory>,
    tail: u16,
}

/// What the kernel writes to. The ring it is registered with holds it too, so that it goes last.
pub(crate) struct BufferMemory {
    entries: NonNull<BufRingEntry>,
    bytes: NonNull<u8>,
    /// A power of two between the bounds of limits.rs.
    count: u16,
}

impl ReceiveBuffers {
    /// Allocates about `count` buffers and registers them with the ring behind `submitter`.
    pub(crate) fn register(submitter: &Submitter<'_>, count: u16) -> io::Result<Self> {
        let count = count.clamp(RECEIVE_BUFFERS_MIN, RECEIVE_BUFFERS_MAX).next_power_of_two();
        let entries = allocate(entries_layout(count)).cast::<BufRingEntry>();
        let bytes = allocate(bytes_layout(count));
        let mut buffers = Self { memory: Rc::new(BufferMemory { entries, bytes, count }), tail: 0 };
        // SAFETY: the address is page aligned, holds `count` entries and stays valid until the ring is gone.
        unsafe {
            submitter.register_buf_ring_with_flags(entries.as_ptr() as u64, count, GROUP, 0)?;
        }
        for buffer in 0..count {
            buffers.place(buffer);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// The memory, to be kept until the ring is gone.
    pub(crate) fn memory(&self) -> Rc<BufferMemory> {
        Rc::clone(&self.memory)
    }

    /// The first `len` bytes of a buffer that a completion named. Exclusive until `give_back`.
    pub(crate) fn bytes(&mut self, buffer: u16, len: usize) -> &mut [u8] {
        assert!(buffer < self.memory.count && len <= RECEIVE_BUFFER_BYTES);
        // SAFETY: inside the allocation by the line above; the kernel does not touch a buffer between the completion
        // that names it and its return, and the borrow of self keeps callers from returning it meanwhile.
        unsafe {
            let start = self.memory.bytes.as_ptr().add(usize::from(buffer) * RECEIVE_BUFFER_BYTES);
            std::slice::from_raw_parts_mut(start, len)
        }
    }

    /// Hands a buffer back to the kernel.
    pub(crate) fn give_back(&mut self, buffer: u16) {
        self.place(buffer);
        self.publish();
    }

    fn place(&mut self, buffer: u16) {
        let at = usize::from(self.tail % self.memory.count);
        // SAFETY: `at` is inside the ring; the kernel reads an entry only after `publish` moved the tail past it.
        unsafe {
            let entry = &mut *self.memory.entries.as_ptr().add(at);
            entry.set_addr(self.memory.bytes.as_ptr().add(usize::from(buffer) * RECEIVE_BUFFER_BYTES) as u64);
            entry.set_len(RECEIVE_BUFFER_BYTES as u32);
            entry.set_bid(buffer);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&self) {
        // SAFETY: the tail lives in the reserved field of the first entry, is two-byte aligned and is shared with
        // the kernel, which reads it with acquire ordering.
        unsafe {
            let tail = BufRingEntry::tail(self.memory.entries.as_ptr()).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }
}

impl Drop for BufferMemory {
    fn drop(&mut self) {
        // SAFETY: allocated with these layouts; the ring that could write into them is already closed.
        unsafe {
            std::alloc::dealloc(self.entries.as_ptr().cast(), entries_layout(self.count));
            std::alloc::dealloc(self.bytes.as_ptr(), bytes_layout(self.count));
        }
    }
}

fn entries_layout(count: u16) -> Layout {
    layout(usize::from(count) * size_of::<BufRingEntry>())
}

fn bytes_layout(count: u16) -> Layout {
    layout(usize::from(count) * RECEIVE_BUFFER_BYTES)
}

fn layout(bytes: usize) -> Layout {
    // Both sizes are non-zero multiples of the page size, far below isize::MAX: checked in limits.rs.
    Layout::from_size_align(bytes, PAGE).unwrap_or_else(|_| unreachable!("bounded by limits.rs"))
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: the size is not zero.
    let memory = unsafe { alloc_zeroed(layout) };
    NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout))
}
