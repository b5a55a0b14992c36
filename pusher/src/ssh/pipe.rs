//! The pipes to and from an agent, for code that blocks, with a limit to each wait.

use std::io::{self, Read, Write};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::runtime::Handle;
use tokio::time::timeout;

/// How long the agent may be silent once it has spoken: it may wait 30 s for another push, and hashes what it has.
const SILENCE: Duration = Duration::from_secs(45);

/// What the agent says.
pub(crate) struct Incoming {
    pub(super) pipe: ChildStdout,
    pub(super) patience: Duration,
    pub(super) runtime: Handle,
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.runtime.block_on(within(
            self.patience,
            AsyncReadExt::read(&mut self.pipe, buffer),
        ))?;
        self.patience = SILENCE;
        Ok(read)
    }
}

/// What is said to the agent.
pub(crate) struct Outgoing {
    pub(super) pipe: ChildStdin,
    pub(super) runtime: Handle,
}

impl Write for Outgoing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.runtime
            .block_on(within(SILENCE, AsyncWriteExt::write(&mut self.pipe, bytes)))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.runtime
            .block_on(within(SILENCE, AsyncWriteExt::flush(&mut self.pipe)))
    }
}

async fn within<T>(
    limit: Duration,
    operation: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    match timeout(limit, operation).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("silent for {} s", limit.as_secs()),
        )),
    }
}
