#!/bin/sh
# cppcheck finds nothing in the library, the command and the tools.
set -eu
command -v cppcheck >/dev/null || {
    echo "cppcheck is not installed"
    exit 77
}
# Suppressed: what it cannot see (system headers, callers in other files) and
# what it takes for a bug here and is the style of the code:
#   constParameter…  callbacks have the type of their slot
#   variableScope    declarations stand at the head of their block
#   unreadVariable, unusedStructMember  of fields that other files read
cppcheck -q -j "$(nproc)" --std=c11 --error-exitcode=1 --inline-suppr \
    --enable=warning,performance,portability \
    --suppress=missingIncludeSystem --suppress=normalCheckLevelMaxBranches \
    --suppress=unknownMacro --library=posix \
    -D_GNU_SOURCE -DHL_WITH_SFTP -D__linux__ -Iinclude -Iengine -Iio \
    -Icompress -Iverify -Ilib \
    engine io compress verify lib cli bench
