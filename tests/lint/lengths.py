#!/usr/bin/env python3
"""Functions of at most 70 lines, files of 800, lines of 80 columns, and no
TODO without the number of an issue. Exceptions: allow.txt."""

import re
import tree

FUNCTION, FILE, LINE = 70, 800, 80
TODO = re.compile(r"(/\*|^\s*\*|#).*\b(TODO|FIXME|XXX)\b(?!\(#\d+\))")
NAME = re.compile(r"(\w+)\s*\(")
SOURCE = (".c", ".h", ".py", ".sh")


def functions(lines):
    """(name, first line, length) of C functions: what begins in the first
    column, has a brace there, and ends with one."""
    head, begin = 0, None
    for i, line in enumerate(lines):
        if line.startswith("{") and begin is None:
            begin = head
        elif line.startswith("}") and begin is not None:
            name = NAME.search(" ".join(lines[begin:i]))
            yield name.group(1) if name else "?", begin + 1, i - begin + 1
            begin = None
        elif begin is None and line and line[0] not in " \t#/*}":
            # A head of several lines: its first.
            if i == 0 or not lines[i - 1].strip() or \
                    lines[i - 1][0] in "#}/ *":
                head = i


def check_file(path, allowed, problems):
    with open(path, errors="replace") as f:
        lines = f.read().splitlines()
    if len(lines) > FILE and ("lines", path) not in allowed:
        problems.append("%s: %d lines" % (path, len(lines)))
    for i, line in enumerate(lines, 1):
        if len(line) > LINE:
            problems.append("%s:%d: %d columns" % (path, i, len(line)))
        if line != line.rstrip():
            problems.append("%s:%d: space at the end" % (path, i))
        if TODO.search(line) and not path.startswith("tests/lint/"):
            problems.append("%s:%d: no issue number" % (path, i))
    if path.endswith(".c"):
        for name, line, length in functions(lines):
            if length > FUNCTION and \
                    ("function", path + ":" + name) not in allowed:
                problems.append("%s:%d: %s() has %d lines" % (
                    path, line, name, length))


def main():
    problems, allowed = [], tree.allowed()
    paths = tree.files(*SOURCE)
    for path in paths:
        check_file(path, allowed, problems)
    tree.report(problems, "problems in %d files" % len(paths))


if __name__ == "__main__":
    main()
