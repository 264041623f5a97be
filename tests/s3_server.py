"""An S3 in this process, as much of it as a dataset needs, that fails where it is told to.

    with serving() as s3:                         its address is in the environment; s3://corpora is an empty bucket
        s3.fail("PUT", r"\\.parquet", "500", 3)   the next three such requests are answered so
        s3.objects                                key -> bytes, as they lie there now
        s3.asked                                  (method, path with query, fault, who asked) of each request, in order

Faults: `500` and `503` as S3 says them, `403`, or a status with a code (`403 AccountProblem`); `cut` hangs up before it
has read what is sent, `reset` half-way through it; `lost` does what was asked and hangs up before it says so;
`truncate` promises a body and gives half; `slow` drips; `late` waits a second.
Objects are whole or not at all, as in S3: a PUT counts when all of it came, an upload in parts when it is completed.
"""

import contextlib
import hashlib
import os
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from tundish.cluster import store

BUCKET = "corpora"
CODES = {404: "NoSuchKey", 403: "AccessDenied", 500: "InternalError", 503: "SlowDown"}
NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


class Asked(NamedTuple):
    method: str
    path: str
    fault: str
    who: str


class Rule:
    """Which requests fail how, and how many more of them."""

    def __init__(self, method: str, path: str, fault: str, times: int) -> None:
        self.method, self.path, self.fault, self.times = method, re.compile(path), fault, times

    def takes(self, method: str, path: str) -> bool:
        return self.times > 0 and method == self.method and self.path.search(path) is not None


class S3(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.asked: list[Asked] = []
        self.rules: list[Rule] = []
        self.lock = threading.RLock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def fail(self, method: str, path: str, fault: str, times: int = 1) -> None:
        self.rules.append(Rule(method, path, fault, times))

    def fault(self, method: str, path: str, who: str) -> str:
        with self.lock:
            rule = next((each for each in self.rules if each.takes(method, path)), None)
            if rule is not None:
                rule.times -= 1
            self.asked.append(Asked(method, path, rule.fault if rule else "", who))
            return rule.fault if rule else ""

    def listings(self) -> list[str]:
        return [each.path for each in self.asked if each.method == "GET" and "list-type=2" in each.path]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is what these tests make."""


class Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: S3

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _begin(self) -> None:
        found = urlsplit(self.path)
        self.key = unquote(found.path).lstrip("/").removeprefix(BUCKET).lstrip("/")
        self.query = {k: v[0] for k, v in parse_qs(found.query, keep_blank_values=True).items()}
        who = re.search(r"Credential=([^/]+)/", self.headers.get("Authorization") or "")
        self.fault = self.server.fault(self.command, unquote(self.path), who[1] if who else "")

    def do_GET(self) -> None:
        self._begin()
        if self.fault == "cut":
            return self._hang_up()
        if (body := self._sent()) is None:
            return self._hang_up()
        if self.fault == "late":
            time.sleep(1.0)
        if self.fault[:3].isdigit():
            return self._error(int(self.fault[:3]), self.fault[4:])
        with self.server.lock:
            told = getattr(self, f"_{self.command.lower()}")(body)
        return self._hang_up() if self.fault == "lost" else self._answer(*told)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, no farewell
        self.connection.close()

    def _sent(self) -> bytes | None:
        """What was sent with the request, without the frames around it; None when half of it is enough."""
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            pieces = list[bytes]()
            while size := int(self.rfile.readline().split(b";")[0], 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
                if self.fault == "reset":
                    return None
            while self.rfile.readline().strip():
                pass
            body = b"".join(pieces)
        else:
            size = int(self.headers.get("Content-Length") or 0)
            if self.fault == "reset":
                self.rfile.read(size // 2)
                return None
            body = self.rfile.read(size)
        return _unframed(body) if "STREAMING" in self.headers.get("x-amz-content-sha256", "") else body

    def _get(self, _: bytes) -> tuple[int, dict[str, str], bytes]:
        if "list-type" in self.query:
            return 200, {"Content-Type": "application/xml"}, self._listing()
        if self.key not in self.server.objects:
            return self._told(404)
        body = self.server.objects[self.key]
        headers = {"ETag": f'"{hashlib.md5(body).hexdigest()}"', "Accept-Ranges": "bytes"}
        if span := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or ""):
            first, last = int(span[1]), min(int(span[2] or len(body)), len(body) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
            return 206, headers, body[first : last + 1]
        return 200, headers, body

    def _head(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        return (200, {}, b"") if not self.key else self._get(body)

    def _put(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if source := self.headers.get("x-amz-copy-source"):
            body = self.server.objects[unquote(source).lstrip("/").removeprefix(f"{BUCKET}/")]
        if "uploadId" in self.query:
            self.server.uploads[self.query["uploadId"]][int(self.query["partNumber"])] = body
        elif self.key:
            self.server.objects[self.key] = body
        tag = f'"{hashlib.md5(body).hexdigest()}"'
        said = f"<CopyObjectResult {NAMESPACE}><ETag>{escape(tag)}</ETag></CopyObjectResult>" if source else ""
        return 200, {"ETag": tag, "Content-Type": "application/xml"}, said.encode()

    def _post(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        kind, said = "DeleteResult", ""
        if "uploads" in self.query:
            kind, name = "InitiateMultipartUploadResult", f"upload-{len(self.server.asked)}"
            self.server.uploads[name] = {}
            said = f"<UploadId>{name}</UploadId><Bucket>{BUCKET}</Bucket><Key>{escape(self.key)}</Key>"
        elif "uploadId" in self.query:
            kind = "CompleteMultipartUploadResult"
            if (parts := self.server.uploads.pop(self.query["uploadId"], None)) is None:
                return self._told(404, "NoSuchUpload")
            self.server.objects[self.key] = b"".join(parts[n] for n in sorted(parts))
            said = f"<Bucket>{BUCKET}</Bucket><Key>{escape(self.key)}</Key><ETag>whole</ETag>"
        elif "delete" in self.query:
            for key in re.findall(rb"<Key>(.*?)</Key>", body):
                self.server.objects.pop(key.decode(), None)
        return 200, {"Content-Type": "application/xml"}, f"<{kind} {NAMESPACE}>{said}</{kind}>".encode()

    def _delete(self, _: bytes) -> tuple[int, dict[str, str], bytes]:
        if "uploadId" in self.query:
            self.server.uploads.pop(self.query["uploadId"], None)
        else:
            self.server.objects.pop(self.key, None)
        return 204, {}, b""

    def _listing(self) -> bytes:
        prefix, cut = self.query.get("prefix", ""), self.query.get("delimiter", "")
        found, folders = list[str](), dict[str, None]()
        for key in sorted(each for each in self.server.objects if each.startswith(prefix)):
            inner, is_folder, _ = key.removeprefix(prefix).partition(cut) if cut else (key, "", "")
            if is_folder:
                folders[f"{prefix}{inner}/"] = None
            else:
                found.append(key)
        size = {key: len(self.server.objects[key]) for key in found}
        said = "".join(
            f"<Contents><Key>{escape(k)}</Key><Size>{size[k]}</Size>"
            "<LastModified>2026-11-22T09:37:54.000Z</LastModified></Contents>"
            for k in found
        )
        said += "".join(f"<CommonPrefixes><Prefix>{escape(f)}</Prefix></CommonPrefixes>" for f in folders)
        count = len(found) + len(folders)
        told = f"<Name>{BUCKET}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{count}</KeyCount>"
        told += f"<MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>{said}"
        return f"<ListBucketResult {NAMESPACE}>{told}</ListBucketResult>".encode()

    def _told(self, status: int, code: str = "") -> tuple[int, dict[str, str], bytes]:
        body = f"<Error><Code>{code or CODES[status]}</Code><Message>so it was wished</Message></Error>".encode()
        return status, {"Content-Type": "application/xml"}, body

    def _error(self, status: int, code: str = "") -> None:
        self._answer(*self._told(status, code))

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {"Last-Modified": formatdate(usegmt=True), **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.fault == "truncate":
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self._hang_up()
        elif self.fault == "slow":
            for at in range(0, len(body), 1 << 12):
                self.wfile.write(body[at : at + (1 << 12)])
                time.sleep(0.002)
        else:
            self.wfile.write(body)


def _unframed(body: bytes) -> bytes:
    """The bytes inside `aws-chunked` frames: SIZE[;chunk-signature=…] CRLF bytes CRLF … 0 CRLF trailers."""
    plain, at = list[bytes](), 0
    while at < len(body):
        end = body.index(b"\r\n", at)
        size = int(body[at:end].split(b";")[0], 16)
        if not size:
            break
        plain.append(body[end + 2 : end + 2 + size])
        at = end + 2 + size + 2
    return b"".join(plain)


@contextlib.contextmanager
def serving(**environment: str) -> Iterator[S3]:
    """An empty S3 that this process, and those it starts, take for Amazon's; with more of the environment changed."""
    with S3() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        told = {
            "AWS_ENDPOINT_URL": server.address,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            **environment,
        }
        before = {name: os.environ.get(name) for name in told}
        os.environ.update(told)
        store._filesystem.cache_clear()
        try:
            yield server
        finally:
            server.shutdown()
            store._filesystem.cache_clear()
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
