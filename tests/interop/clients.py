"""The clients of the matrix, each a process of its own; clients/README.md says how they are spoken with.

grpcurl has no such program: here is what makes it look like one, with a process for every call.
"""

import collections
import json
import os
import pathlib
import signal
import subprocess
import threading

from programs import GRPCURL, PATIENCE, SERVICE, eventually

# In the background of a shell SIGINT is ignored, and so it would be by every program that is started here.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

CLIENTS = pathlib.Path(__file__).parent / "clients"
CODES = ["OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
         "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
         "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"]

Transport = collections.namedtuple("Transport", "target ca cert key", defaults=[None, None, None])


class Call:
    """A call under way: its messages as they come; its end, once there is one."""

    def __init__(self, id):
        self.id, self.messages, self.end = id, [], None

    def done(self, patience=PATIENCE):
        eventually(f"the end of call {self.id}", lambda: self.end, patience)
        return self

    def begun(self):
        eventually(f"a message of call {self.id}", lambda: self.messages or self.end)
        return self

    @property
    def code(self):
        return self.done().end["code"]

    def __repr__(self):
        return f"{self.messages} {self.end}"


class Client:
    """One of clients/, with the channel it has."""

    # What comes before the arguments.
    COMMANDS = {
        "go": [os.environ["MATRIX_GO"]],
        "python": [os.environ["MATRIX_PYTHON"], str(CLIENTS / "python" / "client.py")],
        "node": ["node", str(CLIENTS / "node" / "client.js")],
        # Several at once on few processors: what makes a server fast is in the way.
        "java": ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC",
                 "-cp", os.environ["MATRIX_CLASSPATH"], "matrix.Client"],
        "rust": [os.environ["MATRIX_RUST"]],
    }

    # For a Unix socket these libraries send its path as the authority, which is none that HTTP/2 allows: the bridge's
    # library resets the call with PROTOCOL_ERROR. The others send localhost by themselves.
    NEED_AUTHORITY = ["python", "node", "java"]

    def __init__(self, language, transport):
        arguments = [f"{name}={value}" for name, value in transport._asdict().items() if value and name != "target"]
        is_unix = transport.target.startswith("unix:")
        arguments += ["authority=localhost"] if is_unix and language in self.NEED_AUTHORITY else []
        self.process = subprocess.Popen(
            [*self.COMMANDS[language], transport.target, *arguments], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            # grpcio writes of refused connections to standard error, which is right and of no use here.
            env={**os.environ, "GRPC_VERBOSITY": "NONE"},
        )
        self.calls, self.lock = {}, threading.Lock()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def started(self):
        """Waits for its first call: a busy machine takes a while to start some of them."""
        self.start("Health", service="").done(patience=60)
        return self

    def _read(self):
        for line in self.process.stdout:
            told = dict(word.split("=", 1) for word in line.rstrip("\n").split("\t"))
            call = self.calls[told.pop("id")]
            if "code" in told:
                call.end = told
            else:
                call.messages.append(told["message"])
        for call in self.calls.values():
            call.end = call.end or {"code": "(the client has ended)"}

    def start(self, do, **asked):
        with self.lock:
            call = self.calls[str(len(self.calls))] = Call(str(len(self.calls)))
            self._write(id=call.id, do=do, **asked)
        return call

    def _write(self, **asked):
        print("\t".join(f"{name}={value}" for name, value in asked.items()), file=self.process.stdin, flush=True)

    def ask(self, do, **asked):
        return self.start(do, **asked).done()

    def stop(self, call):
        with self.lock:
            self._write(id="-", do="Stop", call=call.id)

    def close(self):
        """Lets it end; what does not is ended."""
        try:
            self.process.stdin.close()
            code = self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            self.process.wait()
            self.reader.join(PATIENCE)
            self.process.stdout.close()
        return code


class Grpcurl:
    """grpcurl, which asks reflection what there is."""

    def __init__(self, _, transport):
        self.flags = ["-plaintext"] if not transport.ca else ["-cacert", transport.ca]
        self.flags += ["-cert", transport.cert, "-key", transport.key] if transport.cert else []
        self.address = transport.target
        if transport.target.startswith("unix:"):
            self.flags += ["-unix"]
            self.address = transport.target.removeprefix("unix:")
        self.running, self.threads = {}, []

    def started(self):
        return self

    def start(self, do, **asked):
        call = Call(str(len(self.threads)))
        flags = ["-v", "-format-error", "-emit-defaults", *self.flags]
        for header, key in [("authorization", "authorization"), ("x-request-id", "request_id")]:
            flags += ["-H", f"{header}: {asked[key]}"] if key in asked else []
        flags += ["-H", "x-pad: " + "x" * asked["pad"]] if "pad" in asked else []
        flags += ["-max-time", str(asked["timeout_ms"] / 1000)] if "timeout_ms" in asked else []
        request = {"query_id": asked["query_id"]} if "query_id" in asked else {}
        request |= {"wait": f"{asked['wait']}s"} if "wait" in asked else {}
        request |= {"filter": {"usernames": [asked["user"]]}} if "user" in asked else {}
        method = f"{SERVICE}/{do}"
        if do == "Health":
            method, request = "grpc.health.v1.Health/Check", {"service": asked["service"]}
        elif do == "Reflection":
            method = f"grpc.reflection.{asked['version']}.ServerReflection/ServerReflectionInfo"
            request = {"list_services": ""}
        elif do == "ListQueries":
            request["page_size"] = 2
        self.threads.append(threading.Thread(target=self._try, args=[call, do, method, flags, request]))
        self.threads[-1].start()
        return call

    def _try(self, call, *arguments):
        try:
            self._run(call, *arguments)
        except Exception as failure:
            call.end = {"code": f"({failure!r})"}
            raise

    def _run(self, call, do, method, flags, request):
        while True:
            command = [GRPCURL, *flags, "-d", json.dumps(request), self.address, method]
            process = self.running[call.id] = subprocess.Popen(
                command, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
            # A stream's messages are wanted as they come: each is JSON between braces at the left.
            section, headers, text = "", {}, None
            for line in process.stdout:
                if line.startswith("Response "):
                    section = line
                elif section and text is None and ": " in line:
                    name, value = line.rstrip("\n").split(": ", 1)
                    headers[name.lower()] = value
                if line.startswith("{"):
                    text = ""
                if text is not None:
                    text += line
                if text is not None and line.startswith(("}", "{}")):
                    answer, text = json.loads(text), None
                    call.messages += shown_by(do, answer)
            complaint = process.stderr.read()
            process.wait()
            process.stdout.close()
            process.stderr.close()
            if process.returncode == 0 and do == "ListQueries" and answer["nextPageToken"]:
                request["page_token"] = answer["nextPageToken"]
                continue
            end = {"code": "OK", "answered": headers.get("x-request-id")}
            end = end if process.returncode == 0 else failure(complaint)
            if "grpc-retry-pushback-ms" in headers:
                end["pushback"] = headers["grpc-retry-pushback-ms"]
            call.end = end
            return

    def ask(self, do, **asked):
        return self.start(do, **asked).done()

    def stop(self, call):
        self.running[call.id].send_signal(signal.SIGINT)

    def close(self):
        for thread in self.threads:
            thread.join(PATIENCE)
        return 0


def failure(complaint):
    """What grpcurl prints of an error, under the names of clients/README.md."""
    if not complaint.lstrip().startswith("{"):
        return {"code": "(no status)", "text": complaint}
    status = json.loads(complaint)
    return {"code": CODES[status["code"]], "text": status["message"], **details(status)}


def details(status):
    told = {}
    for detail in status.get("details") or []:
        if "@error" in detail:
            # It asks reflection for the type, and after the deadline it cannot.
            continue
        match detail["@type"].rsplit(".", 1)[-1]:
            case "ErrorInfo":
                told |= {"reason": detail["reason"], "domain": detail["domain"]}
                told |= {name: detail["metadata"].get(name) for name in ["requestSent", "retryable"]}
            case "RequestInfo":
                told["request"] = detail["requestId"]
            case "ResourceInfo":
                told["resource"] = detail["resourceName"]
            case "BadRequest":
                told["field"] = detail["fieldViolations"][0]["field"]
            case "RetryInfo":
                told["retry_ms"] = str(round(1000 * float(detail["retryDelay"].removesuffix("s"))))
    return told


def shown_by(do, answer):
    """The messages of an answer, as the other clients write them."""
    query = answer.get("query") or {}
    match do:
        case "CancelQuery":
            yield f"{answer['outcome']} {query.get('queryId', '')} {query.get('status', 'QUERY_STATUS_UNSPECIFIED')}"
        case "CancelQueries":
            yield f"{query['queryId']} {answer['outcome']} {details(answer.get('error') or {}).get('reason', '')}"
        case "CancelAllQueries":
            yield f"{answer['outcome']} {answer['stillRunning']}"
        case "GetQuery":
            yield f"{query['queryId']} {query['status']} {query['type']} {query['username']}"
        case "ListQueries":
            yield " ".join([answer["totalSize"], *(query["queryId"] for query in answer["queries"])])
        case "WatchQuery":
            yield f"{query['queryId']} {query['status']}"
        case "GetQueryPlan":
            yield answer["planJson"]
        case "DeleteQuery" | "DeleteQueries":
            yield "deleted"
        case "GetServerInfo":
            yield f"{str(answer['apiInstalled']).lower()} {answer['credentials']} {answer['serverVersion']}"
        case "Health":
            yield answer["status"]
        case "Reflection":
            yield from (service["name"] for service in answer["listServicesResponse"]["service"])


MAKES = {"grpcurl": Grpcurl} | {language: Client for language in Client.COMMANDS}
