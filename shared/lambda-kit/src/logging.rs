//! Logs as CloudWatch reads them: one JSON object a line, on standard output.

use tracing::Level;
use tracing_subscriber::filter::{FilterExt as _, Targets, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::settings::Settings;

/// Names the level (`info` if it is not set), or directives as `tracing` has them: `info,penstock_store=debug`.
const LEVEL: &str = "PENSTOCK_LOG";
/// The runtime's own line about a failed invocation; ours has the name, the run and the reason.
const TOLD_ALREADY: &str = "lambda_runtime::layers::panic";

/// Starts logging for a function. Of other crates only warnings and errors are logged, whatever `PENSTOCK_LOG` says:
/// below that, clients log bodies.
pub fn start() {
    let directives = Settings::from_environment().optional(LEVEL);
    start_into(std::io::stdout, directives.as_deref().unwrap_or("info"));
}

/// Starts logging into another place than standard output, by these directives: for a test that reads what is logged.
pub fn start_into<W>(writer: W, directives: &str)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let asked = directives.parse::<Targets>();
    let understood = asked.is_ok();
    let chosen = asked.unwrap_or_else(|_| Targets::new().with_default(Level::INFO));
    let fit_to_log = filter_fn(|metadata| {
        let ours = metadata.target().starts_with("penstock");
        (ours || *metadata.level() <= Level::WARN) && metadata.target() != TOLD_ALREADY
    });
    let lines = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_ansi(false)
        .with_writer(writer)
        .with_filter(chosen.and(fit_to_log));
    // A process that has a subscriber already (a test) keeps it.
    drop(tracing_subscriber::registry().with(lines).try_init());
    if !understood {
        tracing::warn!(
            "{LEVEL} says neither a level nor directives such as `info,penstock_store=debug`: `info` is taken"
        );
    }
}
