//! System calls about sockets and the file table for which no crate of ours has a safe name.
//!
//! Each blocks for nothing and is called on the core's own thread.

use std::ffi::c_int;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};

use socket2::{SockAddr, Socket};

/// The part of a file table from which the kernel allocates, as io_uring_register(2) takes it.
#[repr(C)]
struct Range {
    offset: u32,
    len: u32,
    reserved: u64,
}

/// Of enum io_uring_register_op (kernel 6.0).
const REGISTER_FILE_ALLOC_RANGE: u32 = 25;

/// Lets the kernel give accepted sockets only the slots from `offset` to `offset + len` of the table of `ring`.
pub(super) fn allocate_from(ring: RawFd, offset: u32, len: u32) -> io::Result<()> {
    let range = Range { offset, len, reserved: 0 };
    // SAFETY: the kernel reads one struct of this layout during the call.
    let result =
        unsafe { libc::syscall(libc::SYS_io_uring_register, ring, REGISTER_FILE_ALLOC_RANGE, &raw const range, 0) };
    check(result)
}

/// Binds to an address but to no port: connect then picks one that is free for its target, so that every target has
/// all ports of the address for itself.
pub(crate) fn bind_without_port(socket: &Socket, source: IpAddr) -> io::Result<()> {
    let yes: c_int = 1;
    // SAFETY: the kernel reads one integer during the call. The option is of IP also for IPv6 sockets.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const yes).cast(),
            size_of::<c_int>() as libc::socklen_t,
        )
    };
    check(result.into())?;
    socket.bind(&SockAddr::from(std::net::SocketAddr::new(source, 0)))
}

fn check(result: i64) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
