#!/bin/sh
# The smallest CGI program: a header, a blank line, a body.

echo "Content-Type: text/plain"
echo

echo "Hello from process $$."
echo "You asked for $REQUEST_METHOD $REQUEST_URI."
