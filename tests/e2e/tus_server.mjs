// @tus/server with its file store, as npm has them:
//
//   node tus_server.mjs MODULES '{"port": N, "directory": DIR, "log": FILE}'
//
// Other members are options of Server. One line of JSON for each request that
// is over goes to the log; overlap: the method of another request of the same
// upload that was under way when it came, and a moment later too (the end of a
// connection may be seen after the next one).

import fs from "node:fs";
import http from "node:http";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [modules, text] = process.argv.slice(2);
const load = (name) =>
  import(pathToFileURL(path.join(modules, "@tus", name, "dist/index.js")));
const { Server } = await load("server");
const { FileStore } = await load("file-store");

const { port, directory, log, expire, ...options } = JSON.parse(text);
const server = new Server({
  path: "/files",
  datastore: new FileStore({
    directory,
    expirationPeriodInMilliseconds: expire,
  }),
  respectForwardedHeaders: true,
  ...options,
});

const active = new Map();
const out = fs.openSync(log, "a");

const MOMENT = 50; // ms

function note(req, res) {
  const entry = {
    method: req.method,
    path: req.url,
    headers: req.headers,
    offset: req.headers["upload-offset"] ?? null,
    overlap: null,
    received: 0,
    status: 0,
    told: {},
  };
  const before = req.socket.bytesRead;
  const mine = { method: req.method, over: false };
  const other = active.get(req.url);
  active.set(req.url, mine);
  if (other) {
    setTimeout(() => {
      if (!other.over) entry.overlap = other.method;
    }, MOMENT);
  }
  const end = () => {
    mine.over = true;
    if (active.get(req.url) === mine) active.delete(req.url);
  };
  // Before the client can know the answer.
  const writeHead = res.writeHead;
  res.writeHead = (...args) => {
    end();
    return writeHead.apply(res, args);
  };
  res.on("close", () => {
    end();
    entry.received = req.socket.bytesRead - before;
    entry.status = res.headersSent ? res.statusCode : 0;
    entry.told = res.getHeaders();
    fs.writeSync(out, JSON.stringify(entry) + "\n");
  });
}

http
  .createServer({ requestTimeout: 0 }, (req, res) => {
    note(req, res);
    server.handle(req, res);
  })
  .listen(port, "127.0.0.1");
