// SPDX-License-Identifier: MIT OR Apache-2.0
//! Protocol (f): what is in the net (`live::net::cover`), between calls that are announced and who subscribes. An announced call is not
//! noticed, and in the end all that is watched is in the net.

use std::rc::Rc;

use mmu_notifier::abi::mm::mm_struct;
use mmu_notifier::live::net::cover::{Cover, Kernel};
use mmu_notifier::mm;
use mmu_notifier::mm::calls::Call;
use mmu_notifier::sync::model::Thread;
use mmu_notifier::sync::{AtomicU32, Ordering};

use crate::calls::{Driver, PAGE, live, range_of};
use crate::tools::{Model, join, shared, spawn, up_to};

pub const MODELS: &[Model] = &[
    up_to("cover::insert", insert, [Some(1), Some(2)]),
    up_to("cover::insert_beside", insert_beside, [Some(1), Some(2)]),
    up_to("cover::windows", windows, [Some(1), Some(2)]),
    up_to("cover::remove", remove, [Some(2), Some(3)]),
    up_to("cover::spread", spread, [Some(2), Some(3)]),
];

const PAGES: usize = 4;

/// Which pages the kernel notices changes of.
#[derive(Default)]
struct Pages([AtomicU32; PAGES]);

impl Pages {
    fn set(&self, start: u64, end: u64, to: u32) {
        let touched = (start / PAGE) as usize..((end / PAGE) as usize).min(PAGES);
        self.0[touched].iter().for_each(|page| {
            page.swap(to, Ordering::AcqRel);
        });
    }

    fn is_armed(&self, page: u64) -> bool {
        self.0[page as usize].fetch_add(0, Ordering::AcqRel) != 0
    }
}

/// The kernel of one execution.
struct Machine(Rc<Pages>);

impl Kernel for Machine {
    fn arm(&self, start: u64, end: u64) {
        self.0.set(start, end, 1);
    }

    fn disarm(&self, start: u64, end: u64) {
        self.0.set(start, end, 0);
    }
}

/// An address space with a net.
#[derive(Clone)]
struct Net {
    mm: *mut mm_struct,
    cover: Rc<Cover<Machine>>,
    pages: Rc<Pages>,
}

impl Net {
    fn new(threads: usize) -> Self {
        Self {
            mm: live(threads),
            cover: shared(Cover::new()),
            pages: shared(Pages::default()),
        }
    }

    fn spread(&self) {
        self.cover.begin(Machine(self.pages.clone()));
    }

    fn insert(&self, driver: &Driver) {
        driver.insert(self.mm);
        let (start, last) = bytes(driver);
        self.cover.inserted(start, last);
    }

    fn remove(&self, driver: &Driver) {
        // SAFETY: Inserted.
        unsafe { mm::remove(driver.sub()) }.expect("outside callbacks");
        let (start, last) = bytes(driver);
        self.cover.removed(start, last);
    }

    /// A system call that changes these pages: what `live::events::hook` does.
    fn change(&self, first: u64, last: u64) {
        let call = Call::enter(0);
        let mut range = range_of(self.mm, first);
        range.end = (last + 1) * PAGE;
        let ranges = [range];
        if !call.is_watched(range.start, range.end) {
            call.leave();
            return;
        }
        // SAFETY: The subscribers of this file.
        let pair = unsafe { call.announce(|| &ranges) }.expect("subscriptions");
        self.cover.change(&ranges, || {
            let noticed = (first..=last).any(|page| self.pages.is_armed(page));
            assert!(!noticed, "noticed as well");
        });
        // SAFETY: As above.
        unsafe { pair.end() };
    }

    /// Somebody who subscribes to a page.
    fn comer(&self, page: u64) -> Thread {
        let net = self.clone();
        spawn(move || net.insert(Driver::make(page)))
    }

    /// In the end.
    fn check(&self, watched: &[u64]) {
        for page in watched {
            assert!(self.pages.is_armed(*page), "watched, and not in the net");
        }
    }
}

fn bytes(driver: &Driver) -> (u64, u64) {
    (driver.number * PAGE, (driver.number + 1) * PAGE - 1)
}

/// Somebody subscribes to what an announced call changes.
fn insert() {
    let net = Net::new(2);
    net.spread();
    net.insert(Driver::make(1));
    let comes = net.comer(1);
    net.change(1, 1);
    join([comes]);
    net.check(&[1]);
}

/// The same to a part of it that nobody watched: the insert may be deferred, and it is not the call's to arm, unless it looks.
fn insert_beside() {
    let net = Net::new(2);
    net.spread();
    net.insert(Driver::make(1));
    let comes = net.comer(2);
    net.change(1, 2);
    join([comes]);
    net.check(&[1, 2]);
}

/// Two announced calls change the same page.
fn windows() {
    let net = Net::new(2);
    net.spread();
    for page in [1, 2, 3] {
        net.insert(Driver::make(page));
    }
    let beside = net.clone();
    let call = spawn(move || beside.change(1, 2));
    net.change(2, 3);
    join([call]);
    net.check(&[1, 2, 3]);
}

/// One of two who watch a page leaves, while another comes.
fn remove() {
    let net = Net::new(2);
    net.spread();
    let (leaves, stays) = (Driver::make(1), Driver::make(1));
    net.insert(leaves);
    let beside = net.clone();
    let comes = spawn(move || beside.insert(stays));
    net.remove(leaves);
    join([comes]);
    net.check(&[1]);
    net.remove(stays);
    assert!(!net.pages.is_armed(1), "nobody's, and in the net");
}

/// The net is spread while somebody subscribes.
fn spread() {
    let net = Net::new(2);
    let comes = net.comer(1);
    net.spread();
    join([comes]);
    net.check(&[1]);
}
