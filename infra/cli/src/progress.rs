//! A run's progress: bars on a terminal, plain lines otherwise, nothing for programs.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::engine::{Event, Observer, Progress};

/// Shows a run's progress on standard error.
#[derive(Debug)]
pub struct Shown {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Nothing,
    Lines,
    Bars(Mutex<Option<ProgressBar>>),
}

impl Shown {
    /// Chooses how to show progress.
    #[must_use]
    pub fn new(quiet: bool) -> Self {
        let kind = if quiet {
            Kind::Nothing
        } else if std::io::stderr().is_terminal() {
            Kind::Bars(Mutex::new(None))
        } else {
            Kind::Lines
        };
        Self { kind }
    }

    /// Takes the last bar away.
    pub fn end(&self) {
        if let Kind::Bars(bar) = &self.kind
            && let Some(bar) = bar.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            bar.finish_and_clear();
        }
    }

    fn line(&self, text: &str) {
        match &self.kind {
            Kind::Nothing => {}
            Kind::Lines => eprintln!("{text}"),
            Kind::Bars(bar) => match bar.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
                Some(bar) => bar.set_message(text.to_owned()),
                None => eprintln!("{text}"),
            },
        }
    }

    fn map(&self, state: &str, items: u32) {
        match &self.kind {
            Kind::Nothing => {}
            Kind::Lines => eprintln!("{}: {items}", verb(state)),
            Kind::Bars(slot) => {
                let bar = ProgressBar::new(u64::from(items)).with_style(style());
                bar.set_prefix(verb(state));
                bar.enable_steady_tick(Duration::from_millis(100));
                if let Some(old) = slot.lock().unwrap_or_else(PoisonError::into_inner).replace(bar) {
                    old.finish_and_clear();
                }
            }
        }
    }

    fn step(&self) {
        if let Kind::Bars(bar) = &self.kind
            && let Some(bar) = bar.lock().unwrap_or_else(PoisonError::into_inner).as_ref()
        {
            bar.inc(1);
        }
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix:24} {bar:30} {pos}/{len} {elapsed} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// What a Map does, in words.
fn verb(state: &str) -> &'static str {
    match state {
        "Read" => "reading splits",
        "Diff" => "comparing partitions",
        "Deliver" => "delivering chunks",
        _ => "working",
    }
}

impl Observer for Shown {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::MapStarted { state, items, .. } => self.map(state, items),
            Event::ChildSucceeded { .. } | Event::ChildFailed { .. } => self.step(),
            Event::Retrying { failure, delay, .. } => {
                self.line(&format!("{}; trying again in {:.0?}", failure.error, delay));
            }
            Event::Waiting { duration, .. } => {
                self.line(&format!("the destination asks to wait {duration:.0?}"));
            }
            Event::Caught { failure, .. } => {
                self.line(&format!("a chunk failed for good: {}", failure.error));
            }
            Event::StateEntered { .. } | Event::StateExited { .. } => {}
        }
    }

    fn progress(&self, _: &Progress) {}
}
