//! Reads sections of `name = value` lines, with the quotes, continuations and comments that ini.v1 knows.

use std::collections::HashMap;

use crate::Format;
use crate::error::Error;
use crate::tree::{Budget, Entry, Kind, Leaf, Map, Node};

/// What sets a name off from its value.
const DELIMITERS: [char; 2] = ['=', ':'];
/// What starts a comment.
const COMMENT: [char; 2] = ['#', ';'];

/// Reads a file into a map of sections. Fields before the first section are in `DEFAULT`; sections of one name stay apart.
pub(crate) fn read(text: &str) -> Result<Map, Error> {
    let mut reader = Reader {
        lines: text
            .strip_prefix('\u{feff}')
            .unwrap_or(text)
            .split_inclusive('\n'),
        number: 0,
        comment: String::new(),
        sections: vec![Section::new("DEFAULT", "")],
        budget: Budget::new(),
    };
    while let Some(line) = reader.line() {
        reader.take(line.trim_start())?;
    }
    Ok(Map(reader
        .sections
        .into_iter()
        .map(Section::finish)
        .collect()))
}

struct Section {
    name: String,
    comment: Option<Leaf>,
    fields: Vec<Field>,
    /// Where a field of a name is among them.
    places: HashMap<String, usize>,
    /// How many fields are named `-`, which ini.v1 numbers.
    numbered: usize,
}

struct Field {
    name: String,
    value: String,
    comment: Option<Leaf>,
}

impl Section {
    fn new(name: &str, comment: &str) -> Self {
        Self {
            name: name.to_owned(),
            comment: leaf(comment),
            fields: Vec::new(),
            places: HashMap::new(),
            numbered: 0,
        }
    }

    /// Adds a field; a second one of the name takes the place of the first.
    fn add(&mut self, name: String, value: String, comment: &str) {
        let comment = leaf(comment);
        let field = Field {
            name,
            value,
            comment,
        };
        let end = self.fields.len();
        let place = *self.places.entry(field.name.clone()).or_insert(end);
        match self.fields.get_mut(place) {
            Some(first) => *first = field,
            None => self.fields.push(field),
        }
    }

    fn finish(self) -> Entry {
        let mut map = Map(self.comment.into_iter().map(Entry::Comment).collect());
        for field in self.fields {
            let value = Node::Leaf(Leaf::new(Kind::Str, field.value));
            map.0.push(Entry::Field(field.name, value));
            map.0.extend(field.comment.map(Entry::Comment));
        }
        Entry::Field(self.name, Node::Map(map))
    }
}

/// Returns a comment without its first mark, as sops keeps it.
fn leaf(comment: &str) -> Option<Leaf> {
    let comment = comment.trim();
    let text = match comment.chars().next()? {
        mark @ (';' | '#') => comment.trim_start_matches([mark, ' ']),
        _ => comment,
    };
    Some(Leaf::new(Kind::Comment, text))
}

struct Reader<'a> {
    lines: std::str::SplitInclusive<'a, char>,
    number: usize,
    /// Comments since the last field or section.
    comment: String,
    sections: Vec<Section>,
    budget: Budget,
}

impl<'a> Reader<'a> {
    fn line(&mut self) -> Option<&'a str> {
        self.number += 1;
        self.lines.next()
    }

    fn refuse<T>(&self, rule: &str) -> Result<T, Error> {
        Err(Error::syntax(Format::Ini, self.number, rule))
    }

    fn take(&mut self, line: &'a str) -> Result<(), Error> {
        if line.is_empty() {
            return Ok(());
        }
        self.budget.spend(3)?;
        if line.starts_with(COMMENT) {
            self.comment.push_str(line);
            return Ok(());
        }
        match line.strip_prefix('[') {
            Some(rest) => self.section(rest),
            None => self.field(line),
        }
    }

    fn section(&mut self, rest: &str) -> Result<(), Error> {
        let (name, tail) = match rest.rsplit_once(']') {
            Some(("", _)) => return self.refuse("a section without a name"),
            Some(found) => found,
            None => return self.refuse("`]` is wanted"),
        };
        if let Some(at) = tail.find(COMMENT) {
            self.comment.push_str(&tail[at..]);
        }
        self.sections.push(Section::new(name, &self.comment));
        self.comment.clear();
        Ok(())
    }

    fn field(&mut self, line: &'a str) -> Result<(), Error> {
        let (name, rest) = match split_name(line) {
            Some(("", _)) => return self.refuse("a field without a name"),
            Some(found) => found,
            None => return self.refuse("`=` is wanted"),
        };
        let value = self.value(rest)?;
        if let Some(section) = self.sections.last_mut() {
            let name = if name == "-" {
                section.numbered += 1;
                format!("#{}", section.numbered)
            } else {
                name.to_owned()
            };
            section.add(name, value, &self.comment);
        }
        self.comment.clear();
        Ok(())
    }

    fn value(&mut self, rest: &'a str) -> Result<String, Error> {
        let line = rest.trim_start();
        for quote in ["\"\"\"", "`"] {
            let Some(quoted) = line.strip_prefix(quote) else {
                continue;
            };
            // A line of three quotes and nothing else is no opening one for ini.v1.
            if line.len() == quote.len() && quote.len() > 1 {
                continue;
            }
            return match quoted.rfind(quote) {
                Some(end) => Ok(quoted[..end].to_owned()),
                None => self.quoted_lines(quoted, quote),
            };
        }
        let mut value = line.trim();
        if let Some(continued) = value.strip_suffix('\\') {
            return Ok(self.continued_lines(continued));
        }
        if let Some(at) = value.find(COMMENT) {
            self.comment.push_str(&value[at..]);
            value = value[..at].trim();
        }
        Ok(unquote(value).to_owned())
    }

    /// Reads on to the line that has the closing quote.
    fn quoted_lines(&mut self, first: &str, quote: &str) -> Result<String, Error> {
        let mut value = first.to_owned();
        while let Some(line) = self.line() {
            match line.rsplit_once(quote) {
                Some((_, rest)) if rest.trim().ends_with('\\') => value.push_str(line),
                Some((last, rest)) => {
                    value.push_str(last);
                    if let Some(at) = rest.find(COMMENT) {
                        self.comment.push_str(rest[at..].trim());
                    }
                    return Ok(value);
                }
                None => value.push_str(line),
            }
        }
        self.refuse("a closing quote is wanted")
    }

    /// Reads on while lines end with a backslash.
    fn continued_lines(&mut self, first: &str) -> String {
        let mut value = first.to_owned();
        while let Some(line) = self.line().map(str::trim).filter(|line| !line.is_empty()) {
            match line.strip_suffix('\\') {
                Some(continued) => value.push_str(continued),
                None => return value + line,
            }
        }
        value
    }
}

/// Splits a line at the delimiter after its name, which may be quoted.
fn split_name(line: &str) -> Option<(&str, &str)> {
    let quote = match line {
        _ if line.len() > 6 && line.starts_with("\"\"\"") => "\"\"\"",
        _ if line.starts_with('"') => "\"",
        _ if line.starts_with('`') => "`",
        _ => {
            let (name, rest) = line.split_once(DELIMITERS)?;
            return Some((name.trim(), rest));
        }
    };
    let (name, rest) = line[quote.len()..].split_once(quote)?;
    let (_, rest) = rest.split_once(DELIMITERS)?;
    Some((name.trim(), rest))
}

/// Takes off quotes around a value that has no others of the kind.
fn unquote(value: &str) -> &str {
    for quote in ['\'', '"'] {
        let inner = value
            .strip_prefix(quote)
            .and_then(|rest| rest.strip_suffix(quote));
        match inner {
            Some(inner) if !inner.contains(quote) => return inner,
            _ => {}
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// Every quote, continuation and comment that ini.v1 knows; what it makes of them was taken from ini.v1 1.67.3.
    const FILE: &str = r#"; first
top = 1
[a]
plain = x y  ; inline
quoted = "q # no"
single='s'
back = `a # b`
triple = """one
two"""
cont = one \
   two \
three
empty =
colon: v
dup = 1
dup = 2
"quoted name" = n
`k=v` = kv
- = first
- = second
# of b
; more
[b] # behind
x = '''
[a]
again = 1
"#;

    const TREE: &str = r##"[DEFAULT]
"top" = "1"
#"first"
[a]
"plain" = "x y"
#"inline"
"quoted" = "\"q"
#"no\""
"single" = "s"
"back" = "a # b"
"triple" = "one\ntwo"
"cont" = "one two three"
"empty" = ""
"colon" = "v"
"dup" = "2"
"quoted name" = "n"
"k=v" = "kv"
"#1" = "first"
"#2" = "second"
[b]
#"of b\n; more\n# behind"
"x" = "'''"
[a]
"again" = "1"
"##;

    #[test]
    fn a_file_is_what_ini_v1_makes_of_it() {
        let mut tree = String::new();
        for (name, section) in read(FILE).unwrap().fields() {
            writeln!(tree, "[{name}]").unwrap();
            let Node::Map(section) = section else {
                panic!("{name} is no section");
            };
            for entry in &section.0 {
                let line = match entry {
                    Entry::Comment(comment) => format!("#{:?}", comment.utf8().unwrap()),
                    Entry::Field(name, Node::Leaf(leaf)) => {
                        format!("{name:?} = {:?}", leaf.utf8().unwrap())
                    }
                    Entry::Field(name, _) => panic!("{name} is no value"),
                };
                writeln!(tree, "{line}").unwrap();
            }
        }
        assert_eq!(tree, TREE);
    }

    #[test]
    fn what_is_not_ini_is_refused_and_not_shown() {
        for bad in [
            "secret",
            "[a",
            "[]",
            "=v",
            "a = `x",
            "a = \"\"\"x\ny",
            "\"a = 1",
        ] {
            let error = read(bad).err().unwrap().to_string();
            assert!(
                error.starts_with("not ini that sops reads: line "),
                "{error}"
            );
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
