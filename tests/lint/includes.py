#!/usr/bin/env python3
"""Dependencies run one way: each folder includes its own headers and those
that the table allows. File names are unique, so a name says its folder."""

import os
import re
import tree

# The public headers are open to all. tests may include everything.
MAY = {
    "include": set(),
    "engine": set(),
    "io": {"engine"},
    "compress": {"engine"},
    "verify": {"engine"},
    "jobs": {"engine"},
    "services": {"engine", "jobs", "io"},
    "lib": {"engine", "io", "compress", "verify", "jobs", "services"},
    "cli": set(),
    "bench": set(),
    "docs": set(),
}
# Of io, services may use the HTTP client only.
SERVICES_IO = {"http_client.h"}
SYSTEM = re.compile(r'\s*#\s*include\s*"(?:.*/)?([^"/]+)"', re.M)


def main():
    problems, home = [], {}
    sources = tree.files(".c", ".h", ".def")
    for path in sources:
        name = os.path.basename(path)
        if name in home:
            problems.append("%s: %s has this name too" % (path, home[name]))
        home[name] = path
    for path in sources:
        top = path.split("/")[0]
        if top == "tests":
            continue
        with open(path, errors="replace") as f:
            text = f.read()
        for name in SYSTEM.findall(text):
            if name not in home:
                problems.append('%s: "%s" is not in the tree' % (path, name))
                continue
            other = home[name].split("/")[0]
            ok = other in (top, "include") or other in MAY.get(top, set())
            if top == "services" and other == "io":
                ok = name in SERVICES_IO
            if not ok:
                problems.append('%s includes "%s" of %s/' % (path, name,
                                                             other))
    tree.report(problems, "problems in %d files" % len(sources))


if __name__ == "__main__":
    main()
