#!/usr/bin/env bash
# obstore (object_store of Rust): a listing names the marker of a folder as an object that is not there.
#
# Guess:     a name that `list` gives can be given to `head` and `get`.
# Behaviour: consoles of S3 make an empty object "photos/" for a folder. `list` takes the slash off: it gives "photos",
#            and to get "photos" is "not found". The marker also breaks the order: "photos-old" comes before "photos/", and
#            the names that `list` gives are then not sorted. (A name with an empty part, "a//b", ends the whole listing.)
#            So: an empty object that the names below it follow, or that is out of order, is a marker.
# Version:   obstore 0.12.1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check obstore==0.12.1
seen=$("$folder/venv/bin/python" - <<'PYTHON'
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import obstore
from obstore.store import S3Store

NAMES = {"photos-old": b"1", "photos/": b"", "photos/a.jpg": b"1"}  # in the order in which S3 lists them
ENTRY = "<Contents><Key>{}</Key><Size>{}</Size><ETag>1</ETag><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"


class S3(BaseHTTPRequestHandler):
    def do_GET(self):
        listing = "".join(ENTRY.format(name, len(data)) for name, data in NAMES.items())
        body = NAMES.get(self.path.removeprefix("/bucket/"))
        if "list-type=2" in self.path:
            body = f"<ListBucketResult><IsTruncated>false</IsTruncated>{listing}</ListBucketResult>".encode()
        self.send_response(404 if body is None else 200)
        for name, value in {"Content-Length": len(body or b""), "ETag": "1", "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), S3)
threading.Thread(target=server.serve_forever, daemon=True).start()
store = S3Store("bucket", endpoint=f"http://127.0.0.1:{server.server_address[1]}", skip_signature=True, region="us-east-1",
                client_options={"allow_http": True})
names = [found["path"] for page in obstore.list(store) for found in page]
print(names, "sorted:", names == sorted(names))
for name in names:
    try:
        print(name, "->", len(obstore.get(store, name).bytes()))
    except FileNotFoundError:
        print(name, "-> not found")
PYTHON
)
echo "$seen"
expected="['photos-old', 'photos', 'photos/a.jpg'] sorted: False
photos-old -> 1
photos -> not found
photos/a.jpg -> 1"
[ "$seen" = "$expected" ] || { echo "this has changed"; exit 1; }
