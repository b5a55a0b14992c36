//! The way to an agent.

use std::io::{self, Write};
use std::process::ChildStdin;
use std::sync::{Arc, Mutex, PoisonError};

/// The way to the agent, which can be closed while it still speaks.
#[derive(Clone)]
pub struct Up(Arc<Mutex<Option<ChildStdin>>>);

impl Up {
    pub(crate) fn over(pipe: ChildStdin) -> Self {
        Self(Arc::new(Mutex::new(Some(pipe))))
    }

    pub(crate) fn hang_up(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn on<T>(&self, act: impl FnOnce(&mut ChildStdin) -> io::Result<T>) -> io::Result<T> {
        let mut pipe = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pipe.as_mut()
            .map_or_else(|| Err(io::ErrorKind::BrokenPipe.into()), act)
    }
}

impl Write for Up {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.on(|pipe| pipe.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.on(Write::flush)
    }
}
