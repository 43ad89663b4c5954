#!/usr/bin/env python3
"""Renders small templates with jinja2, in the environment that Hugging Face makes for chat templates, for runtime/tests/jinja.rs to
compare with.

    jinja_reference.py OUT.json [RANDOM COUNT SEED]

OUT.json gets the variables, and for each template its source and its text, or null where it fails. tests/data/templates/jinja.json is
this script's output; with COUNT and SEED it makes so many random templates besides. Needs jinja2 and transformers (without torch).
"""

import copy
import json
import os
import pathlib
import random
import sys
import warnings

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
warnings.simplefilter("ignore")

import jinja2
from transformers.utils import chat_template_utils

VARIABLES = {
    "s": "  Hello, World's\tend\n",
    "t": "aXbXc",
    "u": "ǆ ŉo ß ﬁn Σίσυφος İı éÉ",
    "e": "",
    "n": 42,
    "f": -3.14159,
    "z": None,
    "yes": True,
    "l": [3, 1, 2, 1],
    "w": ["b", "A", "c", "a"],
    "d": {"a": 1, "b": "x", "items": "mine", "n": None},
    "m": [{"role": "user", "content": " Hi "}, {"role": "tool", "content": "x</think>y"}, {"role": "user", "content": "é\n"}],
}

# One row for each thing that Hugging Face's sandbox gives; the right side of a method call is what stands in the parentheses.
STRING_METHODS = {
    "capitalize": [""], "casefold": [""], "lower": [""], "upper": [""], "swapcase": [""], "title": [""],
    "center": ["20", "21, '*'", "2", "'x'", "20, 'ab'"], "ljust": ["20", "20, '.'"], "rjust": ["20", "21, '.'"],
    "zfill": ["10", "2"], "expandtabs": ["", "4", "0"],
    "count": ["'X'", "'l', 3", "'l', 3, 6", "''"], "find": ["'X'", "'l', 5", "'l', -4", "'zz'", "''", "'', 99"],
    "rfind": ["'X'", "'l', 1, 5", "''"], "index": ["'X'", "'zz'"], "rindex": ["'X'", "'zz'"],
    "startswith": ["'a'", "('q', ' ')", "'X', 1", "['a']", "3"], "endswith": ["'c'", "('q', '\n')", "'X', 0, 4", "''"],
    "strip": ["", "'a'", "'ca'", "none"], "lstrip": ["", "' H'"], "rstrip": ["", "'c'"],
    "removeprefix": ["'aX'", "'b'", "''"], "removesuffix": ["'c'", "''", "'a'"],
    "partition": ["'X'", "'zz'", "''"], "rpartition": ["'X'", "'zz'"],
    "split": ["", "'X'", "'X', 1", "none, 1", "'zz'", "''", "sep='X', maxsplit=1", "maxsplit=1"],
    "rsplit": ["", "'X'", "'X', 1", "none, 1", "maxsplit=1"], "splitlines": ["", "true"],
    "replace": ["'X', '-'", "'X', '-', 1", "'', '-'", "'', '-', 2", "'X', ''", "'X'"],
    "join": ["['1', '2']", "w", "[1]", "'xyz'"],
    "isalnum": [""], "isalpha": [""], "isascii": [""], "isdecimal": [""], "isdigit": [""], "isidentifier": [""],
    "islower": [""], "isnumeric": [""], "isprintable": [""], "isspace": [""], "istitle": [""], "isupper": [""],
    "format": ["1"], "format_map": ["d"],
}
SUBJECTS = ["s", "t", "u", "e", "'+7'", "'-0042'", "'½²٣'", "'Title Case'", "'x\u2028y\x1cz\r\nw\\v'", "'ab cd  ef'", "' '", "'É'"]

EXPRESSIONS = [
    # str % values
    "'%s|%r|%a' % (t, t, 'é')", "'%s' % t", "'%s' % l", "'%d %i %u' % (1, -2, 3.9)", "'%5d|%-5d|%05d|%+d|% d' % (1, 2, 3, 4, 5)",
    "'%x %X %o %#x %#o' % (255, 255, 8, 255, 8)", "'%.2f|%8.3f|%-8.1f|%08.2f|%+.0f' % (f, f, f, f, f)", "'%e|%E|%.1e' % (f, 12345.678, 0.0001)",
    "'%g|%G|%g|%g|%#g|%g' % (f, 1e20, 1e-5, 0.0001, 1.0, 123456789.0)", "'%c%c' % ('x', 65)", "'%%'  % ()", "'%s%%' % 5",
    "'%(a)s %(b)r' % d", "'%(zz)s' % d", "'%s %s' % ('a',)", "'%s' % ('a', 'b')", "'%d' % 'x'", "'%*d|%-*d' % (5, 1, 4, 2)", "'%.3s|%5.1s|' % ('abcdef', 'xyz')",
    "'%s' % none", "'%s %s' % (true, [1, 'a'])", "'%q' % 1", "'%' % 1", "'%s' % missing", "'%5s|%-5s|' % ('é', 'é')", "'%.0f %.0f' % (0.5, 1.5)", "'%x' % 1.5", "'%x' % -255", "'%5%|' % ()",
    "'%i' % true", "'abc' % {}", "'abc' % []", "'abc' % 1", "'%f' % 1e300",
    # str.format
    "'{} {}'.format(1, 'x')", "'{0}{1}{0}'.format('a', 'b')", "'{x}'.format(x=3)", "'{:>5}|{:<5}|{:^5}|{:*^6}|'.format('a', 'b', 'c', 'd')",
    "'{:5d}|{:<5}|{:05d}|{:+d}|{: d}|{:,}|{:_}'.format(1, 2, 3, 4, 5, 1234567, 1234567)", "'{:x} {:X} {:b} {:o} {:#x} {:c}'.format(255, 255, 5, 8, 255, 65)",
    "'{:.2f} {:e} {:g} {:.1%} {} {:.3}'.format(f, f, f, 0.256, f, f)", "'{!r} {!s} {!a}'.format('é', 'é', 'é')", "'{0[a]} {0[b]} {1[0]}'.format(d, l)", "'{:{}}|'.format('a', 5)",
    "'{{}} {}'.format(1)", "'{'.format()", "'}'.format()", "'{}'.format()", "'{1}'.format(1)", "'{0} {}'.format(1, 2)", "'{:d}'.format('x')", "'{:s}'.format('x')", "'{:10.2}|'.format('abc')",
    "'{} {} {}'.format(true, none, l)", "'{:=+6d}'.format(3)", "'{:>{w}}'.format('x', w=4)", "'{a}'.format_map(d)", "'{:08.3f}|{:<8.1f}|'.format(f, f)", "'{:,.2f}'.format(1234567.891)", "'{:5}|'.format(true)", "'{:.0f}'.format(2.5)",
    "'{:s}'.format(3)", "'{:%}'.format(0.5)", "'{:#b}'.format(5)", "'{:_x}'.format(1048575)",
    # operators
    "1 + 2.5, 7 // 2, -7 // 2, 7 % -3, -7 % 3, 7.5 % 2, -7.5 // 2, 2 ** 10, 2 ** -1, 7 / 2, 6 / 2", "'a' + 'b', 'ab' * 3, 3 * 'ab', [1] * 2, [1] + [2], (1,) + (2,)", "'a' + 1", "1 + 'a'", "[1] + (2,)",
    "1 // 0", "1 % 0", "1 / 0", "1.0 // 0", "0 ** -1", "true + true, -true, +1.5, - -1", "1 < 2 < 3, 1 < 3 < 2, 'a' < 'b', [1, 2] < [1, 3], (1,) < (1, 2)", "1 < 'a'", "none < 1",
    "1 == 1.0, 1 == true, 'a' == 'a', [1] == (1,), none == false, {'a': 1} == {'a': 1.0}", "'a' ~ 1 ~ none ~ 1.0 ~ true ~ [1, 'x'] ~ {'k': 'v'}", "missing ~ 'x'", "1 in l, 9 not in l, 'a' in d, 'ell' in s, 'z' in 'abc', 1 in missing",
    "1 in 'abc'", "1 in 5", "not z, not l, not '', not 0.0, not d", "'x' or 'y', '' or 'y', 'x' and 'y', none and 1, 0 or none", "1 if yes else 2, 1 if z else 2, 'q' if z", "missing + 1", "missing.x", "missing.x.y", "missing()", "d.zz.y", "d.zz",
    "-2 ** 2, 2 ** 3 ** 2", "-1|abs, (-1)|abs, 2 * -3", "1.5e3, 1_000, 0x1f, 0b11, 0o17, 1e-7, 1e16, 123456789012345678", "1 != 2 == 2", "10 ** 20, 2 ** 100", "not 1 == 2, not 1 in l", "'a' 'b' ~ 'c'", "1.0, 100.0, 1e22, 0.1 + 0.2, 1/3",
    # items, slices, attributes
    "l[0], l[-1], l[9], t[0], t[-1], t[99], d['a'], d['zz'], d.a, d.b", "l[1:], l[:-1], l[::-1], l[::2], l[-2:], l[5:], l[3:1], l[3:1:-1], l[-99:99], l[::-2]", "t[1:3], t[::-1], t[-3:], t[:99], t[4:0:-2], e[::-1], t[::2], u[2:4], u[-2:]",
    "l[::0]", "(1, 2, 3)[1:], range(5)[1:3]|list", "l['a']", "l[1.5]", "none[0]", "missing[0]", "d[0]", "m[0].role, m[0]['content'], m[-1].content, m[5]", "d.items, d['items']", "d.get('a'), d.get('q'), d.get('q', 5), d.keys()|list, d.values()|list, d.items()|list", "d.keys(), d.values(), d.items()",
    "d.copy() == d, l.copy() == l", "l.count(1), l.index(2), (1, 2, 1).count(1), (1, 2).index(2)", "l.index(9)", "l.append(1)", "d.update({})", "d.pop('a')", "l.sort()", "d.setdefault('a', 1)", "'abc'.foo", "none.foo", "(5).foo", "s.__class__", "z[1:]", "n[1:]", "m.0.role", "l.0",
    # printing
    "[none, true, 1.0, 'a', \"it's\", 'q\"', 'both\\'\"', '\\n\\t\\\\', 'é\\x00\\u200b🦙']", "{'a': {'b': [1]}}, (1,), (), [], {}", "range(3), range(1, 9, 2), range(5, 0, -1)|list", "s", "u", "d", "m", "[missing]", "{1: 2, true: 3, none: 4, 1.5: 5}", "{[1]: 2}", "[1, [2, (3, {'k': none})]]",
    # tests
    *[f"{v} is {x}" for v in ("s", "n", "f", "z", "yes", "l", "d", "missing", "range", "s.upper", "(1,)", "range(3)", "l|map('string')", "d.items()") for x in ("string", "number", "integer", "float", "none", "boolean", "true", "false", "mapping", "sequence", "iterable", "callable", "defined", "undefined")],
    "1 is odd, 2 is even, -1 is odd, 9 is divisibleby 3, 9 is divisibleby(2)", "'a' is in 'abc', 1 is in l, 1 is not in l, 3 is eq 3, 3 is ne 3, 3 is gt 2, 3 is lt 2, 3 is ge 3, 3 is le 2, 3 is equalto 3, 3 is sameas 3, 3 is not none", "'abc' is lower, 'ABC' is upper, 'a' is filter, 'upper' is filter, 'odd' is test, 'x' is escaped", "1 is foo", "'a' is odd", "3 is greaterthan 2, 3 is lessthan 2, 3 is not divisibleby 2",
    # filters
    "f|abs, -3|abs", "'x'|abs", "d|attr('a'), d|attr('get') is callable", "l|batch(2)|list, l|batch(3, 'x')|list", "l|slice(3)|list, l|slice(3, 'x')|list", "s|capitalize, 'ab cd'|title, \"it's\"|title, 'foo-bar (baz'|title, u|title", "'x'|center(5) ~ '|', 'ab'|center(5) ~ '|'", "l|count, s|length, d|length, missing|length", "5|length", "(l|map('string'))|length",
    "missing|default('x'), ''|default('x'), ''|default('x', true), none|d(1), none|d(1, true)", "d|dictsort, d|dictsort(reverse=true), {'b': 1, 'A': 2}|dictsort, {'b': 1, 'A': 2}|dictsort(true), {'b': 1, 'A': 2}|dictsort(false, 'value')", "'<a href=\"x\">&\\''|e", "l|first, l|last, []|first, t|first, t|last", "'3.5'|float, 'x'|float, 'x'|float(1.5), n|float, none|float", "'%s-%s'|format('a', 1), '%(x)s'|format(x=2)",
    "m|groupby('role')", "m|groupby('role')|map(attribute='grouper')|list, (m|groupby('role'))[0].list|length", "'a\\nb\\n\\nc'|indent, 'a\\nb'|indent(2, true), 'a\\n\\nb'|indent(2, blank=true), 'a\\nb'|indent('> '), 'a\\nb\\n'|indent(1)", "'42'|int, '42.9'|int, 'x'|int, 'x'|int(7), '0x1f'|int(base=16), '1f'|int(0, 16), 3.9|int, -3.9|int, none|int, true|int, ' 5 '|int, '1_0'|int, '1e3'|int",
    "d|items|list, missing|items|list", "l|items", "w|join, w|join('-'), m|join(',', attribute='role'), l|join('+'), 'abc'|join('.'), [none, true, 1.5]|join(' ')", "l|list, t|list, d|list, missing|list", "5|list", "s|lower, s|upper, u|upper, u|lower", "w|map('upper')|list, m|map(attribute='role')|list, m|map(attribute='zz', default='q')|list, l|map('string')|join, w|map('replace', 'a', 'q')|list, m|map(attribute='content.0')|list", "w|map('zz')|list", "w|map|list",
    "l|max, l|min, w|max, w|min, []|max, w|max(true), m|max(attribute='role')", "l|reject('odd')|list, l|select('odd')|list, l|select('gt', 1)|list, [0, '', 1]|select|list, [0, 1]|reject|list", "m|selectattr('role', 'equalto', 'user')|list|length, m|rejectattr('role', 'eq', 'user')|map(attribute='role')|list, m|selectattr('role')|list|length, m|selectattr('zz', 'defined')|list, m|selectattr('content', 'in', [' Hi '])|list|length", "m|selectattr", "l|select('zz')|list",
    "t|replace('X', '-'), t|replace('X', '-', 1), 123|replace('2', 'x')", "l|reverse|list, t|reverse, d|reverse|list", "2.5|round, 3.5|round, 2.675|round(2), 42|round, 1234|round(-2), 2.4|round(0, 'ceil'), 2.6|round(method='floor'), -2.5|round, 42.55|round(1)", "l|sort, w|sort, w|sort(true), w|sort(case_sensitive=true), m|sort(attribute='role')|map(attribute='role')|list, m|sort(attribute='role,content')|map(attribute='content')|list, l|sort(reverse=true)|list",
    "[1, 'a']|sort", "1|string, none|string, l|string", "l|sum, [[1], [2]]|sum(start=[]), m|sum(attribute='zz')", "[{'v': 1}, {'v': 2}]|sum(attribute='v'), [0.1, 0.2]|sum, []|sum", "'  x '|trim ~ '|', 'xxaxx'|trim('x'), s|trim", "'abcdefghijkl mnop'|truncate(9), 'abc def ghi'|truncate(6, false, '', 0), 'abcdefghijk'|truncate(5, true), 'abc'|truncate(3)", "l|unique|list, ['a', 'A', 'b']|unique|list, ['a', 'A']|unique(true)|list", "'a b/ü?&'|urlencode, {'a': 'b c'}|urlencode, [('x', 1)]|urlencode", "'a b  c-d'|wordcount", "'<x>'|safe",
    "x|zz", "l|first|string ~ 'q'", "l|tojson, d|tojson, s|tojson, none|tojson, 1.0|tojson, u|tojson, {'b': 1, 'a': [1, {}]}|tojson(indent=2), {'b': 1, 'a': []}|tojson(sort_keys=true, separators=(',', ':')), 'é'|tojson(ensure_ascii=true), {1: 2, none: 3, true: 4, 1.5: 5}|tojson, (1, 2)|tojson, 1e16|tojson, 1e-7|tojson", "missing|tojson", "d.items()|tojson", "range(3)|tojson", "{(1, 2): 3}|tojson", "'\\u007f\\u2028\\b\\f/'|tojson, [[], {}]|tojson(indent='\t')",
    # functions
    "range(3)|list, range(1, 3)|list, range(9, 1, -3)|list, range(0)|list", "range(1, 2, 0)", "range(1000000)", "range('a')", "dict(a=1, b=2), dict({'x': 1}, y=2), dict([('p', 1)])", "namespace(a=1).a, namespace({'b': 2}).b, namespace(a=1).zz", "raise_exception('no')", "dict(1)", "cycler('a', 'b').next(), cycler(1).current",
    "strftime_now is callable", "n()", "s.upper().lower().strip().split(',')[0]|upper|length", "'a,b'.split(',')|join('|')|upper", "(1, 2)|join", "((1, 2),)", "1,", "(s|trim).split()|last", "s.strip().upper() == 'X', s . strip ( ) | length",
    "'\\x41\\u0042\\101\\q\\'\\a'", "\"\\\"'\"", "'tab\\there'", "'\\\\n'", "'line\\\ncontinued'",
    "none is none and z == none, True, False, None", "l is sequence and l is not mapping and l is not string", "[1, 2, ][0], {'a': 1, }.a", "(m|first).role, (m|last)['role']", "m|map(attribute='role')|unique|list", "m|map('tojson')|join('\\n')", "not missing, missing == missing, missing is defined or 1", "missing|upper", "missing|join", "missing.split()", "for",
]

TEMPLATES = [
    "{% for a in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.cycle('x', 'y') }}{{ loop.changed(a) }}{{ loop.previtem }}{{ loop.nextitem }} {% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% else %}none{% endfor %}", "{% for a in [] %}{{ a }}{% else %}none{% endfor %}", "{% for a in missing %}x{% else %}y{% endfor %}", "{% for a in 5 %}{% endfor %}", "{% for a, b in l %}{% endfor %}", "{% for a in l if a > 1 %}{{ a }}{{ loop.length }}{% endfor %}",
    "{% for c in t %}{{ c }}.{% endfor %}", "{% for k in d %}{{ k }}{% endfor %}", "{% set x = 1 %}{% for a in l %}{{ x }}{% set x = a %}{{ x }}{% endfor %}{{ x }}", "{% set ns = namespace(x=0) %}{% for a in l %}{% set ns.x = ns.x + a %}{% endfor %}{{ ns.x }} {{ ns }}", "{% set x.y = 1 %}", "{% set a, b = 1, 2 %}{{ b }}{{ a }}", "{% set a, b = 1 %}", "{% set x %}a{{ n }}{% endset %}{{ x|length }}", "{% set x | upper | replace('A', 'q') %}a{{ n }}{% endset %}{{ x }}",
    "{% if z %}1{% elif n == 42 %}2{% else %}3{% endif %}", "{% if yes %}{% set q = 1 %}{% endif %}{{ q }}", "{% macro f(a, b='z', c=a) %}{{ a }}{{ b }}{{ c }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1) }}|{{ f(1, 2, 3, 4, q=5) }}|{{ f(b=1) }}", "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, 2) }}", "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(b=2) }}", "{% macro f() %}[{{ caller() }}]{% endmacro %}{% call f() %}x{% endcall %}", "{% macro f() %}[{{ caller(1, 2) }}]{% endmacro %}{% call(a, b) f() %}{{ a }}{{ b }}{% endcall %}", "{% macro f() %}{% endmacro %}{% call f() %}x{% endcall %}", "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}", "{% macro f() %}{{ q }}{% endmacro %}{% set q = 1 %}{{ f() }}", "{% macro f() %}x{% endmacro %}{{ f.name }}{{ f is callable }}",
    "{% for n in [[1, [2]], [3]] recursive %}{% if n is sequence %}<{{ loop.depth }}{{ loop(n) }}>{% else %}{{ n }}{% endif %}{% endfor %}", "{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 4 %}{% break %}{% endif %}{{ i }}{% endfor %}", "{% with a=1, b=2 %}{{ a }}{{ b }}{% endwith %}{{ a }}", "{% with %}{% set a = 1 %}{{ a }}{% endwith %}{{ a }}", "{% filter upper %}a{{ t }}{% endfilter %}", "{% filter replace('a', 'b') | upper %}aa{% endfilter %}", "{% raw %}{{ x }}{% y %}{% endraw %}|", "a {#- c -#} b", "{# c #}\nx", "{%- if yes -%} a {%- endif -%} b", "  {% if yes %}\n  a\n  {% endif %}\nb\n", "  {%+ if yes +%}\n a{% endif %}", "x{% if yes %} \n y {% endif %}\n\nz\n\n", "{{ 1 -}}  \n x {{- 2 }}", "{{ s }}\n", "a\r\nb\rc\n", "{% set j = joiner('-') %}{% for a in l %}{{ j() }}{{ a }}{% endfor %}", "{% set c = cycler('a', 'b') %}{% for a in l %}{{ c.next() }}{% endfor %}{{ c.current }}",
    "{% block x %}a{{ n }}{% endblock %}", "{% autoescape true %}x{% endautoescape %}", "{% generation %}{% set q = 1 %}x{% endgeneration %}{{ q }}", "{% print n %}", "{% zz %}", "{% if %}", "{% endif %}", "{% for a in l %}", "{{ 1", "{{ 1 +}}", "{% set true = 1 %}", "{% break %}", "{% include 'x' %}", "{{ '}}' }}{{ {'a': {'b': 1}}.a.b }}", "{{ '{% x %}' }}", "{% if a is defined and a %}x{% else %}y{% endif %}{% if n is number and n > 1 %}z{% endif %}", "{{ m | selectattr('role', 'equalto', 'user') | map(attribute='content') | map('trim') | join('|') }}", "{% for m in m %}{% if loop.first or m.role != loop.previtem.role %}{{ m.role }}{% endif %}{% endfor %}",
    "{% for r, g in m | groupby('role') %}{{ r }}:{{ g | length }} {% endfor %}", "{{ namespace(a=1) is mapping }}", "{% set l2 = l + [9] %}{{ l2 }}{{ l }}", "{% set x = 'a' if z else 'b' %}{{ x }}", "{% macro f(x) %}{% for y in x %}{{ y }}{{ loop.index }}{% endfor %}{% endmacro %}{{ f('ab') ~ f('c') }}", "{{ loop }}", "{% for a in l %}{% for b in w %}{{ loop.index }}{% endfor %}{{ loop.index }}{% endfor %}", "{% set x = [] %}{% for a in l %}{% set _ = x.append(a) %}{% endfor %}", "{{- 'a' }}\n{{ 'b' -}}\n\n", "{% if 1 %}\n\n{% endif %}x", "   {#- x #}y", "{% raw -%}  x  {%- endraw %} y", "{{ d.b\n ~ 'x' }}", "{% for a in l -%}\n  {{ a }}\n{%- endfor %}", "a{% set x = 1 %}\nb", "\n\n{% set x = 1 %}\n\nb\n",
]


FILTERS = [
    "upper", "lower", "trim", "length", "first", "last", "join", "list", "reverse", "sort", "unique|list", "string", "int", "float", "abs", "sum",
    "max", "min", "title", "capitalize", "tojson", "e", "wordcount", "items|list", "dictsort", "round", "count", "default(1)", "batch(2)|list",
    "slice(2)|list", "indent", "truncate(5)", "center(9)", "urlencode", "map('string')|list", "select|list", "reject('none')|list",
    "replace('a', 'q')",
]


def environment():
    """What Hugging Face compiles chat templates in."""
    chat_template_utils._compile_jinja_template.cache_clear()
    return chat_template_utils._compile_jinja_template("").environment


def random_expression(rng, depth):
    if depth == 0:
        return rng.choice(["s", "t", "u", "e", "n", "f", "z", "yes", "l", "w", "d", "m", "missing", "1", "0", "-2", "2.5", "'a'", "'X'", "' '", "[]", "(1, 'b')", "{'k': l}", "none"])
    part = lambda: random_expression(rng, rng.randrange(depth))
    forms = [
        lambda: f"({part()} {rng.choice(['+', '-', '*', '/', '//', '%', '~', '==', '!=', '<', '<=', '>', '>=', 'in', 'not in', 'and', 'or'])} {part()})",
        lambda: f"({part()} if {part()} else {part()})",
        lambda: f"(not {part()})",
        lambda: f"({part()})[{rng.randrange(-4, 4)}]",
        lambda: f"({rng.choice('stuelwm')})[{rng.choice(['', '1', '-1', '3'])}:{rng.choice(['', '2', '-1', '9'])}:{rng.choice(['', '2', '-1', '-2'])}]",
        lambda: f"({part()}).{rng.choice(list(STRING_METHODS))}({rng.choice(['', part(), part() + ', ' + part()])})",
        lambda: f"({part()}).{(x := rng.choice(list(STRING_METHODS)))}({rng.choice(STRING_METHODS[x])})",
        lambda: f"({part()})|{rng.choice(FILTERS)}",
        lambda: f"(({part()}) is {rng.choice(['string', 'number', 'mapping', 'sequence', 'iterable', 'defined', 'none', 'odd', 'callable', 'lower', 'true', 'in ' + part()])})",
        lambda: f"'%{rng.choice(['', '5', '-5', '05', '+', '.2', '8.1'])}{rng.choice('sdrfgexi')}' % {part()}",
        lambda: "'{:" + rng.choice(["", "5", "<6", ">7", "^8", "*^9", "+", "05", ",", ".2", "8.3f", "x", "e", "%"]) + "}'.format(" + part() + ")",
    ]
    return rng.choice(forms)()


def main():
    out = pathlib.Path(sys.argv[1])
    sources = ["{{ " + f"{subject}.{name}({args})" + " }}" for name, calls in STRING_METHODS.items() for args in calls for subject in SUBJECTS]
    sources += ["{{ " + expression + " }}" for expression in EXPRESSIONS] + TEMPLATES
    if len(sys.argv) > 2:
        rng = random.Random(int(sys.argv[3]))
        sources = ["{{ " + random_expression(rng, rng.randrange(1, 4)) + " }}" for _ in range(int(sys.argv[2]))]
    compiled = environment()
    cases = []
    for source in sources:
        try:
            text = compiled.from_string(source).render(**copy.deepcopy(VARIABLES))
        except Exception:
            text = None
        # Where a function or generator stands in memory is nobody's business.
        if text is None or " at 0x" not in text and "built-in" not in text and "<Undefined" not in text:
            cases.append([source, text])
    made_by = f"jinja2 {jinja2.__version__}, Python {sys.version.split()[0]}"
    rows = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    head = json.dumps({"made_by": made_by, "variables": VARIABLES}, ensure_ascii=False)[:-1]
    out.write_text(f'{head}, "cases": [\n{rows}\n]}}\n')
    print(f"{len(cases)} cases by {made_by}")


if __name__ == "__main__":
    main()
