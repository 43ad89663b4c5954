#!/usr/bin/env python3
"""A checkpoint of Llama 3.2 1B's shape converts within a small memory, and runs.

    convert_memory.py QUIPU MAKE_LLAMA32.py SCRATCH

Makes the checkpoint (2.5 GB, random weights) with MAKE_LLAMA32.py in SCRATCH, converts it to q4_0 while watching the converter's anonymous memory
(RssAnon of /proc/PID/status: everything but the mapped input), and lets the result write a few tokens.
Every line starts with `ok:` or `FAILED:`. Removes what it made.
"""
import json
import pathlib
import shutil
import subprocess
import sys
import time

LIMIT = 1200 * 10**6


def watch(command: list[str]) -> tuple[int, int, float, str]:
    """Exit code, peak RssAnon in bytes, seconds and stderr of a command."""
    start, peak = time.monotonic(), 0
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while process.poll() is None:
        try:
            for line in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    peak = max(peak, int(line.split()[1]) * 1024)
        except OSError:
            pass
        time.sleep(0.005)
    return process.returncode, peak, time.monotonic() - start, process.stderr.read()


def main() -> int:
    quipu, maker, scratch = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    failures = 0
    source, out = scratch / "llama32-1b", scratch / "llama32-1b.gguf"
    try:
        subprocess.run([sys.executable, maker, "1b", str(source)], check=True, stdout=subprocess.DEVNULL)
        code, peak, seconds, errors = watch([quipu, "convert", str(source), "-o", str(out), "--type", "q4_0"])
        good = code == 0 and peak < LIMIT
        failures += not good
        print(f"{'ok' if good else 'FAILED'}: 1B-shaped checkpoint to q4_0: peak {peak / 1e6:.0f} MB beyond the mapped input "
              f"(limit {LIMIT / 1e6:.0f}), {seconds:.1f} s" + ("" if code == 0 else f", exit {code}: {errors.strip()[-300:]}"), flush=True)
        if code != 0:
            return 1
        done = subprocess.run([quipu, "run", str(out), "Hello", "-n", "8", "--temp", "0", "-c", "256", "--json"],
                              capture_output=True, text=True, stdin=subprocess.DEVNULL)
        try:
            result = json.loads(done.stdout)
            good = done.returncode == 0 and 0 < len(result["tokens"]) <= 8
            what = f"{len(result['tokens'])} tokens"
        except (ValueError, KeyError):
            good, what = False, f"exit {done.returncode}: {done.stderr.strip()[-300:]}"
        failures += not good
        print(f"{'ok' if good else 'FAILED'}: 1B-shaped model in q4_0 runs: {what}", flush=True)
    finally:
        shutil.rmtree(source, ignore_errors=True)
        out.unlink(missing_ok=True)
    return failures != 0


if __name__ == "__main__":
    sys.exit(main())
