//! Names that engine and I/O share for cores and connections.

/// Number of a core of this node, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoreId(pub u16);

/// Names one connection of a core.
///
/// A slot is used again after its connection has gone, with another generation: a stale name never reaches the
/// connection that came later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnId {
    /// Slot in the core's connection table; dense, so it can index a `Vec`.
    pub index: u32,
    /// Generation of the slot.
    pub generation: u32,
}
