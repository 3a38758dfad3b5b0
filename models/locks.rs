// SPDX-License-Identifier: MIT OR Apache-2.0
//! Protocol (e): the lock, the wait queue, the reader-writer lock and the fences of src/sync.

use mmu_notifier::sync::hook::WaitReason::MMU_NOTIFIER_WAIT_LOCK as WHY;
use mmu_notifier::sync::{AtomicU32, Lock, Ordering, WaitQueue, fence, rw_semaphore};

use crate::tools::{Memory, Model, exhaustive, join, shared, spawn, up_to};

pub const MODELS: &[Model] = &[
    exhaustive("locks::lock", lock),
    up_to("locks::lock_three", lock_three, [Some(4), Some(6)]),
    up_to("locks::fork", fork, [Some(3), Some(5)]),
    up_to("locks::wait_queue", wait_queue, [Some(4), Some(6)]),
    up_to("locks::wait_queue_two", wait_queue_two, [Some(3), Some(4)]),
    exhaustive("locks::wait_queue_freed", wait_queue_freed),
    exhaustive("locks::writers", writers),
    up_to(
        "locks::readers_and_writers",
        readers_and_writers,
        [Some(3), Some(4)],
    ),
    up_to("locks::downgrade", downgrade, [Some(3), Some(4)]),
    exhaustive("locks::fences", fences),
];

/// Two threads, twice each: what one did under the lock is there for the next, and nobody sleeps for ever.
fn lock() {
    exclusion(1, 2);
}

/// Three threads, once each: a sleeper is woken by whoever leaves, also when another one came in between.
fn lock_three() {
    exclusion(2, 1);
}

fn exclusion(others: u64, rounds: u64) {
    let place = shared((Lock::new(0), Memory::new()));
    let work = {
        let place = place.clone();
        move || {
            for _ in 0..rounds {
                let mut count = place.0.lock();
                *count += 1;
                place.1.write(place.1.read() + 1);
                drop(count);
            }
        }
    };
    let threads: Vec<_> = (0..others).map(|_| spawn(work.clone())).collect();
    work();
    join(threads);
    assert_eq!(*place.0.lock(), (others + 1) * rounds);
    assert_eq!(place.1.read(), (others + 1) * rounds);
}

/// fork holds the lock and waits for one of malloc's, whose holder wants the lock and does not wait for fork: it leaves word, which
/// fork finds. A third thread takes the lock as always.
fn fork() {
    let place = shared((Lock::new(0_u32), Lock::new(()), AtomicU32::new(0)));
    let (inside, other) = (place.clone(), place.clone());
    let inside_free = spawn(move || {
        let malloc = inside.1.lock();
        loop {
            if let Some(mut told) = inside.0.lock_unless_forking() {
                *told += 1;
                break;
            }
            inside.2.store(1, Ordering::Relaxed);
            if inside.0.is_forking() {
                break;
            }
        }
        drop(malloc);
    });
    let other = spawn(move || drop(other.0.lock()));
    place.0.acquire_for_fork();
    drop(place.1.lock());
    // SAFETY: Taken above.
    unsafe { place.0.release_after_fork() };
    let word = place.2.swap(0, Ordering::Relaxed);
    join(vec![inside_free, other]);
    // It was told, or has left word in time; who could take the lock after all may have done both.
    assert!(*place.0.lock() + word > 0, "nobody was told");
}

/// A sleeper sees the change that it waits for, and is woken by it, there and back.
fn wait_queue() {
    let place = shared((Lock::new(0_u32), WaitQueue::new(), Memory::new()));
    let turn = |place: &(Lock<u32>, WaitQueue, Memory), mine: u32| {
        let mut now = place.0.lock();
        while *now != mine {
            now = place.1.wait(now, WHY);
        }
        place.2.write(place.2.read() + 1);
        *now += 1;
        place.1.wake_all(now, WHY);
    };
    let other = spawn({
        let place = place.clone();
        move || turn(&place, 1)
    });
    turn(&place, 0);
    turn(&place, 2);
    join([other]);
    assert_eq!(place.2.read(), 3);
}

/// All sleepers are woken by one call.
fn wait_queue_two() {
    let place = shared((Lock::new(false), WaitQueue::new()));
    let sleep = {
        let place = place.clone();
        move || {
            let mut set = place.0.lock();
            while !*set {
                set = place.1.wait(set, WHY);
            }
        }
    };
    let sleepers = [spawn(sleep.clone()), spawn(sleep)];
    let mut set = place.0.lock();
    *set = true;
    place.1.wake_all(set, WHY);
    join(sleepers);
}

/// Who is woken may free the queue and its lock.
fn wait_queue_freed() {
    let place = Box::into_raw(Box::new((Lock::new(false), WaitQueue::new())));
    let sleeper = spawn(move || {
        // SAFETY: Freed below, by this thread.
        let (lock, queue) = unsafe { &*place };
        let mut set = lock.lock();
        while !*set {
            set = queue.wait(set, WHY);
        }
        drop(set);
        // SAFETY: The other thread has said that it is done.
        drop(unsafe { Box::from_raw(place) });
    });
    // SAFETY: Freed after `set` became true.
    let (lock, queue) = unsafe { &*place };
    let mut set = lock.lock();
    *set = true;
    queue.wake_all(set, WHY);
    join([sleeper]);
}

fn write(place: &(rw_semaphore, Memory)) {
    place.0.write_lock(WHY);
    place.1.write(place.1.read() + 1);
    place.0.write_unlock(WHY).expect("held");
}

fn read(place: &(rw_semaphore, Memory)) {
    place.0.read_lock(WHY);
    place.1.read();
    place.0.read_unlock(WHY).expect("held");
}

/// ML-5: writers exclude each other, and see what earlier ones did.
fn writers() {
    let place = shared((rw_semaphore::new(), Memory::new()));
    let other = spawn({
        let place = place.clone();
        move || write(&place)
    });
    write(&place);
    join([other]);
    assert_eq!(place.1.read(), 2);
    assert!(!place.0.is_locked());
}

/// ML-5: readers, a writer, and a reader that only tries.
fn readers_and_writers() {
    let place = shared((rw_semaphore::new(), Memory::new()));
    let writer = spawn({
        let place = place.clone();
        move || write(&place)
    });
    let reader = spawn({
        let place = place.clone();
        move || read(&place)
    });
    if place.0.try_read_lock() {
        place.1.read();
        place.0.read_unlock(WHY).expect("held");
    }
    join([writer, reader]);
    assert!(place.0.try_write_lock(), "everybody has left");
    assert_eq!(place.1.read(), 1);
}

/// ML-5: no writer comes between a downgrade and its read_unlock; readers may, and a waiting reader is woken by it.
fn downgrade() {
    let place = shared((rw_semaphore::new(), Memory::new()));
    let writer = spawn({
        let place = place.clone();
        move || write(&place)
    });
    let reader = spawn({
        let place = place.clone();
        move || read(&place)
    });
    place.0.write_lock(WHY);
    let before = place.1.read() + 1;
    place.1.write(before);
    place.0.downgrade(WHY).expect("held");
    assert_eq!(place.1.read(), before);
    place.0.read_unlock(WHY).expect("held");
    join([writer, reader]);
    assert_eq!(place.1.read(), 2);
}

/// The light and the heavy side: each stores, then looks for the other's store. Not both miss it.
fn fences() {
    let words = shared([const { AtomicU32::new(0) }; 2]);
    let seen = shared([const { AtomicU32::new(0) }; 2]);
    let light = spawn({
        let (words, seen) = (words.clone(), seen.clone());
        move || {
            words[0].store(1, Ordering::Relaxed);
            fence::light();
            seen[0].store(words[1].load(Ordering::Relaxed), Ordering::Relaxed);
        }
    });
    words[1].store(1, Ordering::Relaxed);
    fence::heavy();
    let mine = words[0].load(Ordering::Relaxed);
    join([light]);
    assert!(mine + seen[0].load(Ordering::Relaxed) > 0, "both missed");
}
