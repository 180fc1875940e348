//! What is measured: the cases that the wall clock (`benches/micro.rs`) and the instruction counter share, and the
//! tools of the binary. Runs on a machine of its own choosing, never inside the product.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod backend;
pub mod cases;
pub mod compare;
pub mod cpu;
pub mod floor;
pub mod instructions;
pub mod million;
pub mod redis;
pub mod stats;
