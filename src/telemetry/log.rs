//! stub
/// s
pub fn start(level: &str, _format: &str) -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(
            level
                .parse::<tracing::Level>()
                .unwrap_or(tracing::Level::INFO),
        )
        .init();
    Ok(())
}
