//! The settings file: YAML to a flat layer, each leaf with its line.

use std::fmt;
use std::path::Path;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

use super::keys::{self, Key, Kind};
use super::layer::{Layer, Origin};
use super::problem::Problem;
use super::secret_file;

/// Longest settings file in bytes.
pub(super) const MAX_FILE: u64 = 1 << 20;

/// A YAML node that remembers the lines of what is in it.
#[derive(Debug, Clone)]
enum Tree {
    Leaf(Value),
    List(Vec<Spanned<Tree>>),
    Map(Vec<(String, Spanned<Tree>)>),
}

struct TreeVisitor;

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a number, a list or a mapping")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Number(value.into())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Number(value.into())))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Tree, E> {
        Number::from_f64(value)
            .map(|number| Tree::Leaf(Value::Number(number)))
            .ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::String(value.into())))
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        Tree::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut map = Vec::new();
        while let Some(item) = items.next_entry::<String, Spanned<Tree>>()? {
            map.push(item);
        }
        Ok(Tree::Map(map))
    }
}

impl Tree {
    fn into_value(self) -> Value {
        match self {
            Self::Leaf(value) => value,
            Self::List(items) => Value::Array(
                items
                    .into_iter()
                    .map(|item| item.value.into_value())
                    .collect(),
            ),
            Self::Map(items) => Value::Object(
                items
                    .into_iter()
                    .map(|(name, item)| (name, item.value.into_value()))
                    .collect::<Map<_, _>>(),
            ),
        }
    }
}

/// Why a text is no YAML: the message without the text itself, which may hold a secret, and its line.
pub(super) struct Malformed {
    pub(super) what: String,
    pub(super) line: Option<u64>,
}

fn parse(text: &str) -> Result<Tree, Malformed> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| Malformed {
        what: error.without_snippet().to_string().replace('\n', " "),
        line: error.location().map(|at| at.line()),
    })
}

/// A text of YAML (or JSON, which is YAML) as a value.
pub(super) fn parse_value(text: &str) -> Result<Value, Malformed> {
    parse(text).map(Tree::into_value)
}

/// The two layers of a file: old names, and ours above them.
#[derive(Default)]
pub(super) struct FileLayers {
    pub(super) old: Layer,
    pub(super) ours: Layer,
    /// Files of secrets that it names.
    pub(super) files: Vec<std::path::PathBuf>,
    pub(super) problems: Vec<Problem>,
}

/// Reads the text of the file at `path`.
pub(super) fn read(path: &Path, text: &str) -> FileLayers {
    let mut walk = Walk {
        path,
        layers: FileLayers::default(),
    };
    match parse(text) {
        // An empty file, or one of comments.
        Ok(Tree::Leaf(Value::Null)) => {}
        Ok(Tree::Map(items)) => walk.branch("", items),
        Ok(_) => walk.problem(
            "",
            None,
            "is no mapping of keys to values",
            "write `key: value`",
        ),
        Err(error) => walk.problem("", error.line, &format!("is no YAML: {}", error.what), ""),
    }
    walk.layers
}

struct Walk<'a> {
    path: &'a Path,
    layers: FileLayers,
}

impl Walk<'_> {
    fn origin(&self, line: Option<u64>) -> Origin {
        Origin::File {
            path: self.path.to_path_buf(),
            line: line.filter(|line| *line > 0),
        }
    }

    fn problem(&mut self, key: &str, line: Option<u64>, what: &str, hint: &str) {
        let key = if key.is_empty() { "config" } else { key };
        let problem = Problem::new(key, &self.origin(line), what, hint);
        self.layers.problems.push(problem);
    }

    fn branch(&mut self, prefix: &str, items: Vec<(String, Spanned<Tree>)>) {
        for (name, item) in items {
            let path = if prefix.is_empty() {
                name
            } else {
                format!("{prefix}.{name}")
            };
            self.node(&path, item);
        }
    }

    fn node(&mut self, path: &str, item: Spanned<Tree>) {
        let line = Some(item.referenced.line());
        let key = keys::find(path);
        match (key, item.value) {
            // `ring` is a leaf and the beginning of `ring.max_bytes`.
            (Some(Key { kind, .. }), Tree::Map(items))
                if !matches!(kind, Kind::Tree(_)) && keys::is_prefix(path) =>
            {
                self.branch(path, items);
            }
            (None, Tree::Map(items)) if keys::is_prefix(path) => self.branch(path, items),
            (None, Tree::Leaf(Value::Null)) if keys::is_prefix(path) => {}
            (Some(key), tree) => self.leaf(key, line, tree.into_value()),
            (None, tree) => self.other(path, line, tree.into_value()),
        }
    }

    fn leaf(&mut self, key: &'static Key, line: Option<u64>, value: Value) {
        if value.is_null() {
            return;
        }
        let origin = self.origin(line);
        if !self.layers.ours.add(key.path, value, origin) {
            self.problem(key.path, line, "is given twice", "leave one out");
        }
    }

    fn other(&mut self, path: &str, line: Option<u64>, value: Value) {
        if let Some(reason) = keys::not_yet(path, None) {
            return self.problem(path, line, reason, "");
        }
        if let Some(old) = keys::find_old(path).filter(|old| !old.platform) {
            let origin = self.origin(line);
            self.layers.old.add(old.sets, value, origin);
            return;
        }
        let secret = path
            .strip_suffix("_file")
            .and_then(keys::find)
            .filter(|key| matches!(key.kind, Kind::Secret));
        let Some(key) = secret else {
            return self.problem(path, line, "is no key", &keys::nearest_path(path));
        };
        let Value::String(file) = value else {
            return self.problem(path, line, "is no path", "write the path of a file");
        };
        self.layers.files.push((&file).into());
        match secret_file::read(Path::new(&file)) {
            Ok(secret) => self.leaf(key, line, Value::String(secret)),
            Err(what) => self.problem(path, line, &what, ""),
        }
    }
}
