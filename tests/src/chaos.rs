//! Something between an operator and a Vault that breaks what passes: requests are counted, and some meet a fault.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::Port;

/// What becomes of a request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The server does not see it, and this is the answer: status line, more header lines, body.
    Instead(&'static str, String, String),
    /// Of the answer, only so many bytes come.
    Cut(usize),
    /// The answer comes late.
    Late(Duration),
    /// The connection is closed without a word.
    Closed,
}

/// Such a port. Closed when dropped.
pub struct Chaos {
    port: Port,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// The first line of each request, with all headers.
    requests: Vec<String>,
    /// What is in the first line of a request, how often, and what it meets.
    faults: Vec<(String, usize, Fault)>,
}

impl Chaos {
    /// Stands before the server at `address`.
    #[must_use]
    pub fn before(address: &str) -> Self {
        let address = address.trim_start_matches("http://").to_owned();
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        let port = Port::serving(move |stream| {
            let (address, state) = (address.clone(), Arc::clone(&shared));
            thread::spawn(move || serve(stream, &address, &state));
        });
        Self { port, state }
    }

    /// Lets the next `times` requests whose first line holds `part` meet a fault.
    pub fn meet(&self, part: &str, times: usize, fault: Fault) {
        let mut state = self.state.lock().expect("no holder panics");
        state.faults.push((part.to_owned(), times, fault));
    }

    /// Takes all faults away, and forgets what was asked.
    pub fn calm(&self) {
        *self.state.lock().expect("no holder panics") = State::default();
    }

    /// Returns the head of each request so far.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.state
            .lock()
            .expect("no holder panics")
            .requests
            .clone()
    }

    /// Returns its address, with the scheme.
    #[must_use]
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number())
    }
}

fn serve(mut stream: TcpStream, address: &str, state: &Mutex<State>) {
    let Some(request) = request(&mut stream) else {
        return;
    };
    let head = String::from_utf8_lossy(&request).into_owned();
    let first = head.lines().next().unwrap_or_default().to_owned();
    let fault = {
        let mut state = state.lock().expect("no holder panics");
        state.requests.push(head);
        let met = state
            .faults
            .iter_mut()
            .find(|(part, left, _)| *left > 0 && first.contains(part.as_str()));
        met.map(|(_, left, fault)| {
            *left -= 1;
            fault.clone()
        })
    };
    // Whoever asked may be gone: then there is nobody to answer.
    let _gone = match fault {
        None => stream.write_all(&answer(address, &request)),
        Some(Fault::Instead(status, headers, body)) => {
            let length = body.len();
            stream.write_all(
                format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}").as_bytes(),
            )
        }
        Some(Fault::Cut(length)) => {
            let answer = answer(address, &request);
            stream.write_all(&answer[..length.min(answer.len())])
        }
        Some(Fault::Late(time)) => {
            thread::sleep(time);
            stream.write_all(&answer(address, &request))
        }
        Some(Fault::Closed) => Ok(()),
    };
    let _closed = stream.shutdown(Shutdown::Both);
}

/// Reads one request, head and body.
fn request(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let head = request.windows(4).position(|end| end == b"\r\n\r\n");
        if let Some(head) = head {
            let text = String::from_utf8_lossy(&request[..head]).to_ascii_lowercase();
            let length = text
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse().expect("a length is a number"));
            if request.len() >= head + 4 + length {
                return Some(request);
            }
        }
        match stream.read(&mut buffer) {
            Ok(read @ 1..) => request.extend(&buffer[..read]),
            _ => return None,
        }
    }
}

/// Asks the server, and returns its answer to the last byte.
fn answer(address: &str, request: &[u8]) -> Vec<u8> {
    let head = request
        .windows(2)
        .position(|end| end == b"\r\n")
        .expect("a request has a first line");
    let mut whole = request[..head].to_vec();
    whole.extend(b"\r\nConnection: close");
    whole.extend(&request[head..]);
    let mut answer = Vec::new();
    let asked = TcpStream::connect(address).and_then(|mut server| {
        server.write_all(&whole)?;
        server.read_to_end(&mut answer)
    });
    asked.expect("the server answers");
    answer
}
