// Sends a story with the AWS SDK for JavaScript: node sdk.mjs URL APP KEY SECRET < story.json
// Writes one line of JSON for each request: the SDK's answer, or its error.
import { readFileSync } from "node:fs";
import {
  PinpointClient,
  PutEventsCommand,
  UpdateEndpointCommand,
} from "@aws-sdk/client-pinpoint";

const [, , endpoint, ApplicationId, accessKeyId, secretAccessKey] = process.argv;
const client = new PinpointClient({
  endpoint,
  region: "us-east-1",
  credentials: { accessKeyId, secretAccessKey },
});

async function send(command) {
  try {
    const { $metadata, ...answer } = await client.send(command);
    console.log(JSON.stringify({ status: $metadata.httpStatusCode, ...answer }));
  } catch (error) {
    const status = error.$metadata?.httpStatusCode;
    console.log(JSON.stringify({ status, error: error.name, message: error.message }));
  }
}

for (const request of JSON.parse(readFileSync(0, "utf8"))) {
  const { EndpointId, EndpointRequest, ...EventsRequest } = request;
  if (EndpointId !== undefined) {
    await send(new UpdateEndpointCommand({ ApplicationId, EndpointId, EndpointRequest }));
  } else {
    await send(new PutEventsCommand({ ApplicationId, EventsRequest }));
  }
}
