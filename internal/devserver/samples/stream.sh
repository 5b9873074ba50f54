#!/bin/sh
# One line a second: each arrives when it is written (try curl -N).

echo "Content-Type: text/plain"
echo

for i in 1 2 3 4 5; do
	echo "$i: $(date +%T)"
	sleep 1
done
