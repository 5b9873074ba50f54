#!/usr/bin/env python3
# A form on GET; on POST, what was filled in. All that comes from the client is
# escaped before it goes into the page.
import html
import os
import sys
from urllib.parse import parse_qsl

PAGE = """<!DOCTYPE html>
<meta charset="utf-8">
<title>A form</title>
{}
"""

FORM = """<form method="post">
<p><label>Name <input name="name"></label></p>
<p><label>Text <textarea name="text"></textarea></label></p>
<p><button>Send</button></p>
</form>"""


def answer(status, body):
    sys.stdout.reconfigure(encoding="utf-8")
    print(f"Status: {status}\nContent-Type: text/html; charset=utf-8\n")
    print(PAGE.format(body))


def main():
    method = os.environ.get("REQUEST_METHOD", "GET")
    if method in ("GET", "HEAD"):
        answer("200 OK", FORM)
        return
    if method != "POST":
        answer("405 Method Not Allowed", "<p>GET or POST, please.</p>")
        return
    # Standard input may stay open: read what was announced, no more.
    size = int(os.environ.get("CONTENT_LENGTH") or 0)
    body = sys.stdin.buffer.read(size).decode("utf-8", "replace")
    rows = "\n".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>"
        for name, value in parse_qsl(body, keep_blank_values=True)
    )
    answer("200 OK", f"<dl>\n{rows}\n</dl>")


main()
