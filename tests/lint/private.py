#!/usr/bin/env python3
"""Nothing of the machine that it was written on: no path of somebody's home or
of a build machine, no host in a URL that is not in allow.txt."""

import re
import tree

URL = re.compile(r"\bhttps?://(?:[^\s/@'\"<>]*@)?([\w.-]*\w)")
PLACE = re.compile(r"(?<![\w.$}])/(?:home|root|Users|work|workspace|builds)"
                   r"/[\w.]+")
# Names that stand for any host, in examples and tests.
EXAMPLE = re.compile(r"^(localhost|127(\.\d+){3}|[a-z]\w*|HOST|bucket\.\w+|"
                     r"(.*\.)?example(\.\w+)?|.*\.(test|invalid|lan))$")
# Storage that everybody may use.
PUBLIC = re.compile(r"(^|\.)(amazonaws\.com(\.cn)?|storage\.googleapis\.com|"
                    r"r2\.cloudflarestorage\.com)$")


def main():
    problems, allowed = [], tree.allowed()
    paths = tree.files("")
    for path in paths:
        with open(path, errors="replace") as f:
            lines = f.read().splitlines()
        for i, line in enumerate(lines, 1):
            found = PLACE.findall(line)
            found += [h for h in URL.findall(line)
                      if ("host", h) not in allowed and not EXAMPLE.match(h)
                      and not PUBLIC.search(h)]
            problems += ["%s:%d: %s" % (path, i, what) for what in found]
    tree.report(problems, "problems in %d files" % len(paths))


if __name__ == "__main__":
    main()
