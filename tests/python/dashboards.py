"""The dashboards of deploy/grafana: Grafana's own types know every key and value, and what is in them fits together."""

import argparse
import enum
import json
import pathlib
import re
import typing

import typeguard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

# Those that Grafana goes on with: not graph, singlestat, table-old and the like.
PANELS = {"heatmap", "row", "stat", "table", "timeseries"}
UNITS = {"bytes", "cps", "none", "percentunit", "reqps", "s", "short", "watt"}
# Keys of annotations that belong to the data source, and are no part of Grafana's types.
OF_PROMETHEUS = {"step", "tagKeys", "textFormat", "titleFormat", "useValueForTime"}
# What the types leave as it is read.
UNREAD = {("Panel", "transformations")}
# Variables that Grafana has.
BUILT_IN = {"__all", "__interval", "__rate_interval", "__range", "__value"}


def lost(given, kept, path=""):
    """Where something was given that the types did not keep."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for key, value in given.items():
            if key not in kept:
                yield f"{path}.{key}"
            else:
                yield from lost(value, kept[key], f"{path}.{key}")
    elif isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        for index, (one, other) in enumerate(zip(given, kept)):
            yield from lost(one, other, f"{path}[{index}]")
    elif given != kept:
        yield f"{path}: {given!r} became {kept!r}"


def check_types(thing):
    """Every field holds what its annotation says."""
    if isinstance(thing, (list, tuple)):
        for item in thing:
            check_types(item)
    elif isinstance(thing, dict):
        check_types(list(thing.values()))
    elif type(thing).__module__.startswith("grafana_foundation_sdk.models") and hasattr(thing, "to_json"):
        hints = typing.get_type_hints(type(thing))
        for field, value in vars(thing).items():
            if (type(thing).__name__, field) in UNREAD:
                continue
            # Enumerations are read as the strings and numbers that they stand for.
            kinds = [kind for kind in (typing.get_args(hints[field]) or (hints[field],)) if isinstance(kind, enum.EnumMeta)]
            try:
                typeguard.check_type(kinds[0](value) if kinds and value is not None else value, hints[field])
            except (typeguard.TypeCheckError, ValueError) as error:
                raise AssertionError(f"{type(thing).__name__}.{field}: {error}") from None
            check_types(value)


def check_layout(panels):
    taken = {}
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                other = taken.setdefault((x, y), panel)
                assert other is panel, f"{panel['title']} lies over {other['title']}"


def check(dashboard):
    annotations = dashboard["annotations"]["list"]
    bare = dashboard | {
        "annotations": {"list": [{k: v for k, v in one.items() if k not in OF_PROMETHEUS} for one in annotations]}
    }
    parsed = Dashboard.from_json(bare)
    problems = list(lost(bare, json.loads(JSONEncoder().encode(parsed))))
    assert not problems, "\n".join(problems)
    check_types(parsed)

    panels = dashboard["panels"]
    assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1)), "ids count up"
    assert {panel["type"] for panel in panels} <= PANELS, {panel["type"] for panel in panels} - PANELS
    assert all(panel["title"] for panel in panels)
    check_layout(panels)
    for panel in panels:
        unit = panel.get("fieldConfig", {}).get("defaults", {}).get("unit", "none")
        assert unit in UNITS, f"{panel['title']}: {unit}"
        letters = [target["refId"] for target in panel.get("targets", [])]
        assert letters == sorted(set(letters)) and bool(letters) == (panel["type"] != "row"), panel["title"]

    text = json.dumps(dashboard)
    assert set(re.findall(r'"type": "prometheus", "uid": "([^"]*)"', text)) == {"${datasource}"}
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$(\w+)|\$\{(\w+)", text))
    used = {one or other for one, other in used}
    assert used - BUILT_IN == variables, used ^ variables


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    folder = parser.parse_args().folder
    register_default_plugins()
    dashboards = {path: json.loads(path.read_text()) for path in folder.glob("*.json")}
    assert len(dashboards) == 3, list(dashboards)
    for path, dashboard in dashboards.items():
        assert dashboard["uid"] == f"onnxd-{path.stem}" and dashboard["schemaVersion"] >= 39
        try:
            check(dashboard)
        except AssertionError as error:
            raise SystemExit(f"{path}: {error}")


main()
