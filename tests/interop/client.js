// Plays calls of @grpc/grpc-js at a worker, and writes what came of each as one line of JSON.
// Argument: a file of JSON with target, authorization, requests in base64, and for TLS the files' names.
"use strict";
const fs = require("fs");
const settings = JSON.parse(fs.readFileSync(process.argv[2], "utf-8"));
const grpc = require(settings.module);

const read = (name) => fs.readFileSync(name);
const credentials = settings.tls
  ? grpc.credentials.createSsl(read(settings.tls.ca), read(settings.tls.key), read(settings.tls.certificate))
  : grpc.credentials.createInsecure();
const client = new grpc.Client(settings.target, credentials);
const same = (data) => data;
const after = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const requests = Object.fromEntries(
  Object.entries(settings.requests).map(([name, text]) => [name, Buffer.from(text, "base64")]),
);

function metadata() {
  const made = new grpc.Metadata();
  if (settings.authorization) made.set("authorization", settings.authorization);
  return made;
}

function ended(error) {
  const details = error.metadata ? error.metadata.get("grpc-status-details-bin") : [];
  return {
    code: error.code,
    message: error.details,
    details: details.length ? Buffer.from(details[0]).toString("base64") : "",
  };
}

function unary(path, request, seconds = 20) {
  const options = seconds ? { deadline: Date.now() + 1000 * seconds } : {};
  return new Promise((resolve) => {
    client.makeUnaryRequest(path, same, same, request, metadata(), options, (error, answer) =>
      resolve(error ? ended(error) : { code: 0, answer: answer.toString("base64") }),
    );
  });
}

function stream(path, seconds) {
  const call = client.makeBidiStreamRequest(path, same, same, metadata(), {
    deadline: Date.now() + 1000 * seconds,
  });
  const state = { call, answers: [], waiting: [] };
  call.on("data", (data) => {
    state.answers.push(data.toString("base64"));
    state.waiting.splice(0).forEach((wake) => wake());
  });
  state.status = new Promise((resolve) => {
    call.on("error", () => undefined);
    call.on("status", (status) => resolve(ended(status)));
  });
  state.have = async (count) => {
    while (state.answers.length < count) {
      const more = new Promise((resolve) => state.waiting.push(resolve));
      if ((await Promise.race([more, state.status.then(() => "over")])) === "over") break;
    }
  };
  return state;
}

const write = (name, value) => process.stdout.write(JSON.stringify({ name, ...value }) + "\n");
// The test ends the session when it has read the line.
const line = () => new Promise((resolve) => process.stdin.once("data", resolve));

const plays = {
  async calls() {
    for (const name of ["allowed", "denied"]) write(name, await unary(settings.check, requests[name]));
    write("batch", await unary(settings.batch, requests.batch));
    write("large", await unary(settings.batch, requests.large));
    write("survey", await unary(settings.survey, requests.survey));
    write("health", await unary("/grpc.health.v1.Health/Check", Buffer.alloc(0)));
    write("error", await unary(settings.check, Buffer.alloc(0)));
    write("no deadline", await unary(settings.check, requests.allowed, 0));
    const many = await Promise.all(Array.from({ length: 500 }, () => unary(settings.check, requests.allowed)));
    write("many", { codes: many.map((each) => each.code) });
  },
  async streams() {
    const watched = stream(settings.stream, 60);
    for (const name of ["first", "second", "third"]) watched.call.write(requests[name]);
    await watched.have(3);
    write("answers", { answers: watched.answers });
    await line();
    await watched.have(4);
    write("withdrawn", { answers: watched.answers.slice(3) });
    watched.call.end();
    write("end", await watched.status);
    const late = stream(settings.stream, 0.3);
    write("late", await late.status);
    const cancelled = stream(settings.stream, 60);
    cancelled.call.write(requests.first);
    await cancelled.have(1);
    cancelled.call.cancel();
    write("cancelled", await cancelled.status);
    const health = stream("/grpc.health.v1.Health/Watch", 60);
    health.call.write(Buffer.alloc(0));
    await health.have(1);
    write("health", { answers: health.answers });
    health.call.cancel();
    write("after", await unary(settings.check, requests.allowed));
  },
  // Calls one after the other until the test has seen enough.
  async loop() {
    let over = false;
    process.stdin.once("data", () => { over = true; });
    const open = stream(settings.stream, 60);
    open.call.write(requests.third);
    open.status.then((status) => write("stream", status));
    await open.have(1);
    while (!over) {
      write("call", { code: (await unary(settings.check, requests.allowed, 5)).code });
      await after(10);
    }
    open.call.cancel();
  },
};

plays[settings.play]().then(
  () => { client.close(); process.stdin.destroy(); },
  (error) => { console.error(error); process.exit(1); },
);
