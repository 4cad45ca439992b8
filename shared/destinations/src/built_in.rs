//! The connectors that come with Penstock.

use penstock_model::connector::{Connector, HttpConnector};
use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::Value;

/// The names of all built-in connectors.
pub const BUILT_IN: &[&str] = &[
    "amplitude",
    "braze",
    "customerio",
    "hubspot",
    "iterable",
    "mailchimp",
    "mixpanel",
    "postgres",
    "salesforce",
];

/// The built-in connector of this name.
#[must_use]
pub fn built_in(name: &str) -> Option<Connector> {
    match name {
        "postgres" => Some(Connector::Postgres),
        "salesforce" => match http(include_str!("connectors/salesforce.yaml"))? {
            Connector::Http(connector) => Some(Connector::Salesforce(connector)),
            other @ (Connector::Postgres | Connector::Salesforce(_)) => Some(other),
        },
        _ => http(file(name)?),
    }
}

/// The connector file of this name.
fn file(name: &str) -> Option<&'static str> {
    match name {
        "amplitude" => Some(include_str!("connectors/amplitude.yaml")),
        "braze" => Some(include_str!("connectors/braze.yaml")),
        "customerio" => Some(include_str!("connectors/customerio.yaml")),
        "hubspot" => Some(include_str!("connectors/hubspot.yaml")),
        "iterable" => Some(include_str!("connectors/iterable.yaml")),
        "mailchimp" => Some(include_str!("connectors/mailchimp.yaml")),
        "mixpanel" => Some(include_str!("connectors/mixpanel.yaml")),
        _ => None,
    }
}

/// Reads a connector file.
pub(crate) fn http(file: &str) -> Option<Connector> {
    let documents = Yaml::load_from_str(file).ok()?;
    let connector: HttpConnector = serde_json::from_value(json(documents.first()?)?).ok()?;
    Some(Connector::Http(Box::new(connector)))
}

fn json(yaml: &Yaml<'_>) -> Option<Value> {
    Some(match yaml {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(value)) => Value::Bool(*value),
        Yaml::Value(Scalar::Integer(value)) => Value::from(*value),
        Yaml::Value(Scalar::FloatingPoint(value)) => Value::from(value.into_inner()),
        Yaml::Value(Scalar::String(text)) => Value::from(text.as_ref()),
        Yaml::Sequence(items) => Value::Array(items.iter().map(json).collect::<Option<_>>()?),
        Yaml::Mapping(members) => {
            let member = |(name, value)| {
                let name = match json(name)? {
                    Value::String(name) => name,
                    // Statuses are numbers in YAML.
                    Value::Number(name) => name.to_string(),
                    Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
                };
                Some((name, json(value)?))
            };
            Value::Object(members.iter().map(member).collect::<Option<_>>()?)
        }
        Yaml::Representation(..) | Yaml::Tagged(..) | Yaml::Alias(_) | Yaml::BadValue => return None,
    })
}

#[cfg(test)]
mod tests {
    use penstock_model::operation::OperationKind;

    use super::*;

    #[test]
    fn every_built_in_connector_is_there_and_right() {
        for name in BUILT_IN {
            let connector = built_in(name).unwrap_or_else(|| panic!("{name} can't be read"));
            assert_eq!(connector.validate(), Vec::new(), "{name}");
        }
        assert_eq!(built_in("nope"), None);
    }

    #[test]
    fn connectors_survive_being_pinned_into_a_run() {
        let connector = built_in("hubspot").unwrap();
        let pinned = serde_json::to_string(&connector).unwrap();
        assert_eq!(serde_json::from_str::<Connector>(&pinned).unwrap(), connector);
    }

    #[test]
    fn hubspot_archives_by_id_only_and_finds_it() {
        let Some(Connector::Http(mut hubspot)) = built_in("hubspot") else { panic!("a file describes it") };
        let needing = |hubspot: &HttpConnector| -> Vec<_> {
            let operations = hubspot.capabilities("contacts").unwrap().operations;
            operations.into_iter().filter(|(_, it)| it.needs_id).map(|(kind, _)| kind).collect()
        };
        assert_eq!(needing(&hubspot), []);
        hubspot.reads.clear();
        assert_eq!(needing(&hubspot), [OperationKind::Archive]);
    }
}
