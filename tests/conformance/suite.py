"""Drives bridges over the wire by the rules of rules.toml, and writes down what each answered."""

import argparse
import base64
import concurrent.futures
import dataclasses
import json
import pathlib
import socket
import sys
import time
import tomllib
import urllib.parse

import grpc
import h2.exceptions
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

import adapters
import page
import wire
from upstream import Script, Upstream

HERE = pathlib.Path(__file__).parent
BRIDGES = ["ours", "envoy", "envoy_plain", "vanguard"]
# How long a caller waits whom the rule gives no deadline, and how many rules run at once.
PATIENCE = 20.0
AT_ONCE = 8
# All that a rule may say.
KNOWN = {
    "upstream": {
        "status", "status_if_odd", "headers", "type", "body", "repeat", "raw", "close", "delay", "hang", "hang_if_odd",
        "then_hang", "unreachable",
    },
    "call": {
        "method", "id", "metadata", "client", "timeout_header", "deadline", "compression", "parallel", "times",
        "cancel_after", "cancel_if_odd",
    },
    "expect": {
        "code", "code_if_odd", "code_not", "within", "requests", "method", "path", "body", "body_if_ok", "headers",
        "header_starts", "headers_absent", "segment", "given_up_within", "elsewhere", "read_status", "detail",
        "detail_holds", "details_agree", "retry_seconds", "headers_max", "hidden", "serving", "lists_service",
    },
}
NAMES = {str(number): name for name, number in code_pb2.Code.items()}
PATH = "/activeviam/query-history/rest/v1/query/"


@dataclasses.dataclass
class Reply:
    """What a caller saw, from grpcio or from the frames."""

    code: str
    message: str = ""
    data: bytes = b""
    headers: list = dataclasses.field(default_factory=list)
    trailers: list = dataclasses.field(default_factory=list)
    # Seconds to the answer, and the moment that the caller stopped waiting.
    seconds: float | None = None
    over: float = 0.0

    def status(self):
        """The `google.rpc.Status` of the trailers, or nothing."""
        for name, value in self.trailers:
            if name == "grpc-status-details-bin":
                return status_pb2.Status.FromString(value)
        return None

    def detail(self, kind):
        for packed in (self.status() or status_pb2.Status()).details:
            if packed.type_url.endswith(f"/{kind}"):
                message = getattr(error_details_pb2, kind.rsplit(".", 1)[1])()
                packed.Unpack(message)
                return message
        return None


class Caller:
    """Calls one bridge as a rule says."""

    def __init__(self, adapter, address):
        self.adapter, self.address = adapter, address
        self.channel = grpc.insecure_channel(address, [
            # Neither retries by itself nor a proxy of the environment: what is seen is the bridge's.
            ("grpc.enable_retries", 0), ("grpc.enable_http_proxy", 0),
        ])

    def close(self):
        self.channel.close()

    def _request(self, rule, key):
        """Path and bytes of a call."""
        method, adapter = rule["call"]["method"], self.adapter
        if method == "health":
            return "/grpc.health.v1.Health/Check", b""
        if method == "health-unknown":
            request = health_pb2.HealthCheckRequest(service="no.such.Service")
            return "/grpc.health.v1.Health/Check", request.SerializeToString()
        if method == "unknown-method":
            return adapter.path(("NoSuchMethod",)), b""
        if method == "unknown-service":
            return "/no.such.Service/Method", b""
        if method == "garbage":
            return adapter.path(adapter.cancel), b"\x0a\xff\xff"
        call = {"cancel": adapter.cancel, "cancel-by-id": adapter.cancel_by_id, "read": adapter.read}[method]
        return adapter.path(call), adapter.request(call, key)

    def call(self, rule, key):
        call = rule["call"]
        if call["method"] == "reflection":
            return self._reflect()
        path, message = self._request(rule, key)
        metadata = [(name, value) for name, value in call.get("metadata", {}).items()]
        if call.get("client") == "wire":
            # Who is late by a second may as well be late by more.
            patience = rule["expect"].get("within", PATIENCE - 1) + 1
            return self._wire(path, message, metadata, call.get("timeout_header"), patience)
        cancel_after = call.get("cancel_after")
        if call.get("cancel_if_odd") and int(key[-1]) % 2 == 0:
            cancel_after = None
        return self._grpcio(path, message, metadata, call, cancel_after)

    def _grpcio(self, path, message, metadata, call, cancel_after):
        compression = grpc.Compression.Gzip if call.get("compression") == "gzip" else None
        begun = time.monotonic()
        future = self.channel.unary_unary(path).future(
            message, timeout=call.get("deadline", PATIENCE), metadata=metadata, compression=compression,
        )
        if cancel_after is not None:
            time.sleep(cancel_after)
            over = time.monotonic()
            future.cancel()
            return Reply(future.code().name, over=over)
        code = future.code()
        seconds = time.monotonic() - begun
        if code is grpc.StatusCode.DEADLINE_EXCEEDED and seconds > PATIENCE - 0.5:
            return Reply("no answer")
        return Reply(
            code.name, future.details() or "", future.result() if code is grpc.StatusCode.OK else b"",
            list(future.initial_metadata() or []), list(future.trailing_metadata() or []), seconds,
        )

    def _wire(self, path, message, metadata, timeout=None, patience=PATIENCE):
        if timeout:
            metadata = [("grpc-timeout", timeout), *metadata]
        begun = time.monotonic()
        try:
            answer = wire.call(self.address, path, message, metadata, patience)
        except (OSError, h2.exceptions.ProtocolError):
            return Reply("connection lost", over=time.monotonic())
        over = begun + (int(timeout[:-1]) * {"S": 1, "m": 1e-3, "u": 1e-6}[timeout[-1]] if timeout else 0)
        code = answer.last("grpc-status")
        if answer.seconds is None:
            name = "no answer"
        elif code is not None:
            name = NAMES.get(code, f"grpc-status {code}")
        elif answer.reset:
            name = "stream reset"
        else:
            name = f"HTTP {answer.last(':status')}"
        return Reply(name, answer.last("grpc-message") or "", answer.data, answer.headers, answer.trailers,
                     answer.seconds, over)

    def _reflect(self):
        """Either version of the protocol will do. The request ends the stream: nothing is left to a race."""
        request = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
        for version in ["v1", "v1alpha"]:
            reply = self._wire(f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo", request, [])
            if reply.code == "OK":
                break
        return dataclasses.replace(reply, data=reply.data[wire.PREFIX:])


class Judge:
    """Holds what happened against what a rule expects; gathers the words for the page."""

    def __init__(self, rule, codes, adapter, script, elsewhere):
        self.rule, self.expect = rule, rule["expect"]
        self.codes, self.adapter, self.script, self.elsewhere = codes, adapter, script, elsewhere
        # Words, in order, each once: what was answered, and what was wrong with it.
        self.words, self.held = [], True

    def say(self, word):
        if word not in self.words:
            self.words.append(word)

    def must(self, holds, word):
        if not holds:
            self.held = False
            self.say(word)

    def _set(self, names):
        return {code for name in names for code in self.codes.get(name, [name])}

    def reply(self, reply, key):
        expect = self.expect
        odd = key[-1:].isdigit() and int(key[-1]) % 2 == 1
        wanted = expect["code_if_odd"] if odd and "code_if_odd" in expect else expect.get("code")
        within = expect.get("within")
        if reply.code == "no answer" or (within and (reply.seconds is None or reply.seconds > within)):
            self.must(not wanted and not within, f"no answer within {within or PATIENCE:.0f} s")
        else:
            self.say(reply.code)
            if wanted:
                self.held &= reply.code in self._set(wanted)
            if "code_not" in expect:
                self.held &= reply.code not in self._set(expect["code_not"])
        try:
            self._details(reply)
            self._content(reply)
        except DecodeError:
            self.must(False, "unreadable")

    def _details(self, reply):
        expect = self.expect
        if "detail" in expect:
            found = reply.detail(expect["detail"])
            self.must(found, f"no {expect['detail'].rsplit('.', 1)[1]}")
            self.must(not found or expect.get("detail_holds", "") in str(found), "without the field")
        if expect.get("details_agree"):
            status = reply.status()
            self.must(status, "no details")
            self.must(
                not status or (code_pb2.Code.Name(status.code), status.message) == (reply.code, reply.message),
                "they differ",
            )
        if "retry_seconds" in expect:
            wanted = expect["retry_seconds"]
            info = reply.detail("google.rpc.RetryInfo")
            pushback = dict(reply.trailers).get("grpc-retry-pushback-ms")
            self.must(info or pushback, "neither")
            self.must(not info or info.retry_delay.seconds == wanted, "another delay")
            self.must(not pushback or pushback == str(wanted * 1000), "another pushback")

    def _content(self, reply):
        expect = self.expect
        if "headers_max" in expect:
            # As HTTP/2 counts them: names, values, and 32 for each.
            size = sum(len(name) + len(value) + 32 for name, value in [*reply.headers, *reply.trailers])
            self.must(size <= expect["headers_max"], f"over {size // 51200 * 50} KiB")
        if "hidden" in expect:
            shown = [reply.data.decode("latin-1")]
            for name, value in [*reply.headers, *reply.trailers]:
                # As it came, and as a library hands it to the application.
                shown += [f"{name}: {value}", urllib.parse.unquote(value)]
                if name.endswith("-bin"):
                    shown.append(base64.b64decode(value + "==").decode("latin-1"))
            self.must(not any(expect["hidden"] in text for text in shown), "shown to the caller")
        if "read_status" in expect and reply.code == "OK":
            status = self.adapter.status_of(reply.data)
            self.must(status == expect["read_status"], f"status {status or 'missing'}")
        if expect.get("serving") and reply.code == "OK":
            answer = health_pb2.HealthCheckResponse.FromString(reply.data)
            self.must(answer.status == health_pb2.HealthCheckResponse.SERVING, "not SERVING")
        if expect.get("lists_service") and reply.code == "OK":
            services = reflection_pb2.ServerReflectionResponse.FromString(reply.data).list_services_response.service
            self.must(self.adapter.service in [service.name for service in services], "without the service")

    def upstream(self, key, replies):
        """What the server saw, after all calls of a rule."""
        expect, seen = self.expect, self.script.requests
        first = seen[0] if seen else None
        if "requests" in expect:
            self.must(len(seen) == expect["requests"], self._sent(seen))
        if "method" in expect:
            self.must(first and first.method == expect["method"], f"{first.method if first else 'nothing'} sent")
        if "path" in expect:
            self.must(first and first.target == expect["path"].replace("{id}", key), self._sent(seen))
        wanted = expect.get("body") or (expect.get("body_if_ok") if replies[0].code == "OK" else None)
        if wanted:
            self.must(first and _json(first.body) == json.loads(wanted), self._body(first))
        for name, value in expect.get("headers", {}).items():
            arrived = first and first.header(name)
            self.must(arrived == value, f"`{name}: {arrived}`" if arrived else f"no `{name}`")
        for name, value in expect.get("header_starts", {}).items():
            self.must(first and (first.header(name) or "").startswith(value), f"`{name}` is another")
        passed = [f"`{name}`" for name in expect.get("headers_absent", []) if first and first.header(name) is not None]
        self.must(not passed, f"passed on: {', '.join(passed)}")
        if "elsewhere" in expect:
            self.must(self.elsewhere.connections == expect["elsewhere"], "followed")
        if expect.get("segment"):
            self._segment(key, replies[0], seen)
        if "given_up_within" in expect:
            self._given_up(replies[0])

    def _segment(self, key, reply, seen):
        """One segment that decodes to the id; or refused, with nothing sent."""
        if reply.code == "OK":
            arrived = seen[0].target.removeprefix(PATH) if len(seen) == 1 else ""
            whole = "/" not in arrived and "?" not in arrived and "#" not in arrived
            self.must(whole and urllib.parse.unquote(arrived) == key, self._sent(seen))
            self.must(not seen or seen[0].header("x-smuggled") is None, "header smuggled")
        else:
            self.must(reply.code == "INVALID_ARGUMENT" and not seen, self._sent(seen) if seen else "nothing sent")

    def _given_up(self, reply):
        seen, limit = self.script.requests, self.expect["given_up_within"]
        while seen and seen[0].given_up is None and time.monotonic() < reply.over + limit + 1:
            time.sleep(0.02)
        given_up = seen[0].given_up if seen else None
        held = given_up is not None and given_up - reply.over <= limit
        self.held &= held
        self.words = ["given up" if held else "not sent" if not seen else f"goes on after {limit:.0f} s"]

    def _sent(self, seen):
        if not seen:
            return "nothing sent"
        if len(seen) > 1:
            return f"{len(seen)} requests"
        target = seen[0].target
        # Only the end of it matters, and only where it differs.
        end = target.removeprefix(PATH) if target.startswith(PATH) and target != PATH else target
        return f"sent `{end}`"

    @staticmethod
    def _body(first):
        if first is None:
            return "nothing sent"
        return f"body `{first.body.decode(errors='replace')}`" if first.body else "no body"


def _json(body):
    try:
        return json.loads(body)
    except ValueError:
        return None


def load_rules():
    """The rules; nothing in them that is not understood, because it would not be tested."""
    table = tomllib.loads((HERE / "rules.toml").read_text(encoding="utf-8"))
    seen = set()
    for rule in table["rule"]:
        rule.setdefault("upstream", {})
        rule.setdefault("call", {}).setdefault("method", "cancel")
        unknown = set(rule) - {"id", "title", "group", "source", "alone", "upstream", "call", "expect"}
        for part, known in KNOWN.items():
            unknown |= set(rule[part]) - known
        if unknown or not rule["expect"] or rule["id"] in seen:
            raise ValueError(f"{rule['id']}: twice, without expectations, or not understood: {unknown}")
        if rule["group"] not in table["groups"] or rule["source"] not in table["sources"]:
            raise ValueError(f"{rule['id']}: no such group or source")
        seen.add(rule["id"])
    return table


def run_rule(rule, codes, caller, server, elsewhere):
    """One rule against one bridge: whether it holds, and what was answered."""
    script = Script({**rule.get("upstream", {})}, elsewhere.address)
    if rule["call"]["method"] == "read":
        script.answer["method"] = "GET"
    call = rule["call"]
    if rule.get("alone"):
        server.alone = script
        keys = [call.get("id", rule["id"])]
    else:
        server.scripts[rule["id"]] = script
        count = call.get("parallel", call.get("times", 1))
        keys = [f"{rule['id']}--{number}" for number in range(count)]
    try:
        if "parallel" in call:
            with concurrent.futures.ThreadPoolExecutor(len(keys)) as pool:
                replies = list(pool.map(lambda key: caller.call(rule, key), keys))
        else:
            replies = [caller.call(rule, key) for key in keys]
    finally:
        server.alone = None
    judge = Judge(rule, codes, caller.adapter, script, elsewhere)
    for reply, key in zip(replies, keys, strict=True):
        judge.reply(reply, key)
    judge.upstream(keys[0], replies)
    return page.Cell(judge.held, judge.words)


def run_bridge(name, rules, codes, addresses=None, port=0):
    """All rules against one bridge, which is started unless its addresses are given."""
    adapter = adapters.load(name)
    adapter.prepare()
    server, elsewhere = Upstream(port), Upstream()
    with socket.socket() as closed:
        # Bound and not listening: nobody else gets it, and whoever connects is refused.
        closed.bind(("127.0.0.1", 0))
        dead = f"127.0.0.1:{closed.getsockname()[1]}"
        try:
            callers = [
                Caller(adapter, address) if address else None
                for address in addresses or [adapter.start(server.address), adapter.start(dead)]
            ]
            cells = {}
            needs = {rule["id"]: callers[1 if rule.get("upstream", {}).get("unreachable") else 0] for rule in rules}
            with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
                waiting = {
                    rule["id"]: pool.submit(run_rule, rule, codes, needs[rule["id"]], server, elsewhere)
                    for rule in rules if not rule.get("alone") and needs[rule["id"]]
                }
                cells = {key: future.result() for key, future in waiting.items()}
            for rule in rules:
                if rule.get("alone"):
                    cells[rule["id"]] = run_rule(rule, codes, needs[rule["id"]], server, elsewhere)
            for caller in filter(None, callers):
                caller.close()
        finally:
            adapter.stop()
    return page.Column(adapter.title, adapter.configuration, cells)


def main():
    parser = argparse.ArgumentParser(
        prog="tests/conformance/run", description=__doc__,
        epilog="Without arguments it runs everything, and fails when docs/CONFORMANCE.md is stale or a rule does not "
        "hold for this project's bridge.",
    )
    parser.add_argument("--write", action="store_true", help="write docs/CONFORMANCE.md instead of comparing")
    parser.add_argument("--bridge", action="append", choices=BRIDGES, help="only this bridge; may be repeated")
    parser.add_argument("--rule", action="append", metavar="ID", help="only this rule; may be repeated")
    parser.add_argument("--address", metavar="HOST:PORT", help="a bridge that runs already; needs --adapter")
    parser.add_argument("--adapter", metavar="NAME", help="the module in tests/conformance/adapters that knows it")
    parser.add_argument("--upstream-port", type=int, default=0, metavar="PORT",
                        help="where that bridge expects its REST server, on loopback; the suite listens there")
    parser.add_argument("--dead-address", metavar="HOST:PORT",
                        help="a second one of it, whose REST server is not there; else that rule is left out")
    options = parser.parse_args()
    if bool(options.address) != bool(options.adapter) or bool(options.address) != bool(options.upstream_port):
        parser.error("--address, --adapter and --upstream-port belong together")

    table = load_rules()
    rules = [rule for rule in table["rule"] if not options.rule or rule["id"] in options.rule]
    if options.rule and len(rules) != len(set(options.rule)):
        parser.error("there is no such rule")

    if options.address:
        addresses = [options.address, options.dead_address]
        try:
            columns = [run_bridge(options.adapter, rules, table["codes"], addresses, options.upstream_port)]
        except OSError as error:
            parser.error(f"cannot listen on port {options.upstream_port}: {error.strerror}")
        must_hold = columns
    else:
        names = options.bridge or BRIDGES
        columns = [run_bridge(name, rules, table["codes"]) for name in names]
        must_hold = columns[:1] if names[0] == "ours" else []
    page.show(rules, columns)
    failed = [(column.title, key) for column in must_hold for key, cell in column.cells.items() if not cell.held]
    for title, key in failed:
        print(f"error: {title} does not keep {key}", file=sys.stderr)
    if not (options.address or options.bridge or options.rule):
        stale = page.settle(table, columns, adapters.LIMIT_SECONDS, options.write)
        sys.exit(1 if failed or stale else 0)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
