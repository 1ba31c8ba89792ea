use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use super::queue::{Job, Next, Queue, Verdict};
use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn job(queue: &mut Queue, now: Instant) -> Job {
    match queue.next(now) {
        Next::Write(job) => job,
        other => panic!("{other:?}"),
    }
}

fn failed(why: &str) -> Result<(), String> {
    Err(why.to_owned())
}

#[test]
fn the_newest_state_wins_and_one_write_serves_all_who_came_before_it() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    let first = queue.put("a", b"1".to_vec());
    let write = job(&mut queue, now);
    assert_eq!(&*write.content, b"1");
    let (second, third) = (queue.put("a", b"2".to_vec()), queue.put("a", b"3".to_vec()));
    assert_eq!(queue.outcome("a", first), None);
    queue.written(&write, Ok(()), now);
    assert_eq!(queue.outcome("a", first), Some(Ok(())));
    assert_eq!(queue.outcome("a", second), None);
    let write = job(&mut queue, now);
    assert_eq!(&*write.content, b"3");
    queue.written(&write, Ok(()), now);
    assert_eq!(queue.outcome("a", second), Some(Ok(())));
    assert_eq!(queue.outcome("a", third), Some(Ok(())));
    assert_eq!(queue.next(now), Next::Wait(None));
}

#[test]
fn a_failure_is_the_answer_and_is_tried_again() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    let asked = queue.put("a", b"1".to_vec());
    let write = job(&mut queue, now);
    let said = queue.written(&write, failed("full"), now);
    assert_eq!(said, Verdict::Fails("full".into()));
    assert_eq!(queue.outcome("a", asked), Some(failed("full")));
    assert_eq!(queue.next(now), Next::Wait(Some(SECOND)));
    assert_eq!(queue.unsaved(), ["a"]);
    // Who asks now waits for a try of now, not for the failure of before.
    let again = queue.newest("a");
    assert_eq!(queue.outcome("a", again), None);
    let write = job(&mut queue, now);
    assert_eq!(queue.written(&write, Ok(()), now), Verdict::Recovered);
    assert_eq!(queue.outcome("a", again), Some(Ok(())));
    assert_eq!(queue.outcome("a", asked), Some(Ok(())));
}

#[test]
fn the_failure_of_an_older_state_is_no_answer_for_a_newer_one() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    queue.put("a", b"1".to_vec());
    let write = job(&mut queue, now);
    let newer = queue.put("a", b"2".to_vec());
    queue.written(&write, failed("full"), now);
    assert_eq!(queue.outcome("a", newer), None);
    let write = job(&mut queue, now + SECOND);
    assert_eq!(&*write.content, b"2");
}

#[test]
fn a_failure_that_lasts_is_said_once_a_minute() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    queue.put("a", Vec::new());
    let mut said = 0;
    for second in 0..=120 {
        let now = now + SECOND * second;
        let write = job(&mut queue, now);
        said += u32::from(queue.written(&write, failed("full"), now) != Verdict::Unremarkable);
    }
    assert_eq!(said, 3);
}

#[test]
fn a_file_that_changes_all_the_time_keeps_no_other_waiting() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    queue.put("b", Vec::new());
    let mut order = Vec::new();
    for _ in 0..3 {
        queue.put("a", Vec::new());
        let write = job(&mut queue, now);
        order.push(write.file);
        queue.written(&write, Ok(()), now);
    }
    assert_eq!(order, ["a", "b", "a"]);
}

#[test]
fn at_the_end_each_state_is_tried_once_more() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    queue.put("a", Vec::new());
    let write = job(&mut queue, now);
    queue.written(&write, failed("full"), now);
    queue.close();
    let write = job(&mut queue, now);
    queue.written(&write, failed("full"), now);
    assert_eq!(queue.next(now), Next::End);
}

type Written = Arc<Mutex<Vec<Vec<u8>>>>;

/// A store that keeps what it is given, says when it begins, and waits for a word before each write.
fn store(words: mpsc::Receiver<()>, begins: mpsc::Sender<()>) -> (Store, Written) {
    let written = Written::default();
    let (log, words) = (Arc::clone(&written), Mutex::new(words));
    let store: Store = Box::new(move |_, content| {
        let _ = begins.send(());
        let word = words.lock().unwrap().recv();
        word.map_err(|_| "gone".to_owned())?;
        log.lock().unwrap().push(content.to_vec());
        Ok(())
    });
    (store, written)
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_holds_up_nobody_longer_than_five_seconds() {
    let (word, words) = mpsc::channel();
    let (begins, begun) = mpsc::channel();
    let (store, written) = store(words, begins);
    let disk = Disk::new(Some(store));
    let saving = disk.save_bytes("a", b"1".to_vec());
    begun.recv().unwrap();
    let began = tokio::time::Instant::now();
    let asked = saving.on_disk().await;
    assert_eq!(asked, Err(SaveError::Slow { file: "a" }));
    let waited = began.elapsed();
    assert!((PATIENCE..PATIENCE * 2).contains(&waited), "{waited:?}");
    // Nothing else waits for it, however often something changes.
    for _ in 0..1_000 {
        disk.save_bytes("a", b"2".to_vec()).later();
    }
    tokio::time::resume();
    for _ in 0..3 {
        word.send(()).unwrap();
    }
    assert_eq!(disk.newest("a").on_disk().await, Ok(()));
    assert_eq!(*written.lock().unwrap(), [b"1".to_vec(), b"2".to_vec()]);
}

#[tokio::test]
async fn who_was_answered_finds_the_change_in_the_file() {
    let file: Arc<Mutex<Vec<u8>>> = Arc::default();
    let writes = Arc::new(AtomicUsize::new(0));
    let (kept, count) = (Arc::clone(&file), Arc::clone(&writes));
    let disk = Arc::new(Disk::new(Some(Box::new(move |_, content| {
        count.fetch_add(1, Ordering::Relaxed);
        *kept.lock().unwrap() = content.to_vec();
        Ok(())
    }))));
    let state: Arc<Mutex<Vec<u64>>> = Arc::default();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..200 {
        let (disk, state, file) = (Arc::clone(&disk), Arc::clone(&state), Arc::clone(&file));
        tasks.spawn(async move {
            let saving = {
                let mut state = state.lock().unwrap();
                state.push(number);
                disk.save("a", &*state)
            };
            saving.on_disk().await.unwrap();
            let known: Vec<u64> = serde_json::from_slice(&file.lock().unwrap()).unwrap();
            assert!(known.contains(&number), "{number}");
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert!(writes.load(Ordering::Relaxed) <= 200);
}

#[tokio::test]
async fn nothing_is_kept_where_nothing_can_be_written() {
    let disk = Disk::new(None);
    let asked = disk.save("a", &1).on_disk().await;
    assert_eq!(asked, Err(SaveError::ReadOnly { file: "a" }));
    disk.settle().await;
}

#[tokio::test]
async fn the_end_of_the_owner_waits_for_the_disk() {
    let fails = Arc::new(AtomicBool::new(true));
    let is_full = Arc::clone(&fails);
    let disk = Disk::new(Some(Box::new(move |_, _| {
        match is_full.load(Ordering::Relaxed) {
            true => failed("full"),
            false => Ok(()),
        }
    })));
    let asked = disk.save("a", &1).on_disk().await;
    let why = "full".to_owned();
    assert_eq!(asked, Err(SaveError::Failed { file: "a", why }));
    fails.store(false, Ordering::Relaxed);
    disk.settle().await;
    assert!(disk.shared.as_ref().unwrap().lock().unsaved().is_empty());
}
