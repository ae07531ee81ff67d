//! The channel of a guest: what its first process and the host say to each other.
//!
//! ```text
//!  host                                              guest (vyr-init)
//!   Hello{version, nonce}  --------------------------->
//!   <-------------- the nonce, raw; Welcome{version, nonce, state}
//!   Start{entropy, time, identity, secrets, process} ->
//!   <----------------------------  Phase(preparing | prestart | running ..)
//!   <======= data: logs, output of exec n =============   windows of 64 KiB, acknowledged
//!   ======== data: input of exec n ===================>
//!   Stop, Exec, Ack, PowerOff ------------------------>
//! ```
//!
//! One duplex stream of bytes carries all of it (a virtio console port behind a socket). `frame` cuts
//! it, `message` has the words, `window` bounds each stream of data, `log` has the records of the
//! log. Nothing here reads or writes: both ends feed bytes and take bytes.
//!
//! Invariants:
//! 1. No bytes make a decoder panic, or hold more than one frame of the largest size.
//! 2. A frame that was cut, joined or changed is not taken for another one.
//! 3. A receiver never has to hold more of a stream than [`WINDOW`]; who sends more is refused.
//! 4. After any break of the stream the next `Hello` is understood: zeros fill whatever was cut, and
//!    a zero outside a frame means nothing.
//! 5. What was not acknowledged is sent again after a break.
//!
//! The guest is hostile to the host, so what the host takes is smaller: [`GUEST_FRAME_MAX`].

mod crc;
mod frame;
mod log;
mod message;
mod window;

pub use frame::{Decoder, FILL, Frame, FrameError, GUEST_FRAME_MAX, HOST_FRAME_MAX, Hunt, frame};
pub use log::{LINE_MAX, LogDecoder, LogError, LogRecord, LogSource};
pub use message::{
    Check, End, ExecEnd, ExecSpec, ExecState, Failure, GuestMessage, HostMessage, MessageError,
    Network, Nonce, Phase, Prestart, Process, Route, Stage, Start, State, WORDS_MAX, Window,
    decode_guest, decode_host, encode, shortened,
};
pub use window::{Arrived, Inbox, Outbox, Violation, WINDOW, data_payload, parse_data};

/// The version of all of this. Another one is refused by name, on both sides.
pub const VERSION: u16 = 1;

/// Sessions of `exec` at once in one guest.
pub const EXECS_MAX: u16 = 8;

/// The stream of the log.
pub const LOG_STREAM: u16 = 0;

/// One of the three streams of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// From the host to the guest.
    Stdin,
    /// From the guest; with a terminal the only one.
    Stdout,
    /// From the guest.
    Stderr,
}

/// The stream of a part of session `id`.
pub const fn exec_stream(id: u16, part: Part) -> u16 {
    // Sessions are few: the number cannot overflow for one that exists.
    id.saturating_mul(4).saturating_add(match part {
        Part::Stdin => 1,
        Part::Stdout => 2,
        Part::Stderr => 3,
    })
}

/// Which session and part a stream belongs to; `None` for the log and for streams that nobody has.
pub const fn stream_part(stream: u16) -> Option<(u16, Part)> {
    let id = stream / 4;
    if id == 0 || id > EXECS_MAX {
        return None;
    }
    match stream % 4 {
        1 => Some((id, Part::Stdin)),
        2 => Some((id, Part::Stdout)),
        3 => Some((id, Part::Stderr)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stream_belongs_to_one_part() {
        let mut seen = Vec::new();
        for id in 1..=EXECS_MAX {
            for part in [Part::Stdin, Part::Stdout, Part::Stderr] {
                let stream = exec_stream(id, part);
                assert_eq!(stream_part(stream), Some((id, part)));
                seen.push(stream);
            }
        }
        for stream in 0..=u16::MAX {
            assert_eq!(stream_part(stream).is_some(), seen.contains(&stream), "{stream}");
        }
    }
}
