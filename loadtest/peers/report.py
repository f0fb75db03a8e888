"""What was measured, as Markdown."""

from __future__ import annotations

from typing import Any

RATE, CPU, P50, P99 = "requests per second", "server CPU us per request", "p50 ms", "p99 ms"


def markdown(report: dict[str, Any]) -> str:
    """The report for people."""
    machine = report["machine"]
    lines = [
        f"{machine['cpu']}, {machine['cpus']} CPUs, {machine['system']}; {report['onnxd']}; {report['rounds']} rounds of "
        f"{report['seconds']:g} s each, in turns; medians, ratios as geometric means with their 95 % confidence intervals.",
        "",
        "| peer | protocol | clients | req/s onnxd | req/s peer | ratio | CPU us/req onnxd | CPU us/req peer | ratio "
        "| p50 ms | peer | p99 ms | peer | failed |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for peer in report["peers"]:
        for measured in peer.get("measured", []):
            lines += [row(peer, measured["protocol"], level) for level in measured["levels"]]
    lines.append("")
    for peer in report["peers"]:
        lines += about(peer)
    return "\n".join(lines)


def row(peer: dict[str, Any], protocol: str, level: dict[str, Any]) -> str:
    """A level of load."""
    ratios = {ratio["measure"]: ratio for ratio in level["ratios"]}
    cells = [peer["name"], protocol, str(level["clients"])]
    for measure, digits in [(RATE, 0), (CPU, 1)]:
        cells += [*both(ratios, measure, digits), told(ratios.get(measure))]
    cells += [*both(ratios, P50, 2), *both(ratios, P99, 2), str(level["failed"])]
    return f"| {' | '.join(cells)} |"


def both(ratios: dict[str, Any], measure: str, digits: int) -> list[str]:
    """The medians of onnxd and the peer."""
    ratio = ratios.get(measure)
    return [f"{ratio[side]:.{digits}f}" if ratio else "?" for side in "ab"]


def told(ratio: dict[str, Any] | None) -> str:
    """A ratio and where it lies."""
    return f"{ratio['ratio']:.2f} ({ratio['low']:.2f}-{ratio['high']:.2f})" if ratio else "?"


def about(peer: dict[str, Any]) -> list[str]:
    """How a peer was set, or why it was not measured."""
    settings = ", ".join(f"{name} {value}" for name, value in peer["settings"].items())
    server = f" ({peer['server']})" if peer.get("server") else ""
    lines = [f"- {peer['name']}, package {peer.get('version', 'not installed')}{server}: {settings}."]
    if "difference" in peer:
        lines[0] += f" Answers differ from onnxd's by at most {peer['difference']:.1e}."
    if "idle_cpu" in peer:
        lines[0] += f" CPUs taken while idle: {peer['idle_cpu']:.3f} (onnxd {peer['idle_cpu_onnxd']:.3f})."
    if peer.get("not_counted"):
        lines.append(f"  Processes whose CPU time was not counted: {'; '.join(peer['not_counted'])}")
    if "failure" in peer:
        lines.append(f"  Not measured: {peer['failure']}")
    return lines
