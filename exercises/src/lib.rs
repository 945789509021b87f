//! The lab: the reader writes the engine, function by function, and is graded on what the kernel says happened.
//!
//! | module | what it is |
//! |---|---|
//! | [`source`] | an item of the chapter code, found by its path; its body taken out or put in |
//! | [`module`] | a crate's modules, followed from file to file |
//! | [`course`] | the exercises: a file each, with the task, the hints, the check and the wrong answers |
//! | [`tree`] | a copy of the engine to build: the reader's, with bodies missing; the grader's, with theirs put in |
//! | [`scratch`] | where it is built |
//! | [`refuse`] | what is not compiled |
//! | [`judge`] | from an answer to a verdict |
//! | [`batch`] | many answers compiled together, to be told apart by a number in the program |
//! | [`crew`] | and judged side by side |
//! | [`dice`] | values that are new in every run, and repeatable |
//! | [`bundle`] | a bundle with random values, for a check |
//! | [`image`], [`tarball`] | an image with what a check wants in it, honest or not |
//! | [`wire`] | a server and a client of the check's own |
//! | [`run`] | running what the reader wrote, within limits |
//! | [`sandbox`] | where it runs |
//! | [`facts`] | what the kernel shows of a process |
//! | [`groups`] | what it shows of a control group |
//! | [`order`] | in which order a program syncs and renames |
//! | [`stage`] | files that look like control groups, of a version that this machine may not have |
//! | [`neighbour`] | a process in namespaces of its own, to be joined |
//! | [`fence`] | namespaces around what the reader wrote, so that its mistakes stay inside |
//! | [`verdict`] | what a check found, and how it is told |
//! | [`grade`] | the verdicts on a workspace, and their points |
//! | [`report`] | a grade for people and programs |
//! | [`cache`] | verdicts that were found before |
//! | [`files`] | files that are never half there |
//! | [`mutants`] | small mistakes, to measure the checks by |
//! | [`progress`] | what has been solved, in a text file |
//!
//! Three rules hold. *One source*: an exercise is an item of the shipped chapter code; nothing is copied by hand.
//! *Facts*: a check looks at the kernel from outside, never at what the program prints alone. *Closed*: what could not
//! be checked is a verdict of its own and gives no points.

pub mod batch;
pub mod bundle;
pub mod cache;
pub mod course;
pub mod crew;
pub mod dice;
pub mod facts;
pub mod fence;
pub mod files;
pub mod grade;
pub mod groups;
pub mod image;
pub mod judge;
pub mod module;
pub mod mutants;
pub mod neighbour;
pub mod order;
pub mod progress;
pub mod refuse;
pub mod report;
pub mod run;
pub mod sandbox;
pub mod scratch;
pub mod source;
pub mod stage;
pub mod tarball;
pub mod tree;
pub mod verdict;
pub mod wire;
