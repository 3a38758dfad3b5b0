//! What is to be patched, found once: the sites of libc and of the dynamic linker, each with its slot.
#![expect(unsafe_code, reason = "reads code")]

use super::find::{self, Site};
use super::near::Pages;
use super::objects::{self, Object};
use super::status::Reason;
use super::write::Patch;
use super::{gate, slot};
use crate::sync::{AtomicU64, Ordering};

/// A site, and what it holds while it is ours.
#[derive(Debug)]
pub(super) struct Planned {
    pub site: Site,
    pub jump: [u8; 5],
}

impl Planned {
    pub(super) fn patch(&self, bytes: [u8; 5]) -> Patch {
        Patch {
            address: self.site.address,
            bytes,
        }
    }

    /// What it holds now.
    pub(super) fn present(&self) -> [u8; 5] {
        let place = core::ptr::with_exposed_provenance::<[u8; 5]>(self.site.address);
        // SAFETY: Code of a library that stays loaded.
        unsafe { place.read_volatile() }
    }
}

/// Sites that one word can tell apart.
const MOST: usize = 64;

/// All of them.
#[derive(Debug)]
pub(super) struct Plan {
    pub sites: Vec<Planned>,
    /// Functions of libc that somebody else had patched.
    pub foreign: usize,
    /// Objects with memory system calls of their own.
    pub blind: usize,
    /// Those without which too much would be missed.
    needed: u64,
    /// Which sites are ours now.
    pub ours: AtomicU64,
}

/// Without a site of each of these in libc too much would be missed.
const NEEDED_IN_LIBC: [libc::c_long; 6] = [
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
];
/// And these in the dynamic linker.
const NEEDED_IN_LINKER: [libc::c_long; 3] = [libc::SYS_mmap, libc::SYS_munmap, libc::SYS_mprotect];

enum Role {
    Libc,
    Linker,
    Other,
}

/// What an object is.
fn role(object: &Object, linker: usize) -> Role {
    let name = object.name.rsplit(|byte| *byte == b'/').next();
    let name = name.unwrap_or_default();
    let is = |prefix: &[u8]| name.starts_with(prefix);
    // A program without a dynamic linker contains its libc. musl's linker is its libc.
    let contains_all = linker == 0 && name.is_empty();
    if is(b"libc.so.") || is(b"libc-2.") || is(b"ld-musl") || contains_all {
        Role::Libc
    } else if linker != 0 && object.is_at(linker) {
        Role::Linker
    } else {
        Role::Other
    }
}

/// Where the dynamic linker is loaded; 0 if there is none.
fn linker() -> usize {
    // SAFETY: Asks for a number.
    unsafe { libc::getauxval(libc::AT_BASE) as usize }
}

impl Plan {
    /// Finds the sites and makes their slots.
    pub(super) fn make() -> Result<Self, Reason> {
        gate::prepare();
        let linker = linker();
        let mut plan = Self {
            sites: Vec::new(),
            foreign: 0,
            blind: 0,
            needed: 0,
            ours: AtomicU64::new(0),
        };
        let mut libc_found = false;
        for object in objects::loaded() {
            let role = role(&object, linker);
            if matches!(role, Role::Other) {
                continue;
            }
            let sites = find::sites(&object);
            let foreign = find::foreign(&object);
            let has = |number: &libc::c_long| {
                sites
                    .iter()
                    .any(|site| site.number == Some(*number as usize))
            };
            if matches!(role, Role::Libc) {
                libc_found = true;
                let generic = sites.iter().any(|site| site.number.is_none());
                if foreign == 0 && !(NEEDED_IN_LIBC.iter().all(has) && generic) {
                    return Err(Reason::Libc);
                }
            } else if !NEEDED_IN_LINKER.iter().all(has) {
                return Err(Reason::Linker);
            }
            plan.foreign += foreign;
            plan.add(&object, sites)?;
        }
        if !libc_found {
            return Err(Reason::Libc);
        }
        plan.blind = blind();
        plan.sites
            .sort_unstable_by_key(|planned| planned.site.address);
        let needed = |site: &Site| {
            site.number
                .is_none_or(|number| NEEDED_IN_LIBC.contains(&(number as libc::c_long)))
        };
        plan.needed = plan.select(|planned| needed(&planned.site));
        Ok(plan)
    }

    /// Makes the slots of one object's sites.
    fn add(&mut self, object: &Object, sites: Vec<Site>) -> Result<(), Reason> {
        let Some(code) = object.code.first().filter(|_| !sites.is_empty()) else {
            return Ok(());
        };
        if self.sites.len() + sites.len() > MOST {
            return Err(Reason::Sites);
        }
        // In front of the slots, the address of the gate.
        let size = (sites.len() + 1) * slot::SIZE;
        let mut pages = Pages::new(code, size).ok_or(Reason::Slots)?;
        let place = pages.place;
        pages.bytes()[..size_of::<usize>()].copy_from_slice(&gate::address().to_ne_bytes());
        for (index, site) in (1..).zip(sites) {
            let offset = index * slot::SIZE;
            let code = slot::encode(&site, place + offset, place).ok_or(Reason::Slots)?;
            let jump = slot::jump(site.address, place + offset).ok_or(Reason::Slots)?;
            pages.bytes()[offset..offset + slot::SIZE].copy_from_slice(&code);
            self.sites.push(Planned { site, jump });
        }
        if pages.finish() {
            Ok(())
        } else {
            Err(Reason::Slots)
        }
    }

    /// Which sites answer to `what`, a bit for each.
    fn select(&self, what: impl Fn(&Planned) -> bool) -> u64 {
        let sites = self.sites.iter().enumerate();
        sites
            .filter(|(_, planned)| what(planned))
            .fold(0, |bits, (index, _)| bits | 1 << index)
    }

    /// Is each site that is needed ours, or somebody else's?
    pub(super) fn is_complete(&self) -> bool {
        self.needed & !self.in_place() & !self.taken() == 0
    }

    /// Which sites are ours now, a bit for each.
    pub(super) fn in_place(&self) -> u64 {
        self.select(|planned| planned.present() == planned.jump)
    }

    /// Which sites are somebody else's now.
    pub(super) fn taken(&self) -> u64 {
        self.select(|planned| ![planned.jump, planned.site.original].contains(&planned.present()))
    }

    /// Sites that were ours, and are not any more.
    pub(super) fn lost(&self) -> u64 {
        // ORDERING: Acquire pairs with the Release of who patched.
        self.ours.load(Ordering::Acquire) & !self.in_place()
    }
}

/// Objects with memory system calls that no site covers.
pub(super) fn blind() -> usize {
    let linker = linker();
    let objects = objects::loaded();
    let others = objects
        .iter()
        .filter(|object| matches!(role(object, linker), Role::Other) && !object.is_own());
    others.filter(|object| find::has_calls(object)).count()
}
