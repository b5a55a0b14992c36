//! Documents made up by dice: what people write, and what readers of YAML, JSON, dotenv and ini fall over.

use std::fmt::Write as _;

/// Dice that fall the same way for the same seed.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The generator splitmix64.
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.roll() % limit as u64).unwrap()
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// Returns a document of this format.
pub(crate) fn document(format: &str, dice: &mut Dice) -> Vec<u8> {
    match format {
        "yaml" => yaml(dice).into_bytes(),
        "json" => json_object(dice, 3).into_bytes(),
        "dotenv" => dotenv(dice).into_bytes(),
        "ini" => ini(dice).into_bytes(),
        _ => {
            let length = dice.below(400);
            (0..length)
                .map(|_| u8::try_from(dice.below(256)).unwrap())
                .collect()
        }
    }
}

/// A setting that says which values are encrypted, and its text.
pub(crate) const RULES: [(&str, &str); 12] = [
    ("", ""),
    ("", ""),
    ("", ""),
    ("unencrypted_suffix", "_plain"),
    ("unencrypted_suffix", "1"),
    ("encrypted_suffix", "_secret"),
    ("encrypted_suffix", "2"),
    ("unencrypted_regex", "^(a|b)|3$"),
    ("encrypted_regex", "[0-46]"),
    ("encrypted_regex", "^x"),
    ("unencrypted_comment_regex", "plain"),
    ("encrypted_comment_regex", "secret"),
];

const WORDS: [&str; 24] = [
    "hunter2",
    "a",
    "two words",
    "ünïcödé",
    "\u{1f511}key",
    "x: y",
    "# no comment",
    "'",
    "\"",
    "\\",
    "a\\nb",
    "null",
    "true",
    "12",
    "1.5",
    "- dash",
    "ENC[AES256_GCM,data:eA==,iv:x,tag:y,type:str]",
    "a=b",
    "trailing ",
    " leading",
    "tab\there",
    "%TAG",
    "\u{200b}\u{feff}",
    "`@&*!|>",
];

/// Scalars as YAML writes them.
const SCALARS: [&str; 72] = [
    "plain",
    "two words",
    "ünïcödé \u{1f511}",
    "it's",
    "a:b",
    "a#b",
    "-x",
    "''",
    "\"\"",
    "' '",
    "'a''b'",
    "\"a\\tb\\n\"",
    "\"\\u2028\\x07\\0\"",
    "\"\\U0001F511\"",
    "\"trailing \"",
    "\"a\\\n    b\"",
    "'a\n    b\n\n    c'",
    "a\n    b",
    "0",
    "-0",
    "7",
    "+7",
    "-7",
    "9007199254740993",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551616",
    "1_000",
    "0777",
    "0o17",
    "0x1F",
    "0b11",
    "08",
    "1.5",
    "-1.5",
    "1.50",
    "1.",
    ".5",
    "1e3",
    "1e21",
    "1e22",
    "1e-7",
    "123456789.125",
    "0.1",
    "1e400",
    "-1e400",
    ".inf",
    "-.INF",
    ".nan",
    "1e",
    "true",
    "True",
    "FALSE",
    "yes",
    "no",
    "on",
    "y",
    "null",
    "~",
    "Null",
    "2001-12-14",
    "2001-12-14T21:59:43.10-05:00",
    "2001-12-14 21:59:43",
    "2001-13-14",
    "!!str 5",
    "!!float 5",
    "!!binary aGk=",
    "!own x",
    "[]",
    "{}",
    "!!str",
    "12:30:45",
];

fn yaml(dice: &mut Dice) -> String {
    let mut text = String::new();
    let documents = if dice.chance(15) {
        1 + dice.below(3)
    } else {
        1
    };
    for number in 0..documents {
        if number > 0 || dice.chance(20) {
            text.push_str("---\n");
        }
        yaml_map(dice, 0, &mut text);
    }
    text
}

fn yaml_map(dice: &mut Dice, depth: usize, text: &mut String) {
    let indent = "    ".repeat(depth);
    let fields = 1 + dice.below(6);
    for number in 0..fields {
        yaml_comment(dice, &indent, text);
        write!(text, "{indent}{}:", yaml_name(dice, number)).unwrap();
        yaml_value(dice, depth, text);
    }
}

fn yaml_name(dice: &mut Dice, number: usize) -> String {
    match dice.below(12) {
        0 => format!("\"q\\tn{number}\""),
        1 => format!("'{number}'"),
        2 => format!("schlüssel{number}"),
        3 => format!("two words {number}"),
        4 => format!("a:b{number}"),
        5 => format!("k{number}_unencrypted"),
        6 => format!("k{number}_plain"),
        7 => format!("k{number}_secret"),
        _ => format!("{}{number}", dice.pick(&["a", "b", "x", "key", "sops_"])),
    }
}

fn yaml_comment(dice: &mut Dice, indent: &str, text: &mut String) {
    if dice.chance(12) {
        let word = dice.pick(&[
            "plain",
            "secret",
            "a note",
            "",
            "ünïcödé",
            "# twice",
            "x: y",
        ]);
        writeln!(text, "{indent}# {word}").unwrap();
    }
}

fn yaml_value(dice: &mut Dice, depth: usize, text: &mut String) {
    let indent = "    ".repeat(depth + 1);
    match dice.below(20) {
        0..=1 if depth < 4 => {
            text.push('\n');
            yaml_map(dice, depth + 1, text);
        }
        2..=3 if depth < 4 => {
            text.push('\n');
            for _ in 0..1 + dice.below(4) {
                yaml_comment(dice, &indent, text);
                yaml_item(dice, depth, text);
            }
        }
        4 => yaml_block(dice, &indent, text),
        5 => {
            let (one, two) = (dice.pick(&SCALARS[..4]), dice.pick(&SCALARS[32..36]));
            writeln!(text, " {{f: {one}, g: [{two}, {{h: '{one}'}}]}}").unwrap();
        }
        6 => {
            let name = dice.below(1 << 30);
            let value = dice.pick(&SCALARS[..12]);
            let two = format!("{indent}two: *n{name}");
            writeln!(text, "\n{indent}one: &n{name} {value}\n{two}").unwrap();
        }
        7 => {
            let name = dice.below(1 << 30);
            writeln!(text, "\n{indent}base: &m{name} {{p: q, r: 1}}\n{indent}like: *m{name}\n{indent}more:\n{indent}    <<: *m{name}\n{indent}    s: t").unwrap();
        }
        8 => writeln!(text, " {}", "long ".repeat(1 + dice.below(300)).trim_end()).unwrap(),
        9 => {
            let value = dice.pick(&["plain", "7", "'q'"]);
            let note = dice.pick(&["plain", "secret"]);
            writeln!(text, " {value} # {note}").unwrap();
        }
        10 => writeln!(text, " {}", quoted(dice.pick(&WORDS))).unwrap(),
        _ => writeln!(text, " {}", dice.pick(&SCALARS)).unwrap(),
    }
}

fn yaml_item(dice: &mut Dice, depth: usize, text: &mut String) {
    let indent = "    ".repeat(depth + 1);
    if dice.chance(20) && depth < 3 {
        // A map as an item: its first field stands behind the dash.
        writeln!(
            text,
            "{indent}- first: {}\n{indent}  second: {}",
            dice.pick(&SCALARS[18..40]),
            quoted(dice.pick(&WORDS))
        )
        .unwrap();
    } else if dice.chance(10) {
        writeln!(
            text,
            "{indent}- - {}\n{indent}  - x",
            dice.pick(&SCALARS[18..40])
        )
        .unwrap();
    } else {
        writeln!(text, "{indent}- {}", dice.pick(&SCALARS[18..])).unwrap();
    }
}

fn yaml_block(dice: &mut Dice, indent: &str, text: &mut String) {
    writeln!(
        text,
        " {}",
        dice.pick(&["|", "|-", "|+", ">", ">-", ">+", "|2-"])
    )
    .unwrap();
    // An explicit indentation counts from the parent's.
    let explicit = text.ends_with("|2-\n");
    let indent = if explicit {
        &indent[..indent.len() - 2]
    } else {
        indent
    };
    for _ in 0..1 + dice.below(5) {
        let line = dice.pick(&[
            "-----BEGIN KEY-----",
            "a",
            "  indented",
            "",
            "ünïcödé",
            "# no comment",
            "a: b",
            "- c",
        ]);
        let line = if explicit { line } else { line.trim_start() };
        writeln!(text, "{}", format!("{indent}{line}").trim_end()).unwrap();
    }
    writeln!(text, "{indent}end").unwrap();
    if dice.chance(20) {
        text.push('\n');
    }
}

/// Writes a text as JSON does, which YAML reads as well.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Numbers as JSON writes them, and the rest of its values.
const JSON: [&str; 22] = [
    "0",
    "-0",
    "-0.0",
    "1",
    "42",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "1.0",
    "1.5",
    "1e3",
    "1E+3",
    "1e21",
    "1e-7",
    "0.1",
    "123456789.125",
    "true",
    "false",
    "null",
    "{}",
    "[]",
    "\"\"",
];

fn json_object(dice: &mut Dice, depth: usize) -> String {
    let fields = (0..1 + dice.below(6)).map(|number| {
        let name = match dice.below(6) {
            0 => format!("schlüssel\\u0000{number}"),
            1 => format!("a/b\\\"{number}"),
            2 => format!("k{number}_unencrypted"),
            3 => format!("{number}"),
            _ => format!("{}{number}", dice.pick(&["a", "b", "x", "key"])),
        };
        format!("\"{name}\": {}", json_value(dice, depth))
    });
    format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
}

fn json_value(dice: &mut Dice, depth: usize) -> String {
    match dice.below(12) {
        0..=1 if depth > 0 => json_object(dice, depth - 1),
        2 if depth > 0 => {
            let items = (0..dice.below(4)).map(|_| json_value(dice, depth - 1));
            format!("[{}]", items.collect::<Vec<_>>().join(",\n"))
        }
        3 => "\"\\u0000\\u001f\\ud83d\\udd11</script>&\\u2028\"".to_owned(),
        4..=7 => quoted(dice.pick(&WORDS)),
        _ => dice.pick(&JSON).to_owned(),
    }
}

fn dotenv(dice: &mut Dice) -> String {
    let mut text = String::new();
    for number in 0..1 + dice.below(8) {
        match dice.below(8) {
            0 => writeln!(text, "# {}", dice.pick(&WORDS)).unwrap(),
            1 => text.push('\n'),
            2 => writeln!(text, "export E{number}={}", dice.pick(&WORDS)).unwrap(),
            3 => writeln!(text, "S {number} = {}", dice.pick(&WORDS)).unwrap(),
            4 => writeln!(text, "Q{number}=\"{}\"\r", dice.pick(&WORDS)).unwrap(),
            5 => writeln!(text, "P{number}_unencrypted={}", dice.pick(&WORDS)).unwrap(),
            _ => writeln!(text, "K{number}={}", dice.pick(&WORDS)).unwrap(),
        }
    }
    writeln!(text, "LAST=1").unwrap();
    text
}

fn ini(dice: &mut Dice) -> String {
    let mut text = String::new();
    if dice.chance(30) {
        writeln!(text, "top = {}", dice.pick(&WORDS)).unwrap();
    }
    for section in 0..1 + dice.below(3) {
        if dice.chance(20) {
            writeln!(text, "; {}", dice.pick(&["plain", "a note", "ünïcödé"])).unwrap();
        }
        writeln!(
            text,
            "[{}{section}]",
            dice.pick(&["s", "a b", "ünï", "x.y"])
        )
        .unwrap();
        for number in 0..dice.below(5) {
            match dice.below(9) {
                0 => writeln!(
                    text,
                    "# {}\nc{number} = 1",
                    dice.pick(&["plain", "two words"])
                )
                .unwrap(),
                1 => writeln!(
                    text,
                    "q{number} = \"{}\"",
                    dice.pick(&["x", " y ", "a;b", "a#b"])
                )
                .unwrap(),
                2 => writeln!(text, "m{number} = \"\"\"one\n two\nthree\"\"\"").unwrap(),
                3 => writeln!(text, "b{number} = `a \"quoted\" = b`").unwrap(),
                4 => writeln!(text, "d{number} : {}", dice.pick(&WORDS[..5])).unwrap(),
                5 => writeln!(text, "p{number}_unencrypted = {}", dice.pick(&WORDS[..5])).unwrap(),
                6 => writeln!(text, "e{number} =").unwrap(),
                _ => writeln!(text, "k{number}={}", dice.pick(&WORDS)).unwrap(),
            }
        }
    }
    text
}
