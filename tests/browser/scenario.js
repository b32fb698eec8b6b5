// What a real client does over WebSocket: the same under node and in a browser, with @nats-io/nats-core and with nats.ws.
// run() gives the names of the steps that were done; a step that goes wrong throws.

const BIG = 900_000;

export async function run(library, { url, user, pass, jetstream }) {
  const { connect, headers, jetstreamOf, managerOf } = library;
  const done = [];
  const check = (step, good) => {
    if (!good) throw new Error(`${step}: not what was expected`);
    done.push(step);
  };
  const nc = await connect({ servers: url, user, pass, reconnect: false, timeout: 20_000 });
  const text = (message) => new TextDecoder().decode(message.data);

  let sub = nc.subscribe("a.*", { max: 1 });
  nc.publish("a.b", new TextEncoder().encode("hello é"));
  for await (const message of sub) check("publish", message.subject === "a.b" && text(message) === "hello é");

  nc.subscribe("service", { callback: (_, message) => message.respond(message.data) });
  const answer = await nc.request("service", "question", { timeout: 10_000 });
  check("request", text(answer) === "question");
  const error = await nc.request("nobody", "", { timeout: 10_000 }).catch((failure) => failure);
  check("no responders", error instanceof Error && /responders|503/.test(`${error.message} ${error.code}`));

  sub = nc.subscribe("h", { max: 1 });
  const said = headers();
  said.append("Name", "one");
  said.append("Name", "two");
  nc.publish("h", "x", { headers: said });
  for await (const message of sub) check("headers", message.headers.values("Name").join() === "one,two");

  for (const [name, byte] of [["the same", () => 120], ["any", (at) => (at * 2654435761) >>> 24]]) {
    const big = Uint8Array.from({ length: BIG }, (_, at) => byte(at));
    const echo = await nc.request("service", big, { timeout: 30_000 });
    check(`${BIG} bytes, ${name}`, echo.data.length === BIG && echo.data.every((octet, at) => octet === big[at]));
  }

  sub = nc.subscribe("many", { max: 5000 });
  for (let number = 0; number < 5000; number++) nc.publish("many", `${number}`);
  let next = 0;
  for await (const message of sub) if (text(message) === `${next}`) next++;
  check("5000 messages in order", next === 5000);

  if (jetstream) {
    const manager = await managerOf(nc);
    const name = `S${Math.random().toString(36).slice(2)}`;
    await manager.streams.add({ name, subjects: [`${name}.>`], storage: "memory" });
    const js = jetstreamOf(nc);
    const ack = await js.publish(`${name}.x`, new TextEncoder().encode("stored"));
    const stored = await manager.streams.getMessage(name, { seq: ack.seq });
    check("jetstream", ack.seq === 1 && text(stored) === "stored");
    await manager.streams.delete(name);
  }

  await nc.flush();
  await nc.close();
  check("close", nc.isClosed());
  return done;
}

// Whether a connection is refused; the text of the refusal.
export async function refused({ connect }, { url, user, pass }) {
  const nc = await connect({ servers: url, user, pass, reconnect: false, maxReconnectAttempts: 0, timeout: 20_000 })
    .catch((error) => error);
  if (nc instanceof Error) return `${nc.message} ${nc.code ?? ""}`;
  await nc.close();
  throw new Error("it wasn't refused");
}

// Each of cases: {name, library, url, ...}. Gives {name: what run or refused gave, or the error}.
export async function all(libraries, cases) {
  const found = {};
  for (const { name, library, refusal, ...options } of cases) {
    try {
      found[name] = await (refusal ? refused : run)(libraries[library], options);
    } catch (error) {
      found[name] = `failed: ${error.stack ?? error}`;
    }
  }
  return found;
}
