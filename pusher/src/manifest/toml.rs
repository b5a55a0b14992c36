//! TOML as a tree.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Problem;
use super::tree::{Member, Node, TWICE, Value};

/// Reads a TOML document. Names that are there twice and nesting beyond 80 levels are refused by the parser.
pub(super) fn read(text: &str) -> Result<Node, Problem> {
    let document = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let said = error.message();
        let said = said.strip_suffix(", expected nothing").unwrap_or(said);
        Problem::syntax(at, if said == "duplicate key" { TWICE } else { said })
    })?;
    Ok(Node {
        at: 0,
        value: table(document.get_ref())?,
    })
}

fn table(table: &DeTable<'_>) -> Result<Value, Problem> {
    let mut members = Vec::with_capacity(table.len());
    for (name, value) in table {
        let at = name.span().start;
        let mut node = node(value)?;
        // The parser says of a table under a header that it begins with the header; its name is nearer.
        if matches!(node.value, Value::Table(_)) && node.at <= at {
            node.at = at;
        }
        members.push(Member {
            name: name.get_ref().to_string(),
            at,
            node,
        });
    }
    // Errors come in the order of the document, not of the alphabet.
    members.sort_by_key(|member| member.at);
    Ok(Value::Table(members))
}

fn node(spanned: &Spanned<DeValue<'_>>) -> Result<Node, Problem> {
    let at = spanned.span().start;
    let value = match spanned.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => {
            let parsed = i64::from_str_radix(number.as_str(), number.radix());
            Value::Integer(parsed.map_err(|_| Problem::syntax(at, "the number is too large"))?)
        }
        DeValue::Float(number) => {
            let parsed = number.as_str().parse();
            Value::Float(parsed.map_err(|_| Problem::syntax(at, "no number"))?)
        }
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Datetime(_) => Value::Time,
        DeValue::Array(values) => Value::List(values.iter().map(node).collect::<Result<_, _>>()?),
        DeValue::Table(members) => table(members)?,
    };
    Ok(Node { at, value })
}

#[cfg(test)]
mod tests {
    use super::super::tree::Step;
    use super::*;

    #[test]
    fn everything_knows_where_it_stands() {
        let text = "a = [1, 'x']\n[b.\"c.d\"]\ne = { f = true }\n[[g]]\nh = 0o17\n";
        let tree = read(text).unwrap();
        let check = |path: &[&str], name: &str, value: &str| {
            let steps: Vec<Step> = path
                .iter()
                .map(|step| {
                    step.parse()
                        .map_or_else(|_| Step::Name((*step).to_owned()), Step::Index)
                })
                .collect();
            let (at, node) = tree.walk(&steps);
            assert!(text[at..].starts_with(name), "{path:?}: {}", &text[at..]);
            assert!(
                text[node.at..].starts_with(value),
                "{path:?}: {}",
                &text[node.at..]
            );
        };
        check(&["a"], "a =", "[1");
        check(&["a", "1"], "'x'", "'x'");
        check(&["b"], "b.", "b.");
        check(&["b", "c.d"], "\"c.d\"]", "\"c.d\"]");
        check(&["b", "c.d", "e"], "e =", "{ f");
        check(&["b", "c.d", "e", "f"], "f =", "true");
        check(&["g", "0", "h"], "h =", "0o17");
        // As far as it goes.
        check(&["b", "c.d", "nothing", "x"], "\"c.d\"]", "\"c.d\"]");
    }
}
