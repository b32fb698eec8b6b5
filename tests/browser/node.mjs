// node node.mjs CASES: the cases (JSON) under node; what came of them to stdout.
import * as jetstream from "@nats-io/jetstream";
import * as core from "@nats-io/nats-core";
import * as ws from "nats.ws";

import { all } from "./scenario.js";

const libraries = {
  core: {
    connect: core.wsconnect, headers: core.headers,
    jetstreamOf: jetstream.jetstream, managerOf: jetstream.jetstreamManager,
  },
  ws: { connect: ws.connect, headers: ws.headers, jetstreamOf: (nc) => nc.jetstream(), managerOf: (nc) => nc.jetstreamManager() },
};
console.log(JSON.stringify(await all(libraries, JSON.parse(process.argv[2]))));
process.exit(0);
