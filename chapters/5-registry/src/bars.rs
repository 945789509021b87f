//! Progress on a terminal: a line for each blob, as docker draws them. Elsewhere: a line for each change.

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use registry::Progress;
use std::{
    collections::HashMap,
    io::IsTerminal,
    sync::{Mutex, PoisonError},
};

/// The lines on the screen.
pub(crate) struct Bars {
    screen: Option<MultiProgress>,
    lines: Mutex<HashMap<String, (ProgressBar, String)>>,
}

impl Bars {
    pub(crate) fn new() -> Bars {
        let screen = std::io::stdout().is_terminal().then(MultiProgress::new);
        Bars { screen, lines: Mutex::default() }
    }

    pub(crate) fn show(&self, event: &Progress) {
        // What docker calls a layer: the first twelve digits.
        let id: String = event.id.split_once(':').map_or(event.id, |(_, hex)| hex).chars().take(12).collect();
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if !event.id.contains(':') {
            let text =
                if id.is_empty() { event.status.to_owned() } else { format!("{id}: {}", event.status) };
            match &self.screen {
                Some(screen) => drop(screen.println(text)),
                None => println!("{text}"),
            }
            return;
        }
        let (bar, last) = lines.entry(id.clone()).or_insert_with(|| (self.bar(&id), String::new()));
        let news = last != event.status;
        if news {
            event.status.clone_into(last);
            bar.set_message(event.status.to_owned());
            bar.set_style(style(event.bytes.is_some()));
        }
        if let Some((at, all)) = event.bytes {
            bar.set_length(all);
            bar.set_position(at);
        }
        if news && self.screen.is_none() {
            println!("{id}: {}", event.status);
        }
        if news && event.bytes.is_none() {
            bar.tick();
        }
    }

    fn bar(&self, id: &str) -> ProgressBar {
        let bar = match &self.screen {
            Some(screen) => screen.add(ProgressBar::new(0)),
            None => ProgressBar::hidden(),
        };
        bar.with_prefix(id.to_owned())
    }

    /// Leaves the lines as they are.
    pub(crate) fn finish(&self) {
        for (bar, _) in self.lines.lock().unwrap_or_else(PoisonError::into_inner).values() {
            bar.set_style(style(false));
            bar.abandon();
        }
    }
}

fn style(with_bar: bool) -> ProgressStyle {
    let template =
        if with_bar { "{prefix}: {msg} [{bar:40}] {bytes}/{total_bytes}" } else { "{prefix}: {msg}" };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}
