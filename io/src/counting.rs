//! An allocator that counts, there only with the feature `counting`: for tests that state what allocates and what does not.
//!
//! A test makes it the global allocator of its binary. Counts are kept per thread, so that a core can be watched while
//! other tests and the test's own clients run beside it. It lives here because nobody else may write `unsafe`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    // No destructor and no lazy set-up: either would make the allocator call itself.
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counted.
#[derive(Debug)]
pub struct CountingAllocator;

impl CountingAllocator {
    /// How often the calling thread has asked for memory, including for more or less of what it had.
    pub fn count_of_this_thread() -> u64 {
        COUNT.get()
    }
}

fn count() {
    COUNT.set(COUNT.get() + 1);
}

// SAFETY: every call is handed on unchanged to the system's allocator, which keeps the contract. Counting touches
// nothing but a number of the calling thread and cannot panic: 2^64 allocations take longer than any process lives.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as the caller promises.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }
}
