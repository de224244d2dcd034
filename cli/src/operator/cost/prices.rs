//! List prices.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

/// The price file: a region, a date, and a price for each thing that is charged.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Prices {
    /// The region of AWS.
    pub(crate) region: String,
    /// When the prices were read, `2025-06-01`.
    pub(crate) as_of: String,
    /// The currency of the prices.
    pub(crate) currency: String,
    /// Remarks for readers.
    pub(crate) note: String,
    prices: BTreeMap<String, Price>,
}

/// `usd` for `per` units.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Price {
    usd: f64,
    per: f64,
    unit: String,
    source: String,
}

impl Prices {
    /// The prices that come with the command.
    ///
    /// # Errors
    /// Never, as a test shows.
    pub(crate) fn built_in() -> Result<Self> {
        Self::read(include_str!("../../../data/prices.json"))
    }

    /// Reads a price file.
    ///
    /// # Errors
    /// With the place of the mistake, or the price that makes no sense.
    pub(crate) fn read(json: &str) -> Result<Self> {
        let prices: Self = serde_json::from_str(json).context("the price file cannot be read")?;
        for (name, price) in &prices.prices {
            ensure!(price.usd.is_finite() && price.usd >= 0.0, "the price of `{name}` is {}", price.usd);
            ensure!(price.per.is_finite() && price.per > 0.0, "the price of `{name}` is for {} {}", price.per, price.unit);
            ensure!(price.source.starts_with("https://"), "the price of `{name}` has no page that it is from");
        }
        Ok(prices)
    }

    /// The price of one unit.
    ///
    /// # Errors
    /// When the file has no such price.
    pub(crate) fn of(&self, name: &str) -> Result<f64> {
        let price = self.prices.get(name).with_context(|| format!("the price file has no price `{name}`"))?;
        Ok(price.usd / price.per)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_prices_are_read_and_a_missing_one_is_named() {
        let prices = Prices::built_in().unwrap();
        assert!((prices.of("sqs.request").unwrap() - 0.000_000_4).abs() < 1e-12);
        assert_eq!(prices.of("sqs.dream").unwrap_err().to_string(), "the price file has no price `sqs.dream`");
    }

    #[test]
    fn a_price_that_makes_no_sense_is_refused() {
        let file = |price: &str| format!(r#"{{"region":"r","asOf":"d","currency":"USD","note":"","prices":{{"a":{price}}}}}"#);
        assert!(Prices::read(&file(r#"{"usd":1,"per":1,"unit":"","source":"https://x"}"#)).is_ok());
        for (price, says) in [
            (r#"{"usd":-1,"per":1,"unit":"","source":"https://x"}"#, "the price of `a` is -1"),
            (r#"{"usd":1,"per":0,"unit":"calls","source":"https://x"}"#, "the price of `a` is for 0 calls"),
            (r#"{"usd":1,"per":1,"unit":"","source":""}"#, "the price of `a` has no page that it is from"),
            (r#"{"usd":null,"per":1,"unit":"","source":""}"#, "the price file cannot be read"),
            (r#"{"per":1,"unit":"","source":""}"#, "the price file cannot be read"),
        ] {
            assert_eq!(Prices::read(&file(price)).unwrap_err().to_string(), says);
        }
    }
}
