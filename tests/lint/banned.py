#!/usr/bin/env python3
"""Calls that the library must not make: what ends the caller's process or
talks to its terminal, what does not know the size of its buffer, memory that
is not counted. Comments and strings do not count."""

import re
import tree

EVERYWHERE = "strcpy strcat sprintf vsprintf gets atoi atol strtok alloca"
LIBRARY = "exit _exit abort printf vprintf fprintf vfprintf puts perror"
MEMORY = "malloc calloc realloc free strdup strndup asprintf vasprintf"
# Where memory is made.
MAKERS = ("engine/memory.c", "engine/pool.c")
FOLDERS = ("engine", "io", "compress", "verify", "services", "jobs", "lib")
NOISE = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|'
                   r"'(?:\\.|[^'\\\n])*'", re.S)


def blank(match):
    return re.sub(r"[^\n]", " ", match.group())


def calls(words):
    return re.compile(r"(?<![\w.>])(%s)\s*\(" % "|".join(words.split()))


def check_file(path, allowed, problems):
    with open(path, errors="replace") as f:
        text = NOISE.sub(blank, f.read())
    rules = [calls(EVERYWHERE)]
    if path.split("/")[0] in FOLDERS:
        rules.append(calls(LIBRARY))
        if path not in MAKERS:
            rules.append(calls(MEMORY))
    for rule in rules:
        for m in rule.finditer(text):
            if ("banned", path + ":" + m.group(1)) not in allowed:
                problems.append("%s:%d: %s()" % (
                    path, text.count("\n", 0, m.start()) + 1, m.group(1)))


def main():
    problems, allowed = [], tree.allowed()
    paths = tree.files(".c", ".h")
    for path in paths:
        check_file(path, allowed, problems)
    tree.report(problems, "banned calls in %d files" % len(paths))


if __name__ == "__main__":
    main()
