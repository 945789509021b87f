use super::*;

/// A crate with every kind of thing that a path can name.
const LIB: &str = "\
//! The crate's docs,
//! in two lines.

mod inline {
    /// Deep.
    pub(crate) const DEPTH: usize = 2;
    pub(crate) use super::Way as Exit;
}
pub mod build;
pub use self::build::{build as make};
pub use crate::Round;

/// A door.
///
/// ```text
/// #  #
/// ```
#[derive(Debug)]
pub struct Door {
    open: bool,
}

impl Door {
    /// Opens it.
    pub fn open(&mut self) {
        if !self.open {
            self.open = true;
        }
    }
}

pub enum Way {
    /// In.
    In,
    Out,
}
";

fn workspace(root: &Path) {
    let source = root.join("chapters/1-namespaces/src");
    fs::create_dir_all(source.join("build")).unwrap();
    fs::write(source.join("lib.rs"), LIB).unwrap();
    fs::write(
        source.join("build.rs"),
        "//! Builds.\npub fn build() {\n    step();\n    step();\n}\nmod deep;\n",
    )
    .unwrap();
    fs::write(
        source.join("build/deep.rs"),
        "macro_rules! step { () => {} }\nimpl crate::Door {\n    fn shut() {}\n}\n",
    )
    .unwrap();
}

fn with(test: impl Fn(&dyn Fn(&str) -> Result<Listing>)) {
    let root = tempfile::tempdir().unwrap();
    workspace(root.path());
    test(&|path| cut(root.path(), path));
}

#[test]
fn an_item_comes_with_its_docs_its_attributes_and_its_line() {
    with(|cut| {
        let door = cut("namespaces::Door").unwrap();
        assert_eq!((door.file.as_str(), door.line), ("chapters/1-namespaces/src/lib.rs", 13));
        assert!(
            door.text.starts_with("/// A door.\n") && door.text.ends_with("    open: bool,\n}\n"),
            "{}",
            door.text
        );
    });
}

#[test]
fn a_method_loses_the_indentation_of_its_block() {
    with(|cut| {
        let open = cut("namespaces::Door::open").unwrap();
        assert_eq!(open.line, 24);
        assert!(open.text.starts_with("/// Opens it.\npub fn open(&mut self) {\n    if"), "{}", open.text);
    });
}

#[test]
fn modules_are_followed_to_their_files() {
    with(|cut| {
        assert_eq!(cut("namespaces::inline::DEPTH").unwrap().line, 5);
        assert_eq!(cut("namespaces::build::build").unwrap().file, "chapters/1-namespaces/src/build.rs");
        assert_eq!(
            cut("namespaces::build::deep::step").unwrap().file,
            "chapters/1-namespaces/src/build/deep.rs"
        );
        assert_eq!(cut("namespaces::Way::In").unwrap().text, "/// In.\nIn,\n");
    });
}

#[test]
fn a_module_gives_its_docs() {
    with(|cut| {
        assert_eq!(cut("namespaces").unwrap().text, "//! The crate's docs,\n//! in two lines.\n");
        assert_eq!(cut("namespaces::build").unwrap().text, "//! Builds.\n");
    });
}

#[test]
fn an_import_is_followed_to_where_the_thing_is() {
    with(|cut| {
        let at = |path: &str| cut(path).map(|listing| (listing.file, listing.line));
        assert_eq!(at("namespaces::make").unwrap(), at("namespaces::build::build").unwrap());
        assert_eq!(at("namespaces::inline::Exit").unwrap(), at("namespaces::Way").unwrap());
        assert!(at("namespaces::Round").is_err(), "an import that leads to itself ends");
    });
}

#[test]
fn a_method_is_found_in_another_file() {
    with(|cut| {
        let shut = cut("namespaces::Door::shut").unwrap();
        assert_eq!((shut.file.as_str(), shut.line), ("chapters/1-namespaces/src/build/deep.rs", 3));
    });
}

#[test]
fn a_path_that_names_nothing_is_an_error_that_says_what_there_is() {
    with(|cut| {
        let error = cut("namespaces::build::bild").unwrap_err().to_string();
        assert!(error.contains("build.rs has no `bild`. It has `build`, `deep`"), "{error}");
        assert!(cut("namespaces::Door::close").is_err());
        assert!(cut("nowhere::x").unwrap_err().to_string().contains("no crate `nowhere`"));
    });
}

#[test]
fn a_piece_is_found_by_what_its_lines_say() {
    with(|cut| {
        let open = || cut("namespaces::Door::open").unwrap();
        let cut = piece(open(), "if !self", "}").unwrap();
        assert_eq!((cut.line, cut.text.as_str()), (26, "if !self.open {\n    self.open = true;\n}\n"));
        assert!(piece(open(), "close", "}").unwrap_err().to_string().contains("no line with `close`"));
        assert!(piece(open(), "if", "nowhere").is_err());
    });
}
