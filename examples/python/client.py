"""A client in Python: lists what runs, stops the query that has run longest, and reads an error.

    python client.py 127.0.0.1:50051 [USERNAME]

The credentials for Atoti are taken from AUTHORIZATION ("Bearer ...", for example), or from the file that
AUTHORIZATION_FILE names. ../README.md says how the definition is compiled.
"""

import os
import pathlib
import sys

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from atoti.queryhistory.v1 import query_history_pb2 as pb
from atoti.queryhistory.v1.query_history_pb2_grpc import QueryHistoryServiceStub


def authorization():
    """The metadata of every call; the bridge hands the credentials to Atoti as they are."""
    value = os.environ.get("AUTHORIZATION")
    if value is None and "AUTHORIZATION_FILE" in os.environ:
        value = pathlib.Path(os.environ["AUTHORIZATION_FILE"]).read_text()
    return [("authorization", value.strip())] if value else []


def running(bridge, usernames, metadata):
    """What runs, page by page, the newest start first."""
    request = pb.ListQueriesRequest()
    request.filter.statuses.append(pb.QUERY_STATUS_RUNNING)
    request.filter.usernames.extend(usernames)
    while True:
        page = bridge.ListQueries(request, timeout=10, metadata=metadata)
        yield from page.queries
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def error_info(error):
    """The reason among the details of an error, if a bridge has given one."""
    status = rpc_status.from_call(error)
    for detail in status.details if status else []:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info
    return None


def main(address="127.0.0.1:50051", *usernames):
    metadata = authorization()
    with grpc.insecure_channel(address) as channel:
        bridge = QueryHistoryServiceStub(channel)

        oldest = None
        for oldest in running(bridge, usernames, metadata):
            print(f"running: {oldest.query_id} of {oldest.username}")

        # Stop it, and wait until it has stopped. `allow_finished`: that it ended meanwhile is as good.
        if oldest:
            request = pb.CancelQueryRequest(query_id=oldest.query_id, reason="has run longest", allow_finished=True)
            request.wait.FromSeconds(10)
            answer = bridge.CancelQuery(request, timeout=15, metadata=metadata)
            print(f"cancel {oldest.query_id}: {pb.CancelOutcome.Name(answer.outcome)}")

        # An error says more than its code: why, whether Atoti may have been asked, whether a repeat may help.
        try:
            bridge.CancelQuery(pb.CancelQueryRequest(query_id="0"), timeout=15, metadata=metadata)
        except grpc.RpcError as error:
            print(f"cancel 0: {error.code().name}: {error.details()}")
            if info := error_info(error):
                told = info.metadata
                print(f"  {info.reason}, requestSent {told['requestSent']}, retryable {told['retryable']}")


if __name__ == "__main__":
    main(*sys.argv[1:])
