"""What the lint programs share: the files of the tree and allow.txt."""

import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
OURS = ("engine", "io", "compress", "verify", "services", "jobs", "lib",
        "cli", "bench", "tests", "docs", "include", "tools")


def files(*ends):
    """Paths of the tree with these endings, new files too, ignored ones not;
    without git everything below our folders."""
    os.chdir(ROOT)
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"], check=True,
            capture_output=True, text=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        listed = [os.path.join(base, name) for top in OURS
                  for base, _, names in os.walk(top) for name in names]
        listed += [n for n in os.listdir(".") if os.path.isfile(n)]
    return sorted(p for p in set(listed)
                  if p.endswith(ends) and os.path.isfile(p))


def allowed():
    """{(rule, subject)} of allow.txt."""
    with open(os.path.join(ROOT, "tests/lint/allow.txt")) as f:
        lines = [line.split("#")[0].split() for line in f]
    return {(words[0], words[1]) for words in lines if len(words) > 1}


def report(problems, what):
    for p in problems:
        print(p)
    print("%d %s" % (len(problems), what))
    sys.exit(1 if problems else 0)
