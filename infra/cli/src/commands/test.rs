//! `penstock test`.

use std::process::ExitCode;

use penstock_destinations::probe::{Probed, Verdict, probe};
use penstock_model::connector::Connector;
use penstock_model::definition::{Connection, ResolvedSync, Sync, Unload};
use serde_json::json;

use super::{definitions_folder, listed, parts};
use crate::args;
use crate::definitions::Project;
use crate::definitions::project::Sourced;
use crate::definitions::published::with_absolute_secrets;

/// Proves a connection's credential and permissions with one harmless call.
///
/// # Errors
/// Mistakes in the definitions; a connector without a harmless call; a destination that can't be reached.
pub async fn test(args: args::Test) -> anyhow::Result<ExitCode> {
    let mut project = Project::default();
    project.read(&args.file);
    project.resolve_references();
    if !project.mistakes.is_empty() {
        anyhow::bail!("{}", listed(&project.mistakes));
    }
    let sync = project.syncs.values().find(|sync| sync.file == args.file);
    let name = sync.map(|sync| sync.definition.connection.clone());
    let connection = match &name {
        Some(name) => project.connections.get(name),
        None => project.connections.values().find(|connection| connection.file == args.file),
    };
    let Some(connection) = connection else {
        anyhow::bail!("{}:1: holds no connection, and no sync of one", args.file.display())
    };
    let connector =
        Project::connector(connection).map_err(|mistakes| anyhow::anyhow!("{}", listed(&mistakes)))?;
    let definition = resolved(connection, connector, sync, args.env.as_deref())?;
    let probed = probe(&definition, sync.is_some(), parts(&definitions_folder(&args.file))?).await?;
    if args.json {
        println!("{}", shown(&connection.name, &probed));
    } else {
        print!("{}", plain(&connection.name, &definition, &probed));
    }
    Ok(if probed.verdict == Verdict::Accepted { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The definition to test with: the sync's, or one that only names an object.
fn resolved(
    connection: &Sourced<Connection>,
    connector: Connector,
    sync: Option<&Sourced<Sync>>,
    environment: Option<&str>,
) -> anyhow::Result<ResolvedSync> {
    let mut given = with_absolute_secrets(&connection.definition, &connection.file);
    let chosen = match environment {
        Some(name) => Some(given.environments.get(name).cloned().ok_or_else(|| {
            let known: Vec<&str> = given.environments.keys().map(String::as_str).collect();
            anyhow::anyhow!(
                "connection {} has no environment {name}; it has: {}",
                connection.name,
                known.join(", ")
            )
        })?),
        None => None,
    };
    let address = chosen.as_ref().map(|chosen| chosen.address.clone());
    let Some(address) = address.or_else(|| given.address.clone()).or_else(|| connector.default_address())
    else {
        anyhow::bail!("connection {} has an address per environment: choose one with --env", connection.name)
    };
    if let Some(secret) = chosen.and_then(|chosen| chosen.secret) {
        given.auth = given.auth.with_secret(secret);
    }
    let placeholder = || -> anyhow::Result<Sync> {
        let object = match &connector {
            Connector::Http(http) => http.objects.keys().find(|name| *name != "*").cloned(),
            // Every org has contacts.
            Connector::Salesforce(_) => Some("Contact".to_owned()),
            Connector::Postgres => None,
        };
        Ok(serde_json::from_value(json!({
            "unload": "", "connection": connection.name, "object": object.unwrap_or_else(|| "contacts".to_owned()), "fields": {},
        }))?)
    };
    let unload: Unload = serde_json::from_value(json!({"location": ".", "primary_key": []}))?;
    Ok(ResolvedSync {
        name: sync.map_or_else(|| connection.name.clone(), |sync| sync.name.clone()),
        sync: sync.map_or_else(placeholder, |sync| Ok(sync.definition.clone()))?,
        unload,
        connection: given,
        connector,
        environment: environment.map(str::to_owned),
        address,
    })
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Accepted => "accepted",
        Verdict::Unauthorized => "unauthorized",
        Verdict::Throttled => "throttled",
        Verdict::Unavailable => "unavailable",
        Verdict::Refused => "refused",
    }
}

fn shown(connection: &str, probed: &Probed) -> serde_json::Value {
    json!({
        "connection": connection, "ok": probed.verdict == Verdict::Accepted, "verdict": word(probed.verdict),
        "request": probed.request, "status": probed.status, "said": probed.said,
    })
}

fn plain(connection: &str, definition: &ResolvedSync, probed: &Probed) -> String {
    let secret =
        definition.connection.auth.secret().map_or_else(|| "none".to_owned(), |secret| secret.describe());
    let status = probed.status.map(|status| format!(", status {status}")).unwrap_or_default();
    let advice = match probed.verdict {
        Verdict::Accepted => "the credential is accepted",
        Verdict::Unauthorized => {
            "the credential is refused, or may not do this: check the secret and what it is allowed to do"
        }
        Verdict::Throttled => {
            "too many requests at the moment: nothing is known of the credential; try again later"
        }
        Verdict::Unavailable => "the destination can't answer at the moment: try again later",
        Verdict::Refused => "the request is refused for another reason: check the address and the settings",
    };
    let mut lines = vec![
        format!("{connection}: {}", word(probed.verdict)),
        format!("  secret   {secret}"),
        format!("  sent     {}{status}", probed.request),
    ];
    lines.extend(probed.said.iter().map(|said| format!("  said     {said}")));
    lines.push(format!("  so       {advice}"));
    lines.join("\n") + "\n"
}
