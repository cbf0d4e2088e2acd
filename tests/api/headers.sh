#!/bin/sh
# The public headers are C99, C11 and C++11 without a warning.
set -eu
warn="-Wall -Wextra -Wpedantic -Werror -Wshadow -Wundef -fsyntax-only"
for std in c99 c11; do
    # Words are meant to split.
    # shellcheck disable=SC2086
    ${CC:-cc} -std=$std $warn -Wstrict-prototypes -Iinclude \
        tests/api/header_c99.c
done
command -v "${CXX:-g++}" >/dev/null || {
    echo "no C++ compiler"
    exit 77
}
for std in c++11 c++17; do
    # shellcheck disable=SC2086
    ${CXX:-g++} -std=$std $warn -Iinclude tests/api/header_cxx.cpp
done
