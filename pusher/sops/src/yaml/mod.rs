//! Reads YAML into trees as Go's yaml.v3 and sops see it, from the events of granit-parser.

mod builder;
mod scalar;
mod write;

use granit_parser::{
    ErrorKind, Event, Options, Parser, Placement, ScalarStyle, ScanError, Span, Tag,
};

use crate::error::{Error, line_after};
use crate::tree::Map;
use crate::{Format, limits};

use builder::{Builder, Comment};
use scalar::Scalar;

pub(crate) use write::write;

/// Reads a stream of documents, each of them a map or empty.
pub(crate) fn read(text: &str) -> Result<Vec<Map>, Error> {
    refuse_old_line_breaks(text)?;
    let mut builder = Builder::new();
    for next in Parser::new_from_str_with_options(text, options()) {
        let (event, span) = next.map_err(|error| malformed(&error))?;
        take(&mut builder, &event, span)?;
    }
    let documents = builder.finish();
    // An empty file has no document, as one that says only `null` has no fields.
    Ok(if documents.is_empty() {
        vec![Map::default()]
    } else {
        documents
    })
}

/// Refuses what is a line break in YAML 1.1, and so for sops, but a character like others in YAML 1.2, and so for the
/// parser: the text would be read differently. In double quotes they can be escaped.
fn refuse_old_line_breaks(text: &str) -> Result<(), Error> {
    // One at a time, as the search for one character is far faster than for any of three.
    let found = ['\u{85}', '\u{2028}', '\u{2029}'].map(|c| text.find(c));
    match found.into_iter().flatten().min() {
        None => Ok(()),
        Some(at) => Err(syntax(
            line_after(&text.as_bytes()[..at]),
            "a line break that only YAML 1.1 knows",
        )),
    }
}

fn options() -> Options {
    granit_parser::options! {
        // sops writes none, and many take long to read.
        disallow_directives: true,
        max_buffered_comment_events: limits::NODES,
        flow_nesting_limit: limits::DEPTH + 1,
        block_nesting_limit: limits::DEPTH + 1,
    }
}

fn take(builder: &mut Builder, event: &Event<'_>, span: Span) -> Result<(), Error> {
    let start = span.start;
    if event.anchor_id().is_some() || event.is_alias() {
        return Err(syntax(
            start.line(),
            "anchors and aliases are not read: sops writes none",
        ));
    }
    match event {
        Event::Scalar(text, style, _, tag) => {
            let scalar = Scalar {
                text,
                plain: *style == ScalarStyle::Plain,
                tag: tag.as_deref().and_then(own_tag),
            };
            let leaf = scalar
                .resolve()
                .map_err(|rule| syntax(start.line(), rule))?;
            builder.leaf(leaf, *style, span)
        }
        Event::MappingStart(style, ..) => builder.open_map(*style, span),
        Event::SequenceStart(style, ..) => builder.open_list(*style, span),
        Event::MappingEnd | Event::SequenceEnd => builder.close(span),
        Event::Comment(text, placement) => builder.comment(Comment {
            text: text.clone().into_owned(),
            line: start.line(),
            column: start.col(),
            inline: *placement == Placement::Right,
        }),
        Event::DocumentStart(..) => builder.open_document(),
        Event::DocumentEnd => {
            builder.close_document();
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Returns the name of a tag of YAML's own. The tag `!` says nothing more than no tag.
fn own_tag(tag: &Tag) -> Option<&str> {
    match tag.parts() {
        ("tag:yaml.org,2002:", name) => Some(name),
        ("!" | "", "" | "!") => None,
        _ => Some("other"),
    }
}

fn syntax(line: usize, rule: &str) -> Error {
    Error::syntax(Format::Yaml, line, rule)
}

/// Says where and why the text is no YAML; the parser's words quote nothing of it but single characters.
fn malformed(error: &ScanError) -> Error {
    match error.kind() {
        ErrorKind::RecursionLimitExceeded => Error::TooDeep,
        _ => syntax(error.marker().line(), &error.info()),
    }
}
