use std::sync::LazyLock;

use serde::Deserialize;

/// List prices in dollars, as `infra/cli/prices.json` has them with their date and sources.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// When they were looked up.
    pub date: String,
    /// Where they hold.
    pub region: String,
    /// Where they stand.
    pub sources: Vec<String>,
    /// A GB-second of Lambda on arm64, which the template takes.
    pub lambda_gb_second_arm64: f64,
    /// A GB-second of Lambda on x86-64.
    pub lambda_gb_second_x86_64: f64,
    /// An invocation.
    pub lambda_request: f64,
    /// A GET or HEAD of S3.
    pub s3_read: f64,
    /// A PUT or LIST of S3.
    pub s3_write: f64,
    /// A transition of a STANDARD state machine.
    pub state_transition: f64,
}

static PRICES: LazyLock<Prices> = LazyLock::new(|| {
    let text = include_str!("../../prices.json");
    #[expect(clippy::expect_used, reason = "part of this build; a test reads it")]
    serde_json::from_str(text).expect("prices.json is what this build reads")
});

/// The prices of this build.
#[must_use]
pub fn prices() -> &'static Prices {
    &PRICES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_can_be_read_and_says_when_and_where() {
        let prices = prices();
        assert_eq!(prices.date.len(), "2026-11-27".len());
        assert!(prices.sources.iter().all(|source| source.starts_with("https://aws.amazon.com/")));
        assert!(prices.lambda_gb_second_x86_64 > prices.lambda_gb_second_arm64);
    }
}
