//! The table as a page.

use super::keys::{self, Field, Key, Kind, Old, Preset};
use super::table::NOT_YET;

/// `docs/settings.md`.
pub(super) fn page(table: &[Key], old: &[Old]) -> String {
    let mut page = String::from(HEAD);
    page.push_str(
        "\n| key | environment | flag | value | default | what |\n|---|---|---|---|---|---|\n",
    );
    for key in table {
        page.push_str(&row(key));
    }
    for key in table {
        if let Kind::Tree(fields) = key.kind {
            page.push_str(&format!(
                "\n## Entries of `{}`\n\n{}",
                key.path,
                tree(fields)
            ));
        }
    }
    page.push_str(OLD_HEAD);
    page.push_str("\n| old name | sets | what |\n|---|---|---|\n");
    for name in old {
        let whole = name.sets.split(".port").next().unwrap_or(name.sets);
        let whole = whole.trim_end_matches(".address").trim_end_matches(".host");
        page.push_str(&format!("| `{}` | `{whole}` | {} |\n", name.name, name.doc));
    }
    page.push_str("\n## Not built yet\n\nThese are known and refused with their reason.\n\n");
    for entry in NOT_YET {
        let value = entry
            .value
            .map(|value| format!(": {value}"))
            .unwrap_or_default();
        page.push_str(&format!("- `{}{value}`: {}.\n", entry.path, entry.reason));
    }
    page
}

fn row(key: &Key) -> String {
    let flag = key
        .flag
        .map(|flag| format!("`--{flag}`"))
        .unwrap_or_default();
    let file = if matches!(key.kind, Kind::Secret) {
        ", `…_FILE`"
    } else {
        ""
    };
    let default = match key.default {
        Preset::Is("") => "none".into(),
        Preset::Is(text) => format!("`{text}`"),
        Preset::Unset(what) => what.to_owned(),
    };
    format!(
        "| `{}` | `{}`{file} | {flag} | {} | {default} | {} |\n",
        key.path,
        keys::environment_name(key.path),
        kind(key.kind),
        key.doc
    )
}

fn tree(fields: &[Field]) -> String {
    let mut text = String::from("| field | value | what |\n|---|---|---|\n");
    for field in fields {
        text.push_str(&format!(
            "| `{}` | {} | {} |\n",
            field.name,
            kind(field.kind),
            field.doc
        ));
    }
    text
}

fn kind(kind: Kind) -> String {
    match kind {
        Kind::Text => "text".into(),
        Kind::Bool => "`true` or `false`".into(),
        Kind::Integer { min, max } => format!("{min} to {max}"),
        Kind::Address => "`ADDR:PORT`".into(),
        Kind::Duration => "duration".into(),
        Kind::Rate => "rate".into(),
        Kind::Size => "size".into(),
        Kind::List => "list".into(),
        Kind::Secret => "secret".into(),
        Kind::Choice(words) => words
            .iter()
            .map(|word| format!("`{word}`"))
            .collect::<Vec<_>>()
            .join(", "),
        Kind::Tree(_) => "list of mappings".into(),
    }
}

const HEAD: &str = "\
# Settings

<!-- Made from the table in src/settings/table.rs: UPDATE_DOCS=1 cargo test --lib settings:: -->

defaults < YAML file (`--config FILE` or `RELAYCTL_CONFIG`) < environment < flags. `relayctl check` prints every
value, who said it and who was overruled, with `***` for secrets, and changes nothing.

- The environment name of a key is `RELAYCTL_` and the path in capitals, with `__` for each dot. An empty variable
  is as none. An unknown key or variable is an error that names the nearest known one.
- Durations are written `45s`, `250ms`, `1m 30s`; rates `100Mbit` or, in bytes, `12MB` (a second); sizes `64KiB`.
- A list is a YAML list, or texts separated by commas: `RELAYCTL_MOUNTS=/live.mp3,/talk.ogg`. A list of mappings is
  also YAML or JSON text: `RELAYCTL_MOUNTS='[{path: /live.mp3, max_listeners: 100}]'`.
- A secret may stand in a file: `RELAYCTL_TOKEN_FILE`, `token_file` in the YAML, `--token @FILE`, `--token -`.
  No default password exists: what is not given is generated once into the data directory, mode 0600. A text that
  looks like a number is put in quotes: `source_password: \"0123\"`.
- In the YAML, branches may be nested or written with dots: `ring.max_bytes: 64MiB`. `ring` is both a value and a
  branch: `ring: 60s` beside `ring.max_bytes`, or `ring: {seconds: 60s, max_bytes: 32MiB}`.
- SIGHUP and a changed file (the YAML, one of a secret, a certificate) read everything again: all of it is checked as at a
  start, then swapped, and the log names the keys that changed; or all of it is kept, and the log says which key is wrong.
- These keys wait for the next start, and each reload that finds them changed says so: `bind`, `name`, `data_dir`, `primary`, `engine`, `external`, `external_password`, `fanout.threads`, `fanout.backend`, `shoutcast.program`, `shoutcast.port`, `log_format`, `kubernetes.secret`, `kubernetes.deletion_cost`, `icecast.program`.

```yaml
bind: \"[::]:8000\"
public_url: https://radio.example.org
max_bandwidth: 900Mbit
mounts:
  - /live.mp3
  - path: /talk.ogg
    max_listeners: 200
relay:
  - url: http://other.example:8000/stream
    mount: /other.mp3
    on_demand: true
```

## Every key
";

const OLD_HEAD: &str = "
## Names of the systems that relayctl replaces

They work in the environment, and but for `OPENSHIFT_*` at the top of the YAML. `RELAYCTL_*` wins over them, they win
over `OPENSHIFT_*`. `relayctl run` also reads `OPENSHIFT_APP_UUID` and `OPENSHIFT_GEAR_UUID`: equal is a primary,
different is a relay of `OPENSHIFT_APP_DNS`. Names that Kubernetes injects for a Service called `relayctl…` are ignored
and listed by `relayctl check`.
";
