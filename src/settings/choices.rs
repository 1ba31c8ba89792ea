//! Settings that are one word of a few.

macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant),* }

        impl $name {
            /// The words, in the order of the documents.
            pub const NAMES: &'static [&'static str] = &[$($text),*];

            /// The word.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
        }

        impl Word for $name {
            const NAMES: &'static [&'static str] = Self::NAMES;

            fn of(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)* _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

/// A word of a few.
pub(super) trait Word: Sized {
    /// The words, in the order of the documents.
    const NAMES: &'static [&'static str];

    /// The value that `text` names.
    fn of(text: &str) -> Option<Self>;
}

choice! {
    /// How a node is chosen for a listener.
    Strategy {
        /// Fewest listeners and reservations by weight.
        LeastConn = "least-conn",
        /// Lowest committed rate.
        LeastBandwidth = "least-bandwidth",
        /// In turn, by weight.
        RoundRobin = "round-robin",
        /// Drawn.
        Random = "random",
        /// The lesser of two drawn.
        P2c = "p2c",
        /// By the client's address.
        IpHash = "ip-hash",
        /// Fill one node before the next.
        Pack = "pack",
    }
}

choice! {
    /// How sends to listeners reach the kernel.
    Backend {
        /// io_uring where it works.
        Auto = "auto",
        /// A system call for each.
        Plain = "plain",
        /// io_uring, and a warning where it does not work.
        IoUring = "io_uring",
    }
}

choice! {
    /// Paths of a node that a rendered HAProxy forwards only if told to; the word is their first segment.
    Expose {
        /// `/admin` and below: Icecast's pages and commands.
        Admin = "admin",
        /// `/api` and below.
        Api = "api",
        /// `/metrics`.
        Metrics = "metrics",
        /// `/cluster` and below: joins, beats and the audio between nodes.
        Cluster = "cluster",
        /// `/dashboard` and below.
        Dashboard = "dashboard",
    }
}

choice! {
    /// What follows from a source that sends silence.
    SilenceAction {
        /// It is reported.
        None = "none",
        /// And its listeners hear the fallback.
        Fallback = "fallback",
    }
}

choice! {
    /// Whether a primary serves listeners.
    Serve {
        /// Only while no relay can.
        Auto = "auto",
        /// Like any relay.
        Always = "always",
        /// Never.
        Never = "never",
    }
}

choice! {
    /// How a listener reaches its node.
    Mode {
        /// By a 302.
        Redirect = "redirect",
        /// Its connection is held by the node that it came to.
        Proxy = "proxy",
        /// Held where the player does not follow a 302.
        Auto = "auto",
    }
}

choice! {
    /// What carries the audio.
    Engine {
        /// Our own.
        Embedded = "embedded",
        /// A real `icecast2`.
        Icecast = "icecast",
        /// A real Shoutcast `sc_serv`.
        Shoutcast = "shoutcast",
    }
}

choice! {
    /// Whether metrics need no token.
    Open {
        /// On loopback and private networks.
        Auto = "auto",
        /// For everyone.
        Always = "always",
        /// For nobody.
        Never = "never",
    }
}

choice! {
    /// Actions of the administration that a GET may do.
    GetActions {
        /// Each of them.
        All = "all",
        /// Titles only.
        Titles = "titles",
        /// None.
        None = "none",
    }
}

choice! {
    /// Level of the log.
    Level {
        /// Nothing.
        Off = "off",
        /// What failed.
        Error = "error",
        /// And what is odd.
        Warn = "warn",
        /// And what happened.
        Info = "info",
        /// And why.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

choice! {
    /// Form of the log.
    LogFormat {
        /// For people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

choice! {
    /// Form of the access line.
    AccessFormat {
        /// Icecast's: combined, and the seconds at the end.
        Combined = "combined",
        /// One JSON object a line.
        Json = "json",
    }
}
