// The same in a browser: fetches the cases from where the page came from, and hands in what came of them.
import * as ws from "/node_modules/nats.ws/esm/nats.js";

import { load } from "/bundle.js";
import { all } from "/scenario.js";

const core = load("@nats-io/nats-core");
const jetstream = load("@nats-io/jetstream");
const libraries = {
  core: {
    connect: core.wsconnect, headers: core.headers,
    jetstreamOf: jetstream.jetstream, managerOf: jetstream.jetstreamManager,
  },
  ws: { connect: ws.connect, headers: ws.headers, jetstreamOf: (nc) => nc.jetstream(), managerOf: (nc) => nc.jetstreamManager() },
};
const send = (found) => fetch("/result", { method: "POST", body: JSON.stringify({ agent: navigator.userAgent, found }) });
try {
  const { cookies, cases } = await (await fetch("/cases")).json();
  for (const cookie of cookies) document.cookie = cookie;
  await send(await all(libraries, cases));
} catch (error) {
  await send(`failed: ${error.stack ?? error}`);
}
