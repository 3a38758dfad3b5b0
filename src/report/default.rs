//! The default handler: one line to stderr, written in one piece and without allocating.

use core::ffi::{CStr, c_char};
use core::fmt::{self, Write};

use super::{BUG, INFO, WARN, mmu_notifier_report};

/// A line that is cut where it is full.
struct Line {
    bytes: [u8; 512],
    length: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let free = &mut self.bytes[self.length..];
        let fits = text.len().min(free.len());
        free[..fits].copy_from_slice(&text.as_bytes()[..fits]);
        self.length += fits;
        Ok(())
    }
}

/// Writes `mmu_notifier: warning: [RULE] function: message` to stderr; drops information.
pub(super) fn handle(report: &mmu_notifier_report) {
    let severity = match report.kind {
        INFO => return,
        WARN => "warning",
        BUG => "bug",
    };
    let mut line = Line {
        bytes: [0; 512],
        length: 0,
    };
    // `Line` never fails.
    let _ = write!(line, "mmu_notifier: {severity}: ");
    let _ = describe(report, &mut line);
    let end = line.length.min(line.bytes.len() - 1);
    line.bytes[end] = b'\n';
    // SAFETY: The bytes are ours. An error has nowhere to go.
    unsafe { libc::write(libc::STDERR_FILENO, line.bytes.as_ptr().cast(), end + 1) };
}

/// Writes `[RULE] function: message`, with what else the report knows.
pub(super) fn describe(report: &mmu_notifier_report, out: &mut impl Write) -> fmt::Result {
    write!(
        out,
        "[{}] {}: {}",
        text(report.rule),
        text(report.function),
        text(report.message)
    )?;
    if !report.callback.is_null() {
        write!(out, " (inside the callback {})", text(report.callback))?;
    }
    if !report.address.is_null() {
        write!(out, " (at {:p})", report.address)?;
    }
    if !report.file.is_null() {
        write!(out, " ({}:{})", text(report.file), report.line)?;
    }
    if report.value != 0 {
        write!(out, " (value {})", report.value)?;
    }
    Ok(())
}

fn text<'a>(string: *const c_char) -> &'a str {
    // SAFETY: Reports hold NUL-terminated strings.
    unsafe { CStr::from_ptr(string) }.to_str().unwrap_or("?")
}
