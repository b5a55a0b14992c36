//! A push to say frame by frame: what a pusher would say of some keys, for a case to change.

use keys_protocol::{
    Action, Digest, How, Key, KeyedHash, Manifest, Mode, Principal, Purpose, Scope, Tell,
};

/// A manifest frame and its keys.
#[derive(Debug, Clone)]
pub struct Push {
    /// The first frame: a send of a whole host, from a manifest called `lab`.
    pub manifest: Manifest,
    /// The keys, of root and with mode 0400, and their units.
    pub keys: Vec<(Key, Vec<Tell>)>,
}

impl Push {
    /// Makes a push of these names and bytes, for the session that has this nonce.
    #[must_use]
    pub fn of(nonce: &Digest, keys: &[(&str, &[u8])]) -> Self {
        let manifest = Manifest {
            protocol: keys_protocol::VERSION,
            requires: String::new(),
            id: "lab".to_owned(),
            scope: Scope::Host,
            purpose: Purpose::Send,
            strict: false,
            take_over: false,
            prune_all: false,
            sender: "case@lab".to_owned(),
            keys: u32::try_from(keys.len()).expect("few"),
            bytes: keys.iter().map(|(_, bytes)| bytes.len() as u64).sum(),
            unsealed: false,
            bundle: None,
        };
        let keys = keys
            .iter()
            .map(|(name, bytes)| (key(nonce, name, bytes), Vec::new()));
        Self {
            manifest,
            keys: keys.collect(),
        }
    }

    /// Has the key at this place tell a unit.
    pub fn tell(&mut self, place: usize, unit: &str, how: How) {
        let (key, tells) = &mut self.keys[place];
        key.units += 1;
        let unit = unit.parse().expect("a unit of a case");
        tells.push(Tell { unit, how });
    }
}

fn key(nonce: &Digest, name: &str, bytes: &[u8]) -> Key {
    Key {
        name: name.parse().expect("a name of a case"),
        action: Action::Send,
        owner: Principal::root(),
        group: Principal::root(),
        mode: Mode::DEFAULT,
        public: false,
        size: bytes.len() as u64,
        mac: Some(KeyedHash::of(nonce, bytes)),
        units: 0,
        sealed: false,
    }
}
