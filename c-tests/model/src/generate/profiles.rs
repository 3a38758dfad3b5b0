// SPDX-License-Identifier: MIT OR Apache-2.0
//! What there is much of in a program.

macro_rules! kinds {
    ($($kind:ident $name:literal $weight:literal,)*) => {
        /// What a line can be.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Kind { $($kind),* }
        pub(super) const KINDS: &[(Kind, &str, u32)] = &[$((Kind::$kind, $name, $weight)),*];
    };
}

// Weights are tenths.
kinds! {
    Mm "mm" 20, Mmget "mmget" 10, MmgetNz "mmget_nz" 10, Mmput "mmput" 20, Mmgrab "mmgrab" 10, Mmdrop "mmdrop" 10,
    Has "has" 10, Counts "counts" 20, Reg "reg" 60, RegLocked "reg_locked" 20, Unreg "unreg" 40, Nput "nput" 20,
    Get "get" 50, GetLocked "get_locked" 20, Put "put" 40, Getmax "getmax" 5, Sync "sync" 30,
    Iins "iins" 100, IinsLocked "iins_locked" 20, Irem "irem" 70, Rb "rb" 90, Rr "rr" 60, Cr "cr" 20,
    Start "start" 140, StartNb "start_nb" 70, End "end" 160,
    Cfy "cfy" 30, Cy "cy" 30, Ty "ty" 30, Cpte "cpte" 20, Tlb "tlb" 30,
    Lock "lock" 0, Unlock "unlock" 0, Open "open" 0, Close "close" 0,
    EndAgain "end_again" 4, Doom "doom" 1,
    Cleanup "cleanup" 1, Define "define" 5, Populate "populate" 30,
}

/// In percent, except `mms`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Traits {
    /// Gates in callbacks.
    pub(super) gates: u32,
    /// Odd shapes and addresses.
    pub(super) edge: u32,
    /// Callbacks that put or insert.
    pub(super) acts: u32,
    /// Starts and invalidates that fail.
    pub(super) refuse: u32,
    /// mms at a time.
    pub(super) mms: usize,
    /// Lines on named threads.
    pub(super) named: u32,
    /// `start_nb!`: refusals where an interval was ever inserted.
    pub(super) leak: u32,
}

const TRAITS: Traits = Traits {
    gates: 0,
    edge: 5,
    acts: 10,
    refuse: 10,
    mms: 2,
    named: 5,
    leak: 0,
};

pub(super) struct Profile {
    pub(super) name: &'static str,
    pub(super) weights: &'static [(&'static str, u32)],
    pub(super) traits: Traits,
}

pub(super) const PROFILES: &[Profile] = &[
    Profile {
        name: "basic",
        weights: &[],
        traits: TRAITS,
    },
    Profile {
        name: "edge",
        weights: &[("iins", 160), ("start", 180), ("irem", 90)],
        traits: Traits { edge: 60, ..TRAITS },
    },
    Profile {
        name: "nested",
        weights: &[
            ("start", 220),
            ("end", 200),
            ("iins", 160),
            ("irem", 120),
            ("rb", 140),
        ],
        traits: TRAITS,
    },
    Profile {
        name: "getput",
        weights: &[
            ("get", 140),
            ("get_locked", 60),
            ("put", 120),
            ("nput", 50),
            ("getmax", 20),
            ("sync", 60),
            ("reg", 80),
        ],
        traits: Traits { acts: 40, ..TRAITS },
    },
    Profile {
        name: "locks",
        weights: &[
            ("lock", 90),
            ("unlock", 70),
            ("reg", 90),
            ("get", 80),
            ("reg_locked", 60),
            ("get_locked", 50),
            ("iins_locked", 60),
        ],
        traits: Traits {
            named: 30,
            ..TRAITS
        },
    },
    Profile {
        name: "gates",
        weights: &[
            ("open", 80),
            ("close", 100),
            ("cfy", 50),
            ("cy", 40),
            ("ty", 40),
            ("sync", 40),
        ],
        traits: Traits {
            gates: 50,
            ..TRAITS
        },
    },
    Profile {
        name: "srcu",
        weights: &[
            ("open", 80),
            ("close", 120),
            ("unreg", 100),
            ("reg", 140),
            ("sync", 50),
            ("cfy", 80),
            ("ty", 50),
            ("tlb", 60),
            ("start", 80),
            ("end", 80),
            ("nput", 50),
            ("iins", 40),
        ],
        traits: Traits {
            gates: 70,
            mms: 3,
            ..TRAITS
        },
    },
    Profile {
        name: "life",
        weights: &[
            ("mm", 80),
            ("mmput", 120),
            ("mmget_nz", 40),
            ("mmdrop", 50),
            ("mmgrab", 40),
            ("counts", 60),
        ],
        traits: Traits {
            gates: 30,
            mms: 5,
            acts: 30,
            ..TRAITS
        },
    },
    Profile {
        name: "lifelocks",
        weights: &[
            ("mm", 80),
            ("mmput", 100),
            ("mmdrop", 50),
            ("mmgrab", 40),
            ("lock", 60),
            ("unlock", 50),
            ("open", 60),
            ("close", 40),
        ],
        traits: Traits {
            gates: 40,
            mms: 4,
            named: 25,
            ..TRAITS
        },
    },
    Profile {
        name: "refuse",
        weights: &[("start_nb", 200), ("reg", 100), ("iins", 120)],
        traits: Traits {
            refuse: 60,
            gates: 30,
            ..TRAITS
        },
    },
    Profile {
        name: "retreat",
        weights: &[
            ("start", 160),
            ("end", 120),
            ("sync", 60),
            ("unreg", 60),
            ("reg", 120),
            ("open", 80),
            ("close", 120),
            ("iins", 60),
            ("irem", 40),
            ("rb", 40),
        ],
        traits: Traits {
            gates: 80,
            refuse: 90,
            ..TRAITS
        },
    },
    Profile {
        name: "callbacks",
        weights: &[
            ("start", 200),
            ("reg", 90),
            ("get", 90),
            ("open", 40),
            ("close", 30),
        ],
        traits: Traits {
            acts: 80,
            gates: 30,
            ..TRAITS
        },
    },
    Profile {
        name: "mix",
        weights: &[
            ("lock", 50),
            ("unlock", 40),
            ("open", 60),
            ("close", 80),
            ("mmput", 40),
            ("cleanup", 4),
        ],
        traits: Traits {
            gates: 50,
            edge: 30,
            acts: 30,
            refuse: 20,
            mms: 4,
            named: 25,
            leak: 0,
        },
    },
    Profile {
        name: "dv1",
        weights: &[
            ("start_nb", 240),
            ("reg", 80),
            ("rb", 120),
            ("open", 30),
            ("close", 20),
        ],
        traits: Traits {
            refuse: 80,
            gates: 30,
            leak: 70,
            ..TRAITS
        },
    },
];
