"""The matrix client of grpcio. ../README.md says what it reads and prints."""

import pathlib
import sys
import threading
import time

import grpc
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from atoti.queryhistory.v1 import query_history_pb2 as pb
from atoti.queryhistory.v1 import query_history_pb2_grpc

OUT = threading.Lock()


def words(texts):
    return dict(text.split("=", 1) for text in texts)


def tell(**told):
    line = "\t".join(f"{name}={str(value).translate({9: ' ', 10: ' ', 13: ' '})}" for name, value in told.items())
    with OUT:
        print(line, flush=True)


def connect(target, ca=None, cert=None, key=None, authority=None):
    options = [("grpc.default_authority", authority)] if authority else []
    if not ca:
        return grpc.insecure_channel(target, options)
    read = [file and pathlib.Path(file).read_bytes() for file in (ca, key, cert)]
    return grpc.secure_channel(target, grpc.ssl_channel_credentials(*read), options)


def details(status):
    """What the details of an error say, each under its name in the README."""
    told = {}
    for packed in status.details if status else []:
        detail = getattr(error_details_pb2, packed.TypeName().rsplit(".", 1)[-1])()
        packed.Unpack(detail)
        match detail:
            case error_details_pb2.ErrorInfo():
                told |= {"reason": detail.reason, "domain": detail.domain}
                told |= {name: detail.metadata[name] for name in ["requestSent", "retryable"]}
            case error_details_pb2.RequestInfo():
                told["request"] = detail.request_id
            case error_details_pb2.ResourceInfo():
                told["resource"] = detail.resource_name
            case error_details_pb2.BadRequest():
                told["field"] = detail.field_violations[0].field
            case error_details_pb2.RetryInfo():
                told["retry_ms"] = detail.retry_delay.ToMilliseconds()
    return told


def reason(error):
    return details(error).get("reason", "")


class Calls:
    def __init__(self, channel):
        self.bridge = query_history_pb2_grpc.QueryHistoryServiceStub(channel)
        self.health = health_pb2_grpc.HealthStub(channel)
        self.reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        self.under_way, self.begun = {}, threading.Condition()

    def run(self, asked):
        """One call, from its line to its end."""
        began, status = time.monotonic(), {"code": "OK"}
        try:
            for message in getattr(self, asked["do"])(asked):
                tell(id=asked["id"], message=message)
            call = self.under_way[asked["id"]]
            status["answered"] = dict(call.initial_metadata()).get("x-request-id", "")
        except grpc.RpcError as error:
            status = {"code": error.code().name, "text": error.details(), **details(rpc_status.from_call(error))}
            for name, value in error.trailing_metadata() or []:
                if name == "grpc-retry-pushback-ms":
                    status["pushback"] = value
        except grpc.FutureCancelledError:
            status = {"code": "CANCELLED"}
        tell(id=asked["id"], **status, ms=round(1000 * (time.monotonic() - began)))

    def begin(self, method, asked, request):
        """The call itself, or its future: both can be cancelled, and know their metadata."""
        metadata = [("authorization", asked["authorization"])] if "authorization" in asked else []
        metadata += [("x-request-id", asked["request_id"])] if "request_id" in asked else []
        metadata += [("x-pad", "x" * int(asked["pad"]))] if "pad" in asked else []
        start = getattr(method, "future", method)
        if isinstance(method, (grpc.UnaryStreamMultiCallable, grpc.StreamStreamMultiCallable)):
            start = method
        timeout = int(asked["timeout_ms"]) / 1000 if "timeout_ms" in asked else None
        call = start(request, timeout=timeout, metadata=metadata, wait_for_ready=asked.get("wait_for_ready") == "true")
        with self.begun:
            self.under_way[asked["id"]] = call
            self.begun.notify_all()
        return call

    def stop(self, id):
        """Cancels a call. Its thread may not have come so far yet as to have noted it."""
        with self.begun:
            assert self.begun.wait_for(lambda: id in self.under_way, 20), id
        self.under_way[id].cancel()

    def request(self, kind, asked):
        request = kind(**{"query_id": asked["query_id"]} if "query_id" in asked else {})
        if "wait" in asked:
            request.wait.FromSeconds(int(asked["wait"]))
        if "user" in asked:
            request.filter.usernames.append(asked["user"])
        return request

    def CancelQuery(self, asked):
        answer = self.begin(self.bridge.CancelQuery, asked, self.request(pb.CancelQueryRequest, asked)).result()
        outcome, query = pb.CancelOutcome.Name(answer.outcome), answer.query
        yield f"{outcome} {query.query_id} {pb.QueryStatus.Name(query.status)}"

    def CancelQueries(self, asked):
        for answer in self.begin(self.bridge.CancelQueries, asked, self.request(pb.CancelQueriesRequest, asked)):
            yield f"{answer.query.query_id} {pb.CancelOutcome.Name(answer.outcome)} {reason(answer.error)}"

    def CancelAllQueries(self, asked):
        request = self.request(pb.CancelAllQueriesRequest, asked)
        answer = self.begin(self.bridge.CancelAllQueries, asked, request).result()
        yield f"{pb.CancelOutcome.Name(answer.outcome)} {answer.still_running}"

    def GetQuery(self, asked):
        query = self.begin(self.bridge.GetQuery, asked, self.request(pb.GetQueryRequest, asked)).result().query
        yield f"{query.query_id} {pb.QueryStatus.Name(query.status)} {pb.QueryType.Name(query.type)} {query.username}"

    def ListQueries(self, asked):
        request = self.request(pb.ListQueriesRequest, asked)
        request.page_size = 2
        while True:
            page = self.begin(self.bridge.ListQueries, asked, request).result()
            yield " ".join([str(page.total_size), *(query.query_id for query in page.queries)])
            request.page_token = page.next_page_token
            if not request.page_token:
                return

    def WatchQuery(self, asked):
        for answer in self.begin(self.bridge.WatchQuery, asked, self.request(pb.WatchQueryRequest, asked)):
            yield f"{answer.query.query_id} {pb.QueryStatus.Name(answer.query.status)}"

    def GetQueryPlan(self, asked):
        request = self.request(pb.GetQueryPlanRequest, asked)
        yield self.begin(self.bridge.GetQueryPlan, asked, request).result().plan_json

    def DeleteQuery(self, asked):
        self.begin(self.bridge.DeleteQuery, asked, self.request(pb.DeleteQueryRequest, asked)).result()
        yield "deleted"

    def DeleteQueries(self, asked):
        self.begin(self.bridge.DeleteQueries, asked, self.request(pb.DeleteQueriesRequest, asked)).result()
        yield "deleted"

    def GetServerInfo(self, asked):
        info = self.begin(self.bridge.GetServerInfo, asked, pb.GetServerInfoRequest()).result()
        yield f"{str(info.api_installed).lower()} {pb.CredentialsStatus.Name(info.credentials)} {info.server_version}"

    def Health(self, asked):
        answer = self.begin(self.health.Check, asked, health_pb2.HealthCheckRequest(service=asked["service"])).result()
        yield health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)

    def Reflection(self, asked):
        # The package has v1alpha alone.
        assert asked["version"] == "v1alpha", asked
        requests = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        for answer in self.begin(self.reflection.ServerReflectionInfo, asked, requests):
            yield from (service.name for service in answer.list_services_response.service)


def main(target, *arguments):
    with connect(target, **words(arguments)) as channel:
        calls, threads = Calls(channel), []
        for line in sys.stdin:
            asked = words(line.rstrip("\n").split("\t"))
            if asked["do"] == "Stop":
                calls.stop(asked["call"])
                continue
            threads.append(threading.Thread(target=calls.run, args=[asked]))
            threads[-1].start()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
