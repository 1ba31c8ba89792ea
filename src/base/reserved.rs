//! Paths that a node answers itself, and that therefore never name a mount.

/// True for the paths that a node answers itself and that never name a mount.
pub fn is_reserved(path: &str) -> bool {
    const EXACT: [&str; 3] = ["", "/7.html", "/status-json.xsl"];
    // What Shoutcast's players ask for where they mean the default mount.
    const DEFAULT_MOUNT: &str = "/;";
    // With everything below them. Whole segments: `/healthradio.mp3` and `/statsbureau` are mounts.
    const FIRST_SEGMENT: [&str; 11] = [
        "health",
        "healthz",
        "readyz",
        "metrics",
        "admin",
        "admin.cgi",
        "api",
        "cluster",
        "dashboard",
        "stats",
        ".well-known",
    ];
    // Browsers and crawlers ask for these by themselves: an icon is no listener.
    const FETCHED_UNASKED: [&str; 7] = [
        "/favicon.ico",
        "/robots.txt",
        "/sitemap.xml",
        "/browserconfig.xml",
        "/crossdomain.xml",
        "/clientaccesspolicy.xml",
        "/ads.txt",
    ];
    // `/apple-touch-icon-120x120-precomposed.png` and its like.
    const ICON: &str = "/apple-touch-icon";
    let first = path.split('/').nth(1).unwrap_or_default();
    let name = path.strip_suffix('/').unwrap_or(path);
    EXACT.contains(&name)
        || FIRST_SEGMENT.contains(&first)
        || FETCHED_UNASKED.contains(&name)
        || path.starts_with(DEFAULT_MOUNT)
        || path.starts_with(ICON)
        || is_playlist(path)
}

/// True for the path of a playlist that names a mount.
pub fn is_playlist(path: &str) -> bool {
    [".m3u", ".pls", ".xspf", ".vclt"]
        .iter()
        .any(|end| path.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_paths() {
        for path in [
            "/",
            "/health",
            "/healthz",
            "/readyz",
            "/metrics",
            "/metrics/",
            "/admin",
            "/admin/",
            "/admin/metadata",
            "/admin.cgi",
            "/api/v1/none",
            "/cluster/v1/join",
            "/dashboard/",
            "/live.m3u",
            "/stats",
            "/stats/any",
            "/.well-known/acme-challenge/x",
            "/7.html/",
            "/status-json.xsl/",
            "/robots.txt/",
            "/;",
            "/;stream.mp3",
            "/apple-touch-icon-120x120-precomposed.png",
            "/robots.txt",
        ] {
            assert!(is_reserved(path), "{path}");
        }
        for path in [
            "/live.mp3",
            "/stream",
            "/healthradio.mp3",
            "/health.mp3",
            "/administration",
            "/admin.cgi.mp3",
            "/apia",
            "/clusterfunk.ogg",
            "/dashboards",
            "/statsbureau",
            "/metrics.ogg",
            "/live/admin",
            "/live/;",
            "/stream/1/",
            "/healthradio/",
            "/7.htmlx",
            "/robots.txt.mp3",
        ] {
            assert!(!is_reserved(path), "{path}");
        }
    }
}
