//! Rates, sizes and durations as people write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A text is no number with a unit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {kind}: write it like {like}")]
pub struct UnitError {
    text: String,
    kind: &'static str,
    like: &'static str,
}

/// Bits a second. Written `100Mbit` or, in bytes, `12MB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Rate(pub u64);

/// Bytes. Written `64KiB`, `32MB`, `512`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Size(pub u64);

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let error = || UnitError {
            text: text.into(),
            kind: "rate",
            like: "`100Mbit` or `12MB` (a second)",
        };
        let (number, unit) = split(text).ok_or_else(error)?;
        let factor = match unit.to_ascii_lowercase().trim_end_matches("/s") {
            "" | "bit" | "bps" => 1.0,
            "kbit" | "kbps" => 1e3,
            "mbit" | "mbps" => 1e6,
            "gbit" | "gbps" => 1e9,
            "b" => 8.0,
            "kb" => 8e3,
            "mb" => 8e6,
            "gb" => 8e9,
            "kib" => 8.0 * 1024.0,
            "mib" => 8.0 * 1024.0 * 1024.0,
            "gib" => 8.0 * 1024.0 * 1024.0 * 1024.0,
            _ => return Err(error()),
        };
        scale(number, factor).map(Self).ok_or_else(error)
    }
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let error = || UnitError {
            text: text.into(),
            kind: "size",
            like: "`64KiB` or `32MB`",
        };
        text.parse::<bytesize::ByteSize>()
            .map(|size| Self(size.as_u64()))
            .map_err(|_| error())
    }
}

/// A duration such as `45s`, `1m 30s`, `250ms`; a bare number is seconds.
///
/// # Errors
/// Where `text` is neither.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let text = text.trim();
    let seconds = text.parse::<f64>().ok();
    if let Some(duration) = seconds.and_then(|s| Duration::try_from_secs_f64(s).ok()) {
        return Ok(duration);
    }
    humantime::parse_duration(text).map_err(|_| UnitError {
        text: text.into(),
        kind: "duration",
        like: "`45s` or `250ms`",
    })
}

fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim()))
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss
)]
fn scale(number: f64, factor: f64) -> Option<u64> {
    let value = number * factor;
    (value.is_finite() && value >= 0.0 && value < u64::MAX as f64).then_some(value.round() as u64)
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n >= 1_000_000_000 && n % 1_000_000_000 == 0 => {
                write!(f, "{}Gbit", n / 1_000_000_000)
            }
            n if n >= 1_000_000 && n % 1_000_000 == 0 => write!(f, "{}Mbit", n / 1_000_000),
            n if n >= 1_000 && n % 1_000 == 0 => write!(f, "{}kbit", n / 1_000),
            n => write!(f, "{n}bit"),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n >= 1 << 20 && n % (1 << 20) == 0 => write!(f, "{}MiB", n >> 20),
            n if n >= 1 << 10 && n % (1 << 10) == 0 => write!(f, "{}KiB", n >> 10),
            n => write!(f, "{n}B"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_in_bits_and_bytes() {
        assert_eq!("100Mbit".parse(), Ok(Rate(100_000_000)));
        assert_eq!("12MB".parse(), Ok(Rate(96_000_000)));
        assert_eq!("128 kbit/s".parse(), Ok(Rate(128_000)));
        assert_eq!("1.5Gbit".parse(), Ok(Rate(1_500_000_000)));
        assert!("fast".parse::<Rate>().is_err());
        assert!("-1Mbit".parse::<Rate>().is_err());
        assert_eq!(Rate(100_000_000).to_string(), "100Mbit");
    }

    #[test]
    fn sizes_and_durations() {
        assert_eq!("64KiB".parse(), Ok(Size(65_536)));
        assert_eq!("512".parse(), Ok(Size(512)));
        assert_eq!(Size(65_536).to_string(), "64KiB");
        assert_eq!(parse_duration("45s"), Ok(Duration::from_secs(45)));
        assert_eq!(parse_duration("0.25"), Ok(Duration::from_millis(250)));
        assert!(parse_duration("soon").is_err());
    }
}
