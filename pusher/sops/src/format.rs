//! The five file formats, and which one a file name stands for.

use std::fmt;

/// How a SOPS document is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `.yaml`, `.yml`: one document or several.
    Yaml,
    /// `.json`: an object.
    Json,
    /// `.env`: `NAME=value` lines.
    Dotenv,
    /// `.ini`: sections of `name = value` lines.
    Ini,
    /// Anything else: one value that is the whole file, in a JSON envelope.
    Binary,
}

impl Format {
    /// Returns the format that sops takes for a file of this name.
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        // As sops does it: by the end of the name, which may be all of it, and case matters.
        const ENDINGS: [(&str, Format); 5] = [
            (".yaml", Format::Yaml),
            (".yml", Format::Yaml),
            (".json", Format::Json),
            (".env", Format::Dotenv),
            (".ini", Format::Ini),
        ];
        ENDINGS
            .into_iter()
            .find(|(ending, _)| name.ends_with(ending))
            .map_or(Self::Binary, |(_, format)| format)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Yaml => "yaml",
            Self::Json => "json",
            Self::Dotenv => "dotenv",
            Self::Ini => "ini",
            Self::Binary => "binary",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_follows_the_name_as_in_sops() {
        for (name, format) in [
            ("a/secrets.yaml", Format::Yaml),
            ("secrets.enc.yml", Format::Yaml),
            ("x.json", Format::Json),
            (".env", Format::Dotenv),
            ("prod.env", Format::Dotenv),
            ("x.ini", Format::Ini),
            ("key.pem", Format::Binary),
            ("X.YAML", Format::Binary),
        ] {
            assert_eq!(Format::of_name(name), format, "{name}");
        }
    }
}
