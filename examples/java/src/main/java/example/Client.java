package example;

import com.google.protobuf.Any;
import com.google.protobuf.Duration;
import com.google.rpc.ErrorInfo;
import io.atoti.queryhistory.v1.CancelQueryRequest;
import io.atoti.queryhistory.v1.ListQueriesRequest;
import io.atoti.queryhistory.v1.ListQueriesResponse;
import io.atoti.queryhistory.v1.Query;
import io.atoti.queryhistory.v1.QueryFilter;
import io.atoti.queryhistory.v1.QueryHistoryServiceGrpc;
import io.atoti.queryhistory.v1.QueryHistoryServiceGrpc.QueryHistoryServiceBlockingStub;
import io.atoti.queryhistory.v1.QueryStatus;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.MetadataUtils;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.TimeUnit;

/**
 * A client in Java: lists what runs, stops the query that has run longest, and reads an error.
 *
 * <p>Its arguments are an address and, for one user's queries only, a username. The credentials for Atoti are taken
 * from AUTHORIZATION ("Bearer ...", for example), or from the file that AUTHORIZATION_FILE names.
 */
public final class Client {
  public static void main(String[] arguments) throws Exception {
    List<String> given = List.of(arguments);
    String address = given.isEmpty() ? "127.0.0.1:50051" : given.get(0);
    ManagedChannel channel = Grpc.newChannelBuilder(address, InsecureChannelCredentials.create()).build();
    try {
      // Every call carries the credentials; the bridge hands them to Atoti as they are.
      QueryHistoryServiceBlockingStub bridge =
          QueryHistoryServiceGrpc.newBlockingStub(channel)
              .withInterceptors(MetadataUtils.newAttachHeadersInterceptor(credentials()));
      run(bridge, given.subList(Math.min(1, given.size()), given.size()));
    } finally {
      channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
    }
  }

  private static void run(QueryHistoryServiceBlockingStub bridge, List<String> usernames) throws Exception {
    // What runs, page by page, the newest start first.
    QueryFilter filter =
        QueryFilter.newBuilder().addAllUsernames(usernames).addStatuses(QueryStatus.QUERY_STATUS_RUNNING).build();
    Query oldest = null;
    String pageToken = "";
    do {
      ListQueriesResponse page =
          bridge
              .withDeadlineAfter(10, TimeUnit.SECONDS)
              .listQueries(ListQueriesRequest.newBuilder().setFilter(filter).setPageToken(pageToken).build());
      for (Query query : page.getQueriesList()) {
        System.out.printf("running: %s of %s%n", query.getQueryId(), query.getUsername());
        oldest = query;
      }
      pageToken = page.getNextPageToken();
    } while (!pageToken.isEmpty());

    // Stop it, and wait until it has stopped. `allow_finished`: that it ended meanwhile is as good.
    if (oldest != null) {
      CancelQueryRequest request =
          CancelQueryRequest.newBuilder()
              .setQueryId(oldest.getQueryId())
              .setWait(Duration.newBuilder().setSeconds(10))
              .setReason("has run longest")
              .setAllowFinished(true)
              .build();
      var answer = bridge.withDeadlineAfter(15, TimeUnit.SECONDS).cancelQuery(request);
      System.out.printf("cancel %s: %s%n", oldest.getQueryId(), answer.getOutcome());
    }

    // An error says more than its code: why, whether Atoti may have been asked, whether a repeat may help.
    try {
      CancelQueryRequest unknown = CancelQueryRequest.newBuilder().setQueryId("0").build();
      bridge.withDeadlineAfter(15, TimeUnit.SECONDS).cancelQuery(unknown);
    } catch (StatusRuntimeException error) {
      System.out.printf("cancel 0: %s: %s%n", error.getStatus().getCode(), error.getStatus().getDescription());
      ErrorInfo info = errorInfo(error);
      System.out.printf(
          "  %s, requestSent %s, retryable %s%n",
          info.getReason(), info.getMetadataMap().get("requestSent"), info.getMetadataMap().get("retryable"));
    }
  }

  /** The reason among the details of an error; empty if no bridge has given one. */
  private static ErrorInfo errorInfo(StatusRuntimeException error) throws Exception {
    for (Any detail : StatusProto.fromThrowable(error).getDetailsList()) {
      if (detail.is(ErrorInfo.class)) {
        return detail.unpack(ErrorInfo.class);
      }
    }
    return ErrorInfo.getDefaultInstance();
  }

  private static Metadata credentials() throws Exception {
    Metadata headers = new Metadata();
    String value = System.getenv("AUTHORIZATION");
    String file = System.getenv("AUTHORIZATION_FILE");
    if (value == null && file != null) {
      value = Files.readString(Path.of(file));
    }
    if (value != null) {
      headers.put(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), value.strip());
    }
    return headers;
  }
}
