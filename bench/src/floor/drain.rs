//! The receiving process of the floor probe: connects, then reads whatever comes until every socket is at its end.
//!
//! Edge-triggered epoll and one read per event, the least that a receiver can do; it must keep up, or the sender would
//! measure full sockets. Says on its output how many bytes came.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use socket2::{Domain, Socket, Type};

use super::send::lift_file_limit;
use crate::cpu;

/// What the sender says on the command line.
#[derive(clap::Args, Debug)]
pub struct DrainOptions {
    /// Where the sender listens
    address: SocketAddr,
    /// Connections to make
    sockets: usize,
    /// CPU to run on
    cpu: usize,
}

/// Runs until the sender has closed all connections.
pub fn run(options: &DrainOptions) -> Result<()> {
    lift_file_limit(options.sockets)?;
    cpu::pin(options.cpu)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("cannot make an epoll")?;
    let mut sockets = Vec::with_capacity(options.sockets);
    for number in 0..options.sockets {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).context("cannot make a socket")?;
        // Closing resets: thousands of ports would wait for a minute otherwise.
        socket.set_linger(Some(std::time::Duration::ZERO))?;
        socket.connect(&options.address.into()).with_context(|| format!("cannot make connection {number}"))?;
        socket.set_nonblocking(true)?;
        let events = epoll::EventFlags::IN | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        epoll::add(&epoll, &socket, epoll::EventData::new_u64(number as u64), events)?;
        sockets.push(socket);
    }
    println!("{}", read_all(&epoll, &sockets)?);
    Ok(())
}

fn read_all(epoll: &std::os::fd::OwnedFd, sockets: &[Socket]) -> Result<u64> {
    let mut events = Vec::with_capacity(1024);
    let mut buffer = vec![0; 64 * 1024];
    let (mut bytes, mut ended) = (0, 0);
    while ended < sockets.len() {
        events.clear();
        match epoll::wait(epoll, spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for data"),
        }
        for event in &events {
            let socket = &sockets[event.data.u64() as usize];
            let flags = event.flags;
            let is_last = flags.intersects(epoll::EventFlags::RDHUP | epoll::EventFlags::HUP);
            loop {
                match recv(socket, &mut buffer, RecvFlags::DONTWAIT) {
                    Ok((0, _)) => {
                        // Or it would report its end again when the other side is gone as well.
                        epoll::delete(epoll, socket)?;
                        ended += 1;
                        break;
                    }
                    Ok((count, _)) => bytes += count as u64,
                    Err(Errno::AGAIN) => break,
                    Err(error) => return Err(error).context("a connection broke"),
                }
                // A short read has emptied the socket; the next event says more.
                if !is_last {
                    break;
                }
            }
        }
    }
    Ok(bytes)
}
