#!/usr/bin/env python3
"""Draws a dashboard's panels without Grafana: their queries, asked of a Prometheus, drawn by matplotlib where the panels lie.

    pip install matplotlib
    deploy/demo --seconds 88           in another terminal; it prints the address of its Prometheus
    deploy/grafana/render.py --prometheus http://127.0.0.1:PORT --seconds 76 --output docs/canary.png

It shows what the queries give, not how Grafana looks.
"""

import argparse
import datetime
import io
import json
import pathlib
import re
import time
import urllib.parse
import urllib.request

import matplotlib

matplotlib.use("Agg")
from matplotlib import dates, pyplot, ticker  # noqa: E402
from PIL import Image  # noqa: E402

UNIT, WIDTH = 0.3, 14
COLOURS = ["#3274d9", "#ff780a", "#56a64b", "#8f3bb8", "#e02f44", "#37872d"]
NAMED = {"blue": "#3274d9", "orange": "#ff780a", "purple": "#8f3bb8"}


class Prometheus:
    def __init__(self, url, begin, end, step):
        self.url, self.begin, self.end, self.step = url, begin, end, step

    def ask(self, path, **asked):
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(asked)}") as answer:
            return json.load(answer)["data"]["result"]

    def now(self, query):
        return self.ask("query", query=query, time=self.end)

    def over_time(self, query):
        return self.ask("query_range", query=query, start=self.begin, end=self.end, step=self.step)


def filled(text, chosen):
    for name, value in chosen.items():
        text = text.replace(f"${name}", value)
    return text


def choose(prometheus, dashboard, model):
    """What the dashboard opens with: of each variable the first, or all."""
    # Windows of rates: four scrapes of the demonstration and some more, as Grafana would choose.
    chosen = {"__rate_interval": "10s", "__range": f"{prometheus.end - prometheus.begin:.0f}s"}
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "datasource":
            continue
        asked = re.fullmatch(r"(\w+)\((.*)\)", filled(variable["query"]["query"], chosen))[2]
        if variable.get("includeAll"):
            chosen[variable["name"]] = variable["allValue"]
        elif variable["name"] == "model":
            chosen["model"] = model
        else:
            chosen[variable["name"]] = prometheus.now(asked)[0]["metric"]["version"]
    return chosen


def shown(value, unit):
    if value != value:
        return "-"
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "s":
        return f"{value * 1e6:.3g} us" if value < 1e-3 else f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"
    return f"{value:.3g}" + (" /s" if unit == "reqps" else "")


def colour_of(panel, name, index):
    for override in panel["fieldConfig"]["overrides"]:
        if re.search(override["matcher"]["options"].strip("/"), name):
            for prop in override["properties"]:
                if prop["id"] == "color":
                    return NAMED[prop["value"]["fixedColor"]]
    return COLOURS[index % len(COLOURS)]


def legend_of(target, series):
    return re.sub(r"{{(\w+)}}", lambda found: series["metric"].get(found[1], ""), target.get("legendFormat", ""))


def clock(seconds):
    return datetime.datetime.fromtimestamp(seconds)


def stat(axes, panel, prometheus, chosen, _):
    unit = panel["fieldConfig"]["defaults"].get("unit")
    axes.axis("off")
    for index, target in enumerate(panel["targets"]):
        found = prometheus.now(filled(target["expr"], chosen))
        value = float(found[0]["value"][1]) if found else float("nan")
        name, height = target["legendFormat"], 0.68 - 0.48 * index
        axes.text(0.06, height, name, transform=axes.transAxes, fontsize=9, color="#555555", va="center")
        colour = colour_of(panel, name, index)
        axes.text(0.94, height, shown(value, unit), transform=axes.transAxes, fontsize=17, color=colour, ha="right", va="center")


def lines(axes, panel, prometheus, chosen, marks):
    defaults = panel["fieldConfig"]["defaults"]
    index = 0
    for target in panel["targets"]:
        for series in prometheus.over_time(filled(target["expr"], chosen)):
            name = legend_of(target, series)
            points = [(clock(float(at)), float(value)) for at, value in series["values"]]
            dashed = name.endswith(" wanted")
            style = {"linestyle": (0, (5, 3)), "drawstyle": "steps-post"} if dashed else {}
            axes.plot(*zip(*points), color=colour_of(panel, name, index), label=name, linewidth=1.2, **style)
            index += 1
    for at, colour in marks:
        axes.axvline(clock(at), color=colour, linewidth=0.9, linestyle=(0, (2, 2)))
    top = axes.get_ylim()[1] if index else 1
    axes.set_ylim(0, defaults.get("max", top) * 1.03)
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: shown(value, defaults.get("unit"))))
    if index:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=4, fontsize=8, frameon=False)
    else:
        axes.text(0.5, 0.5, "No data: it did not happen", transform=axes.transAxes, ha="center", va="center", fontsize=9, color="#777777")


def heatmap(axes, panel, prometheus, chosen, marks):
    found = prometheus.over_time(filled(panel["targets"][0]["expr"], chosen))
    buckets = sorted((float(series["metric"]["le"]), dict(series["values"])) for series in found)
    times = sorted({at for _, values in buckets for at in values})
    counts, below = [], {}
    for _, values in buckets:
        counts.append([max(float(values.get(at, 0)) - float(below.get(at, 0)), 0) or float("nan") for at in times])
        below = values
    # Only bounds that something lies under, and above.
    used = [index for index, row in enumerate(counts) if any(value == value for value in row)] or [0]
    rows = range(max(used[0] - 1, 0), min(used[-1] + 2, len(counts)))
    moments = [dates.date2num(clock(float(at))) for at in times]
    axes.pcolormesh(moments, list(rows), [counts[row] for row in rows], cmap="Blues", shading="nearest")
    axes.set_yticks([row + 0.5 for row in rows], ["above" if buckets[row][0] == float("inf") else shown(buckets[row][0], "s") for row in rows])
    for at, colour in marks:
        axes.axvline(clock(at), color=colour, linewidth=0.9, linestyle=(0, (2, 2)))


def annotations(prometheus, dashboard, chosen):
    marks = set()
    for annotation in dashboard["annotations"]["list"]:
        # The other kind marks spans.
        if annotation.get("useValueForTime") == "on":
            for series in prometheus.over_time(filled(annotation["expr"], chosen)):
                marks |= {(float(value) / 1000, NAMED[annotation["iconColor"]]) for _, value in series["values"]}
    return [(at, colour) for at, colour in sorted(marks) if at > prometheus.begin]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prometheus", required=True, metavar="URL")
    parser.add_argument("--dashboard", default="canary")
    parser.add_argument("--model", default="purchase")
    parser.add_argument("--seconds", type=float, default=300, help="how much of the past is drawn")
    parser.add_argument("--output", type=pathlib.Path, required=True)
    options = parser.parse_args()
    path = pathlib.Path(__file__).parent / "dashboards" / f"{options.dashboard}.json"
    dashboard = json.loads(path.read_text())
    now = time.time()
    prometheus = Prometheus(options.prometheus, now - options.seconds, now, max(1, round(options.seconds / 250)))
    chosen = choose(prometheus, dashboard, options.model)
    marks = annotations(prometheus, dashboard, chosen)

    panels = dashboard["panels"]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) * UNIT
    pyplot.rcParams.update({"font.size": 8, "axes.edgecolor": "#bbbbbb", "xtick.color": "#555555", "ytick.color": "#555555"})
    figure = pyplot.figure(figsize=(WIDTH, height + 0.4), facecolor="#f4f5f5")
    title = ", ".join(f"{name} {chosen[name]}" for name in ("model", "stable", "canary") if name in chosen)
    figure.text(0.01, 1 - 0.2 / (height + 0.4), f"{dashboard['title']}   ({title})", fontsize=12, va="center", weight="bold")
    kinds = {"stat": stat, "timeseries": lines, "heatmap": heatmap}
    for panel in panels:
        place = panel["gridPos"]
        left, width = place["x"] / 24, place["w"] / 24
        top, tall = 1 - (place["y"] * UNIT + 0.4) / (height + 0.4), place["h"] * UNIT / (height + 0.4)
        if panel["type"] == "row":
            figure.text(left + 0.006, top - tall / 2, panel["title"], fontsize=10, va="center", weight="bold")
            continue
        box = pyplot.Rectangle((left + 0.003, top - tall + 0.002), width - 0.006, tall - 0.004, facecolor="white", edgecolor="#dddddd", zorder=-1)
        figure.add_artist(box)
        figure.text(left + 0.009, top - 0.011, panel["title"], fontsize=9, va="center")
        inset = 0.006 if panel["type"] == "stat" else 0.045
        below = 0.004 if panel["type"] == "stat" else 0.032
        axes = figure.add_axes((left + inset, top - tall + below, width - inset - 0.012, tall - below - 0.022))
        kinds[panel["type"]](axes, panel, prometheus, chosen, marks)
        if panel["type"] != "stat":
            axes.set_xlim(clock(prometheus.begin), clock(prometheus.end))
            axes.xaxis.set_major_locator(dates.AutoDateLocator(minticks=3, maxticks=7))
            axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M:%S"))
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", color="#eeeeee")
            axes.set_axisbelow(True)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=100)
    # A few colours are all that is in it.
    Image.open(drawn).convert("RGB").quantize(64).save(options.output, optimize=True)


main()
