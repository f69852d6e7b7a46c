// The matrix client of grpc-js. ../README.md says what it reads and prints.

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";
import { service as healthService } from "grpc-health-check";

const definition = protoLoader.loadSync(
  ["atoti/queryhistory/v1/query_history.proto", "google/rpc/error_details.proto"],
  {
    // The second is where the example keeps Google's definition of the details.
    includeDirs: ["../../../../proto", "../../../../examples/node"].map((folder) =>
      fileURLToPath(new URL(folder, import.meta.url)),
    ),
    defaults: true,
    enums: String,
    keepCase: true,
    longs: String,
  },
);
const { QueryHistoryService } = grpc.loadPackageDefinition(definition).atoti.queryhistory.v1;

const words = (texts) => Object.fromEntries(texts.map((text) => text.split(/=(.*)/s, 2)));

function tell(told) {
  const clean = (value) => String(value).replace(/[\t\n\r]/g, " ");
  console.log(Object.entries(told).map(([name, value]) => `${name}=${clean(value)}`).join("\t"));
}

const [target, ...rest] = process.argv.slice(2);
const { ca, cert, key, authority } = words(rest);
const read = (file) => (file ? readFileSync(file) : null);
const channel = new grpc.Channel(
  target,
  ca ? grpc.credentials.createSsl(read(ca), read(key), read(cert)) : grpc.credentials.createInsecure(),
  authority ? { "grpc.default_authority": authority } : {},
);
// Both speak over the one channel.
const options = { channelOverride: channel };
const bridge = new QueryHistoryService(target, null, options);
const health = new (grpc.makeGenericClientConstructor(healthService, "Health"))(target, null, options);

// What the packed details of an error say, each under its name in the README.
function details(packed) {
  const told = {};
  for (const { type_url, value } of packed) {
    const type = type_url.split("/").pop();
    const detail = definition[type].deserialize(value);
    if (type === "google.rpc.ErrorInfo") {
      const { requestSent, retryable } = detail.metadata;
      Object.assign(told, { reason: detail.reason, domain: detail.domain, requestSent, retryable });
    } else if (type === "google.rpc.RequestInfo") {
      told.request = detail.request_id;
    } else if (type === "google.rpc.ResourceInfo") {
      told.resource = detail.resource_name;
    } else if (type === "google.rpc.BadRequest") {
      told.field = detail.field_violations[0].field;
    } else if (type === "google.rpc.RetryInfo") {
      told.retry_ms = Number(detail.retry_delay.seconds) * 1000 + detail.retry_delay.nanos / 1e6;
    }
  }
  return told;
}

function ended(error) {
  const told = { code: grpc.status[error.code], text: error.details };
  const [packed] = error.metadata.get("grpc-status-details-bin");
  Object.assign(told, packed ? details(definition["google.rpc.Status"].deserialize(packed).details) : {});
  const [pushback] = error.metadata.get("grpc-retry-pushback-ms");
  return pushback ? { ...told, pushback } : told;
}

// The message of an answer, by its RPC.
const shown = {
  CancelQuery: ({ outcome, query }) =>
    `${outcome} ${query?.query_id ?? ""} ${query?.status ?? "QUERY_STATUS_UNSPECIFIED"}`,
  CancelQueries: ({ query, outcome, error }) =>
    `${query.query_id} ${outcome} ${(error && details(error.details).reason) ?? ""}`,
  CancelAllQueries: ({ outcome, still_running }) => `${outcome} ${still_running}`,
  GetQuery: ({ query }) => `${query.query_id} ${query.status} ${query.type} ${query.username}`,
  ListQueries: ({ total_size, queries }) => [total_size, ...queries.map(({ query_id }) => query_id)].join(" "),
  WatchQuery: ({ query }) => `${query.query_id} ${query.status}`,
  GetQueryPlan: ({ plan_json }) => plan_json,
  DeleteQuery: () => "deleted",
  DeleteQueries: () => "deleted",
  GetServerInfo: ({ api_installed, credentials, server_version }) =>
    `${api_installed} ${credentials} ${server_version}`,
  Health: ({ status }) => status,
};

const underWay = new Map();

// One call, from its line to its end.
function begin(asked) {
  const began = Date.now();
  const { id } = asked;
  const metadata = new grpc.Metadata({ waitForReady: asked.wait_for_ready === "true" });
  if (asked.authorization) metadata.set("authorization", asked.authorization);
  if (asked.request_id) metadata.set("x-request-id", asked.request_id);
  if (asked.pad) metadata.set("x-pad", "x".repeat(Number(asked.pad)));
  const callOptions = asked.timeout_ms ? { deadline: began + Number(asked.timeout_ms) } : {};
  const { query_id, user } = asked;
  const request = {
    query_id,
    filter: { usernames: user ? [user] : [] },
    ...(asked.wait ? { wait: { seconds: asked.wait } } : {}),
    page_size: 2,
    service: asked.service,
  };

  let answered = "";
  const end = (told) => tell({ id, ...told, ms: Date.now() - began });
  const keep = (call) => {
    call.on("metadata", (header) => ([answered = ""] = header.get("x-request-id")));
    underWay.set(id, call);
  };
  const method = asked.do === "Health" ? "check" : asked.do;
  const client = asked.do === "Health" ? health : bridge;
  if (asked.do === "WatchQuery" || asked.do === "CancelQueries") {
    const call = client[method](request, metadata, callOptions);
    keep(call);
    call.on("data", (message) => tell({ id, message: shown[asked.do](message) }));
    call.on("error", (error) => end(ended(error)));
    // "end" comes for a call that was cancelled too.
    call.on("status", ({ code }) => code === grpc.status.OK && end({ code: "OK", answered }));
    return;
  }
  const unary = () =>
    keep(
      client[method](request, metadata, callOptions, (error, answer) => {
        if (error) return end(ended(error));
        tell({ id, message: shown[asked.do](answer) });
        request.page_token = answer.next_page_token;
        if (request.page_token) return unary();
        end({ code: "OK", answered });
      }),
    );
  unary();
}

for await (const line of createInterface({ input: process.stdin })) {
  const asked = words(line.split("\t"));
  if (asked.do === "Stop") underWay.get(asked.call).cancel();
  else begin(asked);
}
// What is under way keeps the program going; the channel does not.
