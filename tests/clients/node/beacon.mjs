// What Amplify 4 and 5 give to navigator.sendBeacon when a page is closed, signed by Amplify's own
// signer: node beacon.mjs URL APP KEY SECRET < body; writes the status of the answer.
import { readFileSync } from "node:fs";
import { presignUrl } from "@aws-amplify/core/internals/aws-client-utils";

const [, , gateway, app, accessKeyId, secretAccessKey] = process.argv;
const body = readFileSync(0, "utf8");
const address = presignUrl(
  { method: "POST", url: new URL(`${gateway}/v1/apps/${app}/events/legacy`), body },
  {
    credentials: { accessKeyId, secretAccessKey },
    signingDate: new Date(),
    signingRegion: "us-east-1",
    signingService: "mobiletargeting",
  },
);
const answer = await fetch(address, {
  method: "POST",
  body,
  headers: { "content-type": "text/plain;charset=UTF-8" },
});
console.log(answer.status);
