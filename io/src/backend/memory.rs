//! What the allocator keeps of a peak.

/// Gives memory that this thread has freed back to the system, where the process allocates with mimalloc; elsewhere it
/// does nothing.
pub(crate) fn give_back_memory() {
    // SAFETY: takes no pointer, and concerns only what the calling thread has freed and the arenas, which it locks.
    unsafe { libmimalloc_sys::mi_collect(true) };
}
