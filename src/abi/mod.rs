//! Facts of the ABI: the structs, constants and enums of SPEC 1, and nothing that acts on them.
//!
//! Owns: layouts. Every struct is followed by a `layout!` block that holds the numbers of SPEC 1.6; the block is
//! checked when this crate is compiled, and the same numbers become the assertions of `c-tests/test_layout_*.c`.
//!
//! The names are the kernel's, so that a reader finds them with the grep that finds them in a driver.
#![expect(non_camel_case_types, reason = "the kernel's names")]

pub mod mm;
pub mod notifier;
pub mod types;
pub mod versions;

/// The size, the alignment and the field offsets of one struct, all in bytes.
#[derive(Debug)]
pub struct Layout {
    /// Name of the struct here.
    pub name: &'static str,
    /// Name of the struct (or typedef) in C.
    pub c_name: &'static str,
    /// `sizeof`.
    pub size: usize,
    /// `_Alignof`.
    pub align: usize,
    /// Field names with their offsets.
    pub fields: &'static [(&'static str, usize)],
}

/// Asserts the numbers of each struct at compile time and collects them in `LAYOUTS`.
macro_rules! layout {
    ($( $c_name:literal $name:ident: size $size:literal, align $align:literal { $($field:ident @ $offset:literal),* $(,)? } )*) => {
        $( const _: () = {
            assert!(size_of::<$name>() == $size);
            assert!(align_of::<$name>() == $align);
            $( assert!(core::mem::offset_of!($name, $field) == $offset); )*
        }; )*
        /// What this module asserts, for the C side to assert again.
        pub const LAYOUTS: &[$crate::abi::Layout] = &[$( $crate::abi::Layout {
            name: stringify!($name),
            c_name: $c_name,
            size: $size,
            align: $align,
            fields: &[$( (stringify!($field), $offset) ),*],
        } ),*];
    };
}
pub(crate) use layout;
