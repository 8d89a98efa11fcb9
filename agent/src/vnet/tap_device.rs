//! This program's end of a tap: a descriptor on which one read or write is one Ethernet frame.

use std::ffi::c_int;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::ioctl::{Setter, opcode};

/// Where the kernel gives taps out.
const DEVICE: &str = "/dev/net/tun";
/// The longest name of an interface, with the zero behind it, in bytes.
const NAME_BYTES: usize = 16;
/// A tap, as `linux/if_tun.h` has it.
const IFF_TAP: i16 = 0x0002;
/// Frames without a header of the kernel's before them.
const IFF_NO_PI: i16 = 0x1000;

/// The kernel's `struct ifreq`, as far as TUNSETIFF reads and writes it.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; NAME_BYTES],
    flags: i16,
    rest: [u8; 22],
}

/// Opens a tap by its name. One that isn't there is made, for which this program must be root, and goes with the
/// descriptor; another one must belong to the program's user and be used by nobody else, and stays.
pub fn open(name: &str) -> io::Result<OwnedFd> {
    let mut request = InterfaceRequest { name: [0; NAME_BYTES], flags: IFF_TAP | IFF_NO_PI, rest: [0; 22] };
    // The last byte stays zero.
    let room = &mut request.name[..NAME_BYTES - 1];
    let Some(place) = room.get_mut(..name.len()).filter(|_| !name.is_empty()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no interface has a name of that length"));
    };
    place.copy_from_slice(name.as_bytes());
    let fd = rustix::fs::open(DEVICE, OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())?;
    const TUNSETIFF: rustix::ioctl::Opcode = opcode::write::<c_int>(b'T', 202);
    // SAFETY: TUNSETIFF reads and writes a `struct ifreq`, of 40 bytes on 64-bit Linux; `InterfaceRequest` has its
    // layout and length, and lives until the call has returned.
    unsafe { rustix::ioctl::ioctl(&fd, Setter::<TUNSETIFF, InterfaceRequest>::new(request)) }?;
    Ok(fd)
}

const _: () = assert!(std::mem::size_of::<InterfaceRequest>() == 40);
