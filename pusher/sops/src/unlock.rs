//! From wrapped keys to the data key: groups, Shamir shares, and what to say when it fails.

use std::fmt;

use zeroize::Zeroizing;

use crate::cipher::DataKey;
use crate::metadata::{KeyGroup, Metadata};
use crate::wrapped::WrappedKey;
use crate::{Error, shamir};

/// The length of a data key; a share has one byte more.
const KEY: usize = 32;

/// Collects what recipients unwrap until the data key is complete.
///
/// Whoever can unwrap keys drives it: [`next_key`](Self::next_key) says which to try, and the answer is either
/// [`accept`](Self::accept) or [`refuse`](Self::refuse), until there is none left to try.
pub struct Unlock<'d> {
    groups: &'d [KeyGroup],
    threshold: usize,
    group: usize,
    key: usize,
    shares: Vec<Zeroizing<Vec<u8>>>,
    refusals: Vec<String>,
}

impl<'d> Unlock<'d> {
    pub(crate) fn new(metadata: &'d Metadata) -> Self {
        let mut unlock = Self {
            groups: metadata.groups(),
            threshold: metadata.threshold(),
            group: 0,
            key: 0,
            shares: Vec::new(),
            refusals: Vec::new(),
        };
        unlock.skip_unsupported();
        unlock
    }

    /// Returns the key to try now; none when enough shares came, or no key is left.
    #[must_use]
    pub fn next_key(&self) -> Option<&'d WrappedKey> {
        if self.shares.len() >= self.threshold {
            return None;
        }
        self.groups.get(self.group)?.get(self.key)
    }

    /// Takes what the key was unwrapped to. What has a wrong length counts as refused, and the next key is tried.
    pub fn accept(&mut self, unwrapped: Zeroizing<Vec<u8>>) {
        let due = if self.groups.len() > 1 { KEY + 1 } else { KEY };
        if unwrapped.len() != due {
            let found = unwrapped.len();
            self.refuse(format_args!(
                "unwrapped to {found} bytes where {due} are due"
            ));
            return;
        }
        self.shares.push(unwrapped);
        self.group += 1;
        self.key = 0;
        self.skip_unsupported();
    }

    /// Notes why the key could not be unwrapped, and goes on to the next. The reason must hold no secret.
    pub fn refuse(&mut self, reason: impl fmt::Display) {
        if let Some(key) = self.next_key() {
            self.refusals.push(format!("{key}: {reason}"));
            self.key += 1;
            self.skip_unsupported();
        }
    }

    /// Returns the data key.
    ///
    /// # Errors
    /// When too few shares came, naming every recipient that was tried, or when they do not fit together.
    pub fn finish(self) -> Result<DataKey, Error> {
        if self.shares.len() < self.threshold {
            return Err(Error::NoDataKey(self.summary()));
        }
        match &self.shares[..] {
            [key] => DataKey::new(key),
            shares => {
                let key = shamir::combine(shares)
                    .map_err(|reason| Error::NoDataKey(format!("key groups: {reason}")))?;
                DataKey::new(&key)
            }
        }
    }

    /// Steps over keys that nobody can unwrap here, and over groups that are used up.
    fn skip_unsupported(&mut self) {
        while let Some(group) = self.groups.get(self.group) {
            match group.get(self.key) {
                Some(key @ WrappedKey::Unsupported { .. }) => {
                    self.refusals.push(format!("{key}: not supported"));
                    self.key += 1;
                }
                Some(_) => return,
                None => {
                    self.group += 1;
                    self.key = 0;
                }
            }
        }
    }

    fn summary(&self) -> String {
        let tried = self.refusals.join("; ");
        if self.groups.len() == 1 {
            return tried;
        }
        let (have, need) = (self.shares.len(), self.threshold);
        format!("{have} of {need} key groups that are needed; {tried}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(groups: usize, threshold: usize) -> Metadata {
        let group = |n| format!(r#"{{"age": [{{"recipient": "a{n}"}}, {{"recipient": "b{n}"}}]}}"#);
        let groups: Vec<String> = (0..groups).map(group).collect();
        let json = format!(
            r#"{{"key_groups": [{}], "shamir_threshold": {threshold}, "lastmodified": "2026-11-21T03:44:04Z"}}"#,
            groups.join(",")
        );
        Metadata::parse(&crate::json::read(&json).unwrap()).unwrap()
    }

    fn name(unlock: &Unlock<'_>) -> String {
        unlock
            .next_key()
            .map_or_else(|| "-".to_owned(), ToString::to_string)
    }

    #[test]
    fn one_recipient_of_a_group_suffices() {
        let metadata = metadata(1, 0);
        let mut unlock = Unlock::new(&metadata);
        assert_eq!(name(&unlock), "age a0");
        unlock.refuse("no identity");
        assert_eq!(name(&unlock), "age b0");
        unlock.accept(Zeroizing::new(vec![7; 32]));
        assert_eq!(name(&unlock), "-");
        assert!(unlock.finish().is_ok());
    }

    #[test]
    fn groups_are_asked_until_the_threshold() {
        let metadata = metadata(3, 2);
        let mut unlock = Unlock::new(&metadata);
        unlock.refuse("x");
        unlock.refuse("x");
        assert_eq!(name(&unlock), "age a1");
        let share = |x| {
            let mut share = vec![9; 33];
            share[32] = x;
            Zeroizing::new(share)
        };
        unlock.accept(share(2));
        assert_eq!(name(&unlock), "age a2");
        unlock.accept(share(3));
        assert_eq!(name(&unlock), "-");
        assert!(unlock.finish().is_ok());
    }

    #[test]
    fn a_failure_names_every_recipient_that_was_tried() {
        let metadata = metadata(2, 2);
        let mut unlock = Unlock::new(&metadata);
        unlock.accept(Zeroizing::new(vec![0; 32]));
        unlock.refuse("no identity matches");
        unlock.refuse("cut short");
        unlock.refuse("no identity matches");
        assert_eq!(
            unlock.finish().err().unwrap().to_string(),
            "no data key: 0 of 2 key groups that are needed; age a0: unwrapped to 32 bytes where 33 are due; \
             age b0: no identity matches; age a1: cut short; age b1: no identity matches"
        );
    }
}
