//! The table of every setting, of old names, and of what the design names but nothing carries out yet.

use super::choices::{
    AccessFormat, Backend, Engine, GetActions, Level, LogFormat, Mode, Open, Serve, SilenceAction,
    Strategy,
};
use super::keys::{Field, Key, Kind, NotYet, Old, Preset};

macro_rules! keys {
    ($($path:literal $(--$flag:literal)?, $kind:expr, $default:expr, $doc:literal;)*) => {
        &[$(Key { path: $path, kind: $kind, default: $default, flag: keys!(@flag $($flag)?), doc: $doc }),*]
    };
    (@flag) => { None };
    (@flag $flag:literal) => { Some($flag) };
}

macro_rules! fields {
    ($($name:literal, $kind:expr, $doc:literal;)*) => {
        &[$(Field { name: $name, kind: $kind, doc: $doc }),*]
    };
}

use Kind::{Address, Bool, Choice, Duration, Integer, List, Rate, Secret, Size, Text, Tree};
use Preset::{Is, Unset};

const ANY: Kind = Integer {
    min: 0,
    max: 10_000_000,
};

/// Every setting, in the order of the documents.
pub const KEYS: &[Key] = keys! {
    "bind" --"bind", Address, Is("[::]:8000"),
        "Address and port of everything; `[::]:PORT` or `:PORT` is all addresses of both families, port 0 takes a free one.";
    "public_url" --"public-url", List, Unset("the address that the primary saw, and the data port"),
        "URLs that listeners are told, at most one `http` and one `https`; `none` on a relay that only a balancer of the platform sends listeners to.";
    "name" --"name", Text, Unset("the host's name and the start of the node's id"),
        "Name of this node in tables and headers: 1 to 64 letters, digits, `-`, `_`, `.`.";
    "data_dir" --"data-dir", Text, Unset("`$STATE_DIRECTORY`, else `/var/lib/relayctl` if writable, else `$XDG_STATE_HOME/relayctl/<port>`"),
        "Directory of secrets, tokens and rendered files; locked, so that two nodes never share one.";
    "primary" --"primary", Text, Unset("this node is a primary"),
        "URL of the primary that this node joins.";
    "primary_ca" --"primary-ca", Text, Unset("what the system trusts, or the files of `SSL_CERT_FILE` and `SSL_CERT_DIR`"),
        "PEM file of the authorities that an `https` primary's certificate may also be signed by.";
    "token" --"token", Secret, Unset("generated once on a primary"),
        "Join token: on a relay the one it joins with, on a primary the one it accepts.";
    "join_token", Secret, Unset("the value of `token`"),
        "Join token that a primary accepts, taken as it is and reusable.";
    "insecure_join" --"insecure-join", Bool, Is("false"),
        "Join in clear text over addresses that are neither loopback nor private.";
    "source_password", Secret, Unset("generated once"),
        "Password of the user `source`, and of Shoutcast v1 sources.";
    "admin_password", Secret, Unset("generated once"),
        "Password of the user `admin`.";
    "relay_password", Secret, Unset("generated once"),
        "Password of the user `relay`: rendered relays of foreign servers log in with it.";

    "max_listeners" --"max-listeners", ANY, Is("0"),
        "Listeners that this node takes at most; 0 sets no limit beside descriptors and bandwidth.";
    "max_bandwidth" --"max-bandwidth", Rate, Is("0"),
        "Rate that this node sends at most, such as `900Mbit`; 0 sets no limit.";
    "limits.cpu", Text, Unset("no limit"),
        "Share of the processors in use (the machine's, or of the quota of this node's control group, as in a container), such as `85%`, above which this node sends newcomers on; it has to last three seconds.";
    "limits.address_listeners", ANY, Is("0"),
        "Listeners of one address at most (of IPv6: of one /64); 0 sets no limit. Further ones get 429.";
    "limits.address_joins", ANY, Unset("20, and none for loopback addresses"),
        "New listeners that one address (of IPv6: one /64) may bring a second, in the mean; 0 sets no limit. Addresses of `trusted_proxies` have none; behind them the client counts. Further ones get 429.";
    "limits.address_burst", Integer { min: 1, max: 10_000_000 }, Is("500"),
        "New listeners that one address may bring at once, after a while without any.";
    "max_sources", Integer { min: 1, max: 10_000 }, Is("64"),
        "Sources that this node takes at once at most.";
    "weight" --"weight", Integer { min: 1, max: 1_000 }, Is("100"),
        "Share of listeners in proportion to the weights of the other nodes.";
    "max_children", Integer { min: 0, max: 10_000 }, Is("16"),
        "Nodes that this node feeds at most; over it they ask another. 0 feeds nobody.";
    "region", Text, Unset("unknown"),
        "Where this node stands, such as `eu-west`: nodes of one region prefer each other as parents.";
    "strategy" --"strategy", Choice(Strategy::NAMES), Is("least-conn"),
        "How a node is chosen for a listener.";
    "serve" --"serve", Choice(Serve::NAMES), Is("auto"),
        "Whether a primary serves listeners itself: `auto` only while no relay can.";
    "mode" --"mode", Choice(Mode::NAMES), Is("redirect"),
        "How a listener reaches its audio: told where to go (`redirect`), its connection held here over this node's own ring (`proxy`), or held where the player is known, or seen, not to follow (`auto`).";
    "overflow_url", List, Unset("503 with `Retry-After`"),
        "Where listeners are sent for whom there is no place at all, at most one `http` and one `https` URL; never one of this cluster.";
    "engine" --"engine", Choice(Engine::NAMES), Is("embedded"),
        "What carries the audio: this program itself, or a real `icecast2` or Shoutcast `sc_serv` that it runs behind its data port.";
    "external" --"external", Text, Unset("this node's own engine"),
        "URL of an Icecast or Shoutcast server that runs already: listeners and sources are passed through to it; `engine` may say which of both it is.";
    "external_password", Secret, Unset("only what the server says to everybody"),
        "Password of the administration of the `external` server; the user is `admin`.";
    "forget", Duration, Is("10m"),
        "Time after which a dead node leaves table, metrics and totals, and a mount that has ended leaves the metrics.";
    "cluster.max_weight", Integer { min: 1, max: 1_000 }, Is("1000"),
        "On a primary: heaviest `weight` that a relay gets, whatever it says of itself.";
    "cluster.key_rotation", Duration, Is("24h"),
        "On a primary: time after which the key that signs redirects between nodes is replaced; the one before it is good for as long again.";

    "grace", Duration, Is("5s"),
        "Time that listeners have to leave after SIGTERM: they are closed evenly over it. In Kubernetes a little less than `terminationGracePeriodSeconds`.";

    "mounts", Tree(MOUNT), Unset("sources may use any path"),
        "Mounts with settings of their own; also a list of paths separated by commas.";
    "fallback", Text, Unset("listeners get a clean end"),
        "Mount that listeners of every mount without a `fallback` of its own go to when its source is gone for longer than `hold`.";
    "relay", Tree(RELAY), Unset("no foreign upstream"),
        "On a primary: Icecast and Shoutcast servers that it pulls from.";
    "pull.mounts", List, Is("*"),
        "Globs of the primary's mounts that a relay carries, such as `/talk/*`.";
    "pull.on_demand", Bool, Is("false"),
        "Pull a mount only while it has listeners.";

    "hold", Duration, Is("45s"),
        "Time that listeners are kept after the last byte of a lost source.";
    "ring", Duration, Is("60s"),
        "Audio that is kept of each mount; at least `burst.seconds` and 30 s. Also written `ring.seconds`.";
    "ring.max_bytes", Size, Is("32MiB"),
        "Memory that the audio of one mount takes at most.";
    "burst.bytes", Size, Is("64KiB"),
        "Audio that a new listener gets at once, at most in bytes.";
    "burst.seconds", Duration, Is("10s"),
        "Audio that a new listener gets at once, at most in time; at least 2 s.";
    "metaint", Integer { min: 256, max: 1_048_576 }, Is("16000"),
        "Bytes of audio between two titles for listeners that ask for titles.";
    "listener.stall", Duration, Is("30s"),
        "Time after which a listener whose socket took no byte is closed.";
    "source.timeout", Duration, Is("10s"),
        "Time without a byte after which a source is ended.";
    "source.stale", Duration, Is("5s"),
        "Time without a byte after which another source may take its mount over.";
    "source.silence", Duration, Is("30s"),
        "Time after which a source that sends silence is reported by metric and event; 0 is never.";
    "source.silence_level", Integer { min: 20, max: 120 }, Is("60"),
        "Decibels below full scale under which a source's sound counts as silence.";
    "source.silence_action", Choice(SilenceAction::NAMES), Is("none"),
        "What follows beside the report: `fallback` lets listeners of the silent mount hear its `fallback` until the sound is back.";
    "source.silence_end", Duration, Is("3s"),
        "Time of sound after which a silent source is one that sounds again.";
    "takeover", Bool, Is("false"),
        "Let a second source with the right password take over a mount that is live.";
    "fanout.threads", Integer { min: 0, max: 1_024 }, Is("0"),
        "Threads that send to listeners; 0 is one for each core.";
    "fanout.min_delay", Duration, Is("100ms"),
        "Time that bytes wait for company at most while the node is idle.";
    "fanout.max_delay", Duration, Is("1s"),
        "Time that bytes wait for company at most while the node is full.";
    "fanout.backend", Choice(Backend::NAMES), Is("auto"),
        "How sends to listeners reach the kernel: `io_uring` takes many in one call where the kernel allows it, `plain` always works.";

    "tls.cert", Text, Unset("no TLS on this node"),
        "PEM file of the certificate chain, the node's own first: with it the data port speaks TLS beside clear text.";
    "tls.key", Text, Unset("no TLS on this node"),
        "PEM file of the certificate's private key, without a passphrase.";
    "trusted_proxies", List, Is(""),
        "Networks (CIDR) whose `X-Forwarded-*` and PROXY headers are believed.";
    "shoutcast.program", Text, Is("sc_serv"),
        "Program that `engine: shoutcast` runs: a name in PATH, or a path.";
    "shoutcast.mount", Text, Is("/stream"),
        "Mount of a Shoutcast v1 source.";
    "shoutcast.port", Integer { min: 0, max: 65_535 }, Unset("the data port and one"),
        "Port of Shoutcast v1 sources on a primary; 0 is off, as it is where the data port is free.";
    "metrics.open", Choice(Open::NAMES), Is("auto"),
        "Whether metrics need no token: `auto` on loopback and private networks, unless the request comes by a proxy that is not in `trusted_proxies`.";
    "hosts", List, Is(""),
        "Names besides those of `public_url` under which browsers administer this node, such as `radio.lan` or `*.example.org`; addresses and `localhost` always count.";
    "admin.get_actions", Choice(GetActions::NAMES), Is("all"),
        "What a GET may do in the administration: `all` actions as in Icecast, `titles` only, which encoders set by GET, or `none`; a POST may do them all.";
    "log", Choice(Level::NAMES), Is("info"),
        "Level of the log on standard error.";
    "log_format", Choice(LogFormat::NAMES), Is("text"),
        "Form of the log: for people or as JSON lines.";
    "access_log.path", Text, Is("-"),
        "File of the lines about finished sessions; `-` is standard output, `off` writes none.";
    "access_log.format", Choice(AccessFormat::NAMES), Is("combined"),
        "Form of the lines about finished sessions.";

    "kubernetes.secret", Text, Unset("secrets stay in the data directory"),
        "In a pod: Secret that a primary completes with what it generated, and whose keys count as given.";
    "kubernetes.deletion_cost", Bool, Is("false"),
        "In a pod: a primary keeps `pod-deletion-cost` of its relays' pods at their listeners, so that a scale-in takes the emptiest.";

    "station.location", Text, Is("Earth"),
        "Where the station is, as Icecast's `location`.";
    "station.admin_email", Text, Is("icemaster@localhost"),
        "Whom to write to, as Icecast's `admin`.";

    "templates", Text, Unset("the built-in ones"),
        "Directory whose templates replace built-in ones of the same name.";
    "render.log_dir", Text, Is("/var/log/icecast2"),
        "Directory of the log files of a rendered server.";
    "icecast.program", Text, Is("icecast2"),
        "Program that `engine: icecast` runs: a name in PATH, or a path.";
    "icecast.clients", Integer { min: 1, max: 1_000_000 }, Unset("listeners, sources and 200 together"),
        "Connections at once in a rendered Icecast file; pages and checks count.";
    "icecast.queue_size", Size, Is("1MiB"),
        "Bytes that a client may lag in a rendered Icecast file.";
    "icecast.client_timeout", Duration, Is("30s"),
        "Time without progress of a client in a rendered Icecast file, in whole seconds.";
    "icecast.header_timeout", Duration, Is("15s"),
        "Time for a request's head in a rendered Icecast file, in whole seconds.";
    "icecast.master_update_interval", Duration, Is("5s"),
        "Pause between two looks at the primary in a rendered Icecast file, in whole seconds.";
    "icecast.base_dir", Text, Is("/usr/share/icecast2"),
        "Icecast's `basedir`; `web` and `admin` are expected in it.";
    "icecast.user", Text, Unset("no change of owner"),
        "User that an Icecast started as root changes to.";
    "icecast.group", Text, Unset("the group named like the user"),
        "Group that an Icecast started as root changes to.";
    "haproxy.bind", Address, Is(":80"),
        "Address and port of listeners in a rendered HAProxy file.";
    "haproxy.source_port", Integer { min: 0, max: 65_534 }, Is("8010"),
        "Port of sources (`mode tcp`) in a rendered HAProxy file, Shoutcast v1 on the next one; 0 is none.";
    "haproxy.stats_port", Integer { min: 0, max: 65_535 }, Is("0"),
        "Port of HAProxy's own statistics page, on loopback only; 0 is none.";
    "haproxy.user", Text, Is("haproxy"),
        "User and group that a rendered HAProxy changes to once it has its ports; `none` where it is not started as root.";
    "haproxy.expose", List, Unset("`/admin/metadata`, `/admin.cgi`, `/admin/streamlist.txt` and `/api/v1/nowplaying` alone"),
        "What else of the nodes' own paths a rendered HAProxy forwards: `admin`, `api`, `metrics`, `cluster`, `dashboard`.";
    "haproxy.servers", List, Unset("this node, or on a running primary the nodes of its table"),
        "`host:port` of each node in a rendered HAProxy file.";
    "haproxy.source_server", Text, Unset("the primary"),
        "`host:port` that takes sources in a rendered HAProxy file.";
};

/// What an entry of `mounts` may hold.
pub const MOUNT: &[Field] = fields! {
    "path", Text, "The mount, `/live.mp3`, or `service:/live.mp3`.";
    "content_type", Text, "Type that is announced whatever the source says.";
    "password", Secret, "On a primary: source password of this mount alone.";
    "max_listeners", ANY, "Listeners at most; 0 sets no limit.";
    "max_listener_duration", Duration, "Time after which a listener is ended; 0 is never.";
    "fallback", Text, "Mount that listeners go to when the source is gone for longer than `hold`.";
    "fallback_override", Bool, "Take listeners back when the source returns; default `true`.";
    "intro", Text, "File that is played before the stream, by an Icecast or Shoutcast server: `engine: embedded` refuses it.";
    "burst", Size, "Burst in bytes, instead of `burst.bytes`.";
    "metaint", Integer { min: 256, max: 1_048_576 }, "Bytes between two titles, instead of `metaint`.";
    "charset", Text, "Character set of titles that do not name one, by its WHATWG label (`windows-1251`); default UTF-8, and Latin-1 where that does not fit.";
    "public", Bool, "Announce the mount in directories; default what the source says.";
    "hidden", Bool, "Leave the mount out of public pages and lists; default `false`, on a relay what the primary says.";
    "name", Text, "`icy-name`, instead of the source's.";
    "description", Text, "`icy-description`, instead of the source's.";
    "genre", Text, "`icy-genre`, instead of the source's.";
    "url", Text, "`icy-url`, instead of the source's.";
};

/// What an entry of `relay` may hold.
pub const RELAY: &[Field] = fields! {
    "url", Text, "URL of the foreign stream.";
    "backup", List, "URLs that are tried in turn when the first fails.";
    "mount", Text, "Local mount; default the path of the URL.";
    "on_demand", Bool, "Pull only while there are listeners; default `false`.";
    "username", Text, "User; default `relay` where a password is given.";
    "password", Secret, "Password.";
    "metadata", Bool, "Ask for titles; default `true`.";
    "charset", Text, "Character set of the foreign server's titles, by its WHATWG label; default UTF-8, and Latin-1 where that does not fit.";
};

macro_rules! old {
    ($($name:literal $level:literal $sets:literal $doc:literal;)*) => {
        &[$(Old { name: $name, sets: $sets, platform: $level == 0, doc: $doc }),*]
    };
}

/// Names of the systems that relayctl replaces; level 0 stands below level 1.
pub const OLD: &[Old] = old! {
    "OPENSHIFT_SCS_PORT" 0 "bind.port" "As `portbase`.";
    "OPENSHIFT_SCS_IP" 0 "bind.address" "As `destip`.";
    "OPENSHIFT_APP_DNS" 0 "public_url.host" "As `publicip`.";
    "portbase" 1 "bind.port" "Data port; Shoutcast v1 sources on the next one.";
    "destip" 1 "bind.address" "Address to bind; `any` is all.";
    "publicip" 1 "public_url.host" "Host that listeners are told, with the data port.";
    "RelayServer" 1 "primary.host" "The primary's host or URL; its presence makes `run` a relay.";
    "RelayPort" 1 "primary.port" "The primary's port; default 80.";
    "password" 1 "source_password" "As `source_password`; also `password_FILE`.";
    "adminpassword" 1 "admin_password" "As `admin_password`; also `adminpassword_FILE`.";
    "maxuser" 1 "max_listeners" "As `max_listeners`.";
};

macro_rules! not_yet {
    ($($path:literal $(= $value:literal)?, $reason:literal;)*) => {
        &[$(NotYet { path: $path, value: not_yet!(@value $($value)?), reason: $reason }),*]
    };
    (@value) => { None };
    (@value $value:literal) => { Some($value) };
}

/// What the design names and nothing carries out yet.
pub const NOT_YET: &[NotYet] = not_yet! {
    "admin_bind", "a port of its own for metrics, API and admin is not built yet: they are on the data port";
    "services", "several services are not built yet: write mounts of one as `service:/path`";
    "static_backend", "pools of plain backends are not built yet: let relays join instead";
    "dynamic_backend", "pools of plain backends are not built yet: let relays join instead";
    "STATIC_BACKEND", "pools of plain backends are not built yet: let relays join instead";
    "DYNAMIC_BACKEND", "pools of plain backends are not built yet: let relays join instead";
};
