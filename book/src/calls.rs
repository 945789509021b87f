//! The system calls that the chapters and the engine make, read from their source, so that the page about them can leave none out.
//!
//! A call is a function of `nix` or `libc` that is named in an expression, or a number of `libc::SYS_…`; what the standard
//! library does for us is known by the names of [`STD`]. Tests are not looked at, nor what other crates call.

use crate::sources;
use anyhow::{Context, Result};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};
use syn::{Attribute, ExprMethodCall, ExprPath, ImplItemFn, ItemFn, ItemMod, UseTree, visit::Visit};

/// Where `nix` or `libc` has another name than the system call.
const NAMES: [(&str, &str); 18] = [
    ("Dir", "getdents64"),
    ("Flock", "flock"),
    ("Inotify", "inotify_init1"),
    ("SignalFd", "signalfd"),
    ("dup2_stderr", "dup2"),
    ("dup2_stdin", "dup2"),
    ("dup2_stdout", "dup2"),
    ("fexecve", "execveat"),
    ("fstatvfs", "fstatfs"),
    ("futimens", "utimensat"),
    ("gethostname", "uname"),
    ("mkdtemp", "mkdir"),
    ("prlimit64", "prlimit"),
    ("raise", "kill"),
    ("signal", "sigaction"),
    ("tcgetattr", "ioctl"),
    ("tcgetpgrp", "ioctl"),
    ("tcsetattr", "ioctl"),
];

/// Functions of the library that ask the kernel for nothing.
const NONE: [&str; 5] = ["cfmakeraw", "major", "makedev", "minor", "sysconf"];

/// What the standard library (and `xattr`) does for us: how its functions and methods end, and the calls behind them.
const STD: [(&str, &str); 33] = [
    ("Command::new", "clone3 execve"),
    ("TcpListener::bind", "socket bind listen"),
    ("TcpStream::connect", "socket connect"),
    ("UnixListener::bind", "socket bind listen"),
    ("UnixStream::connect", "socket connect"),
    ("UnixStream::pair", "socketpair"),
    ("fs::canonicalize", "readlink"),
    ("fs::copy", "copy_file_range"),
    ("fs::create_dir", "mkdir"),
    ("fs::create_dir_all", "mkdir"),
    ("fs::hard_link", "linkat"),
    ("fs::metadata", "statx"),
    ("fs::read", "openat read close"),
    ("fs::read_dir", "getdents64"),
    ("fs::read_link", "readlink"),
    ("fs::remove_dir", "rmdir"),
    ("fs::remove_dir_all", "unlinkat"),
    ("fs::remove_file", "unlink"),
    ("fs::rename", "rename"),
    ("fs::set_permissions", "chmod"),
    ("fs::symlink", "symlink"),
    ("fs::write", "openat write close"),
    ("seek", "lseek"),
    ("set_len", "ftruncate"),
    ("set_modified", "utimensat"),
    ("set_read_timeout", "setsockopt"),
    ("sync_all", "fsync"),
    ("thread::spawn", "clone3 mmap"),
    ("try_clone", "fcntl"),
    ("xattr::get", "lgetxattr"),
    ("xattr::get_deref", "getxattr"),
    ("xattr::list_deref", "listxattr"),
    ("xattr::set_deref", "setxattr"),
];

/// Every call that the page has not named, as `call(2)`, with the first file in which it is made.
pub(crate) fn unnamed(root: &Path, page: &str) -> Result<Vec<String>> {
    let mut unnamed = made(root)?;
    unnamed.retain(|call, _| !page.contains(&format!("`{call}(2)`")));
    Ok(unnamed.into_iter().map(|(call, file)| format!("{call}(2) ({file})")).collect())
}

/// Every call, and the first file in which it is made.
fn made(root: &Path) -> Result<BTreeMap<String, String>> {
    let mut made = BTreeMap::new();
    for file in sources::files(root)?.iter().filter(|file| is_ours(file)) {
        let text = fs::read_to_string(root.join(file))?;
        let tree = syn::parse_file(&text).with_context(|| file.display().to_string())?;
        for call in calls(&tree) {
            made.entry(call).or_insert_with(|| file.display().to_string());
        }
    }
    Ok(made)
}

/// Not the book's own program, and no tests.
fn is_ours(file: &Path) -> bool {
    !file.starts_with("book") && !file.ends_with("tests.rs") && !file.iter().any(|part| part == "tests")
}

/// The calls of one file.
fn calls(file: &syn::File) -> BTreeSet<String> {
    let mut seen = Seen::default();
    // Imports may stand below what uses them.
    for pass in [true, false] {
        seen.only_imports = pass;
        seen.visit_file(file);
    }
    seen.calls
}

#[derive(Default)]
struct Seen {
    only_imports: bool,
    /// The local name of what is imported from `nix` or `libc`, and its full path.
    imported: BTreeMap<String, Vec<String>>,
    calls: BTreeSet<String>,
}

impl Seen {
    fn import(&mut self, tree: &UseTree, path: &[String]) {
        let with = |name: &syn::Ident| [path, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(step) => self.import(&step.tree, &with(&step.ident)),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.import(tree, path)),
            UseTree::Name(name) if name.ident == "self" => self.known(path.to_vec(), path.last()),
            UseTree::Name(name) => self.known(with(&name.ident), Some(&name.ident.to_string())),
            UseTree::Rename(name) => self.known(with(&name.ident), Some(&name.rename.to_string())),
            UseTree::Glob(_) => {}
        }
    }

    fn known(&mut self, path: Vec<String>, name: Option<&String>) {
        if let Some(name) = name.filter(|_| ["nix", "libc", "std"].contains(&path[0].as_str())) {
            self.imported.insert(name.clone(), path);
        }
    }

    fn call(&mut self, name: &str) {
        // All of nix's wrappers of prctl(2) begin alike.
        let prctl = name.starts_with("set_") && name != "set_mempolicy";
        let real = NAMES.iter().find(|(ours, _)| *ours == name).map_or(name, |(_, real)| real);
        let real = if prctl { "prctl" } else { real };
        if !NONE.contains(&real) {
            self.calls.insert(real.to_owned());
        }
    }

    fn std(&mut self, path: &str) {
        let found = STD.iter().filter(|(name, _)| path == *name || path.ends_with(&format!("::{name}")));
        self.calls.extend(found.flat_map(|(_, calls)| calls.split(' ')).map(str::to_owned));
    }
}

impl<'ast> Visit<'ast> for Seen {
    fn visit_use_tree(&mut self, tree: &'ast UseTree) {
        if self.only_imports {
            self.import(tree, &[]);
        }
    }

    fn visit_expr_path(&mut self, path: &'ast ExprPath) {
        let mut names: Vec<String> = path.path.segments.iter().map(|step| step.ident.to_string()).collect();
        if let Some(full) = self.imported.get(&names[0]) {
            names.splice(..1, full.iter().cloned());
        }
        let last = names.last().cloned().unwrap_or_default();
        let ours = ["nix", "libc"].contains(&names[0].as_str()) && names.len() > 1;
        if self.only_imports {
        } else if let Some(number) = last.strip_prefix("SYS_") {
            self.call(number);
        } else if ours && !last.contains(|c: char| c.is_ascii_uppercase()) && last != "syscall" {
            // A constructor stands for its type; most types ask for nothing.
            let before = &names[names.len() - 2];
            match before.starts_with(|c: char| c.is_ascii_uppercase()) {
                true if NAMES.iter().any(|(name, _)| name == before) => self.call(before),
                true => {}
                false => self.call(&last),
            }
        } else {
            self.std(&names.join("::"));
        }
    }

    fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
        if !self.only_imports {
            self.std(&call.method.to_string());
        }
        syn::visit::visit_expr_method_call(self, call);
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        if !is_test(&module.attrs) {
            syn::visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        if !is_test(&function.attrs) {
            syn::visit::visit_item_fn(self, function);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        if !is_test(&function.attrs) {
            syn::visit::visit_impl_item_fn(self, function);
        }
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_found_however_it_is_written() {
        let source = r#"
            use nix::{unistd::{self, pivot_root as turn}, sched::CloneFlags, sys::stat::umask};
            use std::fs;
            fn f() {
                turn(".", "."); unistd::chroot("x"); umask(0); CloneFlags::empty();
                libc::syscall(libc::SYS_clone3); nix::sys::prctl::set_dumpable(false);
                names.map(unistd::close); fs::rename("a", "b"); file.sync_all(); rename();
                nix::sys::signalfd::SignalFd::new(&mask);
            }
            #[cfg(test)] mod tests { fn g() { unistd::fork(); } }
        "#;
        let calls = calls(&syn::parse_file(source).unwrap());
        let expected =
            ["chroot", "clone3", "close", "fsync", "pivot_root", "prctl", "rename", "signalfd", "umask"];
        assert_eq!(calls, expected.map(str::to_owned).into());
    }

    #[test]
    fn what_the_page_leaves_out_is_told() {
        let root = tempfile::tempdir().unwrap();
        for tree in sources::TREES {
            fs::create_dir_all(root.path().join(tree)).unwrap();
        }
        fs::write(root.path().join("src/a.rs"), "fn f() { libc::mount(); nix::unistd::chroot(); }").unwrap();
        let unnamed = unnamed(root.path(), "| `mount(2)` | `open(2)`").unwrap();
        assert_eq!(unnamed, ["chroot(2) (src/a.rs)"]);
    }
}
