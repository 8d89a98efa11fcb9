//! When frames are due that were held back: a timer of the system, which is more exact than tokio's and costs the
//! thread nothing as long as no switch needs one.

use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

use super::port::watch;

/// A timer that wakes a switch.
#[derive(Debug)]
pub(super) struct Timer {
    fd: AsyncFd<OwnedFd>,
    armed: Option<Duration>,
}

impl Timer {
    /// A timer that is not set. Must be called within a tokio runtime.
    pub(super) fn new() -> io::Result<Self> {
        let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        Ok(Self { fd: watch(fd)?, armed: None })
    }

    /// Has the task woken at a time, or at none; true where that is over by now.
    pub(super) fn wake_at(&mut self, cx: &mut Context<'_>, now: Duration, due: Option<Duration>) -> bool {
        if due.is_some_and(|due| due <= now) {
            return true;
        }
        if due != self.armed {
            // Zero would switch it off, which is right where there is nothing to wait for.
            let left = due.map_or(Duration::ZERO, |due| due - now);
            let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
            let value = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 });
            let setting = Itimerspec { it_interval: zero, it_value: value };
            // It fails for times that can't be and for what is no timer: neither is the case.
            if timerfd_settime(self.fd.get_ref(), TimerfdTimerFlags::empty(), &setting).is_ok() {
                self.armed = due;
            }
        }
        while let Poll::Ready(Ok(mut guard)) = self.fd.poll_read_ready(cx) {
            let mut count = [0; 8];
            match rustix::io::read(self.fd.get_ref(), &mut count) {
                // It is over; whoever is due now is taken in the next round.
                Ok(_) => {
                    self.armed = None;
                    return true;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => guard.clear_ready(),
            }
        }
        false
    }
}
