//! Names of files, each stored once.

use std::collections::HashMap;

/// Names by number. Number 0 is a file whose name the trace does not tell.
#[derive(Clone, Debug, Default)]
pub struct Names {
    numbers: HashMap<Vec<u8>, u32>,
    names: Vec<String>,
}

impl Names {
    /// The number of a name.
    pub fn number(&mut self, name: Option<&[u8]>) -> u32 {
        let Some(name) = name else {
            return 0;
        };
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        self.names.push(String::from_utf8_lossy(name).into_owned());
        let number = u32::try_from(self.names.len()).unwrap_or(0);
        self.numbers.insert(name.to_vec(), number);
        number
    }

    /// The name of a number; None for a file without one.
    pub fn name(&self, number: u32) -> Option<&str> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        self.names.get(index).map(String::as_str)
    }
}
