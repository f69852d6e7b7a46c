"""What the suite has to know of a bridge: how it is started, what its calls are named, and how it was configured.

An adapter is a module of this folder with a class `Adapter`. To add a bridge, write one; to try one that runs already,
give its address as well (`run --address HOST:PORT --adapter NAME --upstream-port PORT`).
"""

import importlib
import os
import pathlib
import signal
import subprocess
import tempfile
import time

import google.api
import grpc_tools
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from grpc_tools import protoc

ROOT = pathlib.Path(__file__).parents[3]
HERE = ROOT / "tests" / "conformance"
# The limit that every bridge is given for a call whose caller sets none. Longer than the rules about deadlines wait:
# who only keeps the limit does not keep them.
LIMIT_SECONDS = 6
PATIENCE = 30.0


def load(name):
    return importlib.import_module(f"adapters.{name}").Adapter()


class Base:
    """The defaults, and what all adapters need."""

    # The heading of its column, and its paragraph in the page.
    title = ""
    configuration = ""
    # The definition: folders to import from, and the file.
    imports, proto = (), ""
    service = ""
    # Method and request (as JSON, `{id}` for the id) of a cancel, of one by a caller that sends the id alone, and of a
    # read.
    cancel = cancel_by_id = read = None
    # Where the answer of a read has the status, and what precedes its name there.
    read_status, status_prefix = (), ""

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self._folder.name)
        self.descriptors = self.folder / "descriptors.pb"
        self._pool = None
        self._processes = []

    def prepare(self):
        """Compiles the definition."""
        google_api = pathlib.Path(list(google.api.__path__)[0]).parents[1]
        well_known = pathlib.Path(grpc_tools.__file__).parent / "_proto"
        folders = [*self.imports, google_api, well_known]
        code = protoc.main([
            "protoc", *[f"--proto_path={folder}" for folder in folders], "--include_imports",
            f"--descriptor_set_out={self.descriptors}", self.proto,
        ])
        assert code == 0, f"{self.proto} does not compile"
        files = descriptor_pb2.FileDescriptorSet.FromString(self.descriptors.read_bytes())
        self._pool = descriptor_pool.DescriptorPool()
        for file in files.file:
            self._pool.Add(file)

    def _method(self, name):
        return self._pool.FindServiceByName(self.service).FindMethodByName(name)

    def path(self, call):
        return f"/{self.service}/{call[0]}"

    def request(self, call, query_id):
        """The bytes of a request."""

        def fill(value):
            if isinstance(value, dict):
                return {key: fill(inner) for key, inner in value.items()}
            return query_id if value == "{id}" else value

        message = message_factory.GetMessageClass(self._method(call[0]).input_type)()
        return json_format.ParseDict(fill(call[1]), message).SerializeToString()

    def status_of(self, answer):
        """The status in the answer of a read."""
        message = message_factory.GetMessageClass(self._method(self.read[0]).output_type).FromString(answer)
        value = json_format.MessageToDict(message, preserving_proto_field_name=True)
        for name in self.read_status:
            value = value.get(name, {})
        return value.removeprefix(self.status_prefix) if isinstance(value, str) else None

    def start(self, upstream):
        """Starts the bridge in front of an address; where it listens."""
        raise NotImplementedError

    def spawn(self, *command, **arguments):
        """Starts a program that ends with the adapter."""
        log = open(self.folder / f"log-{len(self._processes)}", "w+", encoding="utf-8")
        clean = {k: v for k, v in os.environ.items() if not k.startswith("ATOTI_BRIDGE_") and k != "RUST_LOG"}
        process = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=clean, **arguments,
        )
        self._processes.append((process, log))
        return process, pathlib.Path(log.name)

    def eventually(self, what, process, log, look):
        """Looks until there is something to see."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if seen := look():
                return seen
            if process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"waited in vain for {what}: {log.read_text(encoding='utf-8')[-2000:]}")

    def stop(self):
        for process, log in self._processes:
            process.send_signal(signal.SIGTERM)
        for process, log in self._processes:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            log.close()
        self._processes.clear()
        self._folder.cleanup()
