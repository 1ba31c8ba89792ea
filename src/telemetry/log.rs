//! The program's own log, on standard error: text for people or JSON.

use std::borrow::Cow;
use std::io::{self, IsTerminal};

use tracing::Subscriber;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use crate::base::text::escaped;
use stderr::Stderr;

mod stderr;

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The log cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is no filter.
    #[error(
        "log level `{filter}` cannot be read: {why}; write error, warn, info, debug, trace or off, or directives like `info,relayctl::edge=debug`"
    )]
    Filter {
        /// As given.
        filter: String,
        /// From the parser.
        why: String,
    },
    /// Neither `text` nor `json`.
    #[error("log format `{0}` is unknown: write text or json")]
    Format(String),
    /// Another log was installed.
    #[error("a log is installed already")]
    Twice,
}

/// A running log, whose level can be changed.
pub struct Log {
    change: Box<dyn Fn(EnvFilter) -> bool + Send + Sync>,
}

impl Log {
    /// Takes a new filter. False where the log is gone.
    ///
    /// # Errors
    /// [`LogError::Filter`]; the old one stays then.
    pub fn set_filter(&self, filter: &str) -> Result<bool, LogError> {
        Ok((self.change)(parse(filter)?))
    }
}

/// Installs the log for the whole process. `format` is `text` or `json`.
///
/// # Errors
/// See [`LogError`].
pub fn start(filter: &str, format: &str) -> Result<Log, LogError> {
    let format = match format {
        "text" => Format::Text,
        "json" => Format::Json,
        other => return Err(LogError::Format(other.to_owned())),
    };
    let colours = io::stderr().is_terminal();
    let (subscriber, log) = build(filter, format, colours, || Stderr)?;
    subscriber.try_init().map_err(|_| LogError::Twice)?;
    Ok(log)
}

/// A log that writes to `writer`.
fn build<W>(
    filter: &str,
    format: Format,
    colours: bool,
    writer: W,
) -> Result<(Box<dyn Subscriber + Send + Sync>, Log), LogError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(parse(filter)?);
    let colours = colours && format == Format::Text;
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(Escaping {
            to: writer,
            colours,
        })
        // They would go to standard error too, by a macro that panics where that fails.
        .log_internal_errors(false)
        .with_ansi(colours);
    let registry = tracing_subscriber::registry().with(filter);
    let subscriber: Box<dyn Subscriber + Send + Sync> = match format {
        Format::Text => Box::new(registry.with(layer.with_target(false).compact())),
        Format::Json => Box::new(registry.with(layer.json().flatten_event(true))),
    };
    let change = Box::new(move |filter| handle.reload(filter).is_ok());
    Ok((subscriber, Log { change }))
}

/// Keeps each event on one line that reads as it is written: separators of lines and overrides of the direction of writing that
/// a field brought along are escaped, and where there are no colours all that begins with an escape character.
struct Escaping<W> {
    to: W,
    colours: bool,
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Escaping<W> {
    type Writer = Escaped<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Escaped {
            to: self.to.make_writer(),
            colours: self.colours,
        }
    }
}

struct Escaped<W> {
    to: W,
    colours: bool,
}

impl<W: io::Write> io::Write for Escaped<W> {
    /// Takes one event, whose last byte is the line's end.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        // Colours are made of it.
        let kept: &[char] = if self.colours { &['\u{1b}'] } else { &[] };
        let line = event.strip_suffix(b"\n").unwrap_or(event);
        match std::str::from_utf8(line).map(|line| escaped(line, kept)) {
            Ok(Cow::Owned(line)) => self.to.write_all(format!("{line}\n").as_bytes())?,
            Ok(Cow::Borrowed(_)) | Err(_) => self.to.write_all(event)?,
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// The decoder complains of each frame that it is given out of its row, and we give it a few a second: no news. What is wrong
/// with a certificate is said once, where the connection was wanted.
const QUIET: &str = "symphonia=off,rustls_platform_verifier=off";

/// A bare level is ours; libraries stay at `warn`, since below it they show what passes through them.
fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    let error = |why: String| LogError::Filter {
        filter: filter.to_owned(),
        why,
    };
    let text = filter.trim().to_ascii_lowercase();
    let directives = match text.as_str() {
        "info" | "debug" | "trace" => format!("warn,{QUIET},relayctl={text}"),
        "warn" | "error" | "off" => format!("{text},{QUIET}"),
        word if !word.contains(['=', ',', '[']) => {
            return Err(error("it is no level".into()));
        }
        _ => filter.trim().to_owned(),
    };
    EnvFilter::builder()
        .parse(directives)
        .map_err(|why| error(why.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(format: Format, filter: &str, then: Option<&str>) -> String {
        let page = Page::default();
        let writer = page.clone();
        let (subscriber, log) = build(filter, format, true, move || writer.clone()).unwrap();
        let dispatch = tracing::Dispatch::new(subscriber);
        tracing::dispatcher::with_default(&dispatch, || {
            if let Some(filter) = then {
                assert!(log.set_filter(filter).unwrap());
            }
            tracing::info!(target: "relayctl::edge", mount = "/live", "source came");
            tracing::debug!(target: "relayctl::edge", "detail");
            tracing::info!(target: "hyper::proto", "library");
            tracing::warn!(target: "symphonia_bundle_mp3::layer3", "mpa: invalid main_data_begin");
        });
        let bytes = page.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_has_its_fields_and_libraries_are_quiet() {
        let text = written(Format::Json, "info", None);
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&line["level"], &line["mount"]),
            (&"INFO".into(), &"/live".into())
        );
        assert_eq!(line["message"], "source came");
    }

    #[test]
    fn a_field_cannot_begin_a_line_or_turn_it_around() {
        let agent = "a\u{202e}b\u{2028}c\nd\u{1b}[31me";
        let page = Page::default();
        for format in [Format::Text, Format::Json] {
            let writer = page.clone();
            let (subscriber, _log) = build("info", format, false, move || writer.clone()).unwrap();
            let dispatch = tracing::Dispatch::new(subscriber);
            tracing::dispatcher::with_default(&dispatch, || {
                tracing::warn!(target: "relayctl::edge", agent, why = %agent, "source refused");
            });
        }
        let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 2, "{text:?}");
        assert!(!text.contains(['\u{202e}', '\u{2028}']), "{text:?}");
        assert!(!text.contains('\u{1b}'), "{text:?}");
        assert!(text.contains("a\\u202eb\\u2028c"), "{text:?}");
        let json = text.lines().last().unwrap();
        let line: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(line["agent"], agent);
    }

    #[test]
    fn the_level_can_be_changed() {
        let text = written(Format::Text, "info", Some("debug"));
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("detail") && !text.contains("library"));
        let text = written(Format::Text, "off,hyper=info", None);
        assert!(
            text.contains("library") && text.lines().count() == 1,
            "{text}"
        );
        assert_eq!(written(Format::Text, "info", Some("error")), "");
    }

    #[test]
    fn a_bad_level_is_named() {
        let error = parse("loud").err().unwrap().to_string();
        assert!(error.starts_with("log level `loud`"), "{error}");
        assert!(parse("relayctl=loud").is_err());
    }
}
