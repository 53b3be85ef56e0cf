"""The table of what `benchmarks.suite` found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def table(found: dict[str, Any]) -> Iterator[str]:
    """Markdown: a line of what was measured where, the rates of the machine, and one row for each row of the suite."""
    builds, machine = found["builds"], found["machine"]
    against = f" beside {builds['other']}, in turn" if "other" in builds else ""
    yield f"`python -m benchmarks.suite`, {builds['this']}{against}, {found['date']}, {found['minutes']:g} minutes."
    if found["size"] != "usual":
        yield f"**Sizes are those of --{found['size']}.**"
    yield "\n".join(rates_of(machine))
    yield ""
    yield "| work | now | before | x as fast | aim | |"
    yield "|---|---|---|---|---|---|"
    for row in found["rows"]:
        yield f"| {row['what']} | {value_of(row)} | {text(row['before'])} | {text(row['faster'])} | {aim_of(row)} |"
    reasons = [row for row in found["rows"] if row["reasons"]]
    if reasons:
        yield "\nNot measured, or not by both builds:\n"
        seen = set()
        for row in reasons:
            for build, reason in row["reasons"].items():
                if (build, reason) not in seen:
                    seen.add((build, reason))
                    who = "" if build == "this" else ", the build before"
                    names = ", ".join(r["name"] for r in reasons if r["reasons"].get(build) == reason)
                    yield f"- {names}{who}: {reason}"
    if not all(row["same_picks"] for row in found["rows"]):
        names = ", ".join(row["name"] for row in found["rows"] if not row["same_picks"])
        yield f"\n**Other picks than the build before:** {names}."


def rates_of(machine: list[dict[str, Any]]) -> Iterator[str]:
    """One line of the machine, its rates as they were before and after."""
    yield machine[0].get("name", "a machine without rates: " + machine[0].get("reason", "")) + "."
    names = {
        "gemm_float32_gflops": "float32 products {} GFLOP/s",
        "gemm_float64_gflops": "float64 {} GFLOP/s",
        "copy_gbytes": "copies in memory {} GB/s",
        "write_gbytes": "to the disk {} GB/s",
        "import_torch_s": "`import torch` {} s",
        "python_s": "`python -c pass` {} s",
        "load": "load {}",
    }
    parts = []
    for name, words in names.items():
        values = [text(rates[name]) for rates in machine if rates.get(name) is not None]
        if values:
            parts.append(words.format(" and ".join(values)))
    yield "Before and after: " + ", ".join(parts) + "."


def value_of(row: dict[str, Any]) -> str:
    return "not measured" if row["value"] is None else f"**{text(row['value'])}** {row['unit']}"


def aim_of(row: dict[str, Any]) -> str:
    """Two cells: the aim, and how it stands."""
    if row["aim"] is None:
        return "– | "
    judged, met = row.get("judged"), row.get("met")
    if judged is None:
        return f"{row['aim']} | –"
    own = "" if judged == row["value"] else f" ({text(judged)})"
    return f"{row['aim']} | {'met' if met else '**missed**'}{own}"


def line_of(row: dict[str, Any]) -> str:
    """One row for the terminal."""
    line = f"{row['name']:14} {text(row['value']):>8} {row['unit']}"
    if row["before"] is not None:
        line += f"; before {text(row['before'])}"
    if row["faster"] is not None:
        line += f"; {text(row['faster'])} x as fast"
    if row.get("judged") is not None:
        line += f"; aim {row['aim']}: {'met' if row['met'] else 'MISSED'}"
        line += "" if row["judged"] == row["value"] else f" ({text(row['judged'])})"
    if not row["same_picks"]:
        line += "; OTHER PICKS"
    return line + "".join(f"\n{'':14} {build}: {reason}" for build, reason in row["reasons"].items())


def text(value: float | None) -> str:
    """Three digits."""
    return "–" if value is None else f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
