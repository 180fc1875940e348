//! The server API in JSON: requests of application backends, results, envelopes.
