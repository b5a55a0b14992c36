//! Puts events of a YAML parser together into trees, with each comment in the map or list it stands in.
//!
//! Where a comment stands matters twice: sops encrypts by comments if a file says so, and an index of a list counts them.
//! The rules below give what Go's yaml.v3 gives for files that sops wrote: a comment of its own line belongs to the
//! container of its column and comes before what follows it; one behind a value comes before that value.

use granit_parser::{ScalarStyle, Span, StructureStyle};

use crate::error::Error;
use crate::tree::{Budget, Kind, Leaf, Map, MapBuilder, Node};

use super::syntax;

/// A comment that is not placed yet.
pub(super) struct Comment {
    pub(super) text: String,
    pub(super) line: usize,
    pub(super) column: usize,
    /// Whether something else is before it on its line.
    pub(super) inline: bool,
}

/// A map or list that is still open.
struct Frame {
    contents: Contents,
    column: usize,
    /// Whether it is written in brackets.
    flow: bool,
}

enum Contents {
    Map {
        map: MapBuilder,
        /// The field whose value is due.
        field: Option<String>,
    },
    List(Vec<Node>),
}

impl Frame {
    fn add_comment(&mut self, text: String) {
        match &mut self.contents {
            Contents::Map { map, .. } => map.comment(text),
            Contents::List(list) => list.push(comment_item(text)),
        }
    }

    fn add_comment_before_last(&mut self, text: String) {
        match &mut self.contents {
            Contents::Map { map, .. } => map.comment_before_last(text),
            Contents::List(list) => list.insert(list.len().saturating_sub(1), comment_item(text)),
        }
    }
}

fn comment_item(text: String) -> Node {
    Node::Leaf(Leaf::new(Kind::Comment, text))
}

pub(super) struct Builder {
    documents: Vec<Map>,
    /// The finished top of the document that is being read.
    top: Option<Map>,
    open: Vec<Frame>,
    /// Comments since the last field or item, in order.
    pending: Vec<Comment>,
    /// The last line of the innermost container's newest value, if that is a scalar or in brackets: a comment behind
    /// it, or behind the `|` that it starts with, is about it.
    newest: Option<usize>,
    budget: Budget,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            documents: Vec::new(),
            top: None,
            open: Vec::new(),
            pending: Vec::new(),
            newest: None,
            budget: Budget::new(),
        }
    }

    pub(super) fn finish(self) -> Vec<Map> {
        self.documents
    }

    pub(super) fn open_document(&mut self) -> Result<(), Error> {
        self.top = None;
        self.budget.spend(1)
    }

    pub(super) fn close_document(&mut self) {
        self.documents.push(self.top.take().unwrap_or_default());
    }

    pub(super) fn comment(&mut self, comment: Comment) -> Result<(), Error> {
        self.budget.spend(self.open.len())?;
        let behind = comment.inline && self.newest.is_some_and(|line| comment.line <= line);
        match self.open.last_mut() {
            Some(frame) if behind => {
                frame.add_comment_before_last(comment.text);
            }
            _ => self.pending.push(comment),
        }
        Ok(())
    }

    pub(super) fn open_map(&mut self, style: StructureStyle, span: Span) -> Result<(), Error> {
        let contents = Contents::Map {
            map: MapBuilder::default(),
            field: None,
        };
        self.push(contents, style, span)
    }

    pub(super) fn open_list(&mut self, style: StructureStyle, span: Span) -> Result<(), Error> {
        if self.open.is_empty() {
            return Err(syntax(span.start.line(), "a map is wanted at the top"));
        }
        self.push(Contents::List(Vec::new()), style, span)
    }

    fn push(&mut self, contents: Contents, style: StructureStyle, span: Span) -> Result<(), Error> {
        let start = span.start;
        self.budget.spend(self.open.len() + 1)?;
        let before = match self.open.last().map(|frame| &frame.contents) {
            // What stands behind `field:` is about the field; what comes below it is inside.
            Some(Contents::Map { field: Some(_), .. }) => {
                self.pending.iter().take_while(|c| c.inline).count()
            }
            Some(Contents::Map { field: None, .. }) => {
                return Err(syntax(start.line(), "the name of a field is no string"));
            }
            Some(Contents::List(_)) => {
                let outside = |c: &&Comment| c.column < start.col();
                self.pending.iter().take_while(outside).count()
            }
            None => 0,
        };
        self.place(before)?;
        self.newest = None;
        self.open.push(Frame {
            contents,
            column: start.col(),
            flow: style == StructureStyle::Flow,
        });
        Ok(())
    }

    pub(super) fn leaf(&mut self, leaf: Leaf, style: ScalarStyle, span: Span) -> Result<(), Error> {
        self.budget.spend(self.open.len() + 1)?;
        self.place(self.pending.len())?;
        let line = span.start.line();
        let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
        match self.open.last_mut().map(|frame| &mut frame.contents) {
            None if leaf.kind == Kind::Null => {}
            None => return Err(syntax(line, "a map is wanted at the top")),
            Some(Contents::Map { field, .. }) if field.is_none() => match leaf.utf8() {
                Some(name) if leaf.kind == Kind::Str => {
                    *field = Some(name.to_owned());
                    self.newest = None;
                }
                _ => return Err(syntax(line, "the name of a field is no string")),
            },
            Some(_) => {
                self.add(Node::Leaf(leaf))?;
                // A block scalar ends where the next line begins.
                self.newest = Some(span.end.line().saturating_sub(usize::from(block)));
            }
        }
        Ok(())
    }

    pub(super) fn close(&mut self, span: Span) -> Result<(), Error> {
        let Some(mut frame) = self.open.pop() else {
            return Ok(());
        };
        let (column, flow) = (frame.column, frame.flow);
        let inside = |c: &&Comment| flow || c.column >= column;
        let count = self.pending.iter().take_while(inside).count();
        for comment in self.pending.drain(..count) {
            frame.add_comment(comment.text);
        }
        let node = match frame.contents {
            Contents::Map { map, .. } => Node::Map(map.finish()),
            Contents::List(list) => Node::List(list),
        };
        self.add(node)?;
        self.newest = flow.then(|| span.end.line());
        Ok(())
    }

    /// Puts the first `count` pending comments before what comes next in the innermost container.
    fn place(&mut self, count: usize) -> Result<(), Error> {
        if let Some(frame) = self.open.last_mut() {
            for comment in self.pending.drain(..count) {
                let aligned = comment.inline || comment.column == frame.column;
                if !aligned && matches!(frame.contents, Contents::List(_)) {
                    // Go's yaml may count it elsewhere, and an index then means another item.
                    let rule = "a comment that is not in line with the items of its list";
                    return Err(syntax(comment.line, rule));
                }
                frame.add_comment(comment.text);
            }
        }
        Ok(())
    }

    /// Puts a finished node where it belongs.
    fn add(&mut self, node: Node) -> Result<(), Error> {
        match self.open.last_mut().map(|frame| &mut frame.contents) {
            Some(Contents::Map { map, field }) => {
                let name = field.take().unwrap_or_default();
                map.field(name, node)?;
            }
            Some(Contents::List(list)) => list.push(node),
            None => {
                if let Node::Map(map) = node {
                    self.top = Some(map);
                }
            }
        }
        Ok(())
    }
}
