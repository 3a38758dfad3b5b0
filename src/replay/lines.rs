//! Lines of a file, with a look ahead.

use std::collections::VecDeque;
use std::io::{self, BufRead};

/// A longer line is cut here; the rest of it is dropped. No line of strace comes near.
const LONGEST: usize = 1 << 20;

/// What editors put before the first line of a file in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Lines, one after the other, and some that are still to come.
#[derive(Debug)]
pub(super) struct Lines<R> {
    input: R,
    ahead: VecDeque<Vec<u8>>,
    /// Lines that were taken.
    pub(super) number: u64,
    /// Bytes that were read.
    pub(super) bytes: u64,
}

impl<R: BufRead> Lines<R> {
    /// The lines of `input`.
    pub(super) fn new(input: R) -> Self {
        Self {
            input,
            ahead: VecDeque::new(),
            number: 0,
            bytes: 0,
        }
    }

    /// The next line, without its newline, into `line`. False at the end.
    pub(super) fn next(&mut self, line: &mut Vec<u8>) -> io::Result<bool> {
        if let Some(next) = self.ahead.pop_front() {
            *line = next;
        } else if !self.read(line)? {
            return Ok(false);
        }
        self.number += 1;
        Ok(true)
    }

    /// The line that is the `nth` from here, without taking it.
    pub(super) fn peek(&mut self, nth: usize) -> io::Result<Option<&[u8]>> {
        while self.ahead.len() <= nth {
            let mut line = Vec::new();
            if !self.read(&mut line)? {
                return Ok(None);
            }
            self.ahead.push_back(line);
        }
        Ok(self.ahead.get(nth).map(Vec::as_slice))
    }

    fn read(&mut self, line: &mut Vec<u8>) -> io::Result<bool> {
        let is_first = self.bytes == 0;
        let any = self.read_one(line)?;
        if is_first && line.starts_with(BYTE_ORDER_MARK) {
            line.drain(..BYTE_ORDER_MARK.len());
        }
        Ok(any)
    }

    fn read_one(&mut self, line: &mut Vec<u8>) -> io::Result<bool> {
        line.clear();
        let mut any = false;
        loop {
            let buffer = match self.input.fill_buf() {
                Ok(buffer) => buffer,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if buffer.is_empty() {
                return Ok(any);
            }
            any = true;
            let newline = buffer.iter().position(|byte| *byte == b'\n');
            let part = &buffer[..newline.unwrap_or(buffer.len())];
            let room = LONGEST - line.len();
            line.extend_from_slice(&part[..part.len().min(room)]);
            let used = part.len() + usize::from(newline.is_some());
            self.input.consume(used);
            self.bytes += used as u64;
            if newline.is_some() {
                return Ok(true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_seen_ahead() {
        let mut lines = Lines::new(&b"one\n\nthree"[..]);
        let mut line = Vec::new();
        assert_eq!(lines.peek(2).expect("readable"), Some(&b"three"[..]));
        assert_eq!(lines.peek(3).expect("readable"), None);
        for wanted in ["one", "", "three"] {
            assert!(lines.next(&mut line).expect("readable"));
            assert_eq!(line, wanted.as_bytes());
        }
        assert!(!lines.next(&mut line).expect("readable"));
        assert_eq!((lines.number, lines.bytes), (3, 10));
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_line() {
        for text in [&b"\xef\xbb\xbfone\n\xef\xbb\xbftwo"[..], b"\xef\xbb\xbf"] {
            let mut lines = Lines::new(io::BufReader::with_capacity(1, text));
            let mut line = Vec::new();
            assert!(lines.next(&mut line).expect("readable"));
            assert_eq!(line, if text.len() > 3 { &b"one"[..] } else { b"" });
            assert_eq!(lines.next(&mut line).expect("readable"), text.len() > 3);
            assert_eq!(
                line,
                if text.len() > 3 {
                    &b"\xef\xbb\xbftwo"[..]
                } else {
                    b""
                }
            );
            assert_eq!(lines.bytes, text.len() as u64);
        }
    }

    #[test]
    fn long_lines_are_cut() {
        let text = [vec![b'x'; LONGEST + 5], b"\nnext\n".to_vec()].concat();
        let mut lines = Lines::new(&text[..]);
        let mut line = Vec::new();
        assert!(lines.next(&mut line).expect("readable"));
        assert_eq!(line.len(), LONGEST);
        assert!(lines.next(&mut line).expect("readable"));
        assert_eq!(line, b"next");
    }
}
