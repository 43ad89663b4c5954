"""The tables of bench/README.md, out of bench/results/*.json: of each CPU the newest record. Called by `record`."""

import glob
import json
import os
import statistics

BEGIN, END = "<!-- the tables: written by bench/record -->", "<!-- end of the tables -->"


def of_type(part):
    kind, threads, test = part.split("/")
    return kind, int(threads), test


def gigabytes(bytes_per_s):
    return f"{bytes_per_s / 1e9:.1f}"


def roof(record, threads, kind, what):
    """What the machine did at best: no engine can have done more."""
    seen = record["roof"][str(threads)]
    if what.startswith("prefill"):
        return seen[f"{kind}_macs_per_s"][1]
    best = seen["read_bytes_per_s"][1]
    for part, tests in record["parts"].items():
        if of_type(part)[1] == threads:
            for name, test in tests.items():
                # Several sequences together are bound by arithmetic, and their work is counted as Quipu does it.
                if name.startswith("decode"):
                    best = max([best, *(max(s) * test["work_per_token"] for s in test["samples"].values())])
    return best


def heading(cpu, record):
    ids = "".join(f", {key} {cpu[key]}" for key in ("family", "model") if cpu.get(key))
    caches = ", ".join(f"L{c['level']} {c['bytes'] >> 10:,} KB" for c in cpu["caches"])
    memory = record["memory"]
    lines = [f"### {cpu['name']}{ids}: {cpu['cpus']} CPUs{' of a virtual machine' if cpu['virtual'] else ''}", ""]
    total = f"{memory['total_bytes'] / 1e9:.0f} GB of memory" if memory["total_bytes"] else "memory unknown"
    pages = f", large pages: {memory['huge_pages']}" if memory["huge_pages"] else ""
    lines += [f"{caches}; {total}{pages}. {record['size'].upper()} shape; commit {record['commit']}, {record['date']}."]
    lines += ["; ".join(f"{name}: {version}" for name, version in record["engines"].items()) + "."]
    if "bits" in record:
        kinds = sorted({b["isa"] for b in record["bits"]["bits"]})
        verdict = "the same bits" if record["bits"]["same"] else "**different bits**"
        lines += [f"{', '.join(kinds)} with all numbers of threads: {verdict}."]
    lines += ["", "| threads | memory read, GB/s, at times and at best | int8 peak, GMAC/s, by type |", "|---|---|---|"]
    for threads, seen in sorted(record["roof"].items(), key=lambda item: int(item[0])):
        peaks = {what.removesuffix("_macs_per_s"): high for what, (_, high) in seen.items() if what.endswith("_macs_per_s")}
        shown = ", ".join(f"{kind} {high / 1e9:.0f}" for kind, high in peaks.items())
        low, _ = seen["read_bytes_per_s"]
        lines.append(f"| {threads} | {gigabytes(low)} to {gigabytes(roof(record, int(threads), '', 'decode'))} | {shown} |")
    return lines


def engines_beside(record):
    """Rows: a test by all engines."""
    rows, peers = [], [name for name in record["engines"] if name != "quipu"]
    # Parts that were measured later come last in a record; types keep the order in which they were first met.
    kinds = list(dict.fromkeys(of_type(part)[0] for part in record["parts"]))
    for part, tests in record["parts"].items():
        kind, threads, test = of_type(part)
        if test == "sequences":
            continue
        for name, found in tests.items():
            median = {engine: statistics.median(values) for engine, values in found["samples"].items()}
            if "quipu" not in median:
                continue
            share = 100 * median["quipu"] * found["work_per_token"] / roof(record, threads, kind, name)
            cells = [name, kind.upper(), str(threads), f"{median['quipu']:.1f}", f"{share:.0f} %"]
            for engine in peers:
                cells += [f"{median[engine]:.1f}", f"{median['quipu'] / median[engine]:.2f}"] if engine in median else ["", ""]
            rows.append((name.split()[0], "after" in name, kinds.index(kind), threads, cells))
    rows.sort(key=lambda row: row[:4])
    head = ["tokens/s", "type", "threads", "Quipu", "of the machine"] + [cell for name in peers for cell in (name, "Quipu : it")]
    return table(head, [row[4] for row in rows]) if rows else []


def sequences(record):
    rows, numbers = [], []
    for part, tests in record["parts"].items():
        kind, threads, test = of_type(part)
        if test == "sequences":
            speeds = {int(name.split()[0]): statistics.median(found["samples"]["quipu"]) for name, found in tests.items()}
            numbers = sorted({*numbers, *speeds})
            rows.append((kind, threads, speeds))
    cell = lambda n, speed: f"{speed:.0f} ({1e3 * n / speed:.1f})" if speed else ""
    cells = [[kind.upper(), str(threads), *(cell(n, speeds.get(n)) for n in numbers)] for kind, threads, speeds in rows]
    head = ["tokens/s of all (ms a step)", "threads", *(f"{n} sequences" if n > 1 else "1 sequence" for n in numbers)]
    return table(head, cells) if rows else []


def table(head, rows):
    return ["", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)] + ["| " + " | ".join(row) + " |" for row in rows]


def write(here):
    """Puts the tables between the marks."""
    text = []
    for path in sorted(glob.glob(os.path.join(here, "results", "*.json"))):
        with open(path) as file:
            log = json.load(file)
        record = max(log["records"], key=lambda record: record["date"])
        text += [*heading(log["cpu"], record), *engines_beside(record), *sequences(record)]
        if record["failures"]:
            text += ["", "Not measured: " + "; ".join(f"{what} ({why})" for what, why in record["failures"].items()) + "."]
        older = len(log["records"]) - 1
        text += ["", f"Older records of this CPU: {older}, in `results/{os.path.basename(path)}`." if older else
                 f"In `results/{os.path.basename(path)}`.", ""]
    path = os.path.join(here, "README.md")
    with open(path) as file:
        page = file.read()
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    page = "\n".join([before + BEGIN, "", *text, END + after])
    with open(path, "w") as file:
        file.write(page)
