//! JSON text: checking, writing, reading.
