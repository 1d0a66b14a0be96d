// An app that reports with aws-amplify 6: node amplify.mjs URL APP API_KEY < commands.ndjson
// Commands, one a line: {"record": {name, attributes, metrics}}, {"identifyUser": {…}},
// {"wait": milliseconds}, {"flush": true}. Each is answered with a line once it is done.
import { createInterface } from "node:readline";

const [, , gateway, appId, apiKey] = process.argv;

// What docs/pinpoint.md tells people to add to their app.
const pinpoint = /^https:\/\/pinpoint\.[a-z0-9-]+\.amazonaws\.com/;
const original = globalThis.fetch;
globalThis.fetch = (input, init) => {
  const url = String(input instanceof Request ? input.url : input);
  if (!pinpoint.test(url)) return original(input, init);
  const headers = new Headers(init?.headers);
  if (apiKey) headers.set("x-api-key", apiKey);
  return original(url.replace(pinpoint, gateway), { ...init, headers });
};

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
