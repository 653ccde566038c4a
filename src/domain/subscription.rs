//! What a subscription asks for, and whom a filter lets through.

use super::incident::Impact;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

names!(
    /// Which news of an incident a subscriber wants.
    Events {
        /// Every change.
        All = "all",
        /// The first mail and the end, and a relapse after it.
        BeginAndEnd = "begin_and_end",
        /// Nothing; the subscription is kept for later.
        None = "none",
    }
);

/// Whether news of this impact reaches a subscription that asks for at least `least`. Planned work is no degree of
/// harm: it counts like `minor`.
#[must_use]
pub fn reaches(impact: Impact, least: Impact) -> bool {
    let degree = |of| if of == Impact::Maintenance { Impact::Minor } else { of };
    degree(impact) >= degree(least)
}

/// Attributes that a subscriber must have: under each of the names one of its values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Filter(pub BTreeMap<String, Vec<String>>);

impl Filter {
    /// The name with the fewest values. Whoever matches has one of them, so these values' subscribers are all there
    /// is to read.
    #[must_use]
    pub fn leading(&self) -> (&str, &[String]) {
        let fewest = self.0.iter().min_by_key(|(_, values)| values.len());
        fewest.map_or(("", &[]), |(name, values)| (name, values))
    }

    /// Every name with every value.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().flat_map(|(name, values)| values.iter().map(move |value| (name.as_str(), value.as_str())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planned_work_counts_like_a_minor_incident() {
        let reached =
            |least| Impact::ALL.iter().filter(|i| reaches(**i, least)).map(|i| i.as_str()).collect::<Vec<_>>();
        assert_eq!(reached(Impact::None), ["none", "minor", "major", "critical", "maintenance"]);
        assert_eq!(reached(Impact::Minor), ["minor", "major", "critical", "maintenance"]);
        assert_eq!(reached(Impact::Major), ["major", "critical"]);
        assert_eq!(reached(Impact::Critical), ["critical"]);
    }

    #[test]
    fn the_name_with_the_fewest_values_leads() {
        let filter: Filter = serde_json::from_str(r#"{"app": ["x", "y"], "region": ["eu"]}"#).unwrap();
        assert_eq!(filter.leading(), ("region", &["eu".to_owned()][..]));
        assert_eq!(filter.pairs().collect::<Vec<_>>(), [("app", "x"), ("app", "y"), ("region", "eu")]);
    }
}
