"""The instructions that a program executes in some of its functions, and how long a core of llvm-mca's would take for them."""

import collections
import os
import re
import shutil
import subprocess
import sys
import tempfile

# The features that the models of the cores leave out.
FEATURES = "-mattr=+dotprod,+i8mm,+fullfp16"
# Multiplications of bytes by an instruction.
MULTIPLICATIONS = {"sdot": 16, "smmla": 32, "smull": 8, "smull2": 8, "smlal": 8, "smlal2": 8}


def tool(name, *alternatives):
    """A program's path; LLVM's with or without a version."""
    names = [name] if alternatives or not name.startswith("llvm-") else [name + "-22", name]
    for candidate in names + list(alternatives):
        if path := shutil.which(candidate):
            return path
    sys.exit(f"{name} is missing: bench/mca/README.md says what to install")


def run(command, **more):
    done = subprocess.run(command, capture_output=True, text=True, **more)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


class Program:
    """A statically linked program for AArch64."""

    def __init__(self, path):
        self.path = path
        self.functions, self.instructions = {}, {}
        for line in run([tool("llvm-nm"), "-S", "--defined-only", path]).splitlines():
            if match := re.match(r"(\w+) (\w+) [tTwW] (\S+)$", line):
                self.functions[match[3]] = int(match[1], 16), int(match[2], 16)
        for line in run([tool("llvm-objdump"), "-d", "--no-show-raw-insn", path]).splitlines():
            if match := re.match(r"\s*(\w+):\s+(\S.*)$", line):
                # Where a jump goes does not matter to llvm-mca, which is given what was executed.
                text = re.sub(r"0x\w+ <.*>$", "#0", re.sub(r"\s*(//|;).*", "", match[2]))
                self.instructions[int(match[1], 16)] = text

    def executed(self, arguments, functions, entry):
        """The addresses of what runs in the functions whose name has the pattern, from the last time that `entry` is called.

        Functions of the C library that they call are not among it.
        """
        chosen = {name: at for name, at in self.functions.items() if re.search(functions, name)}
        starts = [at for name, (at, _) in chosen.items() if re.search(entry, name)]
        if not starts:
            sys.exit(f"{self.path} has no function {entry}")
        with tempfile.NamedTemporaryFile() as log:
            ranges = ",".join(sorted({f"{at:#x}+{size:#x}" for at, size in chosen.values()}))
            watch = ["-cpu", "max", "-singlestep", "-d", "exec,nochain", "-dfilter", ranges, "-D", log.name]
            run([tool("qemu-aarch64"), *watch, self.path, *arguments])
            with open(log.name) as lines:
                addresses = [int(line.split("/")[1], 16) for line in lines if line.startswith("Trace")]
        last = max((i for i, at in enumerate(addresses) if at in starts), default=None)
        if last is None:
            sys.exit(f"{entry} was not called")
        return addresses[last:]

    def text(self, addresses):
        return [self.instructions[at] for at in addresses]


def hottest_loop(program, addresses):
    """The addresses of a round of the innermost loop that multiplies most."""
    work = collections.Counter()
    rounds = {}
    heads = {}
    for i in range(1, len(addresses)):
        at = addresses[i]
        # A jump back within a function: the head of a loop.
        if at <= addresses[i - 1] < at + 0x4000:
            if at in heads:
                body = tuple(addresses[heads[at] : i])
                # Only innermost loops go straight from head to head.
                if all(a < b for a, b in zip(body, body[1:])):
                    work[body] += 1
                    rounds[body] = at
            heads[at] = i
    if not work:
        return []
    macs = {body: multiplications(program.text(body)) for body in work}
    return list(max(work, key=lambda body: work[body] * macs[body]))


def multiplications(instructions):
    """Products of bytes; `smull` and `smlal` multiply wider numbers, too."""
    count = 0
    for text in instructions:
        name, operands = (text.split(None, 1) + [""])[:2]
        if name in ("sdot", "smmla") or re.match(r"v\d+\.8h", operands):
            count += MULTIPLICATIONS.get(name, 0)
    return count


def cycles(core, instructions, rounds=1):
    """What the core takes for `rounds` rounds of the instructions, caches and predictions all hit."""
    command = [tool("llvm-mca"), "-mtriple=aarch64", "-mcpu=" + core, FEATURES, f"-iterations={rounds}"]
    command += ["-instruction-info=false", "-resource-pressure=false"]
    # Calls and returns, which nothing follows here, do not stop llvm-mca.
    return int(re.search(r"Total Cycles:\s+(\d+)", run(command, input="\n".join(instructions) + "\n"))[1])


def peak(core, name):
    """Multiplications per cycle of the core when it does nothing else."""
    shape = {"sdot": "4s, v30.16b, v31.16b", "smmla": "4s, v30.16b, v31.16b"}.get(name, "8h, v30.8b, v31.8b")
    rounds = 200
    stream = [f"{name} v{i}.{shape}" for i in range(24)]
    return MULTIPLICATIONS[name] * len(stream) * rounds / cycles(core, stream, rounds)
