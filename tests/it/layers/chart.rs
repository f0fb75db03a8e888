//! The chart of the layers in `ARCHITECTURE.md`.
//!
//! A line is a layer: its number, rooms with arrows, and words behind five spaces. `a -> b, c -> d; e` says that `a` may import `b`, `c`
//! and `d`, that `b` and `c` may import `d`, and that `e` stands alone.

use std::{collections::BTreeSet, fs};

use super::{imports::Module, root};

/// The rooms with their layers, and the imports within a layer.
pub struct Chart {
    rooms: Vec<(String, usize)>,
    arrows: BTreeSet<(String, String)>,
}

impl Chart {
    pub fn read() -> Self {
        let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
        let chart = text.split("```text\n").nth(1).and_then(|rest| rest.split("```").next());
        Chart::parse(chart.expect("ARCHITECTURE.md has a chart of the layers"))
    }

    pub fn parse(text: &str) -> Self {
        let mut chart = Chart { rooms: Vec::new(), arrows: BTreeSet::new() };
        for line in text.lines() {
            let (layer, rest) = line.split_once("  ").unwrap_or_else(|| panic!("no layer: {line}"));
            let layer: usize = layer.parse().unwrap_or_else(|_| panic!("no layer: {line}"));
            let rooms = rest.split("     ").next().unwrap_or_default();
            for chain in rooms.split(';') {
                let groups: Vec<Vec<String>> = chain
                    .split("->")
                    .map(|group| group.split(',').map(|room| room.trim().to_owned()).collect())
                    .collect();
                for (at, group) in groups.iter().enumerate() {
                    for room in group {
                        if !chart.rooms.iter().any(|(known, _)| known == room) {
                            chart.rooms.push((room.clone(), layer));
                        }
                        let below = groups[at + 1..].iter().flatten();
                        chart.arrows.extend(below.map(|below| (room.clone(), below.clone())));
                    }
                }
            }
        }
        assert!(!chart.rooms.is_empty(), "the chart has no rooms");
        chart
    }

    /// The room of a module: the first part of its path.
    pub fn room(&self, module: &Module) -> String {
        module.first().cloned().unwrap_or_else(|| "lib".into())
    }

    pub fn allows(&self, from: &Module, to: &Module) -> bool {
        let (from, to) = (self.room(from), self.room(to));
        if from == to || from == "lib" {
            return true;
        }
        let layer = |room: &String| {
            let found = self.rooms.iter().find(|(known, _)| known == room);
            found
                .unwrap_or_else(|| {
                    panic!("the chart in ARCHITECTURE.md has no room '{room}' (imported by another room)")
                })
                .1
        };
        layer(&to) < layer(&from) || layer(&to) == layer(&from) && self.arrows.contains(&(from, to))
    }
}
