// A connection to an actor from a page, without a library or a build step: copy it, and change it.
//
//   const room = new Connection("http://127.0.0.1:8080", "chat_room", ["lobby"], {name: "Ann"});
//   room.on("new_message", (message) => …);
//   room.onopen = () => …;           // a new connection is open: what came before is not told
//   room.onstatus = (text) => …;     // for people: "connected by WebSocket", "connecting again"
//   room.onerror = (error) => …;     // what no call waits for; error.code says what it is
//   await room.call("send", "hello"); // one effect and one answer, however often it is sent
//                                     // (by a key: callers need an identity, or anonymous_keys)
//   await room.read("history");       // for what only reads: sent again, it answers anew
//   room.close();
//
// It comes by WebSocket or, where that does not get through, by an event stream; after a cut it
// goes on where it was, with the events that it missed. The parameters may be a function, which
// is called before each opening, so that a token is renewed. Who is refused is told: onerror gets
// the error of the server, calls fail with it, and the connection is over. Calls that wait for a
// server that is away, and answers that are too long, fail alone, with error.code.
//
// A single call needs no connection; its parameters may be a function too:
//   await call("http://127.0.0.1:8080", "chat_room", ["lobby"], "history", [], renewToken);

export async function call(server, name, key, action, args = [], params = null) {
  const headers = {
    "X-RivetKit-Encoding": "json", "X-RivetKit-Query": json({getOrCreateForKey: {name, key}}),
    "X-RivetKit-Conn-Params": await made(params),
  };
  const url = `${server}/registry/actors/actions/${encodeURIComponent(action)}`;
  const answer = await fetch(url, {method: "POST", headers, body: JSON.stringify({a: args})});
  const {o, m, c, md} = await answer.json().catch(() => ({}));
  if (answer.ok && !c) return o;
  throw fault(m ?? `HTTP status ${answer.status}`, c ?? "request_failed", md, answer.status);
}

export class Connection {
  onopen = () => {};
  onstatus = () => {};
  onerror = () => {};
  #listeners = new Map(); // by name of the event: those that are told of it
  #calls = new Map(); // by number: not answered yet
  #waiting = 0; // characters of them
  #nextId = 0;
  #mine = null; // from Init: the id of the actor (ai), of our connection (ci), and its token (ct)
  #seen = 0; // the number of the last event: after a cut we are sent those that follow it
  #say = null; // sends a message to the server, while we are connected
  #leave = () => {}; // ends the transport that is open or opening
  #over = false;
  #opened = 0; // when it was open last
  #refusal = null; // why the server did not let us in

  constructor(server, name, key, params = null) {
    this.url = `${server}/registry/actors/`;
    this.query = json({getOrCreateForKey: {name, key}});
    this.given = params;
    this.#run();
  }

  on(event, listener) {
    if (!this.#listeners.has(event)) this.#say?.({sr: {e: event, s: true}});
    this.#listeners.set(event, [...this.#listeners.get(event) ?? [], listener]);
  }

  call(name, ...args) {
    return this.#ask({n: name, a: args, k: unique()});
  }

  read(name, ...args) {
    return this.#ask({n: name, a: args});
  }

  #ask(asked) {
    return new Promise((resolve, reject) => {
      if (this.#over) return reject(this.#refusal ?? new Error("The connection is closed."));
      const request = {i: this.#nextId++, ...asked};
      const size = JSON.stringify(request).length; // what cannot be sent fails here, alone
      if (this.#waiting && this.#waiting + size > MOST)
        return reject(fault("Too many calls wait for their answers.", "overloaded"));
      this.#waiting += size;
      this.#calls.set(request.i, {request, size, resolve, reject});
      this.#say?.({ar: request});
    });
  }

  close() {
    this.#end("closed");
    this.#leave();
  }

  #end(status, error = new Error(`The connection ended: ${status}`)) {
    this.#over = true;
    this.onstatus(status);
    for (const {reject} of this.#calls.values()) reject(error);
    this.#calls.clear();
  }

  #settled(id) {
    const call = this.#calls.get(id);
    this.#waiting -= call?.size ?? 0;
    this.#calls.delete(id);
    return call;
  }

  #fail(id, error) {
    const call = this.#settled(id);
    call?.reject(error);
    return call !== undefined;
  }

  // Whether it is an answer that cannot be read: its call fails, alone.
  #failUnread(text, code, why) {
    const id = ANSWER.exec(text)?.[1];
    if (id) this.#fail(Number(id), fault(`The call took effect, but its answer ${why}.`, code));
    return id !== undefined;
  }

  async #run() {
    for (let pause = 250; !this.#over; pause = Math.min(2 * pause, 10_000)) {
      const {code, reason} = await this.#live().catch((error) => {
        this.onerror(error); // whoever renews a token may be away as well
        return {reason: String(error)};
      });
      if (this.#over) return;
      if (code === 1000) return this.#end(`closed ${reason}`); // the actor wants no more of us
      if (this.#refusal && !passes(this.#refusal)) {
        this.onerror(this.#refusal);
        return this.#end(`refused ${this.#refusal.message}`, this.#refusal);
      }
      if (this.#say && Date.now() - this.#opened >= STEADY) pause = 250;
      if (reason === "message_too_long") { // by a server that does not tell how long is too long
        const [longest] = [...this.#calls].sort(([, one], [, other]) => other.size - one.size);
        this.#fail(longest?.[0], fault("The message is too long for the server.", reason));
      }
      if (reason === "resync") this.#mine = null; // more is missing than the server has: anew
      this.#say = null;
      this.onstatus(`connecting again ${reason}`);
      await new Promise((go) => setTimeout(go, pause * Math.random()));
    }
  }

  async #live() {
    this.params = await made(this.given);
    this.#refusal = null;
    let end = {};
    for (const way of [this.#webSocket, this.#eventStream]) {
      if (this.#say || this.#over || this.#refusal) break;
      end = await way.call(this).catch((error) => ({reason: String(error)}));
      if (!this.#say && end.code === 1011 && end.reason) // only the code of the refusal came
        this.#refusal ??= fault("The server refused the connection.", end.reason);
    }
    return end;
  }

  // A message that cannot be read, and is no answer, is perhaps an event: the connection is
  // given up, and another one begins, whose onopen says that something may be missing.
  #take(text, way, send) {
    let message = null;
    try {
      message = JSON.parse(text);
      this.#hear(message, way, send);
      return message;
    } catch (error) {
      if (!message && this.#failUnread(text, "request_failed", "cannot be read"))
        return {b: {}};
      this.onerror(error);
      this.#mine = null;
    }
  }

  // Each message has one of these members. `way` and `send`: what it came by, what answers there.
  #hear({b: {i: init, ev: event, ar: answer, e: error}}, way, send) {
    if (init) {
      const goesOn = init.ci === this.#mine?.ci;
      [this.#mine, this.#say, this.#opened] = [init, send, Date.now()];
      for (const name of this.#listeners.keys()) send({sr: {e: name, s: true}});
      for (const {request} of this.#calls.values()) send({ar: request});
      this.onstatus(`connected by ${way}`);
      if (goesOn) return; // what we missed comes by itself
      this.#seen = init.s;
      this.onopen();
    } else if (event && event.s > this.#seen) {
      this.#seen = event.s;
      for (const listener of this.#listeners.get(event.n) ?? []) {
        try {
          listener(...event.a);
        } catch (error) { // the others are told nevertheless
          this.onerror(error);
        }
      }
    } else if (answer) {
      this.#settled(answer.i)?.resolve(answer.o);
    } else if (error) {
      const failed = fault(error.m, error.c, error.md, error.st);
      if (!this.#say) this.#refusal = failed;
      else if (!this.#fail(error.ai, failed)) {
        this.onstatus(error.m);
        this.onerror(failed);
      }
    }
  }

  async #webSocket() {
    const part = (text) => encodeURIComponent(text).replace(/[()]/g, escape);
    const offer = [`query.${part(this.query)}`, "encoding.json", `conn_seen.${this.#seen}`];
    if (this.params !== "null") offer.push(`conn_params.${part(this.params)}`);
    if (this.#mine) offer.push(`conn.${part(this.#mine.ci)}`, `conn_token.${part(this.#mine.ct)}`);
    const url = this.url.replace("http", "ws") + "connect/websocket";
    const socket = new WebSocket(url, [...offer, "rivetkit"]);
    const send = (body) => {
      const text = JSON.stringify({b: body});
      if (!body.ar || !(text.length > this.#mine.ml)) return socket.send(text);
      const why = `A message has at most ${this.#mine.ml} characters, and this one ${text.length}.`;
      this.#fail(body.ar.i, fault(why, "message_too_long")); // the server would close the socket
    };
    this.#leave = () => socket.close(1000);
    socket.onmessage = ({data}) => {
      if (this.#take(data, "WebSocket", send)) return;
      socket.onmessage = null;
      socket.close(4000, UNREADABLE);
    };
    const late = setTimeout(() => socket.close(), 5000);
    socket.onopen = () => clearTimeout(late);
    return new Promise((ended) => { socket.onclose = ended; });
  }

  async #eventStream() {
    const encoding = {"X-RivetKit-Encoding": "json"};
    const proof = () => ({"X-RivetKit-Conn": this.#mine.ci, "X-RivetKit-Conn-Token": this.#mine.ct});
    const headers = {
      ...encoding, ...this.#mine && proof(), "X-RivetKit-Query": this.query,
      "X-RivetKit-Conn-Params": this.params, "X-RivetKit-Conn-Seen": this.#seen,
    };
    const cut = new AbortController();
    this.#leave = () => cut.abort();
    let late, quiet = 0; // seconds that pass at most until something comes, as the server says
    const heard = () => {
      clearTimeout(late);
      if (quiet !== null) late = setTimeout(() => cut.abort(), (Number(quiet) + 10) * 1000);
    };
    heard();
    const stream = await fetch(this.url + "connect/sse", {headers, signal: cut.signal});
    if (!stream.ok) {
      const {m, c, md} = await stream.json();
      if (c) this.#refusal = fault(m, c, md, stream.status); // otherwise it is not our server
      return {reason: `HTTP status ${stream.status}`};
    }
    quiet = stream.headers.get("X-RivetKit-Keep-Alive");
    let posted = Promise.resolve(); // one after another, so that they arrive in order
    const send = (body) => {
      const headers = {...encoding, ...proof(), "X-RivetKit-Actor": this.#mine.ai};
      const post = {method: "POST", headers, body: JSON.stringify({b: body})};
      posted = posted.then(() => fetch(this.url + "message", post))
        .then(async (taken) => {
          const {c, m, md} = taken.ok ? {} : await taken.json();
          if (body.ar && c === "message_too_long") this.#fail(body.ar.i, fault(m, c, md));
          else if (!taken.ok) cut.abort();
        }).catch(() => cut.abort());
    };
    this.#leave = () => { // the end of a stream does not say that it is no cut
      if (this.#say) send({bye: true});
      posted.finally(() => cut.abort());
    };
    const reader = stream.body.pipeThrough(new TextDecoderStream()).getReader();
    const unreadable = () => {
      this.#mine = null;
      cut.abort();
      return {reason: UNREADABLE};
    };
    const tooLong = (event) => this.#failUnread(event.slice(6), "message_too_long", "is too long");
    let parts = [], size = 0, skips = false; // skips the rest of an event that is too long
    for (let read; heard(), !(read = await reader.read()).done;) {
      let events = [];
      parts.push(read.value);
      size += read.value.length;
      if (read.value.includes("\n")) {
        events = parts.join("").split("\n\n");
        parts = [events.pop()];
        size = parts[0].length;
        if (skips && events.length) {
          events.shift();
          skips = false;
        }
      }
      if (!skips && size > LONGEST) {
        skips = tooLong(parts.join(""));
        if (!skips) return unreadable();
      }
      if (skips) [parts, size] = [[parts.at(-1).slice(-1)], 1];
      for (const event of events) {
        if (event.length > LONGEST) {
          if (tooLong(event)) continue;
          return unreadable();
        }
        const data = event.match(/^data: (.*)/m)?.[1]; // a comment, to keep it alive, has none
        if (event.startsWith("event: close")) return JSON.parse(data);
        if (!data) continue;
        const message = this.#take(data, "event stream", send);
        if (!message) return unreadable();
        // Who waits for the answer goes on before the next message, as by WebSocket.
        if (message.b.ar) await new Promise((go) => setTimeout(go));
      }
    }
    return {reason: "cut"};
  }
}

const UNREADABLE = "a message cannot be read";

const ANSWER = /^\s*\{\s*"b"\s*:\s*\{\s*"ar"\s*:\s*\{\s*"i"\s*:\s*(\d+)\s*[,}]/;

// Characters of calls that may wait, and of an event of a stream. One call alone may be longer.
const [MOST, LONGEST] = [16 << 20, 64 << 20];

const STEADY = 5000; // milliseconds that it has to last before the pauses begin anew

const made = async (params) =>
  json((typeof params === "function" ? await params() : params) ?? null);

const fault = (message, code, metadata, status) =>
  Object.assign(new Error(message), {code, metadata, status});

// Whether the same may be let in later: the server is not well, or busy.
const PASSES = ["actor_stopped", "auth_unavailable", "connection_closed", "internal_error",
  "overloaded", "server_stopping", "slow_consumer", "store_lost_data", "store_unavailable"];
const passes = ({code, status}) => status === undefined ? PASSES.includes(code)
  : status >= 500 || [408, 425, 429].includes(status);

// JSON that may stand in a header: what is not ASCII is escaped.
const json = (value) => JSON.stringify(value).replace(/[^ -~]/g, (unit) =>
  "\\u" + unit.charCodeAt(0).toString(16).padStart(4, "0"));

// Also on pages that are not served over TLS, which have no crypto.randomUUID.
const unique = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) =>
  byte.toString(16).padStart(2, "0")).join("");
