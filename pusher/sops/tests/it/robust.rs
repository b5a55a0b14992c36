//! No input makes the reader panic, and what it reads does not depend on luck.

use keys_sops::{Document, Format};
use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop, prop_assert_eq, proptest};
use proptest::sample::select;

use crate::fixture::Fixture;

const FORMATS: [Format; 5] = [
    Format::Yaml,
    Format::Json,
    Format::Dotenv,
    Format::Ini,
    Format::Binary,
];

/// Bits of the formats.
const PIECES: &str = "a b : - # #c \" ' | > |- { } [ ] , ? &a *a !!str ! % --- ... ~ 0x1 1e9 2001-01-01 sops sops: sops_ [sops] \
    = ` \"\"\" \\ ; __map_ __list_0 age mac lastmodified ENC[AES256_GCM,data: ,iv: ,tag: ,type:str] \u{feff} ü";

/// Bits of the formats, put together at random with blanks and newlines.
fn pieces() -> impl Strategy<Value = Vec<&'static str>> {
    let blanks = [" ", "  ", "    ", "\n", "\n  ", "\n    ", "\t"];
    let pieces: Vec<&str> = PIECES.split_ascii_whitespace().chain(blanks).collect();
    vec(select(pieces), 0..60)
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(pieces in pieces()) {
        let text = pieces.concat();
        for format in FORMATS {
            let twice = [(); 2].map(|()| Document::parse(text.as_bytes(), format).err());
            prop_assert_eq!(&twice[0], &twice[1]);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        for format in FORMATS {
            drop(Document::parse(&bytes, format));
        }
    }

    #[test]
    fn a_spliced_file_is_read_or_refused(
        name in select(&["regex", "comments-encrypted", "nested", "json", "dotenv", "ini", "text"][..]),
        at in any::<prop::sample::Index>(),
        length in 0..40_usize,
        pieces in pieces(),
    ) {
        let fixture = Fixture::named(name);
        let mut document = fixture.document.clone();
        let start = at.index(document.len());
        let end = (start + length).min(document.len());
        document.splice(start..end, pieces.concat().into_bytes());
        drop(fixture.decrypt(&document));
    }
}
