//! Performing, for one core and between cores.
#![warn(missing_docs)]

pub mod mesh;
mod wheel;
