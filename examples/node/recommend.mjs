// A user's recommendations: node recommend.mjs ADDRESS USER [SIZE].
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import { fromJSON, loadSync } from "@grpc/proto-loader";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const protos = here("../../protos");
const contract = loadSync(`${protos}/tandem/v1/recommendation_service.proto`, {
  includeDirs: [protos, `${protos}/third_party`],
});
const { tandem } = grpc.loadPackageDefinition(contract);

// What a status' details are, of which Tandem fills in the reason.
const details = grpc.loadPackageDefinition(
  fromJSON({
    nested: {
      Any: { fields: { typeUrl: { type: "string", id: 1 }, value: { type: "bytes", id: 2 } } },
      Status: { fields: { details: { rule: "repeated", type: "Any", id: 3 } } },
      ErrorInfo: { fields: { reason: { type: "string", id: 1 } } },
      Reader: {
        methods: {
          status: { requestType: "Status", responseType: "Status" },
          info: { requestType: "ErrorInfo", responseType: "ErrorInfo" },
        },
      },
    },
  }),
).Reader.service;

function reasonOf(error) {
  const [packed] = error.metadata?.get("grpc-status-details-bin") ?? [];
  if (!packed) return "";
  const found = details.status
    .requestDeserialize(packed)
    .details.find((each) => each.typeUrl.endsWith("google.rpc.ErrorInfo"));
  return found ? details.info.requestDeserialize(found.value).reason : "";
}

function connect(address) {
  const authority = process.env.AUTHORITY;
  const credentials = authority
    ? grpc.credentials.createSsl(readFileSync(authority))
    : grpc.credentials.createInsecure();
  return new tandem.v1.RecommendationService(address, credentials, {
    "grpc.service_config": readFileSync(here("../service_config.json"), "utf8"),
  });
}

const [address, userId, size = "10"] = process.argv.slice(2);
if (!userId) {
  console.error("usage: node recommend.mjs ADDRESS USER [SIZE]");
  process.exit(1);
}
const metadata = new grpc.Metadata();
if (process.env.TANDEM_KEY) metadata.set("authorization", `Bearer ${process.env.TANDEM_KEY}`);
const deadline = Date.now() + 1000 * Number(process.env.TIMEOUT ?? "2");
const client = connect(address);
client.recommend({ userId, maxResults: Number(size) }, metadata, { deadline }, (error, answer) => {
  if (error) {
    console.error(`${grpc.status[error.code]} ${reasonOf(error)}: ${error.details}`);
    process.exitCode = 1;
  } else {
    for (const item of answer.recommendations) console.log(item.itemId);
  }
  client.close();
});
