//! `orders:` of the site file: how the numbers of orders are compared.

use serde::Deserialize;
use store::LongAccession;

/// How the numbers of orders are compared.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct OrdersConfig {
    /// What images carry of an accession number of more than 16 characters. Without it, only whole
    /// numbers are compared.
    long_accession: Option<Kept>,
}

/// Which part of a number is kept.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kept {
    /// The first 16 characters.
    First,
    /// The last 16 characters.
    Last,
}

impl OrdersConfig {
    /// The same as the store understands it.
    pub(crate) const fn long_accession(&self) -> LongAccession {
        match self.long_accession {
            None => LongAccession::Unknown,
            Some(Kept::First) => LongAccession::First,
            Some(Kept::Last) => LongAccession::Last,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hl7_41_a_site_says_how_long_accession_numbers_are_cut() {
        for (text, expected) in [
            ("{}", Some(LongAccession::Unknown)),
            ("{ long_accession: first }", Some(LongAccession::First)),
            ("{ long_accession: last }", Some(LongAccession::Last)),
            ("{ long_accession: middle }", None),
        ] {
            let found: Result<OrdersConfig, _> = serde_saphyr::from_str(text);
            assert_eq!(found.ok().map(|it| it.long_accession()), expected, "{text}");
        }
    }
}
