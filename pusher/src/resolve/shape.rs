//! What a source gives, in another form: a map as one file or several, base64 as the bytes it stands for.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keys_protocol::Secret;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::failure::Failure;
use crate::resolve::escape::Escape;
use crate::resolve::fields::{Fields, compact, shown_field};
use crate::resolve::{Answers, Kind, Run};
use crate::source::Source;

/// A source whose map or bytes are changed before they are a secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ShapedSource {
    of: Box<Source>,
    shape: Shape,
}

/// Into what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Shape {
    /// A map, in one of these forms.
    As(As),
    /// Base64, as what it stands for.
    Decoded,
    /// A field of a folder.
    Field(String),
}

/// How a map becomes a file.
#[derive(Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(rename_all = "snake_case")]
pub(crate) enum As {
    /// Lines `NAME="value"`, for `EnvironmentFile=` of systemd and for a POSIX shell.
    Env,
    /// JSON without whitespace, its fields in the order of the source.
    Json,
    /// A folder with a key for each field.
    Dir,
}

/// How bytes are written where they come from.
#[derive(Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Encoding {
    /// Base64 with the alphabet of RFC 4648, section 4; line breaks and blanks in it mean nothing.
    Base64,
}

impl Shape {
    /// Reads what a source says beside its kind.
    pub(crate) fn of(
        form: Option<As>,
        encoding: Option<Encoding>,
    ) -> Result<Option<Self>, &'static str> {
        match (form, encoding) {
            (None, None) => Ok(None),
            (Some(form), None) => Ok(Some(Self::As(form))),
            (None, Some(Encoding::Base64)) => Ok(Some(Self::Decoded)),
            (Some(_), Some(_)) => Err("`encoding` is that of one value, and `as` takes a map"),
        }
    }
}

impl ShapedSource {
    pub(crate) fn new(of: Source, shape: Shape) -> Self {
        let of = match shape {
            Shape::As(_) => of.as_json(),
            Shape::Decoded | Shape::Field(_) => of,
        };
        Self {
            of: Box::new(of),
            shape,
        }
    }

    pub(crate) fn is_folder(&self) -> bool {
        self.shape == Shape::As(As::Dir)
    }

    fn give(&self, secret: &Secret) -> Result<Secret, Failure> {
        match &self.shape {
            Shape::As(As::Env) => env(&Fields::parse(secret.expose())?),
            Shape::As(As::Json | As::Dir) => compact(secret.expose()),
            Shape::Field(_) => Err(Failure::source("a bug: a field is not asked by itself")),
            Shape::Decoded => decode(secret.expose()),
        }
    }
}

impl Kind for ShapedSource {
    fn for_host(&self, _: &str) -> Self {
        self.clone()
    }

    fn origin(&self) -> Self {
        self.clone()
    }

    fn parts(&self) -> Vec<&Source> {
        vec![&self.of]
    }

    fn parts_mut(&mut self) -> Vec<&mut Source> {
        vec![&mut self.of]
    }

    async fn ask(self, _: Vec<Self>, run: Arc<Run>) -> Answers {
        let secret = run.answer(&self.of).await?;
        Ok(vec![self.give(&secret).map_err(|f| f.at(&self))])
    }
}

/// What Linux takes for one variable, its name and `=` included (`MAX_ARG_STRLEN`, less the NUL).
const LONGEST_VARIABLE: usize = (128 << 10) - 1;

/// Writes each field as `NAME="value"`.
fn env(fields: &Fields<'_>) -> Result<Secret, Failure> {
    let mut file = Secret::with_capacity(4 << 10);
    for (name, value) in fields.bytes() {
        let field = || shown_field(name);
        if !is_variable(name) {
            return Err(Failure::source("no name of a variable")
                .at(field())
                .hint("a variable is named with A-Z a-z 0-9 _, and no digit comes first"));
        }
        let value = value?;
        if name.len() + 1 + value.len() > LONGEST_VARIABLE {
            return Err(Failure::source("larger than a variable can be (128 KiB)").at(field()));
        }
        let quoted = Escape::Env.apply(value.expose());
        let quoted = quoted.map_err(|what| Failure::source(what).at(field()))?;
        for part in [name.as_bytes(), b"=", quoted.expose(), b"\n"] {
            file.push(part);
        }
    }
    Ok(file)
}

fn is_variable(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit())
}

fn decode(text: &[u8]) -> Result<Secret, Failure> {
    let mut packed = Secret::with_capacity(text.len());
    for byte in text.iter().filter(|byte| !byte.is_ascii_whitespace()) {
        packed.push(&[*byte]);
    }
    let mut bytes = Vec::with_capacity(base64::decoded_len_estimate(packed.len()));
    // With room for all of it nothing is copied; what went wrong is not shown, as it quotes a byte of the secret.
    let decoded = STANDARD.decode_vec(packed.expose(), &mut bytes);
    let secret = Secret::new(bytes);
    decoded.map_err(|_| Failure::source("it is no base64"))?;
    if secret.is_empty() {
        return Err(Failure::source("it is empty"));
    }
    Ok(secret)
}

impl fmt::Display for ShapedSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match &self.shape {
            Shape::As(As::Env) => "as env",
            Shape::As(As::Json) => "as json",
            Shape::As(As::Dir) => "as dir",
            Shape::Field(name) => return write!(f, "{} {}", self.of, shown_field(name)),
            Shape::Decoded => "from base64",
        };
        write!(f, "{} {how}", self.of)
    }
}
