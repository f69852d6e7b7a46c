package matrix;

import com.google.protobuf.Any;
import com.google.protobuf.Duration;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RequestInfo;
import com.google.rpc.ResourceInfo;
import com.google.rpc.RetryInfo;
import io.atoti.queryhistory.v1.CancelAllQueriesRequest;
import io.atoti.queryhistory.v1.CancelQueriesRequest;
import io.atoti.queryhistory.v1.CancelQueryRequest;
import io.atoti.queryhistory.v1.DeleteQueriesRequest;
import io.atoti.queryhistory.v1.DeleteQueryRequest;
import io.atoti.queryhistory.v1.GetQueryPlanRequest;
import io.atoti.queryhistory.v1.GetQueryRequest;
import io.atoti.queryhistory.v1.GetServerInfoRequest;
import io.atoti.queryhistory.v1.ListQueriesRequest;
import io.atoti.queryhistory.v1.ListQueriesResponse;
import io.atoti.queryhistory.v1.Query;
import io.atoti.queryhistory.v1.QueryFilter;
import io.atoti.queryhistory.v1.QueryHistoryServiceGrpc;
import io.atoti.queryhistory.v1.QueryHistoryServiceGrpc.QueryHistoryServiceBlockingStub;
import io.atoti.queryhistory.v1.WatchQueryRequest;
import io.grpc.ChannelCredentials;
import io.grpc.Context;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsChannelCredentials;
import io.grpc.health.v1.HealthCheckRequest;
import io.grpc.health.v1.HealthGrpc;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.AbstractBlockingStub;
import io.grpc.stub.MetadataUtils;
import io.grpc.stub.StreamObserver;
import java.io.BufferedReader;
import java.io.File;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Consumer;
import java.util.stream.Collectors;

/** The matrix client of grpc-java. ../README.md, four folders up, says what it reads and prints. */
public final class Client {
  private static final Metadata.Key<String> AUTHORIZATION = key("authorization");
  private static final Metadata.Key<String> REQUEST_ID = key("x-request-id");
  private static final Metadata.Key<String> PAD = key("x-pad");
  private static final Metadata.Key<String> PUSHBACK = key("grpc-retry-pushback-ms");

  public static void main(String[] arguments) throws Exception {
    ManagedChannel channel = connect(arguments[0], words(Arrays.asList(arguments).subList(1, arguments.length)));
    Map<String, Context.CancellableContext> underWay = new HashMap<>();
    List<Thread> threads = new ArrayList<>();
    BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
    for (String line = lines.readLine(); line != null; line = lines.readLine()) {
      Map<String, String> asked = words(Arrays.asList(line.split("\t")));
      if (asked.get("do").equals("Stop")) {
        underWay.get(asked.get("call")).cancel(null);
        continue;
      }
      Context.CancellableContext context = Context.current().withCancellation();
      underWay.put(asked.get("id"), context);
      Thread thread = new Thread(context.wrap(() -> one(channel, asked)));
      threads.add(thread);
      thread.start();
    }
    for (Thread thread : threads) {
      thread.join();
    }
    channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
  }

  private static Metadata.Key<String> key(String name) {
    return Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER);
  }

  private static Map<String, String> words(List<String> texts) {
    return texts.stream().map(text -> text.split("=", 2)).collect(Collectors.toMap(word -> word[0], word -> word[1]));
  }

  private static ManagedChannel connect(String target, Map<String, String> arguments) throws Exception {
    ChannelCredentials credentials = InsecureChannelCredentials.create();
    if (arguments.containsKey("ca")) {
      var tls = TlsChannelCredentials.newBuilder().trustManager(new File(arguments.get("ca")));
      if (arguments.containsKey("cert")) {
        tls.keyManager(new File(arguments.get("cert")), new File(arguments.get("key")));
      }
      credentials = tls.build();
    }
    ManagedChannelBuilder<?> builder = Grpc.newChannelBuilder(target, credentials);
    if (arguments.containsKey("authority")) {
      builder.overrideAuthority(arguments.get("authority"));
    }
    return builder.build();
  }

  private static synchronized void tell(String id, Map<String, ?> told) {
    StringBuilder line = new StringBuilder("id=" + id);
    told.forEach((name, value) -> line.append("\t" + name + "=" + String.valueOf(value).replaceAll("[\t\n\r]", " ")));
    System.out.println(line);
  }

  /** One call, from its line to its end. */
  private static void one(ManagedChannel channel, Map<String, String> asked) {
    long began = System.nanoTime();
    String id = asked.get("id");
    Map<String, Object> told = new LinkedHashMap<>();
    AtomicReference<Metadata> header = new AtomicReference<>();
    try {
      new Calls(channel, asked, header, message -> tell(id, Map.of("message", message))).make();
      told.put("code", "OK");
      told.put("answered", header.get() == null ? "" : String.valueOf(header.get().get(REQUEST_ID)));
    } catch (StatusRuntimeException error) {
      told.put("code", error.getStatus().getCode());
      told.put("text", error.getStatus().getDescription());
      told.putAll(details(StatusProto.fromThrowable(error)));
      String pushback = error.getTrailers() == null ? null : error.getTrailers().get(PUSHBACK);
      if (pushback != null) {
        told.put("pushback", pushback);
      }
    }
    told.put("ms", (System.nanoTime() - began) / 1_000_000);
    tell(id, told);
  }

  /** What the details of an error say, each under its name in the README. */
  private static Map<String, Object> details(com.google.rpc.Status status) {
    Map<String, Object> told = new LinkedHashMap<>();
    try {
      for (Any detail : status.getDetailsList()) {
        if (detail.is(ErrorInfo.class)) {
          ErrorInfo info = detail.unpack(ErrorInfo.class);
          told.put("reason", info.getReason());
          told.put("domain", info.getDomain());
          told.put("requestSent", info.getMetadataMap().get("requestSent"));
          told.put("retryable", info.getMetadataMap().get("retryable"));
        } else if (detail.is(RequestInfo.class)) {
          told.put("request", detail.unpack(RequestInfo.class).getRequestId());
        } else if (detail.is(ResourceInfo.class)) {
          told.put("resource", detail.unpack(ResourceInfo.class).getResourceName());
        } else if (detail.is(BadRequest.class)) {
          told.put("field", detail.unpack(BadRequest.class).getFieldViolations(0).getField());
        } else if (detail.is(RetryInfo.class)) {
          Duration delay = detail.unpack(RetryInfo.class).getRetryDelay();
          told.put("retry_ms", delay.getSeconds() * 1000 + delay.getNanos() / 1_000_000);
        }
      }
    } catch (InvalidProtocolBufferException unreadable) {
      told.put("unreadable", unreadable);
    }
    return told;
  }

  /** The calls that can be asked for. */
  private record Calls(
      ManagedChannel channel, Map<String, String> asked, AtomicReference<Metadata> header, Consumer<String> tell) {
    void make() {
      String query = asked.getOrDefault("query_id", "");
      Duration wait = Duration.newBuilder().setSeconds(Long.parseLong(asked.getOrDefault("wait", "0"))).build();
      QueryFilter.Builder filter = QueryFilter.newBuilder();
      if (asked.containsKey("user")) {
        filter.addUsernames(asked.get("user"));
      }
      QueryHistoryServiceBlockingStub bridge = prepared(QueryHistoryServiceGrpc.newBlockingStub(channel));
      switch (asked.get("do")) {
        case "CancelQuery" -> {
          var answer = bridge.cancelQuery(CancelQueryRequest.newBuilder().setQueryId(query).setWait(wait).build());
          Query read = answer.getQuery();
          tell.accept(answer.getOutcome() + " " + read.getQueryId() + " " + read.getStatus());
        }
        case "CancelQueries" -> {
          var request = CancelQueriesRequest.newBuilder().setFilter(filter).setWait(wait).build();
          bridge
              .cancelQueries(request)
              .forEachRemaining(
                  answer -> {
                    Object reason = details(answer.getError()).getOrDefault("reason", "");
                    tell.accept(answer.getQuery().getQueryId() + " " + answer.getOutcome() + " " + reason);
                  });
        }
        case "CancelAllQueries" -> {
          var answer = bridge.cancelAllQueries(CancelAllQueriesRequest.newBuilder().setWait(wait).build());
          tell.accept(answer.getOutcome() + " " + answer.getStillRunning());
        }
        case "GetQuery" -> {
          Query read = bridge.getQuery(GetQueryRequest.newBuilder().setQueryId(query).build()).getQuery();
          tell.accept(
              String.join(
                  " ", read.getQueryId(), read.getStatus().name(), read.getType().name(), read.getUsername()));
        }
        case "ListQueries" -> {
          String pageToken = "";
          do {
            var request = ListQueriesRequest.newBuilder().setFilter(filter).setPageSize(2).setPageToken(pageToken);
            ListQueriesResponse page = bridge.listQueries(request.build());
            List<String> line = new ArrayList<>(List.of(String.valueOf(page.getTotalSize())));
            page.getQueriesList().forEach(read -> line.add(read.getQueryId()));
            tell.accept(String.join(" ", line));
            pageToken = page.getNextPageToken();
          } while (!pageToken.isEmpty());
        }
        case "WatchQuery" ->
            bridge
                .watchQuery(WatchQueryRequest.newBuilder().setQueryId(query).build())
                .forEachRemaining(
                    answer -> tell.accept(answer.getQuery().getQueryId() + " " + answer.getQuery().getStatus()));
        case "GetQueryPlan" ->
            tell.accept(bridge.getQueryPlan(GetQueryPlanRequest.newBuilder().setQueryId(query).build()).getPlanJson());
        case "DeleteQuery" -> {
          bridge.deleteQuery(DeleteQueryRequest.newBuilder().setQueryId(query).build());
          tell.accept("deleted");
        }
        case "DeleteQueries" -> {
          bridge.deleteQueries(DeleteQueriesRequest.newBuilder().setFilter(filter).build());
          tell.accept("deleted");
        }
        case "GetServerInfo" -> {
          var info = bridge.getServerInfo(GetServerInfoRequest.getDefaultInstance());
          tell.accept(info.getApiInstalled() + " " + info.getCredentials() + " " + info.getServerVersion());
        }
        case "Health" -> {
          var request = HealthCheckRequest.newBuilder().setService(asked.get("service")).build();
          tell.accept(prepared(HealthGrpc.newBlockingStub(channel)).check(request).getStatus().name());
        }
        case "Reflection" -> services(asked.get("version")).forEach(tell);
        default -> throw new IllegalArgumentException("no such call: " + asked);
      }
    }

    /** A stub with all that the line says of the call. */
    <S extends AbstractBlockingStub<S>> S prepared(S stub) {
      Metadata metadata = new Metadata();
      if (asked.containsKey("authorization")) {
        metadata.put(AUTHORIZATION, asked.get("authorization"));
      }
      if (asked.containsKey("request_id")) {
        metadata.put(REQUEST_ID, asked.get("request_id"));
      }
      if (asked.containsKey("pad")) {
        metadata.put(PAD, "x".repeat(Integer.parseInt(asked.get("pad"))));
      }
      stub =
          stub.withInterceptors(
              MetadataUtils.newAttachHeadersInterceptor(metadata),
              MetadataUtils.newCaptureMetadataInterceptor(header, new AtomicReference<>()));
      if (asked.containsKey("wait_for_ready")) {
        stub = stub.withWaitForReady();
      }
      return asked.containsKey("timeout_ms")
          ? stub.withDeadlineAfter(Long.parseLong(asked.get("timeout_ms")), TimeUnit.MILLISECONDS)
          : stub;
    }

    private List<String> services(String version) {
      if (version.equals("v1")) {
        Answers<io.grpc.reflection.v1.ServerReflectionResponse> answers = new Answers<>();
        var stream = io.grpc.reflection.v1.ServerReflectionGrpc.newStub(channel).serverReflectionInfo(answers);
        stream.onNext(io.grpc.reflection.v1.ServerReflectionRequest.newBuilder().setListServices("").build());
        stream.onCompleted();
        return answers.first.join().getListServicesResponse().getServiceList().stream()
            .map(service -> service.getName())
            .toList();
      }
      Answers<io.grpc.reflection.v1alpha.ServerReflectionResponse> answers = new Answers<>();
      var stream = io.grpc.reflection.v1alpha.ServerReflectionGrpc.newStub(channel).serverReflectionInfo(answers);
      stream.onNext(io.grpc.reflection.v1alpha.ServerReflectionRequest.newBuilder().setListServices("").build());
      stream.onCompleted();
      return answers.first.join().getListServicesResponse().getServiceList().stream()
          .map(service -> service.getName())
          .toList();
    }
  }

  /** The first answer of a stream. */
  private static final class Answers<A> implements StreamObserver<A> {
    final CompletableFuture<A> first = new CompletableFuture<>();

    @Override
    public void onNext(A answer) {
      first.complete(answer);
    }

    @Override
    public void onError(Throwable error) {
      first.completeExceptionally(error);
    }

    @Override
    public void onCompleted() {}
  }
}
