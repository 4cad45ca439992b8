//! Keeps a handler from unwinding, and says where it panicked but not with what words: those may quote a value.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::pin::pin;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use penstock_model::{Failure, FailureName};

thread_local! {
    /// Whether this thread is inside a handler.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    /// Where the last panic inside a handler was.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Whether panics outside handlers are told without their words, too.
static SILENT: AtomicBool = AtomicBool::new(false);

/// Tells of every panic in this process, in whichever thread, by its place only. For a process that is a function.
pub(crate) fn silence_panics() {
    install();
    SILENT.store(true, Ordering::Relaxed);
}

/// Runs a handler; a panic in it becomes `InvariantBroken` with file and line.
pub(crate) async fn guard<T>(handler: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    install();
    let mut handler = pin!(handler);
    poll_fn(|context| {
        let outer = INSIDE.replace(true);
        let polled = catch_unwind(AssertUnwindSafe(|| handler.as_mut().poll(context)));
        INSIDE.set(outer);
        polled.unwrap_or_else(|_| Poll::Ready(Err(panicked(PLACE.take()))))
    })
    .await
}

fn panicked(place: Option<String>) -> Failure {
    let place = place.unwrap_or_else(|| "an unknown place".to_owned());
    Failure::new(FailureName::InvariantBroken, format!("panicked at {place}: this is a defect of Penstock"))
}

/// Outside handlers (a test's own assertions, the CLI) panics are told as before.
fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if INSIDE.get() {
                PLACE.set(Some(place(panic)));
            } else if SILENT.load(Ordering::Relaxed) {
                tracing::error!(place = place(panic), "a thread panicked");
            } else {
                before(panic);
            }
        }));
    });
}

fn place(panic: &PanicHookInfo<'_>) -> String {
    panic.location().map_or_else(String::new, |location| format!("{}:{}", location.file(), location.line()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_named_by_its_place() {
        for late in [false, true] {
            let failure = guard(async {
                if late {
                    tokio::task::yield_now().await;
                }
                if true {
                    panic!("tim@acme.com");
                }
                Ok(())
            });
            let failure = failure.await.unwrap_err();
            assert_eq!(failure.name, FailureName::InvariantBroken);
            assert!(failure.message.contains("src/guard.rs:"), "{}", failure.message);
            assert!(!failure.message.contains("tim"), "{}", failure.message);
            assert!(!INSIDE.get());
        }
    }

    #[tokio::test]
    async fn an_answer_passes_through() {
        assert_eq!(guard(async { Ok(7) }).await.unwrap(), 7);
        let failure = guard(async { Err::<(), _>(Failure::new(FailureName::Superseded, "x")) }).await;
        assert_eq!(failure.unwrap_err().name, FailureName::Superseded);
    }
}
