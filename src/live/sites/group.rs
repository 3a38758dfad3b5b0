//! Sites with their slots: which of them are ours, and which somebody else has.
#![expect(unsafe_code, reason = "reads code")]

use core::ptr;

use super::near::Pages;
use super::objects::Object;
use super::write::{Patch, Patches};
use crate::live::status::Reason;
use crate::live::x86_64::find::{self, Site};
use crate::live::x86_64::{gate, slot};
use crate::sync::{AtomicPtr, AtomicU64, Ordering};

/// A site, and what it holds while it is ours.
#[derive(Debug)]
pub(super) struct Planned {
    pub site: Site,
    pub jump: [u8; 5],
    /// Where its function begins.
    entry: usize,
    /// What that held, up to the site.
    head: Head,
}

/// The first bytes of a function: as many as a jump takes, less what belongs to a site.
type Head = [Option<u8>; 5];

impl Planned {
    fn new(site: Site, jump: [u8; 5], object: &Object) -> Self {
        let entry = object.function_of(site.address).unwrap_or(site.address);
        Self {
            head: head(entry, &site),
            site,
            jump,
            entry,
        }
    }

    fn patch(&self, bytes: [u8; 5]) -> Patch {
        Patch {
            address: self.site.address,
            bytes,
        }
    }

    /// Does its slot contain `address`?
    pub(super) fn has_slot_at(&self, address: usize) -> bool {
        let [_, a, b, c, d] = self.jump;
        let distance = i32::from_le_bytes([a, b, c, d]) as isize;
        let slot = (self.site.address + self.jump.len()).wrapping_add_signed(distance);
        (slot..slot + slot::SIZE).contains(&address)
    }

    /// What it holds now.
    pub(super) fn present(&self) -> [u8; 5] {
        let place = ptr::with_exposed_provenance::<[u8; 5]>(self.site.address);
        // SAFETY: Code of a library that stays loaded.
        unsafe { place.read_volatile() }
    }

    /// Is it somebody else's?
    fn is_taken(&self) -> bool {
        ![self.jump, self.site.original].contains(&self.present())
    }

    /// Does nobody come by, because the beginning of its function is somebody else's?
    fn is_bypassed(&self) -> bool {
        self.jump_before().is_some() || head(self.entry, &self.site) != self.head
    }

    /// The jump that its function begins with.
    fn jump_before(&self) -> Option<find::Jump> {
        find::jump_at(self.entry).filter(|jump| jump.place < self.site.address)
    }

    /// Where calls go that do not come by.
    pub(super) fn detour(&self) -> Option<usize> {
        let taken = || find::jump_at(self.site.address).filter(|_| self.is_taken());
        let jump = self.jump_before().or_else(taken)?;
        Some(jump.target)
    }
}

fn head(entry: usize, site: &Site) -> Head {
    let mut head = Head::default();
    for (index, byte) in head.iter_mut().enumerate() {
        let place = ptr::with_exposed_provenance::<u8>(entry + index);
        // SAFETY: Code of a library that stays loaded.
        *byte = (entry + index < site.address).then(|| unsafe { place.read_volatile() });
    }
    head
}

/// Sites that one word can tell apart.
const MOST: usize = 64;

/// Sites that are written together, in the order of their addresses.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub sites: Vec<Planned>,
    /// Which sites are ours now.
    ours: AtomicU64,
    /// Where its object is loaded, if the group has but one.
    pub base: usize,
    /// For a list of groups.
    pub next: AtomicPtr<Group>,
}

impl Group {
    /// Makes the slots of one object's sites.
    pub(super) fn add(&mut self, object: &Object, sites: Vec<Site>) -> Result<(), Reason> {
        let Some(code) = object.code.first().filter(|_| !sites.is_empty()) else {
            return Ok(());
        };
        if self.sites.len() + sites.len() > MOST {
            return Err(Reason::Sites);
        }
        // In front of the slots, the addresses of the gate's entries.
        const ENTRY: usize = size_of::<usize>();
        let size = (sites.len() + 1) * slot::SIZE;
        let mut pages = Pages::new(code, size).ok_or(Reason::Slots)?;
        let place = pages.place;
        for (entry, address) in pages.bytes().chunks_exact_mut(ENTRY).zip(gate::addresses()) {
            entry.copy_from_slice(&address.to_ne_bytes());
        }
        for (index, site) in (1..).zip(sites) {
            let offset = index * slot::SIZE;
            let entry = place + ENTRY * gate::Entry::of(site.number) as usize;
            let code = slot::encode(&site, place + offset, entry).ok_or(Reason::Slots)?;
            let jump = slot::jump(site.address, place + offset).ok_or(Reason::Slots)?;
            pages.bytes()[offset..offset + slot::SIZE].copy_from_slice(&code);
            self.sites.push(Planned::new(site, jump, object));
        }
        self.sites
            .sort_unstable_by_key(|planned| planned.site.address);
        if pages.finish() {
            Ok(())
        } else {
            Err(Reason::Slots)
        }
    }

    /// Which sites answer to `what`, a bit for each.
    pub(super) fn select(&self, what: impl Fn(&Planned) -> bool) -> u64 {
        let sites = self.sites.iter().enumerate();
        sites
            .filter(|(_, planned)| what(planned))
            .fold(0, |bits, (index, _)| bits | 1 << index)
    }

    /// What makes sites ours that are as they were.
    pub(super) fn to_take(&self) -> Patches {
        let free = |planned: &&Planned| planned.present() == planned.site.original;
        let free = self.sites.iter().filter(free);
        free.map(|planned| planned.patch(planned.jump)).collect()
    }

    /// What gives back sites that are still ours.
    pub(super) fn to_give_back(&self) -> Patches {
        let ours = |planned: &&Planned| planned.present() == planned.jump;
        let ours = self.sites.iter().filter(ours);
        ours.map(|planned| planned.patch(planned.site.original))
            .collect()
    }

    /// Which sites are ours now, a bit for each.
    pub(super) fn in_place(&self) -> u64 {
        self.select(|planned| planned.present() == planned.jump)
    }

    /// Which sites somebody else's code stands for.
    pub(super) fn foreign(&self) -> u64 {
        self.select(|planned| planned.is_taken() || planned.is_bypassed())
    }

    /// Does this system call come by, wherever it is made?
    pub(super) fn meets(&self, number: libc::c_long) -> bool {
        let makes = |planned: &Planned| planned.site.number == Some(number as usize);
        let sites = self.select(makes);
        sites != 0 && sites & (self.foreign() | !self.in_place()) == 0
    }

    /// Sites that were ours, and are not any more, or have nobody come by any more.
    pub(super) fn lost(&self) -> u64 {
        // ORDERING: Acquire pairs with the Release of who patched.
        let ours = self.ours.load(Ordering::Acquire);
        if ours == 0 {
            return 0;
        }
        ours & (self.foreign() | !self.in_place())
    }

    /// From now on, what is ours and is taken away is lost.
    pub(in crate::live) fn note_ours(&self) {
        let ours = self.in_place() & !self.foreign();
        // ORDERING: Release pairs with the Acquire in `lost`.
        self.ours.store(ours, Ordering::Release);
    }

    /// From now on nothing is.
    pub(super) fn forget_ours(&self) {
        // ORDERING: Release pairs with the Acquire in `lost`.
        self.ours.store(0, Ordering::Release);
    }
}
