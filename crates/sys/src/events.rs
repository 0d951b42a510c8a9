//! The channel on which workers, guardians and the arbiter tell the observer what has happened: datagrams of JSON over a
//! pair of sockets. Sending never waits: while nobody reads, what does not fit is lost.
//! Not for: what the observer can see by itself.

use ferricorn_core::event::{EVENT_MAX, Event};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The end into which is told.
#[derive(Debug)]
pub struct Teller(OwnedFd);

/// The end that listens.
#[derive(Debug)]
pub struct Hearer(OwnedFd);

/// Makes a channel.
///
/// # Errors
/// The system's.
pub fn channel() -> io::Result<(Teller, Hearer)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (tell, hear) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    Ok((Teller(tell), Hearer(hear)))
}

impl Teller {
    /// Tells it, if there is room.
    pub fn tell(&self, event: &Event) {
        if let Ok(text) = serde_json::to_vec(event)
            && text.len() <= EVENT_MAX
        {
            let _ = send(&self.0, &text, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        }
    }
}

impl Hearer {
    /// Returns what has been told and not been heard yet.
    pub fn hear(&self) -> Vec<Event> {
        let mut events = Vec::new();
        let mut room = vec![0; EVENT_MAX];
        while let Ok((_, length)) = recv(&self.0, room.as_mut_slice(), RecvFlags::DONTWAIT) {
            if length == 0 {
                break;
            }
            // An older worker, after a reload with another version, may say what we do not know.
            events.extend(room.get(..length).and_then(|text| serde_json::from_slice(text).ok()));
        }
        events
    }
}

impl AsFd for Hearer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for Teller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferricorn_core::event::Died;
    use ferricorn_core::record::Worker;
    use ferricorn_core::scoreboard::Exit;

    #[test]
    fn what_is_told_is_heard_and_telling_never_waits() {
        let (tell, hear) = channel().expect("a pair");
        assert!(hear.hear().is_empty());
        let died = |age, letters| {
            let worker = Worker { age, ..Worker::default() };
            Event::Died(Died { worker, cause: "x".repeat(letters), exit: Exit::Code, requests: Vec::new() })
        };
        let event = |age| died(age, 1000);
        // More than fits.
        (0..5000).for_each(|age| tell.tell(&event(age)));
        tell.tell(&died(0, EVENT_MAX));
        let heard = hear.hear();
        assert!(heard.len() > 10 && heard.len() < 5000, "{}", heard.len());
        assert!(heard.iter().enumerate().all(|(age, heard)| *heard == event(age as u32)));
        tell.tell(&event(7));
        assert_eq!(hear.hear(), [event(7)]);
    }
}
