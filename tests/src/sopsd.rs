//! The real sops as a library, in one process for thousands of documents (`tests/sopsd`).

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::lab;

/// A running process; it ends when dropped.
pub struct Sopsd {
    process: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

/// A document that sops encrypted.
pub struct Sealed {
    /// As it is in the file.
    pub file: Vec<u8>,
    /// The data key, in hexadecimal.
    pub key: String,
}

/// A document that sops decrypted.
pub struct Opened {
    /// Names in their order and typed values, without comments: to be compared.
    pub tree: Value,
    /// As `sops decrypt` prints it; empty where that is nothing or fails.
    pub whole: Vec<u8>,
    /// The values of the first document.
    pub leaves: Vec<Leaf>,
}

/// A value.
pub struct Leaf {
    /// The way to it, indices as numbers.
    pub path: Vec<String>,
    /// What `sops decrypt --extract` prints; none where that fails.
    pub bytes: Option<Vec<u8>>,
}

impl Sopsd {
    /// Starts one.
    #[must_use]
    pub fn start() -> Self {
        let mut process = Command::new(lab::peer("sopsd"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sopsd starts");
        let stdin = process.stdin.take().expect("stdin is a pipe");
        let stdout = process.stdout.take().expect("stdout is a pipe");
        Self {
            process,
            stdin,
            stdout: BufReader::new(stdout),
        }
    }

    /// Encrypts a document; `settings` are `rule`, `value` and `mac_only_encrypted`.
    ///
    /// # Errors
    /// What sops says, where it refuses.
    pub fn encrypt(
        &mut self,
        format: &str,
        text: &[u8],
        settings: &Value,
    ) -> Result<Sealed, String> {
        let mut request = settings.clone();
        request["op"] = json!("encrypt");
        request["format"] = json!(format);
        request["text"] = json!(BASE64_STANDARD.encode(text));
        let answer = self.ask(&request)?;
        Ok(Sealed {
            file: bytes(&answer["file"]),
            key: answer["key"].as_str().expect("a text").to_owned(),
        })
    }

    /// Decrypts a document whose data key is known.
    ///
    /// # Errors
    /// What sops says, where it refuses.
    pub fn decrypt(&mut self, format: &str, file: &[u8], key: &str) -> Result<Opened, String> {
        let request = json!({"op": "decrypt", "format": format, "file": BASE64_STANDARD.encode(file), "key": key});
        let answer = self.ask(&request)?;
        let leaves = answer["leaves"].as_array().map_or(&[][..], Vec::as_slice);
        Ok(Opened {
            tree: answer["tree"].clone(),
            whole: bytes(&answer["whole"]),
            leaves: leaves.iter().map(leaf).collect(),
        })
    }

    /// Reads a plain document, and returns what [`Opened::tree`] would have.
    ///
    /// # Errors
    /// What sops says, where it refuses.
    pub fn parse(&mut self, format: &str, text: &[u8]) -> Result<Value, String> {
        let text = BASE64_STANDARD.encode(text);
        let answer = self.ask(&json!({"op": "parse", "format": format, "text": text}))?;
        Ok(answer["tree"].clone())
    }

    fn ask(&mut self, request: &Value) -> Result<Value, String> {
        writeln!(self.stdin, "{request}").expect("sopsd reads");
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("sopsd answers");
        let answer: Value = serde_json::from_str(&line).expect("sopsd speaks JSON");
        match answer["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(answer),
        }
    }
}

impl Drop for Sopsd {
    fn drop(&mut self) {
        if let Err(e) = self.process.kill().and_then(|()| self.process.wait()) {
            eprintln!("sopsd: {e}");
        }
    }
}

fn leaf(value: &Value) -> Leaf {
    let steps = value["path"].as_array().expect("a list");
    let step = |step: &Value| {
        step.as_str()
            .map_or_else(|| step.to_string(), str::to_owned)
    };
    Leaf {
        path: steps.iter().map(step).collect(),
        bytes: value["error"].is_null().then(|| bytes(&value["bytes"])),
    }
}

/// Empty bytes are left out, or null.
fn bytes(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap_or_default();
    BASE64_STANDARD.decode(text).expect("sopsd writes base64")
}
