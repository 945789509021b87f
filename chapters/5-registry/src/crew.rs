//! Side room: a few threads work off a list. The first failure stops them all.

use crate::{Error, Result};
use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

/// As many as docker: one connection seldom fills a line, and more are held to be rude.
const HANDS: usize = 4;

/// Does `work` on all `items`, the first ones first.
pub(crate) fn each<T: Sync>(items: &[T], work: impl Fn(&T, &AtomicBool) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let failure: Mutex<Option<Error>> = Mutex::default();
    // Whoever listens to our steps (`--explain`) listens to those of the helpers too.
    let listener = tracing::dispatcher::get_default(Clone::clone);
    let work_off = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let Err(error) = work(item, &stop) else { continue };
            let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
            // The first is the cause; the others only tell that they were stopped.
            if !stop.swap(true, Ordering::Relaxed) {
                *failure = Some(error);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..HANDS.min(items.len()) {
            scope.spawn(|| tracing::dispatcher::with_default(&listener, work_off));
        }
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}
