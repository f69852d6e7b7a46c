// A client in Node: lists what runs, stops the query that has run longest, and reads an error.
//
//     node client.js 127.0.0.1:50051 [USERNAME]
//
// The credentials for Atoti are taken from AUTHORIZATION ("Bearer ...", for example), or from the file that
// AUTHORIZATION_FILE names.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const definition = protoLoader.loadSync(
  ["atoti/queryhistory/v1/query_history.proto", "google/rpc/error_details.proto"],
  {
    // The definition; and, in this folder, Google's own of the details that errors carry.
    includeDirs: ["../../proto", "."].map((folder) => fileURLToPath(new URL(folder, import.meta.url))),
    defaults: true,
    enums: String,
    keepCase: true,
    // A number would lose digits.
    longs: String,
  },
);
const { QueryHistoryService } = grpc.loadPackageDefinition(definition).atoti.queryhistory.v1;

const [address = "127.0.0.1:50051", ...usernames] = process.argv.slice(2);
const bridge = new QueryHistoryService(address, grpc.credentials.createInsecure());

// Every call carries the credentials, which the bridge hands to Atoti as they are, and a deadline, which it keeps, too.
const metadata = new grpc.Metadata();
const { AUTHORIZATION, AUTHORIZATION_FILE } = process.env;
const authorization = AUTHORIZATION ?? (AUTHORIZATION_FILE && readFileSync(AUTHORIZATION_FILE, "utf8"));
if (authorization) {
  metadata.set("authorization", authorization.trim());
}
function call(method, request, seconds) {
  const deadline = new Date(Date.now() + seconds * 1000);
  return promisify(bridge[method].bind(bridge))(request, metadata, { deadline });
}

// What runs, page by page, the newest start first.
async function* running() {
  const filter = { usernames, statuses: ["QUERY_STATUS_RUNNING"] };
  let page_token = "";
  do {
    const page = await call("ListQueries", { filter, page_token }, 10);
    yield* page.queries;
    page_token = page.next_page_token;
  } while (page_token);
}

// The reason among the details of an error, if a bridge has given one.
function errorInfo(error) {
  const [packed] = error.metadata.get("grpc-status-details-bin");
  const details = packed ? definition["google.rpc.Status"].deserialize(packed).details : [];
  const info = details.find(({ type_url }) => type_url.endsWith("/google.rpc.ErrorInfo"));
  return info && definition["google.rpc.ErrorInfo"].deserialize(info.value);
}

try {
  let oldest;
  for await (oldest of running()) {
    console.log(`running: ${oldest.query_id} of ${oldest.username}`);
  }

  // Stop it, and wait until it has stopped. `allow_finished`: that it ended meanwhile is as good.
  if (oldest) {
    const { query_id } = oldest;
    const request = { query_id, wait: { seconds: 10 }, reason: "has run longest", allow_finished: true };
    const { outcome } = await call("CancelQuery", request, 15);
    console.log(`cancel ${query_id}: ${outcome}`);
  }

  // An error says more than its code: why, whether Atoti may have been asked, whether a repeat may help.
  try {
    await call("CancelQuery", { query_id: "0" }, 15);
  } catch (error) {
    console.log(`cancel 0: ${grpc.status[error.code]}: ${error.details}`);
    const info = errorInfo(error);
    if (info) {
      const { requestSent, retryable } = info.metadata;
      console.log(`  ${info.reason}, requestSent ${requestSent}, retryable ${retryable}`);
    }
  }
} finally {
  bridge.close();
}
