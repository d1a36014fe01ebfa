#!/bin/bash
# macOS: double-click in Finder. Finder starts it in the home folder, with a short PATH.
cd "$(dirname "$0")" || exit 1
PATH="$PATH:/opt/homebrew/bin:/usr/local/bin"
# Without the developer tools, Apple's python3 only offers to install them: name the others first.
for python in python3.13 python3.12 python3.11 python3.14 python3; do
    if "$python" -c "" >/dev/null 2>&1; then
        "$python" launcher.py "$@"
        status=$?
        [ "$status" -eq 0 ] || read -r -p "Press Enter to close this window. "
        exit "$status"
    fi
done
echo "Corral needs Python 3.11 to 3.14. Install it from https://www.python.org/downloads/"
read -r -p "Press Enter to close this window. "
exit 1
