//! The queue of events, filled by the process's own system calls.
#![expect(unsafe_code, reason = "system calls")]

use mmu_notifier::live;
use mmu_notifier::live::epoch::{self, Cause};
use mmu_notifier::live::queue::Queue;

const PAGE: usize = 4096;

fn new_pages(count: usize) -> *mut libc::c_void {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: A new mapping touches nothing that exists.
    let pages = unsafe { libc::mmap(std::ptr::null_mut(), count * PAGE, access, flags, -1, 0) };
    assert_ne!(pages, libc::MAP_FAILED);
    pages
}

/// Two threads unmap; this one reads of each call, in its thread's order.
#[test]
fn a_reader_hears_of_the_process_s_own_calls() {
    if let Err(error) = live::enable(0) {
        println!("SKIP: no live events on this machine: {error}");
        return;
    }
    let queue = Queue::new(1024).expect("memory");
    let threads: Vec<_> = (0..2_u64)
        .map(|thread| {
            let queue = queue.clone();
            std::thread::spawn(move || {
                for round in 0..100 {
                    let pages = new_pages(2);
                    let start = pages.addr() as u64;
                    let watch = queue
                        .watch(start, PAGE as u64, thread << 32 | round)
                        .expect("inserted");
                    let seq = watch.read_begin().expect("outside callbacks");
                    // SAFETY: Ours, and not used any more.
                    assert_eq!(unsafe { libc::munmap(pages, 2 * PAGE) }, 0);
                    assert!(watch.read_retry(seq));
                }
            })
        })
        .collect();
    let mut next = [0, 0];
    while next != [100, 100] {
        let event = queue.wait(Some(20_000)).expect("an event of each call");
        let (thread, round) = ((event.cookie >> 32) as usize, event.cookie & 0xffff_ffff);
        // Once more, if the other thread got the same place and left it before the watch was removed.
        let again = round + 1 == next[thread];
        assert!(round == next[thread] || again, "in each thread's order");
        next[thread] = round + 1;
        assert_eq!((event.end - event.start, event.event), (2 * PAGE as u64, 0));
    }
    threads
        .into_iter()
        .for_each(|thread| thread.join().expect("no panic"));
    assert_eq!((queue.lost(), epoch::count(Cause::Overflow)), (0, 0));
    live::disable().expect("outside callbacks");
}
