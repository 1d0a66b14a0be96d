// An app that reports with aws-amplify 6: node amplify.mjs WRAPPER APP < commands.ndjson
// Commands, one a line: {"record": {name, attributes, metrics}}, {"identifyUser": {…}},
// {"wait": milliseconds}, {"flush": true}. Each is answered with a line once it is done.
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [, , wrapper, appId] = process.argv;

// What docs/pinpoint.md tells people to add to their app, as it stands there.
await import(pathToFileURL(wrapper));

const { Amplify } = await import("aws-amplify");
const { record, identifyUser, flushEvents } = await import("aws-amplify/analytics");

// Stands for Cognito: temporary keys whose secret nobody but Cognito and the app knows.
const cognito = {
  async getCredentialsAndIdentityId() {
    return {
      identityId: "us-east-1:11111111-2222-3333-4444-555555555555",
      credentials: {
        accessKeyId: "ASIAEXAMPLE",
        secretAccessKey: "only Cognito and the app know",
        sessionToken: "a-token",
        expiration: new Date(Date.now() + 3_600_000),
      },
    };
  },
  clearCredentialsAndIdentityId() {},
};
Amplify.configure(
  { Analytics: { Pinpoint: { appId, region: "us-east-1" } } },
  { Auth: { credentialsProvider: cognito } },
);

const actions = {
  record: (input) => record(input),
  identifyUser: (input) => identifyUser(input),
  flush: () => flushEvents(),
  wait: (milliseconds) => new Promise((done) => setTimeout(done, milliseconds)),
};
for await (const line of createInterface({ input: process.stdin })) {
  const [[action, input]] = Object.entries(JSON.parse(line));
  let failed = null;
  try {
    await actions[action](input);
  } catch (error) {
    failed = String(error);
  }
  console.log(JSON.stringify({ action, failed }));
}
process.exit(0);
