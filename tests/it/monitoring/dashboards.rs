//! The queries of the dashboards, as Grafana would send them.

use serde_json::Value;
use std::collections::BTreeMap;

use crate::support::prometheus::Prometheus;

const FILES: [(&str, &str); 3] = [
    ("fleet", include_str!("../../../deploy/grafana/dashboards/fleet.json")),
    ("model", include_str!("../../../deploy/grafana/dashboards/model.json")),
    ("canary", include_str!("../../../deploy/grafana/dashboards/canary.json")),
];

/// A query of a panel or an annotation.
pub struct Query {
    /// Dashboard, title, and which of the panel's queries.
    pub place: String,
    pub expression: String,
}

/// A dashboard with the choices that have been made in it.
pub struct Dashboard {
    name: &'static str,
    json: Value,
    chosen: BTreeMap<String, String>,
}

/// All dashboards, as they open for a model: of what else there is to choose, what Grafana would take first.
pub async fn opened(prometheus: &Prometheus, model: &str) -> Vec<Dashboard> {
    let mut dashboards = Vec::new();
    for (name, text) in FILES {
        let mut dashboard = Dashboard { name, json: serde_json::from_str(text).unwrap(), chosen: BTreeMap::new() };
        for variable in dashboard.json["templating"]["list"].as_array().unwrap().clone() {
            dashboard.choose(prometheus, &variable, model).await;
        }
        dashboards.push(dashboard);
    }
    dashboards
}

impl Dashboard {
    async fn choose(&mut self, prometheus: &Prometheus, variable: &Value, model: &str) {
        let name = variable["name"].as_str().unwrap();
        if variable["type"] == "datasource" {
            return;
        }
        let query = self.filled(variable["query"]["query"].as_str().unwrap()).replace("$__range", "1h");
        let inner = |function: &str| query.strip_prefix(function)?.strip_suffix(')');
        let options = if let Some(asked) = inner("label_values(") {
            let (selector, label) = asked.rsplit_once(", ").unwrap();
            prometheus.label_values(selector, label).await
        } else {
            // The part of a series that the variable's expression takes.
            assert_eq!(variable["regex"], "/version=\"([^\"]+)\"/");
            let found = prometheus.query(inner("query_result(").unwrap()).await;
            found.into_iter().filter_map(|mut sample| sample.labels.remove("version")).collect()
        };
        assert!(!options.is_empty(), "{}: nothing to choose for ${name}: {query}", self.name);
        let first = match name {
            "model" => model.to_owned(),
            _ if variable["includeAll"] == true => variable["allValue"].as_str().unwrap().to_owned(),
            _ => options[0].clone(),
        };
        assert!(name != "model" || options.contains(&first), "{first} is not in {options:?}");
        self.chosen.insert(name.into(), first);
    }

    /// The choice for a variable.
    pub fn chosen(&self, name: &str) -> Option<&str> {
        self.chosen.get(name).map(String::as_str)
    }

    /// The queries of panels and annotations, but for intervals, which are the panel's.
    pub fn queries(&self) -> Vec<Query> {
        let panels = self.json["panels"].as_array().unwrap().iter();
        let of_panel = |panel: &Value| -> Vec<Query> {
            let targets = panel["targets"].as_array().into_iter().flatten();
            targets.map(|target| self.query(&panel["title"], &target["refId"], &target["expr"])).collect()
        };
        let annotations = self.json["annotations"]["list"].as_array().unwrap().iter();
        let of_annotations =
            annotations.map(|annotation| self.query(&annotation["name"], &"".into(), &annotation["expr"]));
        panels.flat_map(of_panel).chain(of_annotations).collect()
    }

    fn query(&self, title: &Value, letter: &Value, expression: &Value) -> Query {
        let place = format!("{} | {} {}", self.name, title.as_str().unwrap(), letter.as_str().unwrap());
        Query { place: place.trim_end().into(), expression: self.filled(expression.as_str().unwrap()) }
    }

    fn filled(&self, text: &str) -> String {
        let fill = |text: String, (name, value): (&String, &String)| text.replace(&format!("${name}"), value);
        self.chosen.iter().fold(text.into(), fill)
    }
}
