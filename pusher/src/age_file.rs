//! An age file: its header read within limits, and its contents only as a whole.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Chain, Cursor, Read as _};

use age::armor::{ArmoredReadError, ArmoredReader};
use age::{DecryptError, Decryptor, Identity};
use keys_protocol::Secret;

use crate::failure::Failure;

/// The longest header, and the most recipients: what age itself takes.
const LONGEST_HEADER: usize = 2 << 20;
const MOST_STANZAS: usize = 1024;

/// How many bytes of a header may be parsed. The age crate begins anew at each line.
const MOST_WORK: usize = 256 << 20;

/// How much blank space may come before armor, as age has it.
const BLANK: usize = 1024;

const ARMOR: &[u8] = b"-----BEGIN AGE ENCRYPTED FILE";
const MAGIC: &[u8] = b"age-encryption.org/";

/// A line of a stanza's body that is full: another one follows.
const COLUMNS: usize = 64;

/// A file whose header was read.
pub(crate) struct AgeFile<R: BufRead>(Decryptor<Input<R>>);

type Input<R> = Chain<Cursor<Vec<u8>>, ArmoredReader<BufReader<R>>>;

/// Returns whether this is how an age file begins, in armor or not.
pub(crate) fn is_age(bytes: &[u8]) -> bool {
    bytes.starts_with(ARMOR) || bytes.starts_with(MAGIC)
}

impl<R: BufRead> AgeFile<R> {
    /// Reads the header.
    pub(crate) fn open(mut file: R) -> Result<Self, Failure> {
        skip_blank(&mut file).map_err(|error| unreadable(&error))?;
        let mut plain = ArmoredReader::new(file);
        let header = header(&mut plain)?;
        let file = Cursor::new(header).chain(plain);
        let decryptor = Decryptor::new_buffered(file).map_err(|error| explain(&error))?;
        Ok(Self(decryptor))
    }

    /// Returns whether it is encrypted to a passphrase, and to nothing else.
    pub(crate) fn is_for_passphrase(&self) -> bool {
        self.0.is_scrypt()
    }

    /// Decrypts it whole: nothing of it is handed on before its end is authentic. None means that no identity opens it.
    pub(crate) fn decrypt<'a>(
        self,
        identities: impl Iterator<Item = &'a dyn Identity>,
        expected: usize,
        limit: u64,
    ) -> Result<Option<Secret>, Failure> {
        let mut plain = match self.0.decrypt(identities) {
            Ok(plain) => plain,
            Err(DecryptError::NoMatchingKeys) => return Ok(None),
            Err(error) => return Err(explain(&error)),
        };
        match Secret::read_sized(&mut plain, expected, limit) {
            Ok(secret) => Ok(Some(secret)),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                Err(Failure::source(format!("larger than {} MiB", limit >> 20)))
            }
            Err(error) if is_of_armor(&error) => Err(unreadable(&error)),
            Err(_) => Err(Failure::source(
                "damaged or cut off: its end is not authentic",
            )),
        }
    }
}

/// The age crate wants armor at the very beginning.
fn skip_blank(file: &mut impl BufRead) -> io::Result<()> {
    let start = file.fill_buf()?;
    let blank = start.len() - start.trim_ascii_start().len();
    if blank <= BLANK && start[blank..].starts_with(ARMOR) {
        file.consume(blank);
    }
    Ok(())
}

/// Reads a header, line by line, which ends with the line of its MAC. What is in it is judged by the age crate, but one
/// thing: that crate still takes the stanzas without an end that beta versions of age wrote, and age does not.
fn header(file: &mut impl BufRead) -> Result<Vec<u8>, Failure> {
    let mut header = Vec::new();
    let (mut stanzas, mut work) = (0, 0);
    let mut stanza_is_open = false;
    loop {
        let start = header.len();
        let room = LONGEST_HEADER - start;
        let read = file
            .by_ref()
            .take(room as u64)
            .read_until(b'\n', &mut header);
        read.map_err(|error| unreadable(&error))?;
        let line = &header[start..];
        if start == 0 && !line.starts_with(MAGIC) {
            return Err(Failure::source("not an age file"));
        }
        work += header.len();
        if line.len() == room || stanzas > MOST_STANZAS || work > MOST_WORK {
            return Err(Failure::source(
                "its header is larger than that of any age file",
            ));
        }
        let Some(line) = line.strip_suffix(b"\n") else {
            return Err(Failure::source("not an age file, or cut off"));
        };
        let next = line.starts_with(b"->") || line.starts_with(b"---");
        if next && stanza_is_open {
            return Err(Failure::source("damaged: its header cannot be read"));
        }
        if line.starts_with(b"---") {
            return Ok(header);
        }
        stanza_is_open = next || (stanza_is_open && line.len() >= COLUMNS);
        stanzas += usize::from(next);
    }
}

/// An error of reading. What the armor's reader says is not shown: it may quote what it could not read.
fn unreadable(error: &io::Error) -> Failure {
    Failure::source(match error.kind() {
        _ if is_of_armor(error) => "damaged: its armor cannot be read".to_owned(),
        io::ErrorKind::UnexpectedEof => "not an age file, or cut off".to_owned(),
        kind => kind.to_string(),
    })
}

fn is_of_armor(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(<dyn Error + Send + Sync>::is::<ArmoredReadError>)
}

fn explain(error: &DecryptError) -> Failure {
    let text = match error {
        DecryptError::InvalidHeader => "damaged: its header cannot be read",
        DecryptError::UnknownFormat => "an age format that is not known",
        DecryptError::InvalidMac => "damaged: its header is not authentic",
        DecryptError::Io(error) => return unreadable(error),
        _ => "damaged: it cannot be decrypted",
    };
    Failure::source(text)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::thread;

    use age::Encryptor;

    use super::*;

    const LIMIT: u64 = 64 << 20;

    fn encrypted(to: &age::x25519::Recipient, plain: &[u8]) -> Vec<u8> {
        let recipients = [to as &dyn age::Recipient];
        let mut file = Vec::new();
        let encryptor = Encryptor::with_recipients(recipients.into_iter()).unwrap();
        let mut writer = encryptor.wrap_output(&mut file).unwrap();
        writer.write_all(plain).unwrap();
        writer.finish().unwrap();
        file
    }

    fn decrypt(file: &[u8], identity: &age::x25519::Identity) -> Result<Option<Secret>, Failure> {
        let identities = std::iter::once(identity as &dyn Identity);
        AgeFile::open(file)?.decrypt(identities, file.len(), LIMIT)
    }

    /// H5: at each of 160 chunks, a byte before and a byte behind.
    #[test]
    fn nothing_of_ten_mebibytes_is_handed_on_wherever_they_are_cut() {
        let identity = age::x25519::Identity::generate();
        let plain: Vec<u8> = (0..10_u32 << 20).map(|n| n.to_le_bytes()[2]).collect();
        let file = encrypted(&identity.to_public(), &plain);
        let whole = decrypt(&file, &identity).unwrap().unwrap();
        assert!(whole.expose() == plain);
        let header = file.len() - plain.len() - 160 * 16;
        let edges = (0..160).map(|chunk| header + chunk * ((64 << 10) + 16));
        let cuts: Vec<usize> = edges.flat_map(|edge| [edge - 1, edge, edge + 1]).collect();
        assert_eq!(cuts.len(), 480);
        let (file, identity) = (&file, &identity);
        thread::scope(|scope| {
            for part in cuts.chunks(120) {
                let refused = move |cut: &usize| {
                    assert!(decrypt(&file[..*cut], identity).is_err(), "cut to {cut}");
                };
                scope.spawn(move || part.iter().for_each(refused));
            }
        });
        assert!(decrypt(&file[..file.len() - 1], identity).is_err());
        for more in [1, 16, 17, (64 << 10) + 16] {
            let longer = [&file[..], &vec![0; more]].concat();
            assert!(decrypt(&longer, identity).is_err(), "{more} more");
        }
    }
}
