#!/bin/sh
# cppcheck finds nothing in the library, the command and the tools.
set -eu
command -v cppcheck >/dev/null || {
    echo "cppcheck is not installed"
    exit 77
}
# Style is not its business: callbacks have the type of their slot, and
# declarations stand at the head of their block. Suppressed:
#   invalidFunctionArg      its table has no mmap() without a file
#   missingIncludeSystem    it needs no system headers
cppcheck -q -j "$(nproc)" --std=c11 --error-exitcode=1 --inline-suppr \
    --enable=warning,performance,portability \
    --suppress=missingIncludeSystem \
    --suppress=invalidFunctionArg:engine/pool.c \
    -D_GNU_SOURCE -DHL_WITH_SFTP -DHL_WITH_HTTP -DHL_WITH_S3 -D__linux__ \
    -Iinclude -Iengine -Iio -Icompress -Iverify -Ilib \
    engine io compress verify lib cli bench
