//! Foreign servers of every kind on loopback, what they are asked, and what arrives.

use std::sync::Mutex;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use crate::engine::{Mount, MountState};
use crate::upstream::testing::{
    FRAME, bytes_of, connector, engine, eventually, live, mp3, read_request, source,
};
use crate::wire::head::{Request, Version};
use crate::wire::icy::encode_title;

/// What a server does with one connection.
#[derive(Clone)]
enum Act {
    /// These bytes, and then it waits.
    Stay(Vec<u8>),
    /// These bytes, and then it closes.
    Close(Vec<u8>),
}

/// A server that does one act after the other, the last one ever again, and notes what it was asked.
struct Server {
    url: Url,
    asked: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    async fn start(acts: Vec<Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/live", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<Request>>> = Arc::default();
        let log = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut acts = acts.into_iter();
            let mut act = acts.next().unwrap();
            while let Ok((mut socket, _)) = listener.accept().await {
                let now = act.clone();
                act = acts.next().unwrap_or(act);
                let log = Arc::clone(&log);
                tokio::spawn(async move {
                    let request = read_request(&mut socket).await.unwrap();
                    log.lock().unwrap().push(request);
                    match now {
                        Act::Close(bytes) => socket.write_all(&bytes).await.unwrap(),
                        Act::Stay(bytes) => {
                            // The other end may leave in the middle.
                            let _ = socket.write_all(&bytes).await;
                            pending().await
                        }
                    }
                });
            }
        });
        Self {
            url: url.parse().unwrap(),
            asked,
        }
    }

    fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    fn request(&self, index: usize) -> Request {
        self.asked.lock().unwrap()[index].clone()
    }

    fn field(&self, index: usize, name: &str) -> Option<String> {
        self.request(index).headers.get(name).map(str::to_owned)
    }
}

struct Relay {
    engine: Arc<Engine>,
    wanted: watch::Sender<bool>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Relay {
    fn start(urls: &[&Url], change: impl FnOnce(&mut Foreign)) -> Self {
        let engine = engine();
        let mut foreign = Foreign {
            engine: Arc::clone(&engine),
            connector: connector(),
            config: ForeignConfig {
                urls: urls.iter().map(|&url| url.clone()).collect(),
                mount: live(),
                on_demand: false,
                login: None,
                metadata: true,
                charset: None,
            },
            pace: Pace {
                stall: Duration::from_secs(2),
                linger: Duration::from_millis(50),
                floor: Duration::from_millis(10),
                ceiling: Duration::from_millis(50),
                ..Pace::default()
            },
        };
        change(&mut foreign);
        let engine = Arc::clone(&foreign.engine);
        let (wanted, receiver) = watch::channel(false);
        let cancel = CancellationToken::new();
        Self {
            engine,
            wanted,
            task: tokio::spawn(foreign.run(receiver, cancel.clone())),
            cancel,
        }
    }

    /// The mount once it has `bytes` of audio, one frame at most still held back.
    async fn mount(&self, bytes: usize) -> Arc<Mount> {
        let least = (bytes - FRAME) as u64;
        let end = || {
            let mount = self.engine.mount(&live());
            mount.map_or(0, |mount| mount.ring().end())
        };
        eventually("the audio", || end() >= least).await;
        self.engine.mount(&live()).unwrap()
    }

    fn live(&self) -> bool {
        let mount = self.engine.mount(&live());
        mount.is_some_and(|mount| mount.state() == MountState::Live)
    }
}

fn assert_begins(mount: &Mount, audio: &[u8]) {
    let got = bytes_of(&mount.ring(), 0);
    assert!(
        !got.is_empty() && audio.starts_with(&got),
        "{} bytes",
        got.len()
    );
}

fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    [head.replace('\n', "\r\n").as_bytes(), b"\r\n\r\n", body].concat()
}

const OK: &str = "HTTP/1.0 200 OK\nContent-Type: audio/mpeg";

fn moved(to: &Url) -> Act {
    let head = format!("HTTP/1.0 302 Found\nLocation: {to}\nContent-Length: 0");
    Act::Close(answer(&head, b""))
}

#[tokio::test]
async fn a_shoutcast_server_with_titles() {
    let audio = mp3(0, 60);
    let metaint = 1000;
    let mut body = Vec::new();
    for (number, part) in audio.chunks(metaint).enumerate() {
        body.extend(part);
        match number {
            1 => body.extend(encode_title("First", None)),
            2 => body.extend(encode_title("First", None)),
            7 => {
                // As a server sends Latin-1.
                body.push(2);
                body.extend(*b"StreamTitle='Mot\xf6rhead - B';\0\0\0\0");
                assert_eq!(b"StreamTitle='Mot\xf6rhead - B';\0\0\0\0".len(), 32);
            }
            _ => body.push(0),
        }
    }
    let head =
        "ICY 200 OK\nicy-name: Rock\nIcy-Br: 128\nice-public: 1\nicy-metaint: 1000\nServer: DNAS";
    let server = Server::start(vec![Act::Stay(answer(head, &body))]).await;
    let relay = Relay::start(&[&server.url], |_| ());
    let mount = relay.mount(audio.len()).await;
    assert_begins(&mount, &audio);
    let titles: Vec<(u64, String)> = mount.ring().with_indexes(|i| {
        let titles = i.titles.iter();
        titles.map(|m| (m.offset, m.title.text.clone())).collect()
    });
    assert_eq!(titles.len(), 2, "{titles:?}");
    for ((offset, text), (at, expected)) in titles
        .iter()
        .zip([(2000, "First"), (8000, "Motörhead - B")])
    {
        assert_eq!(text, expected);
        // What is whole of the bytes before it.
        assert!(
            *offset <= at && *offset + 2 * FRAME as u64 > at,
            "{offset} {at}"
        );
    }
    let content = mount.content();
    assert_eq!(content.content_type, "audio/mpeg");
    let mut names: Vec<&str> = content.headers.iter().map(|(n, _)| n.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["ice-public", "icy-br", "icy-name"]);
    assert_eq!(mount.feeder().unwrap().agent, "DNAS");
    let request = server.request(0);
    assert_eq!(
        (request.version, request.target.as_str()),
        (Version::Http10, "/live")
    );
    assert_eq!(request.headers.get("icy-metadata"), Some("1"));
    let agent = request.headers.get("user-agent").unwrap();
    assert!(agent.starts_with("relayctl/") && agent.ends_with(" (Icecast relay)"));
    assert_eq!(request.headers.get("authorization"), None);
    relay.cancel.cancel();
    relay.task.await.unwrap();
    assert_eq!(mount.state(), MountState::Held);
}

#[tokio::test]
async fn a_chunked_answer_without_titles() {
    let audio = mp3(0, 40);
    let mut body = Vec::new();
    for part in audio.chunks(777) {
        body.extend(format!("{:x};x=y\r\n", part.len()).bytes());
        body.extend(part);
        body.extend(b"\r\n");
    }
    let head = "HTTP/1.1 200 OK\nContent-Type: audio/mpeg\nTransfer-Encoding: chunked";
    let server = Server::start(vec![Act::Stay(answer(head, &body))]).await;
    let relay = Relay::start(&[&server.url], |foreign| foreign.config.metadata = false);
    let mount = relay.mount(audio.len()).await;
    assert_begins(&mount, &audio);
    assert_eq!(server.field(0, "icy-metadata"), None);
    assert_eq!(mount.counters.skipped_bytes(), 0);
}

#[tokio::test]
async fn credentials_go_where_they_belong_only() {
    let audio = mp3(0, 20);
    let end = Server::start(vec![Act::Stay(answer(OK, &audio))]).await;
    let first = Server::start(vec![
        Act::Close(answer(
            "HTTP/1.1 301 Moved Permanently\nLocation: other?x=1",
            b"",
        )),
        moved(&end.url),
    ])
    .await;
    let login = Some(("relay".to_owned(), Secret::new("pass")));
    let relay = Relay::start(&[&first.url], |foreign| foreign.config.login = login);
    relay.mount(audio.len()).await;
    let basic = Some("Basic cmVsYXk6cGFzcw==".to_owned());
    assert_eq!(first.field(0, "authorization"), basic);
    assert_eq!(first.request(1).target, "/other?x=1");
    assert_eq!(first.field(1, "authorization"), basic);
    assert_eq!(end.field(0, "authorization"), None);
    let host = end.url.port().map(|port| format!("127.0.0.1:{port}"));
    assert_eq!(end.field(0, "host"), host);
    // Those in a URL are its own.
    let mut url = end.url.clone();
    url.set_username("me").unwrap();
    url.set_password(Some("p%40ss")).unwrap();
    let other = Relay::start(&[&url], |_| ());
    other.mount(audio.len()).await;
    let basic = Some("Basic bWU6cEBzcw==".to_owned());
    assert_eq!(end.field(1, "authorization"), basic);
}

#[tokio::test]
async fn five_redirects_are_followed_and_no_more() {
    let audio = mp3(0, 20);
    let end = Server::start(vec![Act::Stay(answer(OK, &audio))]).await;
    let mut acts: Vec<Act> = (0..4)
        .map(|n| Act::Close(answer(&format!("HTTP/1.0 302 Found\nLocation: /{n}"), b"")))
        .collect();
    acts.push(moved(&end.url));
    let chain = Server::start(acts).await;
    let relay = Relay::start(&[&chain.url], |_| ());
    relay.mount(audio.len()).await;
    assert_eq!((chain.count(), end.count()), (5, 1));
    let circle = Server::start(vec![Act::Close(answer(
        "HTTP/1.0 302 Found\nLocation: /again",
        b"",
    ))])
    .await;
    let relay = Relay::start(&[&circle.url, &end.url], |_| ());
    relay.mount(audio.len()).await;
    assert_eq!(circle.count(), 6);
}

#[tokio::test]
async fn a_backup_takes_over_and_the_first_is_tried_again() {
    let audio = mp3(0, 20);
    let refused = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed: Url = format!("http://{}/", refused.local_addr().unwrap())
        .parse()
        .unwrap();
    drop(refused);
    let missing = Server::start(vec![Act::Close(answer("HTTP/1.0 404 Not Found", b"no"))]).await;
    let page = Server::start(vec![Act::Close(answer(
        "HTTP/1.0 200 OK\nContent-Type: text/html",
        b"<html>",
    ))])
    .await;
    let list = Server::start(vec![Act::Close(answer(
        "HTTP/1.0 200 OK\nContent-Type: audio/x-mpegurl",
        b"http://x",
    ))])
    .await;
    let garbage = Server::start(vec![Act::Stay(answer(OK, &[0x55; 70_000]))]).await;
    let silent = Server::start(vec![Act::Stay(answer(OK, b""))]).await;
    let good = Server::start(vec![
        Act::Close(answer(OK, &audio)),
        Act::Stay(answer(OK, &audio)),
    ])
    .await;
    let urls = [
        &closed,
        &missing.url,
        &page.url,
        &list.url,
        &garbage.url,
        &silent.url,
        &good.url,
    ];
    let relay = Relay::start(&urls, |_| ());
    // It closes at once: that was no audio to speak of, and everything begins again at the first.
    eventually("the second round", || good.count() == 2).await;
    for server in [&missing, &page, &list, &garbage, &silent] {
        assert_eq!(server.count(), 2, "{}", server.url);
    }
    let mount = relay.mount(audio.len()).await;
    // The frames of the first connection are whole, those of the second follow them in the same epoch.
    let got = bytes_of(&mount.ring(), 0);
    assert!(got.len().is_multiple_of(FRAME) && got.starts_with(&audio[..FRAME * 10]));
}

#[tokio::test]
async fn on_demand_starts_and_stops() {
    let audio = mp3(0, 20);
    let server = Server::start(vec![Act::Stay(answer(OK, &audio))]).await;
    let relay = Relay::start(&[&server.url], |foreign| foreign.config.on_demand = true);
    assert_eq!(server.count(), 0);
    relay.wanted.send_replace(true);
    relay.mount(audio.len()).await;
    assert_eq!(server.count(), 1);
    relay.wanted.send_replace(false);
    eventually("let go", || !relay.live()).await;
    let held = relay.engine.mount(&live()).unwrap();
    assert_eq!(held.state(), MountState::Held);
    relay.wanted.send_replace(true);
    eventually("begun again", || relay.live() && server.count() == 2).await;
    relay.cancel.cancel();
    relay.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn demand_lingers() {
    let (wanted, receiver) = watch::channel(false);
    let mut demand = Demand {
        wanted: receiver,
        on_demand: true,
        linger: Duration::from_secs(30),
        unwanted_since: None,
    };
    let begin = Instant::now();
    demand.ends().await;
    assert_eq!(begin.elapsed(), Duration::from_secs(30));
    wanted.send_replace(true);
    demand.begins().await;
    let seconds = |n| tokio::time::sleep(Duration::from_secs(n));
    let changes = async {
        seconds(100).await;
        wanted.send_replace(false);
        seconds(20).await;
        wanted.send_replace(true);
        seconds(50).await;
        wanted.send_replace(false);
        pending::<()>().await;
    };
    let begin = Instant::now();
    tokio::select! {
        () = demand.ends() => {}
        () = changes => {}
    }
    assert_eq!(begin.elapsed(), Duration::from_secs(200));
}

#[tokio::test]
async fn another_source_goes_first() {
    let audio = mp3(0, 20);
    let server = Server::start(vec![Act::Stay(answer(OK, &audio))]).await;
    let engine = engine();
    let intake = source(&engine);
    let shared = Arc::clone(&engine);
    let relay = Relay::start(&[&server.url], |foreign| foreign.engine = shared);
    tokio::task::yield_now().await;
    assert_eq!(server.count(), 0);
    drop(intake);
    relay.mount(audio.len()).await;
    assert_eq!(server.count(), 1);
    // And one that takes the mount over later is left alone.
    let offer = crate::engine::Offer {
        content_type: "audio/mpeg".into(),
        headers: vec![],
        address: [127, 0, 0, 1].into(),
        agent: "encoder".into(),
        stale: Duration::ZERO,
    };
    let encoder = engine.open_source(&live(), offer).unwrap();
    let sources = engine.sources();
    assert_eq!((sources.len(), sources[0].1.agent.as_str()), (1, "encoder"));
    drop(encoder);
    eventually("back again", || server.count() == 2).await;
}

#[test]
fn turns_begin_at_the_first() {
    let pace = Pace::default();
    let mut turn = Turn::new(&pace);
    let failed = Left::Failed(String::new());
    assert_eq!(turn.after(&failed, false, 3), None);
    assert_eq!(turn.after(&Left::Stalled, true, 3), None);
    assert_eq!(turn.index, 2);
    // A good one that closes: the first is asked again, after the shortest wait.
    let wait = turn.after(&failed, true, 3).unwrap();
    assert!(turn.index == 0 && wait <= pace.floor && wait >= pace.floor / 2);
    for round in 0..8_u32 {
        assert_eq!(turn.after(&failed, false, 2), None);
        let wait = turn.after(&failed, false, 2).unwrap();
        let full = Duration::from_millis((200_u64 << round).min(5000));
        assert!(wait <= full && wait >= full / 2, "{round}: {wait:?}");
    }
    turn.index = 1;
    assert!(turn.after(&Left::Evicted, false, 2).is_some());
    assert_eq!(turn.index, 1);
}
