//! What is to be patched: the sites of libc and of the dynamic linker, found once, each with its slot; and those of objects that make
//! their system calls in their place, because somebody has put a jump there.
#![expect(unsafe_code, reason = "a list of what is never freed")]

use core::ptr;

use super::group::{Group, Planned};
use super::objects::{self, Object};
use crate::live::status::Reason;
use crate::live::x86_64::blind;
use crate::live::x86_64::find::{self, Site};
use crate::sync::{AtomicPtr, Ordering};

/// All of them.
#[derive(Debug)]
pub(in crate::live) struct Plan {
    /// Of libc and of the dynamic linker.
    pub(super) own: Group,
    /// Of objects that other patchers' jumps lead to; the newest first.
    others: AtomicPtr<Group>,
    /// Where somebody else had put a jump before, in place of a site.
    foreign: Vec<usize>,
    /// Those without which too much would be missed.
    needed: u64,
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

/// Sites, counted.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::live) struct Counts {
    /// Ours.
    pub sites: u32,
    /// Somebody else's when they were to become ours.
    pub foreign: u32,
    /// Ours once.
    pub lost: u32,
}

impl Plan {
    /// Finds the sites and makes their slots.
    pub(super) fn make() -> Result<Self, Reason> {
        let linker = linker();
        let mut plan = Self {
            own: Group::default(),
            others: AtomicPtr::new(ptr::null_mut()),
            foreign: Vec::new(),
            needed: 0,
        };
        let mut libc_found = false;
        for object in objects::loaded() {
            let role = role(&object, linker);
            if matches!(role, Role::Other) {
                continue;
            }
            let sites = find::sites(&object);
            let foreign = find::foreign(&object);
            let lacks = |number: &&libc::c_long| {
                let number = Some(**number as usize);
                !sites.iter().any(|site| site.number == number)
            };
            // Somebody else's jump stands where each of those was that are not there.
            if matches!(role, Role::Libc) {
                libc_found = true;
                let generic = sites.iter().any(|site| site.number.is_none());
                let missing = NEEDED_IN_LIBC.iter().filter(lacks).count() + usize::from(!generic);
                if missing > foreign.len() {
                    return Err(Reason::Libc);
                }
            } else if NEEDED_IN_LINKER.iter().filter(lacks).count() > foreign.len() {
                return Err(Reason::Linker);
            }
            plan.foreign.extend(foreign);
            plan.own.add(&object, sites)?;
        }
        if !libc_found {
            return Err(Reason::Libc);
        }
        let needed = |site: &Site| {
            site.number
                .is_none_or(|number| NEEDED_IN_LIBC.contains(&(number as libc::c_long)))
        };
        plan.needed = plan.own.select(|planned| needed(&planned.site));
        Ok(plan)
    }

    /// All groups.
    pub(super) fn groups(&self) -> impl Iterator<Item = &Group> {
        core::iter::once(&self.own).chain(self.others())
    }

    /// Those of other patchers' objects.
    pub(super) fn others(&self) -> impl Iterator<Item = &Group> {
        let group = |list: &AtomicPtr<Group>| {
            // ORDERING: Acquire pairs with the Release in `follow`.
            let first = list.load(Ordering::Acquire);
            // SAFETY: NULL, or a group that was leaked.
            unsafe { first.as_ref() }
        };
        core::iter::successors(group(&self.others), move |last| group(&last.next))
    }

    /// Finds the objects that somebody else's jumps lead to now, and plans for their sites. They stay loaded. Allocates; no lock
    /// is held.
    pub(in crate::live) fn follow(&self) {
        let linker = linker();
        let now = self.own.sites.iter().filter_map(Planned::detour);
        let earlier = self
            .foreign
            .iter()
            .filter_map(|place| find::jump_at(*place));
        let earlier = earlier.map(|jump| jump.target);
        let targets: Vec<usize> = now.chain(earlier).collect();
        if targets.is_empty() {
            return;
        }
        for object in objects::loaded() {
            let leads_here = targets.iter().any(|target| object.contains(*target));
            let known = self.others().any(|group| object.is_at(group.base));
            let other = matches!(role(&object, linker), Role::Other) && !object.is_own();
            if leads_here && other && !known {
                self.add_other(&object);
            }
        }
    }

    fn add_other(&self, object: &Object) {
        // Only what stays is read.
        if !object.pin() {
            return;
        }
        let sites = find::sites(object);
        if sites.is_empty() {
            return;
        }
        let mut group = Group::default();
        group.base = object.base;
        if group.add(object, sites).is_err() {
            return;
        }
        let group = Box::leak(Box::new(group));
        // ORDERING: Relaxed: the exchange checks it.
        let mut first = self.others.load(Ordering::Relaxed);
        loop {
            group.next = AtomicPtr::new(first);
            // ORDERING: Release pairs with the Acquire in `others`.
            match self
                .others
                .compare_exchange(first, group, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(other) => first = other,
            }
        }
    }

    /// Is `address` in a slot?
    pub(super) fn has_slot_at(&self, address: usize) -> bool {
        let mut sites = self.groups().flat_map(|group| &group.sites);
        sites.any(|planned| planned.has_slot_at(address))
    }

    /// Is each site that is needed ours, or somebody else's?
    pub(super) fn is_complete(&self) -> bool {
        self.needed & !self.own.in_place() & !self.own.foreign() == 0
    }

    /// Is the site of `syscall()` ours?
    pub(super) fn has_generic(&self) -> bool {
        let mut sites = self.own.sites.iter();
        let generic = sites.find(|planned| planned.site.number.is_none());
        generic.is_some_and(|planned| planned.present() == planned.jump)
    }

    /// How many sites are lost.
    pub(in crate::live) fn lost(&self) -> u32 {
        self.groups().map(|group| group.lost().count_ones()).sum()
    }

    /// How many sites are whose.
    pub(in crate::live) fn count(&self) -> Counts {
        let mut counts = Counts {
            foreign: self.foreign.len() as u32,
            ..Counts::default()
        };
        for group in self.groups() {
            let lost = group.lost();
            counts.sites += group.in_place().count_ones();
            counts.foreign += (group.foreign() & !lost).count_ones();
            counts.lost += lost.count_ones();
        }
        counts
    }

    /// How many objects make memory system calls that no site covers. Looks through the code of all of them.
    pub(in crate::live) fn blind(&self) -> usize {
        let linker = linker();
        let covered = |object: &Object| {
            object.is_own() || self.others().any(|group| object.is_at(group.base))
        };
        let mut blind = 0;
        objects::each(|object| {
            let other = matches!(role(&object, linker), Role::Other) && !covered(&object);
            blind += usize::from(other && blind::has_calls(&object));
        });
        blind
    }
}
