//! What the agent remembers of a generation, beside the keys in it: `.meta`, one line of JSON for each.

use std::collections::BTreeMap;

use keys_protocol::{KeyName, Mode, Tell};
use serde::{Deserialize, Serialize};

use crate::file::Access;

/// The name of the file in a generation.
pub(crate) const NAME: &str = ".meta";
/// The largest that is read: the most keys with the most text in each.
pub(crate) const LARGEST: u64 = 64 << 20;

/// Where a generation came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// The format of this file.
    format: u32,
    /// How many lines follow: fewer are not a generation.
    keys: usize,
    /// The manifest of the push that made it.
    pub(crate) manifest: String,
    /// Who is said to have sent it.
    pub(crate) sender: String,
    /// When, in seconds since 1970.
    pub(crate) sent_at: u64,
}

/// The format this agent writes.
const FORMAT: u32 = 1;

impl Origin {
    pub(crate) fn new(manifest: &str, sender: &str, sent_at: u64) -> Self {
        Self {
            format: FORMAT,
            keys: 0,
            manifest: manifest.to_owned(),
            sender: sender.to_owned(),
            sent_at,
        }
    }
}

/// One key as the agent left it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) name: KeyName,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: Mode,
    /// The manifest it came from: only that one may change or remove it.
    pub(crate) manifest: String,
    /// Whom to tell when it changes or goes.
    pub(crate) units: Vec<Tell>,
}

impl Record {
    /// Returns who may use it.
    pub(crate) fn access(&self) -> Access {
        Access {
            uid: self.uid,
            gid: self.gid,
            mode: self.mode.bits(),
        }
    }
}

/// All keys of a generation, by name.
pub(crate) type Records = BTreeMap<KeyName, Record>;

/// Writes the text of `.meta`.
pub(crate) fn write<'a>(
    origin: &Origin,
    records: impl ExactSizeIterator<Item = &'a Record>,
) -> serde_json::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(&Origin {
        keys: records.len(),
        ..origin.clone()
    })?;
    for record in records {
        text.push(b'\n');
        serde_json::to_writer(&mut text, record)?;
    }
    text.push(b'\n');
    Ok(text)
}

/// Reads the text of `.meta`; `None` if it is not whole, or of a later format.
pub(crate) fn read(text: &str) -> Option<(Origin, Records)> {
    let mut lines = text.strip_suffix('\n')?.split('\n');
    let origin: Origin = serde_json::from_str(lines.next()?).ok()?;
    if origin.format != FORMAT {
        return None;
    }
    let mut records = Records::new();
    for line in lines {
        let record: Record = serde_json::from_str(line).ok()?;
        records.insert(record.name.clone(), record);
    }
    (records.len() == origin.keys).then_some((origin, records))
}

#[cfg(test)]
mod tests {
    use keys_protocol::How;

    use super::*;

    #[test]
    fn what_is_written_is_read_and_a_part_of_it_is_not() {
        let record = |name: &str| Record {
            name: name.parse().unwrap(),
            uid: 0,
            gid: 7,
            mode: "0440".parse().unwrap(),
            manifest: "m\n1".into(),
            units: vec![Tell {
                unit: "web.service".parse().unwrap(),
                how: How::Reload,
            }],
        };
        let origin = Origin::new("m\n1", "ann@desk", 1);
        let records: Records = ["a", "b/c"]
            .map(|name| (name.parse().unwrap(), record(name)))
            .into();
        let text = String::from_utf8(write(&origin, records.values()).unwrap()).unwrap();
        let (read_origin, read_records) = read(&text).unwrap();
        assert_eq!(read_origin.sender, origin.sender);
        assert_eq!(read_records, records);
        for cut in 0..text.len() {
            assert_eq!(read(&text[..cut]), None, "cut at {cut}");
        }
    }
}
