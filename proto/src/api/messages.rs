//! Requests and results as `protos/api.proto` has them, with its comments. See `build.rs`.
//!
//! A field that was not given has its default. Fields that Gyre does not act on are decoded all the same: a wrong type
//! in them fails the call, as it always did.

include!(concat!(env!("OUT_DIR"), "/centrifugal.centrifugo.api.rs"));
