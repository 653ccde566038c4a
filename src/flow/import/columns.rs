//! The columns of CSV files, and a row of cells as the fields that a line of JSON would have.

use super::super::intake::FieldError;
use crate::domain::kind::Kind;
use serde_json::{Map, Value};

/// Parts several values in one cell.
const VALUES: char = '|';
/// Begins the name of a column with the values of one attribute.
const ATTRIBUTE: &str = "attributes.";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Text,
    List,
    Flag,
}

/// Name, shape, and whether a file must have it.
type Known = (&'static str, Shape, bool);

const fn known(kind: Kind) -> &'static [Known] {
    use Shape::{Flag, List, Text};
    match kind {
        Kind::Components => {
            &[("key", Text, true), ("name", Text, true), ("group", Text, false), ("depends_on", List, false)]
        }
        Kind::Connections => &[
            ("key", Text, true),
            ("component", Text, true),
            ("name", Text, true),
            ("link", Text, false),
            ("subscribers", List, false),
        ],
        Kind::Subscribers => &[
            ("key", Text, true),
            ("address", Text, true),
            ("name", Text, false),
            ("locale", Text, false),
            ("zone", Text, false),
        ],
        Kind::Subscriptions => &[
            ("subscriber", Text, true),
            ("component", Text, false),
            ("group", Text, false),
            ("events", Text, false),
            ("least_impact", Text, false),
            ("active", Flag, false),
        ],
        Kind::Attributes => &[("subscriber", Text, true), ("name", Text, true), ("values", List, true)],
    }
}

/// The columns of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Columns(Vec<Column>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Column {
    name: String,
    shape: Shape,
    attribute: bool,
}

impl Columns {
    /// Reads the row of column names.
    pub(super) fn read(kind: Kind, cells: &[&str]) -> Result<Self, FieldError> {
        let known = known(kind);
        let wrong = |what: String| {
            let mut names: Vec<_> = known.iter().map(|(name, ..)| *name).collect();
            names.extend((kind == Kind::Subscribers).then_some("attributes.NAME"));
            FieldError::new("the first line", format!("{what}; the columns of {kind} are {}", names.join(", ")))
        };
        let mut columns = Vec::<Column>::new();
        for cell in cells {
            let name = cell.trim();
            let attribute = name.strip_prefix(ATTRIBUTE).filter(|rest| kind == Kind::Subscribers && !rest.is_empty());
            let shape = known.iter().find(|(known, ..)| *known == name).map(|(_, shape, _)| *shape);
            let Some(shape) = attribute.map(|_| Shape::List).or(shape) else {
                let shown: String = name.chars().filter(|c| !c.is_control()).take(100).collect();
                return Err(wrong(format!("names the unknown column `{shown}`")));
            };
            if columns.iter().any(|column| column.name == name) {
                return Err(wrong(format!("names the column `{name}` twice")));
            }
            columns.push(Column { name: name.to_owned(), shape, attribute: attribute.is_some() });
        }
        for (name, _, needed) in known {
            if *needed && !columns.iter().any(|column| column.name == *name) {
                return Err(wrong(format!("lacks the column `{name}`")));
            }
        }
        Ok(Self(columns))
    }

    /// The name of a column, by its position.
    pub(super) fn name(&self, position: usize) -> &str {
        self.0.get(position).map_or("line", |column| &column.name)
    }

    /// Whether a field has a column, or the attributes have one.
    pub(super) fn have(&self, field: &str) -> bool {
        self.0.iter().any(|column| if column.attribute { field == "attributes" } else { column.name == field })
    }

    /// The fields of a row. An empty cell is none.
    pub(super) fn fields(&self, cells: &[&str]) -> Result<Map<String, Value>, FieldError> {
        if cells.len() != self.0.len() {
            let what = format!("has {} cells, and the first line names {} columns", cells.len(), self.0.len());
            return Err(FieldError::new("line", what));
        }
        let mut fields = Map::new();
        let mut attributes = Map::new();
        for (column, cell) in self.0.iter().zip(cells) {
            let value = match column.shape {
                _ if cell.is_empty() => continue,
                Shape::Text => Value::from(*cell),
                Shape::List => cell.split(VALUES).map(str::trim).collect(),
                Shape::Flag => {
                    Value::Bool(cell.parse().map_err(|_| FieldError::new(&column.name, "is neither true nor false"))?)
                }
            };
            match column.name.strip_prefix(ATTRIBUTE).filter(|_| column.attribute) {
                Some(name) => attributes.insert(name.to_owned(), value),
                None => fields.insert(column.name.clone(), value),
            };
        }
        // With columns for attributes an empty cell says that there is none; without, nothing is said of them.
        if self.have("attributes") {
            fields.insert("attributes".to_owned(), Value::Object(attributes));
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn column_names_that_cannot_be_used_are_named_with_the_known_ones() {
        for (kind, names, what) in [
            (
                Kind::Subscribers,
                vec!["key", "adress"],
                "unknown column `adress`; the columns of subscribers are key, address",
            ),
            (Kind::Subscribers, vec!["key"], "lacks the column `address`"),
            (Kind::Subscribers, vec!["key", "address", "key"], "the column `key` twice"),
            (Kind::Subscribers, vec!["key", "address", "attributes."], "unknown column `attributes.`"),
            (Kind::Components, vec!["key", "name", "attributes.plan"], "unknown column `attributes.plan`"),
            (Kind::Attributes, vec![""], "unknown column ``"),
        ] {
            let error = Columns::read(kind, &names).unwrap_err();
            assert!(error.what.contains(what), "{}", error.what);
        }
    }

    #[test]
    fn a_row_has_the_fields_of_a_line_of_json() {
        let columns = Columns::read(Kind::Subscribers, &["key", " address ", "name", "attributes.plan"]).unwrap();
        let fields = columns.fields(&["jo", "jo@example.com", "", "pro | beta"]).unwrap();
        let expected = json!({"key": "jo", "address": "jo@example.com", "attributes": {"plan": ["pro", "beta"]}});
        assert_eq!(Value::Object(fields), expected);
        assert_eq!(columns.fields(&["jo", "x", "", ""]).unwrap()["attributes"], json!({}));
        assert_eq!(columns.fields(&["jo"]).unwrap_err().field, "line");
        let asked = ["key", "name", "locale", "attributes", "attributes.plan"];
        assert_eq!(asked.map(|field| columns.have(field)), [true, true, false, true, false]);
        let columns = Columns::read(Kind::Subscriptions, &["subscriber", "component", "active"]).unwrap();
        let fields = columns.fields(&["jo", "", "false"]).unwrap();
        assert_eq!(Value::Object(fields), json!({"subscriber": "jo", "active": false}));
        assert_eq!(columns.fields(&["jo", "", "no"]).unwrap_err().field, "active");
    }
}
