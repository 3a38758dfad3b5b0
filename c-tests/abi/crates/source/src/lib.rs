//! Reads Rust declarations: what has no reflection can still be looked up in the source.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use quote::ToTokens as _;
use syn::{
    Expr, Fields, File, GenericArgument, Item, ItemConst, ItemEnum, ItemFn, ItemStruct, ItemType,
    PathArguments, ReturnType, Type, TypeBareFn, Visibility,
};

/// The parsed file.
pub fn read(path: &Path) -> File {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The parsed text.
pub fn parse(text: &str) -> File {
    syn::parse_file(text).unwrap_or_else(|e| panic!("{e}"))
}

fn public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

/// Has it `#[repr(..)]`, that is: is it made for C?
pub fn has_repr(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|a| a.path().is_ident("repr"))
}

/// The public structs for C, in order.
pub fn structs(file: &File) -> impl Iterator<Item = &ItemStruct> {
    file.items.iter().filter_map(|item| match item {
        Item::Struct(s) if public(&s.vis) && has_repr(&s.attrs) => Some(s),
        _ => None,
    })
}

/// The public enums for C, in order.
pub fn enums(file: &File) -> impl Iterator<Item = &ItemEnum> {
    file.items.iter().filter_map(|item| match item {
        Item::Enum(e) if public(&e.vis) && has_repr(&e.attrs) => Some(e),
        _ => None,
    })
}

/// The public constants that are numbers, in order.
pub fn numbers(file: &File) -> impl Iterator<Item = &ItemConst> {
    const TYPES: &[&str] = &["c_uint", "c_ulong", "c_int", "usize", "u32", "u64", "i32"];
    file.items.iter().filter_map(|item| match item {
        Item::Const(c) if public(&c.vis) && TYPES.contains(&last(&c.ty).as_str()) => Some(c),
        _ => None,
    })
}

/// The functions that C calls, in order.
pub fn exports(file: &File) -> impl Iterator<Item = &ItemFn> {
    file.items.iter().filter_map(|item| match item {
        Item::Fn(f) if f.to_token_stream().to_string().contains("no_mangle") => Some(f),
        _ => None,
    })
}

/// The public names of types, in order.
pub fn aliases(file: &File) -> impl Iterator<Item = &ItemType> {
    file.items.iter().filter_map(|item| match item {
        Item::Type(t) if public(&t.vis) => Some(t),
        _ => None,
    })
}

/// Names and types of the public fields.
pub fn fields(item: &ItemStruct) -> Vec<(String, &Type)> {
    let Fields::Named(named) = &item.fields else {
        return Vec::new();
    };
    named
        .named
        .iter()
        .filter(|f| public(&f.vis))
        .filter_map(|f| Some((f.ident.as_ref()?.to_string(), &f.ty)))
        .filter(|(name, _)| !name.starts_with("__bindgen") && !name.starts_with("_bitfield"))
        .collect()
}

fn last(ty: &Type) -> String {
    match ty {
        Type::Path(p) => p
            .path
            .segments
            .last()
            .map_or(String::new(), |s| s.ident.to_string()),
        _ => String::new(),
    }
}

/// The type as C spells it, without the name that is declared.
pub fn c_type(ty: &Type) -> String {
    declare(ty, false, "")
}

/// `ty`, const if so said, around what is declared.
fn declare(ty: &Type, constant: bool, inner: &str) -> String {
    match ty {
        Type::Ptr(p) => {
            let star = if constant { "*const " } else { "*" };
            let is_const = p.const_token.is_some();
            declare(&p.elem, is_const, &format!("{star}{inner}"))
        }
        Type::BareFn(f) => declare_function(f, inner),
        Type::Array(a) => {
            let length = match &a.len {
                Expr::Lit(l) => l.lit.to_token_stream().to_string(),
                other => other.to_token_stream().to_string(),
            };
            let length = length.trim_end_matches("usize").to_owned();
            declare(&a.elem, constant, &format!("{inner}[{length}]"))
        }
        Type::Paren(p) => declare(&p.elem, constant, inner),
        Type::Path(p) => {
            let segment = p.path.segments.last().expect("a path has a name");
            if let PathArguments::AngleBracketed(arguments) = &segment.arguments
                && let (true, Some(GenericArgument::Type(t))) =
                    (segment.ident == "Option", arguments.args.first())
            {
                return declare(t, constant, inner);
            }
            let name = c_name(&segment.ident.to_string());
            let constant = if constant { "const " } else { "" };
            format!("{constant}{name} {inner}").trim_end().to_owned()
        }
        other => panic!("no such type in C: {}", other.to_token_stream()),
    }
}

fn declare_function(f: &TypeBareFn, inner: &str) -> String {
    let arguments: Vec<String> = f.inputs.iter().map(|a| c_type(&a.ty)).collect();
    let arguments = if arguments.is_empty() {
        "void".to_owned()
    } else {
        arguments.join(", ")
    };
    let declarator = format!("(*{inner})({arguments})");
    match &f.output {
        ReturnType::Default => format!("void {declarator}"),
        ReturnType::Type(_, ty) => declare(ty, false, &declarator),
    }
}

fn c_name(name: &str) -> String {
    match name {
        "c_void" => "void",
        "c_char" => "char",
        "c_int" | "AtomicI32" | "i32" => "int",
        "c_uint" | "u32" => "unsigned int",
        "c_long" => "long",
        "c_ulong" | "usize" | "u64" => "unsigned long",
        "c_ulonglong" => "unsigned long long",
        "bool" | "bool_" => "_Bool",
        "event_t" | "mmu_notifier_event" => "enum mmu_notifier_event",
        typedef if typedef.ends_with("_t") => typedef,
        tag => return format!("struct {tag}"),
    }
    .to_owned()
}

/// Rust source: an expression of type `Facts` for what the file declares; the items are found in the module `path`.
pub fn facts(path: &str, file: &File) -> String {
    let mut text = String::from("Facts { structs: &[");
    let resolved = |ty: &Type| {
        let alias = aliases(file).find(|a| a.ident == last(ty));
        c_type(alias.map_or(ty, |a| &a.ty))
    };
    for item in structs(file) {
        let name = &item.ident;
        write!(
            text,
            "Struct {{ name: \"{name}\", size: size_of::<{path}::{name}>(), align: align_of::<{path}::{name}>(), fields: &["
        )
        .expect("a string");
        for (field, ty) in fields(item) {
            write!(
                text,
                "Field {{ name: \"{field}\", offset: core::mem::offset_of!({path}::{name}, {field}), ty: \"{}\" }},",
                resolved(ty)
            )
            .expect("a string");
        }
        text.push_str("] },\n");
    }
    text.push_str("], numbers: &[");
    for item in enums(file) {
        let name = &item.ident;
        for variant in &item.variants {
            let variant = &variant.ident;
            write!(
                text,
                "(\"{name}\", \"{variant}\", {path}::{name}::{variant} as i128),"
            )
            .expect("a string");
        }
    }
    for item in numbers(file) {
        let name = &item.ident;
        write!(text, "(\"\", \"{name}\", {path}::{name} as i128),").expect("a string");
    }
    text.push_str("] }");
    text
}
