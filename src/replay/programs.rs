//! Who runs where: threads, their processes, and the address spaces that processes share.
//!
//! Invariants
//! * A thread belongs to one process, a process to one address space; an address space lives while a process uses it.
//! * A number of an address space is used once. That of a process, too: a pid may come back.

use std::collections::HashMap;

use super::space::Space;

/// The key of a thread that the trace does not name, because it was alone.
pub(super) const NAMELESS: u32 = 0;

/// A process.
#[derive(Clone, Debug)]
pub(super) struct Process {
    /// Its pid; [`NAMELESS`] if the trace does not tell.
    pub(super) pid: u32,
    /// Its address space.
    pub(super) space: u32,
    threads: u32,
    /// It called exit_group: its threads are dying.
    dying: bool,
}

#[derive(Debug)]
struct Held {
    space: Space,
    users: u32,
}

/// Threads, processes, address spaces.
#[derive(Debug, Default)]
pub(super) struct Programs {
    threads: HashMap<u32, usize>,
    processes: Vec<Process>,
    spaces: Vec<Option<Held>>,
}

impl Programs {
    /// The process of a thread.
    pub(super) fn process_of(&self, thread: u32) -> Option<&Process> {
        self.threads
            .get(&thread)
            .and_then(|at| self.processes.get(*at))
    }

    /// The first process of the trace.
    pub(super) fn first(&self) -> Option<&Process> {
        self.processes.first()
    }

    /// The address space of this number, while it lives.
    pub(super) fn space(&mut self, number: u32) -> Option<&mut Space> {
        let held = self.spaces.get_mut(number as usize)?.as_mut()?;
        Some(&mut held.space)
    }

    /// The address spaces that live.
    pub(super) fn spaces(&self) -> impl Iterator<Item = (u32, &Space)> {
        let numbered = self.spaces.iter().enumerate();
        numbered.filter_map(|(number, held)| Some((number as u32, &held.as_ref()?.space)))
    }

    /// The only thread that lives.
    pub(super) fn only_thread(&self) -> Option<u32> {
        let mut threads = self.threads.keys();
        threads.next().copied().filter(|_| threads.next().is_none())
    }

    /// A new process with an address space of its own. Returns its number.
    pub(super) fn add_process(&mut self, pid: u32, space: Space) -> u32 {
        let number = self.spaces.len() as u32;
        self.spaces.push(Some(Held { space, users: 0 }));
        self.add_user(pid, number);
        number
    }

    /// A new process in an address space that lives: vfork.
    pub(super) fn add_user(&mut self, pid: u32, space: u32) {
        if let Some(Some(held)) = self.spaces.get_mut(space as usize) {
            held.users += 1;
        }
        self.processes.push(Process {
            pid,
            space,
            threads: 1,
            dying: false,
        });
        self.threads.insert(pid, self.processes.len() - 1);
    }

    /// A new thread beside `sibling`.
    pub(super) fn add_thread(&mut self, thread: u32, sibling: u32) {
        if let Some(process) = self.threads.get(&sibling).copied() {
            self.processes[process].threads += 1;
            self.threads.insert(thread, process);
        }
    }

    /// The trace names a thread that it had not named.
    pub(super) fn rename(&mut self, from: u32, to: u32) {
        if let Some(process) = self.threads.remove(&from) {
            self.threads.insert(to, process);
            let process = &mut self.processes[process];
            if process.pid == from {
                process.pid = to;
            }
        }
    }

    /// The process calls exit_group: one that has other threads ends with the last of them.
    pub(super) fn begin_end(&mut self, thread: u32) {
        if let Some(process) = self.threads.get(&thread) {
            self.processes[*process].dying = true;
        }
    }

    /// A thread is no more. Returns the number of its address space if nobody uses that any more.
    pub(super) fn remove_thread(&mut self, thread: u32) -> Option<u32> {
        let at = self.threads.remove(&thread)?;
        let process = &mut self.processes[at];
        process.threads = process.threads.saturating_sub(1);
        if process.threads > 0 {
            return None;
        }
        let space = process.space;
        self.drop_user(space)
    }

    /// The threads of the process of `thread`, without itself.
    pub(super) fn siblings(&self, thread: u32) -> Vec<u32> {
        let Some(process) = self.threads.get(&thread) else {
            return Vec::new();
        };
        if self.processes[*process].threads == 1 {
            return Vec::new();
        }
        let others = self.threads.iter();
        others
            .filter(|(other, of)| *of == process && **other != thread)
            .map(|(other, _)| *other)
            .collect()
    }

    /// Threads of processes that called exit_group.
    pub(super) fn dying(&self) -> Vec<u32> {
        let threads = self.threads.iter();
        threads
            .filter(|(_, process)| self.processes[**process].dying)
            .map(|(thread, _)| *thread)
            .collect()
    }

    /// execve of a thread whose siblings are gone: a new, empty address space. Returns its number, and that of the old one if
    /// nobody uses that any more.
    pub(super) fn exec(&mut self, thread: u32, space: Space) -> Option<(u32, Option<u32>)> {
        let at = *self.threads.get(&thread)?;
        let number = self.spaces.len() as u32;
        self.spaces.push(Some(Held { space, users: 1 }));
        let old = core::mem::replace(&mut self.processes[at].space, number);
        Some((number, self.drop_user(old)))
    }

    /// The address space is gone.
    pub(super) fn forget(&mut self, space: u32) {
        if let Some(held) = self.spaces.get_mut(space as usize) {
            *held = None;
        }
    }

    fn drop_user(&mut self, space: u32) -> Option<u32> {
        let held = self.spaces.get_mut(space as usize)?.as_mut()?;
        held.users = held.users.saturating_sub(1);
        (held.users == 0).then_some(space)
    }
}
