"""vanguard-go in front of a REST server: a Go program around the library, `tests/conformance/vanguard`."""

import os
import re

from adapters import HERE, LIMIT_SECONDS
from adapters.transcoded import Transcoded

VERSION = re.search(r"connectrpc\.com/vanguard (\S+)", (HERE / "vanguard" / "go.mod").read_text(encoding="utf-8"))[1]


class Adapter(Transcoded):
    title = f"vanguard-go {VERSION}"
    configuration = (
        "A small Go program (`tests/conformance/vanguard`): `vanguard.NewTranscoder` with REST and JSON as "
        f"its target, around `httputil.ReverseProxy` with its options; `ResponseHeaderTimeout` is {LIMIT_SECONDS} s. "
        "The library has no option for deadlines, statuses or headers. The caller sends `{\"status\":\"CANCELLED\"}`. "
        "The answer of a cancel is a `google.api.HttpBody`, so that any body will do."
    )

    def start(self, upstream):
        process, log = self.spawn(
            os.environ["VANGUARD"], "-descriptors", self.descriptors, "-service", self.service,
            "-upstream", f"http://{upstream}", "-limit", f"{LIMIT_SECONDS}s",
        )

        def listening():
            found = re.search(r"^listening (\S+)\n", log.read_text(encoding="utf-8"))
            return found and found[1]

        return self.eventually("vanguard", process, log, listening)
