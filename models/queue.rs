// SPDX-License-Identifier: MIT OR Apache-2.0
//! Protocol (g): the queue of events (`src/live/queue.rs`), written and read without locks.

use mmu_notifier::live::queue::{Event, Queue};
use mmu_notifier::sync::model::expire;

use crate::tools::{Memory, Model, join, shared, spawn, up_to};

pub const MODELS: &[Model] = &[
    up_to("queue::sleep", sleep, [Some(3), None]),
    up_to("queue::writers", writers, [Some(2), Some(3)]),
    up_to("queue::room", room, [Some(2), Some(3)]),
    up_to("queue::close", close, [Some(3), None]),
];

fn event(cookie: u64) -> Event {
    Event {
        cookie,
        start: cookie,
        end: cookie + 1,
        event: 0,
    }
}

fn queue(capacity: usize) -> Queue {
    Queue::new(capacity).expect("memory")
}

/// A reader that sleeps is woken, and sees what the writer did before.
fn sleep() {
    let place = shared((queue(2), Memory::new()));
    let writer = spawn({
        let place = place.clone();
        move || {
            place.1.write(1);
            assert!(place.0.push(event(7)));
        }
    });
    assert_eq!(place.0.wait(None), Some(event(7)));
    assert_eq!(place.1.read(), 1);
    join([writer]);
}

/// Two writers: both events arrive, whole.
fn writers() {
    let place = shared(queue(2));
    let writers: Vec<_> = (1..3)
        .map(|cookie| {
            let place = place.clone();
            spawn(move || assert!(place.push(event(cookie))))
        })
        .collect();
    let mut seen = [0; 2];
    for cookie in &mut seen {
        let got = place.wait(None).expect("open");
        assert_eq!(got, event(got.cookie), "torn");
        *cookie = got.cookie;
    }
    seen.sort_unstable();
    assert_eq!(seen, [1, 2]);
    join(writers);
}

/// A writer that comes round finds the slot read, or is told that there is no room; then the reader's time is over.
fn room() {
    let place = shared(queue(2));
    let writer = spawn({
        let place = place.clone();
        move || {
            assert!(place.push(event(1)) && place.push(event(2)));
            let put = place.push(event(3));
            assert_eq!(place.lost(), u64::from(!put));
            expire();
        }
    });
    for cookie in 1..3 {
        assert_eq!(place.wait(None), Some(event(cookie)), "torn");
    }
    let third = place.wait(Some(1));
    join([writer]);
    let wanted = (place.lost() == 0).then_some(event(3));
    assert_eq!(
        third.or_else(|| place.pop()),
        wanted,
        "lost in silence, or torn"
    );
    assert!(place.push(event(9)), "no room, although all was read");
}

/// A reader that sleeps is woken by the end.
fn close() {
    let place = shared(queue(1));
    let closer = spawn({
        let place = place.clone();
        move || place.close()
    });
    assert_eq!(place.wait(None), None);
    join([closer]);
}
