//! `penstock twin`.

use std::process::ExitCode;

use penstock_twins::{HubSpotTwin, Kind, Property, RunningTwin};

use crate::args;

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

/// Serves a simulator on loopback until the process is ended.
///
/// # Errors
/// If the port can't be had.
pub async fn serve(args: args::Twin) -> anyhow::Result<ExitCode> {
    let running = RunningTwin::start(hubspot(&args.token), args.port).await?;
    println!("a HubSpot twin answers at {} with token {}", running.address(), args.token);
    std::future::pending::<()>().await;
    Ok(ExitCode::SUCCESS)
}
