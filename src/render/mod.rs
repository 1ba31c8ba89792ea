//! Configurations for other servers, from our settings: tera templates, contexts, escaping, diff, atomic write.
