"""The examples in docstrings and in the README."""

import doctest
import importlib
import pkgutil
import unittest
from pathlib import Path

import quipu

README = Path(__file__).resolve().parents[2] / "README.md"


def load_tests(loader, tests, pattern):
    names = [name for _, name, _ in pkgutil.walk_packages(quipu.__path__, "quipu.") if not name.endswith("_quipu")]
    for name in ["quipu", *names]:
        tests.addTests(doctest.DocTestSuite(importlib.import_module(name)))
    return tests


class Readme(unittest.TestCase):
    def test_its_programs_run(self):
        programs = [part.split("```")[0] for part in README.read_text(encoding="utf-8").split("```python\n")[1:]]
        self.assertGreaterEqual(len(programs), 2)
        for program in programs:
            exec(compile(program, str(README), "exec"), {"__name__": "readme"})


if __name__ == "__main__":
    unittest.main()
