//! `penstock twin`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use penstock_model::connector::{Connector, HttpConnector};
use penstock_twins::{
    Action, Auth, BatchTwin, ConnectorTwin, ConnectorTwinBuilder, HubSpotTwin, JobTwin, Kind, Property,
    Recording, RunningTwin, SalesforceTwin, Script, Twin,
};
use tokio::signal::unix::{SignalKind, signal};

use super::{faults, listed};
use crate::args;
use crate::definitions::Project;

/// A HubSpot account whose contacts have the properties that the samples write, beside HubSpot's own.
#[must_use]
pub fn hubspot(token: &str) -> HubSpotTwin {
    let segments = ["new", "regular", "loyal"].map(str::to_owned).to_vec();
    HubSpotTwin::builder()
        .token(token)
        .property("contacts", "customer_id", Property::new(Kind::Number).unique())
        .property("contacts", "customer_segment", Property::new(Kind::Choice(segments)))
        .property("contacts", "lifetime_value", Property::new(Kind::Number))
        .property("contacts", "order_count", Property::new(Kind::Number))
        .property("contacts", "last_order_at", Property::new(Kind::DateTime))
        .property("contacts", "newsletter", Property::new(Kind::Flag))
        .build()
}

/// Serves a simulator on loopback until Ctrl-C, then tells what it saw.
///
/// # Errors
/// If the fault script or the connector file is wrong, or the port can't be had.
pub async fn serve(args: args::Twin) -> anyhow::Result<ExitCode> {
    let script = match &args.faults {
        Some(file) => faults::read(file).map_err(|mistake| anyhow::anyhow!("{mistake}"))?,
        None => Script::default(),
    };
    let bearer = Auth::Bearer(args.token.clone());
    match args.destination.as_str() {
        "hubspot" => {
            if !args.key.is_empty() {
                anyhow::bail!("--key: a request to HubSpot names its key itself (idProperty)");
            }
            let twin = hubspot(&args.token);
            until_stopped(twin, "a HubSpot twin", &bearer, script, &args).await
        }
        "batch" => {
            let key = match args.key.as_slice() {
                [] => "id",
                [key] => key,
                [_, _, ..] => anyhow::bail!("--key: a record of this API has one key field"),
            };
            let twin = BatchTwin::builder().auth(bearer.clone()).default_key(key).build();
            until_stopped(twin, "a twin of a batch API", &bearer, script, &args).await
        }
        "jobs" => {
            if !args.key.is_empty() {
                anyhow::bail!("--key: a job names its key itself (externalIdFieldName)");
            }
            let twin = JobTwin::builder().token(&args.token).build();
            until_stopped(twin, "a twin of a bulk job API", &bearer, script, &args).await
        }
        "salesforce" => {
            if !args.key.is_empty() {
                anyhow::bail!(
                    "--key: a request to Salesforce names its key itself (the external id in its path)"
                );
            }
            let twin = SalesforceTwin::builder().token(&args.token).client("twin", &args.token).build();
            println!("the token endpoint takes the client id twin with the token as its secret");
            until_stopped(twin, "a Salesforce twin", &bearer, script, &args).await
        }
        file if file.contains(['.', '/']) => {
            let (name, twin) = of_file(Path::new(file), &args)?;
            let auth = twin.auth();
            until_stopped(twin, &format!("a twin of {name}"), &auth, script, &args).await
        }
        other => {
            let Some(Connector::Http(connector)) = penstock_destinations::built_in(other) else {
                anyhow::bail!(
                    "there is no twin {other}; there are hubspot, batch, jobs, those of the connectors that come with Penstock (braze, …), \
                     and that of any connector file: ./my-crm.yaml"
                )
            };
            let (name, told) = (connector.name.clone(), builder(*connector, &args).build());
            let twin = told.map_err(|problems| {
                let words: Vec<String> = problems
                    .iter()
                    .map(|problem| format!("{}: {}", problem.pointer, problem.message))
                    .collect();
                anyhow::anyhow!("{}", words.join("\n"))
            })?;
            let auth = twin.auth();
            until_stopped(twin, &format!("a twin of {name}"), &auth, script, &args).await
        }
    }
}

/// The twin of a connector, as the arguments want it.
fn builder(connector: HttpConnector, args: &args::Twin) -> ConnectorTwinBuilder {
    let mut builder = ConnectorTwin::builder(connector).token(&args.token);
    for (name, value) in &args.setting {
        builder = builder.setting(name, value);
    }
    if args.key.is_empty() { builder } else { builder.key("*", args.key.iter().map(String::as_str)) }
}

/// The twin of a connector file, and the API's name.
fn of_file(file: &Path, args: &args::Twin) -> anyhow::Result<(String, ConnectorTwin)> {
    let mut project = Project::default();
    project.read(file);
    if !project.mistakes.is_empty() {
        anyhow::bail!("{}", listed(&project.mistakes));
    }
    let Some(connector) = project.connectors.into_values().next() else {
        anyhow::bail!("{}:1: holds no connector: a twin is made from a connector file", file.display());
    };
    match builder(connector.definition.clone(), args).build() {
        Ok(twin) => Ok((connector.definition.name, twin)),
        Err(problems) => {
            let mistakes: Vec<_> = problems.iter().map(|problem| connector.mistake(problem)).collect();
            anyhow::bail!("{}", listed(&mistakes))
        }
    }
}

async fn until_stopped<T: Twin>(
    twin: T,
    name: &str,
    auth: &Auth,
    script: Script,
    args: &args::Twin,
) -> anyhow::Result<ExitCode> {
    twin.set_faults(script);
    let twin = Recording::of(twin);
    // Listened for before anyone is told of the address, so that no Ctrl-C ends the twin without a word.
    let mut interrupted = signal(SignalKind::interrupt())?;
    let running = RunningTwin::start(twin, args.port).await?;
    println!("{name} answers at {}", running.address());
    println!("it asks for: {}", auth.describe());
    println!("end it with Ctrl-C; it then tells what it saw");
    interrupted.recv().await;
    print!("\n{}", seen(&running.twin));
    if let Some(file) = &args.requests {
        let lines =
            running.twin.requests().iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
        std::fs::write(file, lines.join("\n") + "\n")
            .with_context(|| format!("{} can't be written", file.display()))?;
    }
    running.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// What a twin saw, for people.
fn seen(twin: &impl Twin) -> String {
    let journal = twin.journal();
    let mut lines = vec![format!("{} requests", journal.requests())];
    for ((path, ended), count) in journal.requests_by_path() {
        lines.push(format!("  {count:>6} {path}: {ended}"));
    }
    let mut writes: BTreeMap<(&str, Action), u64> = BTreeMap::new();
    for applied in journal.applied() {
        *writes.entry((&applied.object, applied.action)).or_default() += 1;
    }
    lines.push(format!("{} writes", journal.applied().len()));
    for ((object, action), count) in writes {
        lines.push(format!("  {count:>6} {object}: {action}"));
    }
    let records = twin.held();
    lines.push(format!("{} records", records.values().sum::<usize>()));
    for (object, count) in records {
        lines.push(format!("  {count:>6} {object}"));
    }
    lines.join("\n") + "\n"
}
