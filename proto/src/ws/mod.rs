//! WebSocket frames and handshake.
