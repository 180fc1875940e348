//! Redis Cluster, as a core speaks to it.
//!
//! On a core's thread, except the map, which is made elsewhere.

mod map;

pub use map::{SLOTS, SlotMap, SlotMapError, slot_of};
