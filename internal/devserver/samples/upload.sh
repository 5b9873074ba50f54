#!/bin/sh
# Prints size and checksum of the body, of any size:
#   curl --data-binary @FILE URL

file=$(mktemp) || exit 1
trap 'rm -f "$file"' EXIT
trap 'exit 1' INT TERM
cat >"$file"

echo "Content-Type: text/plain"
echo
echo "size:   $(wc -c <"$file" | tr -d ' ')"
echo "sha256: $(sha256sum <"$file" | cut -d ' ' -f 1)"
