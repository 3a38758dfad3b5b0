// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs in child processes: a library that crashes, aborts or hangs takes its child with it, and the parent knows which
//! program it was. The parent never calls the library, and has one thread.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::exit;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::library::Difference;

/// What a child tells its parent, in memory that they share.
#[repr(C)]
pub struct Shared {
    /// The seed that it is at.
    pub seed: AtomicU64,
    /// Programs that agreed.
    pub passed: AtomicU64,
    length: AtomicU64,
    text: [AtomicU8; TEXT],
}

const TEXT: usize = 256 << 10;

impl Shared {
    /// Zeroed; never freed.
    pub fn new() -> &'static Self {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let null = std::ptr::null_mut();
        // SAFETY: A fresh anonymous mapping.
        let memory = unsafe { libc::mmap(null, size_of::<Self>(), protection, flags, -1, 0) };
        assert_ne!(memory, libc::MAP_FAILED, "mmap");
        // SAFETY: It is large enough, aligned to a page, zeroed, and never unmapped; the type is made of atomics.
        unsafe { &*memory.cast::<Self>() }
    }

    fn put(&self, text: &str) {
        let bytes = &text.as_bytes()[..text.len().min(TEXT)];
        for (cell, byte) in self.text.iter().zip(bytes) {
            // ORDERING: Relaxed: the parent reads when the child has ended.
            cell.store(*byte, Ordering::Relaxed);
        }
        // ORDERING: Relaxed: as above.
        self.length.store(bytes.len() as u64, Ordering::Relaxed);
    }

    fn get(&self) -> String {
        // ORDERING: Relaxed: as above.
        let length = self.length.swap(0, Ordering::Relaxed) as usize;
        let bytes: Vec<u8> = self.text[..length]
            .iter()
            .map(|byte| byte.load(Ordering::Relaxed))
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Tells of a difference.
    pub fn put_difference(&self, difference: &Difference) {
        let Difference {
            step,
            expected,
            got,
        } = difference;
        self.put(&format!("{step}\0{expected}\0{got}"));
    }

    /// Whether a difference was told.
    pub fn get_difference(&self) -> Option<Difference> {
        let text = self.get();
        let mut parts = text.splitn(3, '\0');
        Some(Difference {
            step: parts.next()?.parse().ok()?,
            expected: parts.next()?.to_owned(),
            got: parts.next()?.to_owned(),
        })
    }
}

/// How a child ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with this status.
    Exit(i32),
    /// In a way of which this says how.
    Badly(String),
}

/// A child process.
#[derive(Clone, Copy, Debug)]
pub struct Child(libc::pid_t);

/// Runs `work` in a child, which exits with what it returns. What the child prints on stderr is dropped if `quiet`.
pub fn spawn(quiet: bool, work: impl FnOnce() -> i32) -> Child {
    // SAFETY: The parent has one thread, or is a server that has.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork");
    if pid > 0 {
        return Child(pid);
    }
    if quiet {
        // SAFETY: A file descriptor of this process.
        unsafe { libc::close(2) };
    }
    let status = work();
    // SAFETY: Ends the process.
    unsafe { libc::_exit(status) }
}

impl Child {
    /// Has it ended?
    pub fn poll(self) -> Option<End> {
        let mut status = 0;
        // SAFETY: A child of this process that was not waited for.
        let pid = unsafe { libc::waitpid(self.0, &raw mut status, libc::WNOHANG) };
        if pid == 0 {
            return None;
        }
        Some(if libc::WIFEXITED(status) {
            End::Exit(libc::WEXITSTATUS(status))
        } else {
            End::Badly(format!(
                "the process died of signal {}",
                libc::WTERMSIG(status)
            ))
        })
    }

    /// Ends it.
    pub fn kill(self) {
        // SAFETY: A child of this process that was not waited for.
        unsafe { libc::kill(self.0, libc::SIGKILL) };
        // SAFETY: As above.
        unsafe { libc::waitpid(self.0, std::ptr::null_mut(), 0) };
    }

    /// Waits for it, but no longer than this.
    pub fn wait(self, patience: Duration) -> End {
        let begin = Instant::now();
        let mut nap = Duration::from_micros(50);
        loop {
            if let Some(end) = self.poll() {
                return end;
            }
            if begin.elapsed() > patience {
                self.kill();
                return End::Badly("the process hangs".to_owned());
            }
            thread::sleep(nap);
            nap = (nap * 2).min(Duration::from_millis(2));
        }
    }
}

/// A process that was made before this one had threads or had called the library, and answers requests.
#[derive(Debug)]
pub struct Server(UnixStream);

fn send(stream: &mut UnixStream, text: &str) -> std::io::Result<()> {
    stream.write_all(&(text.len() as u64).to_le_bytes())?;
    stream.write_all(text.as_bytes())
}

fn receive(stream: &mut UnixStream) -> std::io::Result<String> {
    let mut length = [0; 8];
    stream.read_exact(&mut length)?;
    let mut text = vec![0; usize::try_from(u64::from_le_bytes(length)).unwrap_or(0)];
    stream.read_exact(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

impl Server {
    /// Starts one. It ends with its client.
    pub fn start(answer: fn(&str) -> String) -> Self {
        let (client, mut server) = UnixStream::pair().expect("a socket pair");
        // SAFETY: The child only reads, forks and writes.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork");
        if pid > 0 {
            return Self(client);
        }
        drop(client);
        while let Ok(request) = receive(&mut server) {
            if send(&mut server, &answer(&request)).is_err() {
                break;
            }
        }
        exit(0)
    }

    /// Asks it.
    pub fn ask(&mut self, request: &str) -> String {
        let sent = send(&mut self.0, request);
        let answer = sent.and_then(|()| receive(&mut self.0));
        answer.unwrap_or_else(|error| format!("no answer: {error}"))
    }
}
