"""Exit with 0 where the server of this container can serve: what its image and compose.yaml ask now and then."""

import http.client
import os
import sys

server = http.client.HTTPConnection("127.0.0.1", int(os.environ.get("MILLSTREAM_PORT", "7860")), timeout=5)
try:
    server.request("GET", "/health_check")
    is_well = server.getresponse().status == http.client.OK  # also while jobs wait for a broker that is away
except OSError:
    is_well = False
sys.exit(not is_well)
