use super::Architecture;

/// What AWS asks for one thing, in dollars, and where it says so.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Price {
    /// For one.
    pub dollars: f64,
    /// AWS's page.
    pub page: &'static str,
    /// How the figure was checked at the table's date.
    pub seen: Seen,
}

/// How a price was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// In a stored copy of AWS's page itself.
    OnThePage,
    /// As others quote it from there: the page's own figures are filled in by a script, and no copy has them.
    Quoted,
}

/// AWS's list prices of one day in one region, without free tiers and discounts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prices {
    /// When they were looked up.
    pub date: &'static str,
    /// Where they hold.
    pub region: &'static str,
    /// A GB-second of Lambda on arm64, in the first tier: up to 7.5 billion a month.
    pub gb_second_arm64: Price,
    /// A GB-second of Lambda on x86-64, in the first tier: up to 6 billion a month.
    pub gb_second_x86_64: Price,
    /// An invocation of Lambda.
    pub invocation: Price,
    /// A GET or HEAD of S3 Standard.
    pub read: Price,
    /// A PUT or LIST of S3 Standard.
    pub write: Price,
    /// A transition of a state machine of type STANDARD.
    pub transition: Price,
}

impl Prices {
    /// A GB-second on these processors.
    #[must_use]
    pub const fn gb_second(&self, architecture: Architecture) -> Price {
        match architecture {
            Architecture::Arm64 => self.gb_second_arm64,
            Architecture::X86_64 => self.gb_second_x86_64,
        }
    }

    /// Every price.
    #[must_use]
    pub const fn all(&self) -> [Price; 6] {
        [self.gb_second_arm64, self.gb_second_x86_64, self.invocation, self.read, self.write, self.transition]
    }
}

const LAMBDA: &str = "https://aws.amazon.com/lambda/pricing/";
const S3: &str = "https://aws.amazon.com/s3/pricing/";
const STEP_FUNCTIONS: &str = "https://aws.amazon.com/step-functions/pricing/";

const fn on_the_page(dollars: f64, page: &'static str) -> Price {
    Price { dollars, page, seen: Seen::OnThePage }
}

const fn quoted(dollars: f64, page: &'static str) -> Price {
    Price { dollars, page, seen: Seen::Quoted }
}

/// The prices that this build reckons with. Whoever changes one looks all of them up again, and changes the date.
pub const PRICES: Prices = Prices {
    date: "2026-11-27",
    region: "us-east-1",
    gb_second_arm64: quoted(0.000_013_333_4, LAMBDA),
    gb_second_x86_64: quoted(0.000_016_666_7, LAMBDA),
    invocation: on_the_page(0.000_000_2, LAMBDA),
    read: quoted(0.000_000_4, S3),
    write: quoted(0.000_005, S3),
    transition: on_the_page(0.000_025, STEP_FUNCTIONS),
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_price_is_a_fraction_of_a_dollar_and_says_where_it_stands() {
        for price in PRICES.all() {
            assert!(price.dollars > 0.0 && price.dollars < 0.001, "{price:?}");
            assert!(price.page.starts_with("https://aws.amazon.com/"), "{price:?}");
        }
        assert_eq!(PRICES.date.len(), "2026-11-27".len());
    }
}
