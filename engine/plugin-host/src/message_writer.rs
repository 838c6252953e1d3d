//! The sending end of a plugin's socket, shared by its threads.

use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use crate::protocol::{PluginMessage, write_frame};

/// Sends messages to the engine, one frame at a time.
#[derive(Clone)]
pub(crate) struct MessageWriter(Arc<Mutex<UnixStream>>);

impl MessageWriter {
    pub(crate) fn new(socket: UnixStream) -> Self {
        Self(Arc::new(Mutex::new(socket)))
    }

    /// Sends a message without an attachment.
    pub(crate) fn send(&self, message: &PluginMessage) -> io::Result<()> {
        self.send_with(message, &[])
    }

    /// Sends a message with an attachment.
    pub(crate) fn send_with(&self, message: &PluginMessage, attachment: &[u8]) -> io::Result<()> {
        let mut socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        write_frame(&mut *socket, message, attachment)?;
        socket.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::read_frame;

    #[test]
    fn frames_of_several_threads_do_not_mix() {
        let (mut engine, plugin) = UnixStream::pair().unwrap();
        let writer = MessageWriter::new(plugin);
        let senders = [0_u32, 1].map(|level| {
            let writer = writer.clone();
            std::thread::spawn(move || {
                for _ in 0..50 {
                    let message = "x".repeat(3000);
                    writer.send_with(&PluginMessage::Log { level, message }, &[9; 500]).unwrap();
                }
            })
        });
        let mut counts = [0, 0];
        for _ in 0..100 {
            let PluginMessage::Log { level, message } = read_frame(&mut engine).unwrap() else {
                panic!("another message");
            };
            assert_eq!(message.len(), 3000);
            counts[level as usize] += 1;
        }
        assert_eq!(counts, [50, 50]);
        for sender in senders {
            sender.join().unwrap();
        }
    }
}
