"""The REST server of the suite: it answers each request byte by byte as a rule says, and keeps what it saw."""

import asyncio
import threading
import time
import urllib.parse
from dataclasses import dataclass, field

HEAD_LIMIT = 1 << 20
# Longer than any caller of the suite waits.
HANG_SECONDS = 30.0
REASONS = {200: "OK", 204: "No Content", 404: "Not Found"}
BODILESS = (204, 304)


@dataclass
class Request:
    """A request as it came."""

    method: str
    target: str
    headers: list
    body: bytes = b""
    # When the bridge closed the connection under it.
    given_up: float | None = None

    def header(self, name):
        return next((value for key, value in self.headers if key.lower() == name), None)


@dataclass
class Script:
    """What one rule makes the server do, and the requests that it got."""

    answer: dict
    elsewhere: str = ""
    requests: list = field(default_factory=list)

    def bytes(self, key):
        """The answer to an id, all of it."""
        answer = self.answer
        if "raw" in answer:
            return answer["raw"].encode()
        odd = key[-1:].isdigit() and int(key[-1]) % 2 == 1
        status = answer.get("status_if_odd", answer["status"]) if odd else answer["status"]
        body = (answer.get("body", "").replace("{id}", key) * answer.get("repeat", 1)).encode()
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Scripted')}"]
        for name, value in answer.get("headers", {}).items():
            lines.append(f"{name}: {value.replace('{elsewhere}', self.elsewhere)}")
        if "type" in answer:
            lines.append(f"Content-Type: {answer['type']}")
        if status not in BODILESS:
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join([*lines, "", ""]).encode() + body

    def hangs(self, key):
        odd = key[-1:].isdigit() and int(key[-1]) % 2 == 1
        return self.answer.get("hang") or (odd and self.answer.get("hang_if_odd"))


class Upstream:
    """Listens on loopback, in a thread of its own. A request belongs to the rule whose id its last segment begins with.

    Rules whose ids are the very thing to be tested run alone: `alone` is then the script for what nobody else owns.
    """

    def __init__(self, port=0):
        self.scripts = {}
        self.alone = None
        self.connections = 0
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        start = asyncio.start_server(self._serve, "127.0.0.1", port, limit=HEAD_LIMIT)
        self._server = asyncio.run_coroutine_threadsafe(start, self._loop).result()
        self.port = self._server.sockets[0].getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"

    def _script(self, request):
        """The script for a request, and the id that it is about."""
        key = urllib.parse.unquote(request.target.rsplit("/", 1)[-1], errors="replace")
        rule = key.split("--")[0]
        if rule in self.scripts:
            return self.scripts[rule], key
        # Whatever a bridge asks for by itself, to see whether the server is there, is no request of a rule.
        if self.alone and request.method != "GET":
            return self.alone, key
        return None, key

    async def _serve(self, reader, writer):
        self.connections += 1
        try:
            while await self._one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            pass
        finally:
            writer.close()

    async def _one(self, reader, writer):
        """Serves one request; whether the connection goes on."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *lines = head.rstrip("\r\n").split("\r\n")
        method, rest = line.split(" ", 1)
        target = rest.rsplit(" ", 1)[0]
        headers = [tuple(part.strip() for part in each.split(":", 1)) for each in lines]
        request = Request(method, target, headers)
        if (request.header("transfer-encoding") or "").lower() == "chunked":
            request.body = await self._chunks(reader)
        else:
            request.body = await reader.readexactly(int(request.header("content-length") or 0))

        script, key = self._script(request)
        if script is None:
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return True
        # A bridge may look a query up when its cancel has failed. That is its own affair.
        if method != script.answer.get("method", "PATCH") and self.alone is not script:
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return True
        script.requests.append(request)
        if script.hangs(key):
            return await self._hang(reader, request)
        if "delay" in script.answer:
            await asyncio.sleep(script.answer["delay"])
        writer.write(script.bytes(key))
        await writer.drain()
        if script.answer.get("then_hang"):
            return await self._hang(reader, request)
        return not script.answer.get("close")

    @staticmethod
    async def _chunks(reader):
        body = b""
        while size := int((await reader.readline()).split(b";")[0], 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readuntil(b"\r\n")
        return body

    @staticmethod
    async def _hang(reader, request):
        try:
            await asyncio.wait_for(reader.read(1), HANG_SECONDS)
            request.given_up = time.monotonic()
        except ConnectionError:
            request.given_up = time.monotonic()
        except TimeoutError:
            pass
        return False
