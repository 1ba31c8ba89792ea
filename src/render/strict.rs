//! Every variable of a template exists, or the template is refused with name, variable and line.
//!
//! tera itself takes an unknown name in a condition for false and says no line. This reads the tags of a
//! template and looks every name up in the very values that it is about to be filled with.

use serde_json::Value;

use super::RenderError;

/// Words of tera's that are no variables.
const WORDS: [&str; 12] = [
    "and", "or", "not", "in", "is", "true", "false", "True", "False", "if", "elif", "for",
];

/// What is known of a name.
#[derive(Clone, Copy)]
enum Known<'a> {
    Value(&'a Value),
    /// Computed by the template: anything may be below it.
    Anything,
}

type Scope<'a> = Vec<(String, Known<'a>)>;

struct Tag<'t> {
    line: usize,
    statement: bool,
    body: &'t str,
}

/// Looks up every variable of `source`, the text of the template `name`.
pub(super) fn check(name: &str, source: &str, context: &Value) -> Result<(), RenderError> {
    let mut scopes: Vec<Scope<'_>> = vec![Scope::new()];
    for tag in tags(source) {
        step(&tag, context, &mut scopes).map_err(|variable| RenderError::Undefined {
            template: name.to_owned(),
            line: tag.line,
            hint: hint(&variable, context),
            variable,
        })?;
    }
    Ok(())
}

fn step<'a>(tag: &Tag<'_>, context: &'a Value, scopes: &mut Vec<Scope<'a>>) -> Result<(), String> {
    if !tag.statement {
        return names(tag.body).try_for_each(|n| find(&n, context, scopes).map(|_| ()));
    }
    let (word, rest) = tag
        .body
        .split_once(char::is_whitespace)
        .unwrap_or((tag.body, ""));
    match word {
        "if" | "elif" => names(rest).try_for_each(|n| find(&n, context, scopes).map(|_| ())),
        "for" => {
            let scope = of_loop(rest, context, scopes)?;
            scopes.push(scope);
            Ok(())
        }
        "set" | "set_global" => {
            let (bound, value) = rest.split_once('=').unwrap_or((rest, ""));
            names(value).try_for_each(|n| find(&n, context, scopes).map(|_| ()))?;
            if let Some(scope) = scopes.last_mut() {
                scope.push((bound.trim().to_owned(), Known::Anything));
            }
            Ok(())
        }
        "macro" => {
            // `(a, b=1)`: each argument is a name inside.
            let arguments = rest.split_once('(').map_or("", |(_, inside)| inside);
            let bind = |a: &str| {
                let name = a.split('=').next().unwrap_or(a);
                (name.trim().to_owned(), Known::Anything)
            };
            scopes.push(
                arguments
                    .trim_end_matches(')')
                    .split(',')
                    .map(bind)
                    .collect(),
            );
            Ok(())
        }
        "endfor" | "endmacro" => {
            scopes.pop();
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The names that `for rest` binds; over a plain list, the element is known by the first one.
fn of_loop<'a>(rest: &str, context: &'a Value, scopes: &[Scope<'a>]) -> Result<Scope<'a>, String> {
    let (bound, container) = rest.split_once(" in ").unwrap_or((rest, ""));
    let mut element = Known::Anything;
    for name in names(container) {
        let found = find(&name, context, scopes)?;
        if let (true, Known::Value(Value::Array(items))) = (name == container.trim(), found) {
            element = items.first().map_or(Known::Anything, Known::Value);
        }
    }
    let mut scope = vec![("loop".to_owned(), Known::Anything)];
    let several = bound.contains(',');
    for name in bound.split(',') {
        let what = if several { Known::Anything } else { element };
        scope.push((name.trim().to_owned(), what));
    }
    Ok(scope)
}

/// What the dotted `name` means here, or the name back.
fn find<'a>(name: &str, context: &'a Value, scopes: &[Scope<'a>]) -> Result<Known<'a>, String> {
    let mut parts = name.split('.');
    let first = parts.next().unwrap_or(name);
    let bound = scopes
        .iter()
        .rev()
        .flat_map(|scope| scope.iter().rev())
        .find(|(known, _)| known == first)
        .map(|(_, what)| *what);
    let mut here = match bound.or_else(|| context.get(first).map(Known::Value)) {
        Some(known) => known,
        None => return Err(name.to_owned()),
    };
    for part in parts {
        here = match here {
            Known::Anything | Known::Value(Value::Null) => Known::Anything,
            Known::Value(Value::Array(items)) => match part.parse::<usize>() {
                Ok(index) => items.get(index).map_or(Known::Anything, Known::Value),
                Err(_) => return Err(name.to_owned()),
            },
            Known::Value(value) => match value.get(part) {
                Some(below) => Known::Value(below),
                None => return Err(name.to_owned()),
            },
        };
    }
    Ok(here)
}

fn hint(variable: &str, context: &Value) -> String {
    let mut all = Vec::new();
    list("", context, &mut all);
    let last = |name: &str| {
        name.rsplit('.')
            .next()
            .map(str::to_owned)
            .unwrap_or_default()
    };
    let wanted = last(variable);
    let near = all
        .iter()
        .map(|name| (strsim::jaro_winkler(&last(name), &wanted), name))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    near.map_or_else(String::new, |(_, name)| format!(": did you mean `{name}`"))
}

/// Every name in `value`; below an array, those of its first element.
fn list(prefix: &str, value: &Value, all: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, below) in fields {
                let name = if prefix.is_empty() {
                    key.clone()
                } else {
                    format!("{prefix}.{key}")
                };
                all.push(name.clone());
                list(&name, below, all);
            }
        }
        Value::Array(items) => {
            if let Some(first) = items.first() {
                list(prefix.strip_suffix('s').unwrap_or(prefix), first, all);
            }
        }
        _ => {}
    }
}

/// The tags of a template, comments and `raw` sections left out. What does not close is tera's to refuse.
fn tags(source: &str) -> Vec<Tag<'_>> {
    let mut found = Vec::new();
    let mut rest = source;
    let mut line = 1;
    let mut raw = false;
    while let Some(start) = rest.find('{') {
        let (before, from) = rest.split_at(start);
        line += before.matches('\n').count();
        let close = match from.as_bytes().get(1) {
            Some(b'{') => "}}",
            Some(b'%') => "%}",
            Some(b'#') => "#}",
            _ => {
                rest = from.get(1..).unwrap_or_default();
                continue;
            }
        };
        let Some(end) = from.find(close) else { break };
        let body = from.get(2..end).unwrap_or_default();
        let body = body.trim_matches('-').trim();
        match (close, body) {
            ("%}", "raw") => raw = true,
            ("%}", "endraw") => raw = false,
            ("#}", _) => {}
            _ if raw => {}
            _ => found.push(Tag {
                line,
                statement: close == "%}",
                body,
            }),
        }
        let (tag, after) = from.split_at(end + 2);
        line += tag.matches('\n').count();
        rest = after;
    }
    found
}

/// The variables in an expression: no strings, numbers, words of tera's, filters, functions, tests or names
/// of arguments. `a[0].b` is read as `a`, and what is asked `is defined` is not asked for here.
fn names(expression: &str) -> impl Iterator<Item = String> {
    let mut found = Vec::new();
    let mut rest = expression;
    // The last thing seen that was no blank: a filter follows `|`, a test `is` or `is not`.
    let mut before = String::new();
    while let Some(c) = rest.chars().next() {
        if matches!(c, '"' | '\'' | '`') {
            let inside = rest.get(1..).unwrap_or_default();
            let end = inside.find(c).map_or(inside.len(), |at| at + 1);
            rest = inside.get(end..).unwrap_or_default();
            before = "text".to_owned();
        } else if c.is_ascii_alphanumeric() || c == '_' {
            let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
            let end = rest.find(|c| !part(c)).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            let next = after.trim_start();
            let argument = next.starts_with('=') && !next.starts_with("==");
            let called = next.starts_with('(') || next.starts_with("::");
            let asked = next
                .strip_prefix("is ")
                .map(|test| test.trim_start().trim_start_matches("not "))
                .is_some_and(|test| test.starts_with("defined") || test.starts_with("undefined"));
            let special =
                matches!(before.as_str(), "|" | "is" | ":" | ".") || (before == "not" && asked);
            let variable =
                !c.is_ascii_digit() && !WORDS.contains(&word) && word != "__tera_context";
            if variable && !argument && !called && !asked && !special {
                found.push(word.to_owned());
            }
            // `is not odd`: what follows is still the test.
            if !(before == "is" && word == "not") {
                before = word.to_owned();
            }
            rest = after;
        } else {
            if !c.is_whitespace() {
                before = c.to_string();
            }
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
        }
    }
    found.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn all(expression: &str) -> Vec<String> {
        names(expression).collect()
    }

    #[test]
    fn names_are_told_from_everything_else() {
        assert_eq!(all(r#"a.b == "c d" and not e"#), ["a.b", "e"]);
        assert_eq!(all("mounts | length > 0"), ["mounts"]);
        assert_eq!(all(r#"a | replace(from="x", to=b)"#), ["a", "b"]);
        assert_eq!(all("a is odd or b is not divisibleby(2)"), ["a", "b"]);
        assert_eq!(all("a is defined and b"), ["b"]);
        assert_eq!(all("now(utc=true) ~ list[0].x ~ 1.5"), ["list"]);
    }

    #[test]
    fn an_unknown_name_is_refused_with_its_line() {
        let context = json!({"port": 1, "mounts": [{"path": "/a", "intro": null}], "none": []});
        let error = |source: &str| match check("t", source, &context) {
            Err(RenderError::Undefined { line, variable, .. }) => Some((line, variable)),
            Ok(()) => None,
            Err(other) => panic!("{other}"),
        };
        assert_eq!(
            error("{{ port }}\n{% for m in mounts %}{{ m.path }}{{ loop.index }}{% endfor %}"),
            None
        );
        assert_eq!(
            error("\n{% if prot %}x{% endif %}"),
            Some((2, "prot".into()))
        );
        assert_eq!(
            error("{% for m in mounts %}\n\n{%- if m.pth -%}{% endif %}{% endfor %}"),
            Some((3, "m.pth".into()))
        );
        assert_eq!(
            error("{% for m in mounts %}{% endfor %}{{ m.path }}"),
            Some((1, "m.path".into()))
        );
        assert_eq!(
            error("{% raw %}{{ x }}{% endraw %}{# {{ y }} #}{% set z = port %}{{ z }}"),
            None
        );
        assert_eq!(
            error("{ \n{{ port.deeper }}"),
            Some((2, "port.deeper".into()))
        );
        let text = check("t", "{{ prot }}", &context).unwrap_err().to_string();
        assert_eq!(
            text,
            "template `t`, line 1: variable `prot` does not exist: did you mean `port`"
        );
    }
}
