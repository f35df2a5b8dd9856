"""A real object store on this machine, that records its requests, for tests."""

import logging
import re
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from moto.server import ThreadedMotoServer


class ObjectStore(logging.Handler):
    """An S3 with one bucket; it can stop for a while and keeps its objects."""

    def __init__(self, bucket: str) -> None:
        super().__init__()
        self.requests: list[str] = []
        self._port = 0
        self.start()
        self._send("POST", "moto-api/reset")  # all stores of a process share their objects
        self._send("PUT", bucket)

    def start(self) -> None:
        self._server = ThreadedMotoServer("127.0.0.1", self._port, verbose=False)
        self._server.start()
        self._port = self._server.get_host_and_port()[1]

    def stop(self) -> None:
        self._server.stop()
        self._server._server.server_close()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def environment(self) -> dict[str, str]:
        """Variables that a user of such a store sets."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "me",
            "AWS_SECRET_ACCESS_KEY": "mine",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def emit(self, record: logging.LogRecord) -> None:
        """Record an answered request from a line of the server's log."""
        line = re.sub(r"\x1b\[[\d;]*m", "", record.getMessage())
        if request := re.search(r'"(\w+ \S+)[^"]*" \d', line):
            self.requests.append(request.group(1))

    def put(self, name: str, content: bytes) -> None:
        """Upload an object, as any other client with the keys can."""
        self._send("PUT", f"store/{name}", content)

    def _send(self, method: str, path: str, content: bytes = b"") -> None:
        url = f"{self.endpoint}/{path}"
        urllib.request.urlopen(urllib.request.Request(url, data=content, method=method))

    def take_downloads(self) -> list[str]:
        """Return the names of the objects downloaded since the last call."""
        matches = [re.match(r"GET /store/([^?]+)$", request) for request in self.requests]
        self.requests.clear()
        return [match.group(1) for match in matches if match]


@contextmanager
def object_store(bucket: str = "store") -> Iterator[ObjectStore]:
    """Run an object store while the block runs."""
    store = ObjectStore(bucket)
    log = logging.getLogger("werkzeug")
    level = log.level
    log.addHandler(store)
    log.setLevel(logging.INFO)
    log.propagate, log.disabled = False, False  # a logging.config elsewhere disables all loggers
    try:
        yield store
    finally:
        log.removeHandler(store)
        log.setLevel(level)
        store.stop()
