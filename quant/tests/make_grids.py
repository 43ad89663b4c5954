#!/usr/bin/env python3
"""Prints src/stored/grids.rs: the points of the IQ types' grids, as the `gguf` package has them.

    pip install gguf numpy
    python3 make_grids.py > ../src/stored/grids.rs
"""

from gguf import quants

HEADER = '''//! The grids of the IQ types: which combinations of levels occur among 8, or 4, neighbouring weights.
//!
//! The numbers are ggml's (`iq1s_grid` and its like in `ggml-common.h`; `quants.py` of the `gguf` package): the points that its authors
//! found to matter most, so they follow no rule. Here a point is one number: of 8 weights with the levels 0 to 2, that of weight `k` in
//! bits `2k..2k + 2`; of 4 weights with the levels 0 to 7, that of weight `k` in bits `3k..3k + 3`, so that its octal digits are the levels,
//! the last weight's first. Each grid is in ascending order. What a level is worth depends on the type, see `iq`.
//!
//! Made by `tests/make_grids.py`.
'''


def table(name, note, kind):
    kind.init_grid()
    grid = kind.grid.reshape(kind.grid_shape)
    count, weights = grid.shape
    bits = 2 if weights == 8 else 3
    levels = list(kind.grid_map)
    points = [sum(levels.index(int(v)) << bits * k for k, v in enumerate(row)) for row in grid]
    assert points == sorted(points)
    numbers = [f"0x{p:04x}" if bits == 2 else f"0o{p:04o}" for p in points]
    lines = [", ".join(numbers[i : i + 14]) + "," for i in range(0, count, 14)]
    print(f"\n/// {note}\npub(super) static {name}: [u16; {count}] = [")
    print("\n".join("    " + line for line in lines))
    print("];")


print(HEADER, end="")
table("IQ1", "IQ1_S and IQ1_M: 8 weights.", quants.IQ1_S)
table("IQ2_XXS", "IQ2_XXS: 8 weights.", quants.IQ2_XXS)
table("IQ2_XS", "IQ2_XS: 8 weights.", quants.IQ2_XS)
table("IQ2_S", "IQ2_S: 8 weights.", quants.IQ2_S)
table("IQ3_XXS", "IQ3_XXS: 4 weights.", quants.IQ3_XXS)
table("IQ3_S", "IQ3_S: 4 weights.", quants.IQ3_S)
